-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.functions: stand-ins for the functions for requests, which the module has in
-- Rust (src/lua/functions.rs). They keep what is set in the state of the test.

local ipairs, next, table, tonumber = ipairs, next, table, tonumber
local checks = require "resty.kong.testing.checks"
local state = require "resty.kong.testing.state"
local values = require "resty.kong.testing.values"

local escaped, not_integer, printed = checks.escaped, checks.not_integer, checks.printed
local is_host, is_ip, target_of = checks.is_host, checks.is_ip, checks.target_of
local objects, pointers = values.objects, values.pointers

-- The codes of answers.
local OK, NONE, ERROR, WRONG_PHASE, PEER = 0, 1, -1, -2, 2

-- The functions: for each, the phases in which users may call it, the kinds of its arguments, and
-- what it does. It gets the frame of arguments, and returns a code and a text.
local rust = {}

local UNTIL_BALANCER = { "rewrite", "access", "balancer" }
local OF_REQUEST = { "rewrite", "access", "content", "balancer", "header_filter", "body_filter", "log" }
local OF_CONNECTION = {
    "client_hello", "certificate", "rewrite", "access", "content", "balancer", "header_filter", "body_filter", "log",
}
local ANYWHERE = {
    "client_hello", "certificate", "rewrite", "access", "content", "balancer", "header_filter", "body_filter", "log",
    "timer",
}


local function text_in(frame, index)
    local text = frame.texts[index]
    return text.data:sub(1, text.length)
end


local function names_in(frame)
    local names = {}
    for index = 1, frame.name_count or 0 do
        names[index] = frame.names[index - 1].data
    end
    return names
end


-- Returns the object of this kind that a pointer is of, or nil.
local function object_of(pointer, kind)
    local object = pointer and pointers[pointer].object
    return object and objects[object].kind == kind and object or nil
end


-- Returns an object of this kind that an argument points to, or nil.
local function object_in(frame, index, kind)
    return object_of(frame.pointers[index], kind)
end


local function function_of(name, phases, kinds, body)
    rust[#rust + 1] = { name = name, phases = phases, kinds = kinds, body = body }
    rust[name] = rust[#rust]
end


function_of("request_client_certificate", { "certificate" }, "pointer number names number", function(frame)
    local ca_certs = object_in(frame, 0, "chain")
    if frame.pointers[0] and not ca_certs then
        return ERROR, "ca_certs: chain is not a certificate chain"
    end
    local names = names_in(frame)
    for _, name in ipairs(names) do
        if not is_host((name:gsub("%.$", ""):gsub("^%*%.", ""))) then
            return ERROR, "names: \"" .. escaped(name) .. "\" is not the name of a host"
        end
    end
    state.settings.client_certificate =
        { ca_certs = ca_certs, partial_chain = frame.numbers[0] == 1, names = names }
    return OK
end)


function_of("disable_session_reuse", { "certificate" }, "", function()
    state.settings.session_reuse = false
    return OK
end)


function_of("disable_http2_alpn", { "client_hello" }, "", function()
    state.settings.http2 = false
    return OK
end)


function_of("get_full_client_certificate_chain", OF_REQUEST, "", function()
    local options = state.options
    if options.client_certificate_error then
        return ERROR, options.client_certificate_error
    end
    return options.client_certificate and OK or NONE, options.client_certificate
end)


function_of("set_client_verify", { "rewrite", "access", "content", "balancer" }, "text", function(frame)
    local value = text_in(frame, 0)
    if #value > 4096 then
        return ERROR, "client verify value must not be longer than 4096 bytes: given " .. #value
    elseif value:find("^FAILED:.") and value:find("%c") then
        return ERROR, "the reason of client verify value \"" .. escaped(value) .. "\" must not hold control characters"
    elseif value ~= "SUCCESS" and value ~= "NONE" and not value:find("^FAILED:.") then
        return ERROR, "unknown client verify value: " .. escaped(value)
            .. " accepted values are: \"SUCCESS\", \"NONE\" or \"FAILED:<reason>\""
    end
    state.settings.client_verify = value
    return OK
end)


function_of("get_request_ssl_pointer", OF_CONNECTION, "", function(frame)
    frame.pointer = {}
    return OK
end)


function_of("get_ssl_pointer", ANYWHERE, "pointer", function()
    return ERROR, "no ssl object"
end)


function_of("set_upstream", { "access" }, "text", function(frame)
    local host = text_in(frame, 0)
    if host:find("[%c /?#@%[%]\\]") then
        return ERROR, "host must be a host name or an IP address: given \"" .. escaped(host) .. "\""
    end
    local upstreams = state.options.upstreams
    local found = not upstreams and host ~= "" and not host:find(":", 1, true) and host
    for _, name in ipairs(upstreams or {}) do
        found = found or name:lower() == host:lower() and name
    end
    if not found then
        return NONE, "could not find an Upstream named '" .. host .. "'"
    end
    state.settings.target = found
    return OK
end)


-- Makes a target the peer, if its host is an address: returns the code and the text of the answer.
local function make_peer(frame, target)
    local host, port = target:match("^(.*):(%d+)$")
    if not host or not is_ip(host:match("^%[(.*)%]$") or host) then
        return
    end
    state.settings.peer, frame.number = target, tonumber(port)
    return PEER, host
end


function_of("set_target", UNTIL_BALANCER, "text number", function(frame)
    local host = text_in(frame, 0)
    local target, mistake = target_of(host, frame.numbers[0])
    if mistake then
        return ERROR, mistake
    elseif state.phase == "balancer" then
        local code, text = make_peer(frame, target)
        return code or ERROR, text or "host must be an IP address in the balancer phase: given \"" .. escaped(host)
            .. "\" (nothing can be resolved there)"
    end
    state.settings.target = target
    return OK
end)


function_of("set_target_retry_callback", { "rewrite", "access" }, "", function(frame)
    state.settings.retry_callback, frame.number = true, 0
    return OK
end)


function_of("choose_target", { "balancer" }, "", function(frame)
    local target = state.settings.peer or state.settings.target
    if not target then
        return ERROR, "no target is set: kong.service.set_target was not called for the request"
    end
    local code, text = make_peer(frame, target)
    return code or ERROR, text or "the target of the request is \"" .. escaped(target)
        .. "\": in the balancer phase, it must be an IP address (nothing can be resolved there)"
end)


-- Of a balancer: there is one attempt here.
function_of("note_peer_set", nil, "", function() return OK end)
function_of("may_try_again", nil, "", function() return NONE end)


function_of("enable_recording_upstream_ssl", UNTIL_BALANCER, "", function()
    state.settings.recording_upstream_ssl = true
    return OK
end)


-- There is no service. A test puts its own values into ngx.ctx.
function_of("upstream_tls_version", nil, "", function() return NONE end)
function_of("upstream_ssl_subject", nil, "text", function() return NONE end)


function_of("set_scheme", UNTIL_BALANCER, "text", function(frame)
    local scheme = text_in(frame, 0)
    if scheme ~= "http" and scheme ~= "https" then
        return ERROR, "invalid scheme: " .. escaped(scheme)
    end
    state.settings.scheme = scheme
    return OK
end)


function_of("set_retries", { "rewrite", "access" }, "number", function(frame)
    local mistake = not_integer("retries", frame.numbers[0], 0, 32767)
    if mistake then
        return ERROR, mistake
    end
    state.settings.retries = frame.numbers[0]
    return OK
end)


function_of("set_timeouts", { "rewrite", "access" }, "number number number", function(frame)
    local timeouts = {}
    for index, name in ipairs { "connect", "write", "read" } do
        local value = frame.numbers[index - 1]
        local mistake = not_integer(name .. "_timeout", value, 1, 2147483646)
        if mistake then
            return ERROR, mistake
        end
        timeouts[name] = value
    end
    state.settings.timeouts = timeouts
    return OK
end)


function_of("set_tls_cert_key", UNTIL_BALANCER, "pointer pointer", function(frame)
    local chain, key = object_in(frame, 0, "chain"), object_in(frame, 1, "key")
    if not chain then
        return ERROR, "chain is not a certificate chain"
    elseif not key then
        return ERROR, "key is not a private key"
    elseif objects[objects[chain][1]].name ~= objects[key].name then
        return ERROR, "key does not belong to the first certificate of chain"
    end
    state.settings.certificate, state.settings.key = chain, key
    return OK
end)


function_of("set_tls_verify", UNTIL_BALANCER, "number", function(frame)
    local on = frame.numbers[0] == 1
    if not on and state.options.enforce_verification then
        return ERROR, "TLS certificate verification is enforced"
    elseif not on and state.settings.verify_spiffe then
        return ERROR, "set_tls_verify_spiffe was called: a service is verified if it must have a SPIFFE ID"
    end
    state.settings.verify = on
    return OK
end)


function_of("set_tls_verify_depth", UNTIL_BALANCER, "number", function(frame)
    local depth = frame.numbers[0]
    if not_integer("depth", depth, 0, 100) then
        return ERROR, "depth must be an integer between 0 and 100: given " .. printed(depth)
    end
    state.settings.depth = depth
    return OK
end)


function_of("set_tls_verify_store", UNTIL_BALANCER, "pointer", function(frame)
    local store = object_in(frame, 0, "store")
    if not store then
        return ERROR, "store is not a certificate store"
    elseif state.settings.verify_spiffe then
        return ERROR, "set_tls_verify_spiffe was called: each trust domain has its own store"
    end
    state.settings.store = store
    return OK
end)


-- Returns what is wrong with a name that a certificate should have, or nil.
local function wrong_name(name)
    if name == "" then
        return "names must not hold an empty name"
    elseif name:find("[^!-~]") then
        return "names must hold printable ASCII: given \"" .. escaped(name) .. "\""
    end
end


-- Makes a function that sets a list among the names that the service may have.
local function set_list(kind)
    return function(frame)
        local names = names_in(frame)
        for _, name in ipairs(names) do
            local wrong = wrong_name(name)
            if wrong then
                return ERROR, wrong
            end
        end
        if #names == 0 then
            return ERROR, "names must hold at least one name"
        end
        local accepted = state.settings.verify_names or { host = true }
        accepted[kind] = names
        state.settings.verify_names = accepted
        return OK
    end
end

function_of("set_sans_dnsnames", UNTIL_BALANCER, "names", set_list("dns"))
function_of("set_sans_uris", UNTIL_BALANCER, "names", set_list("uris"))


local function is_address(text)
    return is_ip(text) or is_ip(text:match("^%[(.*:.*)%]$") or "")
end


-- The lists of names, by the letter before each name.
local LISTS = { d = "dns", u = "uris", i = "ips", e = "emails" }

function_of("set_tls_verify_names", UNTIL_BALANCER, "names", function(frame)
    local accepted = { host = false }
    for _, flat in ipairs(names_in(frame)) do
        local letter, name = flat:sub(1, 1), flat:sub(2)
        local list = LISTS[letter]
        if letter == "r" then
            accepted.host = true
        elseif letter == "i" and not is_address(name) then
            return ERROR, "ips must hold IP addresses: given \"" .. escaped(name) .. "\""
        elseif wrong_name(name) then
            return ERROR, wrong_name(name)
        elseif letter == "e" and not name:find("@", 1, true) then
            return ERROR, "emails must hold addresses with an @: given \"" .. escaped(name) .. "\""
        elseif letter == "h" then
            accepted.host = name
        else
            accepted[list] = accepted[list] or {}
            table.insert(accepted[list], name)
        end
    end
    if accepted.host == false and not (accepted.dns or accepted.uris or accepted.ips or accepted.emails) then
        return ERROR, "names must hold at least one name if host is false"
    end
    state.settings.verify_names = accepted
    return OK
end)


-- Returns whether a text is the Base64 of 32 bytes: the last digit but one has two bits that are 0.
local function is_digest(text)
    return #text == 44 and text:find("^[%w+/]+[AEIMQUYcgkosw048]=$") ~= nil
end

function_of("set_tls_pins", UNTIL_BALANCER, "names", function(frame)
    local digests = names_in(frame)
    for _, digest in ipairs(digests) do
        if not is_digest(digest) then
            return ERROR, "spki must hold SHA-256 digests in Base64: given \"" .. escaped(digest) .. "\""
        end
    end
    if #digests == 0 then
        return ERROR, "spki must hold at least one digest"
    end
    state.settings.pins = { spki = digests }
    return OK
end)


local function is_trust_domain(name)
    return #name <= 255 and name:find("^[%l%d._-]+$") ~= nil
end


-- Returns the trust domain of a SPIFFE ID with a path, of which the last segment may be a "*"; nil if
-- it is none.
local function trust_domain_of(id)
    local example = id:gsub("/%*$", "/a")
    local domain, path = example:match("^spiffe://([^/]*)/(.*)$")
    if not domain or #example > 2048 or not is_trust_domain(domain) then
        return nil
    end
    for segment in (path .. "/"):gmatch("(.-)/") do
        if not segment:find("^[%w._-]+$") or segment == "." or segment == ".." then
            return nil
        end
    end
    return domain
end


function_of("set_tls_verify_spiffe", UNTIL_BALANCER, "names stores", function(frame)
    local stores, domains, ids = {}, {}, {}
    for index = 1, frame.store_count do
        stores[index] = object_of(frame.stores[index - 1], "store")
        if not stores[index] then
            return ERROR, "store is not a certificate store"
        end
    end
    if state.settings.store then
        return ERROR, "set_tls_verify_store was called: each trust domain must have its own store"
    end
    for index, flat in ipairs(names_in(frame)) do
        local letter, name = flat:sub(1, 1), flat:sub(2)
        if letter == "i" then
            ids[#ids + 1] = name
        elseif not is_trust_domain(name) then
            return ERROR, "trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and "
                .. "underscores: given \"" .. escaped(name) .. "\""
        else
            domains[name] = stores[index]
        end
    end
    if not next(domains) then
        return ERROR, "trust_domains must hold at least one trust domain"
    elseif #ids == 0 then
        return ERROR, "ids must hold at least one SPIFFE ID; \"spiffe://<trust domain>/*\" stands for all"
    end
    for _, id in ipairs(ids) do
        local domain = trust_domain_of(id)
        if not domain then
            return ERROR, "ids must hold SPIFFE IDs with a path, of which the last segment may be a \"*\": given \""
                .. escaped(id) .. "\""
        elseif not domains[domain] then
            return ERROR, "ids must be of one of the trust domains: given \"" .. escaped(id) .. "\""
        end
    end
    state.settings.verify_spiffe = { trust_domains = domains, ids = ids }
    return OK
end)


-- The options of TLS, by the letter before each.
local OPTIONS = {
    l = "min_version", h = "max_version", c = "ciphers", s = "ciphersuites", g = "groups", a = "signature_algorithms",
}
local VERSIONS = { ["TLSv1"] = 0, ["TLSv1.1"] = 1, ["TLSv1.2"] = 2, ["TLSv1.3"] = 3 }

-- Which names there are, only OpenSSL knows.
function_of("set_tls_options", UNTIL_BALANCER, "names", function(frame)
    local options = {}
    for _, flat in ipairs(names_in(frame)) do
        local option, value = OPTIONS[flat:sub(1, 1)], flat:sub(2)
        if option:find("version", 1, true) and not VERSIONS[value] then
            return ERROR, option .. " must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given \"" .. escaped(value) .. "\""
        elseif value == "" or value:find("[^ -~]") then
            return ERROR, option .. " must hold names that OpenSSL knows: given \"" .. escaped(value) .. "\""
        end
        options[option] = value
    end
    if not next(options) then
        return ERROR, "at least one option must be set"
    end
    local lowest, highest = VERSIONS[options.min_version] or 0, VERSIONS[options.max_version] or 3
    if lowest > highest then
        return ERROR, "min_version must not be later than max_version"
    end
    state.settings.options = options
    return OK
end)


function_of("set_tls_server_name", UNTIL_BALANCER, "text", function(frame)
    local name = text_in(frame, 0)
    local sent = name:gsub("%.$", "")
    if #sent > 255 then
        return ERROR, "name must not be longer than 255 bytes: given " .. #sent
    elseif sent:find("[^%w._-]") or is_address(sent) or sent == "" and name ~= "" then
        return ERROR, "name must be a host name, and no IP address: given \"" .. escaped(name) .. "\""
    end
    state.settings.server_name = sent
    return OK
end)


local WITHOUT_REQUEST = {
    init = true, init_worker = true, exit_worker = true, timer = true, client_hello = true, certificate = true,
    ssl_session_fetch = true, ssl_session_store = true,
}


-- Returns whether the current phase allows a call of a function.
local function is_allowed(row)
    for _, phase in ipairs(row.phases or { state.phase }) do
        if phase == state.phase then
            return true
        end
    end
    return false
end


-- Says what to do about a call in a wrong phase, if the names of the phases don't say it.
local function remedy(phases)
    if phases[1] == "certificate" then
        return " (call it in ssl_certificate_by_lua*)"
    elseif phases[1] == "client_hello" and not phases[2] then
        return " (call it in ssl_client_hello_by_lua*)"
    end
    return WITHOUT_REQUEST[state.phase] and " (there is no request in this phase)" or ""
end


function_of("refusal", nil, "text text", function(frame)
    local row, label = rust[text_in(frame, 0)], text_in(frame, 1)
    if is_allowed(row) then
        return NONE
    end
    return OK, ("function cannot be called in %s phase (only in: %s): %s%s"):format(
        state.phase, table.concat(row.phases, ", "), label, remedy(row.phases))
end)


-- Keeps the chain of a pointer, for resty.kong.tls.objects.
function_of("pass_chain", nil, "pointer", function(frame)
    state.passed = object_in(frame, 0, "chain")
    if not state.passed then
        return ERROR, "chain is not a certificate chain"
    end
    return OK
end)


function_of("library_is_loaded", nil, "", function() return OK end)


-- Returns the natives of resty.kong.tls.functions.
return function()
    local calls, lines = {}, { "struct" }
    for number, row in ipairs(rust) do
        lines[#lines + 1] = row.name .. " " .. row.kinds
        calls[number - 1] = function(_, frame)
            local code, text = WRONG_PHASE, nil
            if is_allowed(row) then
                code, text = row.body(frame)
            end
            frame.text.data, frame.text.length = text, text and #text
            return code
        end
    end
    return { description = table.concat(lines, "\n"), pointers = calls }
end
