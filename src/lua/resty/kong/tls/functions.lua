-- SPDX-License-Identifier: Apache-2.0

-- The functions behind both interfaces. Each checks its arguments, throws a plain string at the
-- caller's line if a type is wrong, and returns true, or nil and an error.
--
-- Types are checked here, because only LuaJIT knows the C type of a cdata. Values and phases are
-- checked in Rust.

local natives = ...

local ffi = require "ffi"
local at_init = require "resty.kong.tls.at_init"
local ctypes = require "resty.kong.tls.ctypes"
local mistakes = require "resty.kong.tls.mistakes"
local objects = require "resty.kong.tls.objects"
local recording = require "resty.kong.tls.recording"
local is_given = require("resty.kong.tls.values").is_given
local get_request = require("resty.core.base").get_request

local type = type
local error = error
local ipairs = ipairs
local sort = table.sort
local pcall = pcall
local rawequal = rawequal
local tostring = tostring
local istype = ffi.istype
local ffi_string = ffi.string
local pointer_of = objects.pointer_of

local OK = 0
local NONE = 1
local PEER = 2
local CALLBACK = 3
local WRONG_PHASE = -2

-- The description of the Rust functions: the declaration of a frame, then a line per function with
-- its name and the kinds of its arguments. A call puts the arguments into the only frame, which
-- then holds the answer.
local lines = natives.description:gmatch("[^\n]+")
local frame = ffi.new(lines())
local raw_functions = ffi.cast("int (**)(void *r, void *frame)", natives.pointers)

-- How an argument of each kind is put into the frame; a list has a second argument, its length.
local PUT = {
    text = "frame.texts[%d].data, frame.texts[%d].length = %s, #%s",
    number = "frame.numbers[%d] = %s",
    pointer = "frame.pointers[%d] = %s",
    names = "frame.names, frame.name_count = %s, %s",
    stores = "frame.stores, frame.store_count = %s, %s",
}

-- The functions, by name: each takes the request and its arguments, and returns a code.
local raw = {}
do
    local number = 0
    for line in lines do
        local words = line:gmatch("%S+")
        local name, parameters, puts, counts = words(), { "r" }, {}, {}
        for kind in words do
            local place = counts[kind] or 0
            counts[kind] = place + 1
            local value = "v" .. #parameters
            parameters[#parameters + 1] = value
            if kind == "text" then
                puts[#puts + 1] = PUT.text:format(place, place, value, value)
            elseif kind == "names" or kind == "stores" then
                local count = "v" .. #parameters
                parameters[#parameters + 1] = count
                puts[#puts + 1] = PUT[kind]:format(value, count)
            else
                puts[#puts + 1] = PUT[kind]:format(place, value)
            end
        end
        local source = "local frame, call = ... return function(" .. table.concat(parameters, ", ") .. ") "
            .. table.concat(puts, " ") .. " local code = call(r, frame) return code end"
        raw[name] = assert(loadstring(source, "=resty.kong." .. name))(frame, raw_functions[number])
        number = number + 1
    end
end

local VOID, STACK_OF_X509, OPENSSL_STACK = ctypes.VOID, ctypes.STACK_OF_X509, ctypes.OPENSSL_STACK
local EVP_PKEY, X509_STORE, SSL = ctypes.EVP_PKEY, ctypes.X509_STORE, ctypes.SSL


local function read_text()
    return ffi_string(frame.text.data, frame.text.length)
end


local function result(code)
    if code == OK then
        return true
    end
    return nil, read_text()
end


-- Converts the code of a function that returns a text, or nil if there is none.
local function text_result(code)
    if code == OK then
        return read_text()
    end
    if code == NONE then
        return nil
    end
    return nil, read_text()
end


-- These take the pointer of an object, or a cdata of another library.

local function is_chain(value)
    return type(value) == "cdata" and value ~= nil
           and (istype(VOID, value) or istype(STACK_OF_X509, value)
                or istype(OPENSSL_STACK, value))
end


local function is_key(value)
    return type(value) == "cdata" and value ~= nil
           and (istype(VOID, value) or istype(EVP_PKEY, value))
end


local function is_store(value)
    return type(value) == "cdata" and value ~= nil and istype(X509_STORE, value)
end


-- Returns a copy of a list of strings, and their number; nil if it is not a list of strings. The
-- list itself may say something else each time that it is read.
local function strings_in(list)
    if type(list) ~= "table" then
        return nil
    end
    local count = 0
    for index, text in pairs(list) do
        if type(index) ~= "number" or type(text) ~= "string" then
            return nil
        end
        count = count + 1
    end
    local copy = {}
    for i = 1, count do
        local text = rawget(list, i)
        if type(text) ~= "string" then
            return nil
        end
        copy[i] = text
    end
    return copy, count
end


local TEXTS = ffi.typeof("struct { const char *data; size_t length; }[?]")

-- The strings of the last call: only a pointer to each goes to Rust.
local anchored

-- Returns an array of the texts in a list of our own, and their number. To be called when no foreign
-- code runs any more before the call.
local function anchored_names(list)
    anchored = list
    local count = #anchored
    local texts = ffi.new(TEXTS, count + 1)
    for i = 1, count do
        local text = list[i]
        texts[i - 1].data, texts[i - 1].length = text, #text
    end
    return texts, count
end


-- Returns the error for a call of a function in the current phase; nil if the phase allows it.
-- `label` is what users call.
local function refusal_of(name, label)
    return (text_result(raw.refusal(get_request(), name, label)))
end


-- Throws if a function may not be called in the current phase. `called` is the entry in `calls` of
-- the function, and `level` that of `error`, seen from the caller.
local function check_phase(called, level)
    local refusal = refusal_of(called.name, called.label)
    if refusal then
        error(called.wrong_phase and called.wrong_phase .. ": " .. refusal or refusal, level + 1)
    end
end


-- The conversions of the arguments of each function. A wrong argument throws at the user's line. A
-- conversion may run foreign code (a metamethod), which may yield; so the request, or its phase,
-- may change during a conversion.

local convert = {}


-- Throws an error at the user's line, about the phase if that is wrong, else `message`. `deeper` is
-- the number of functions between this one and that in `convert`.
local function fail(called, message, deeper)
    check_phase(called, 4 + deeper)
    error(message, 4 + deeper)
end


-- Throws an error about an argument that is not what it must be; `words` say what that is. A function
-- of lua-kong-nginx-module throws the words of that module, and nothing else.
local function reject(called, words, value, remedy, deeper)
    deeper = deeper or 0
    local exact = called.wrong_type and called.wrong_type(value)
    if exact and not rawequal(value, called.owner) then
        fail(called, exact, 1 + deeper)
    end
    words = exact or words
    fail(called, mistakes.about(words, value, called.label, called.owner, remedy), 1 + deeper)
end


-- Throws an error about an argument that is no object of a kind (chain, key, store).
local function reject_object(called, words, kind, value, is_pointer)
    reject(called, words, value, mistakes.remedy(kind, value, is_pointer), 1)
end


-- Throws an error about an argument that is no table, or that of the functions themselves: a colon in
-- place of a dot gives that.
local function check_table(called, value)
    if type(value) ~= "table" or rawequal(value, called.owner) then
        reject(called, "argument must be a table", value, nil, 1)
    end
end


-- Throws an error about an argument that is no list of strings.
local function reject_strings(called, words, value)
    if called.wrong_type and called.wrong_type(value) then
        reject(called, words, value, nil, 1)
    end
    fail(called, mistakes.about_strings(words, value, called.label, called.owner), 1)
end


-- The conversions of the code that a function returns, other than `result`. They also get the
-- function's entry in `calls`.
local finish = {}


local ASKING_OPTIONS = { names = true, partial_chain = true }

function convert.request_client_certificate(called, ca_certs, options)
    local chain = pointer_of(ca_certs)
    if is_given(ca_certs) and not is_chain(chain) then
        reject_object(called, "ca_certs must be a parsed cdata object", "chain", ca_certs, is_chain)
    end
    local names
    local partial_chain = false
    if is_given(options) then
        if type(options) ~= "table" then
            reject(called, "options must be a table", options)
        end
        for name, value in pairs(options) do
            if name == "partial_chain" then
                if type(value) ~= "boolean" then
                    reject(called, "partial_chain must be a boolean", value)
                end
                partial_chain = value
            elseif name == "names" then
                names = strings_in(value)
                if not names then
                    reject_strings(called, "names must be a table of strings", value)
                end
            else
                fail(called, mistakes.unknown("option", name, ASKING_OPTIONS) .. ": " .. called.label, 0)
            end
        end
    end
    local is_told = at_init.tells(is_given(ca_certs) and ca_certs or nil)
    local texts, count = nil, 0
    if names then
        texts, count = anchored_names(names)
    end
    return chain, partial_chain and 1 or 0, texts, count, is_told and 1 or 0
end


finish.get_full_client_certificate_chain = text_result


-- For functions that return nothing. Error level 2 is the user's line.
local function throw_error(code, called)
    if code ~= OK then
        error(read_text() .. ": " .. called.label, 2)
    end
end


local function check_string(called, name, value)
    if type(value) ~= "string" then
        reject(called, name .. " must be a string", value, nil, 1)
    end
end


function convert.set_client_verify(called, value)
    check_string(called, "client verify value", value)
    return value
end


finish.set_client_verify = throw_error


function finish.get_request_ssl_pointer(code)
    if code == OK then
        return ffi.cast(SSL, frame.pointer)
    end
    return nil, read_text()
end


-- Where a TCP socket of the Lua module keeps what it knows of its connection, once it has one.
local SOCKET_STATE = 1

function convert.get_ssl_pointer(called, sock)
    local metatable = debug.getregistry().__tcp_cosocket_mt
    if type(sock) ~= "table" or not metatable or debug.getmetatable(sock) ~= metatable then
        reject(called, "sock must be a TCP socket of ngx.socket", sock)
    end
    local upstream = rawget(sock, SOCKET_STATE)
    return type(upstream) == "userdata" and ffi.cast(VOID, upstream) or nil
end


finish.get_ssl_pointer = finish.get_request_ssl_pointer


function convert.set_upstream(called, host)
    check_string(called, "host", host)
    return host
end


function finish.set_upstream(code, called)
    if code == OK then
        return true
    end
    if code == NONE then
        return nil, read_text()
    end
    error(read_text() .. ": " .. called.label, 2)
end


local function check_integer(called, name, value)
    if type(value) ~= "number" then
        reject(called, name .. " must be an integer", value, nil, 1)
    end
end


function convert.set_target(called, host, port)
    check_string(called, "host", host)
    check_integer(called, "port", port)
    return host, port
end


-- Makes the address in the answer the peer of the current attempt. Error level 3 is the user's line.
local function set_peer(called)
    local ok, err = require("ngx.balancer").set_current_peer(read_text(), frame.number)
    if not ok then
        error("the peer could not be set: " .. err .. ": " .. called.label, 3)
    end
    raw.note_peer_set(get_request())
end


function finish.set_target(code, called)
    if code == PEER then
        set_peer(called)
    elseif code ~= OK then
        error(read_text() .. ": " .. called.label, 2)
    end
end


-- The functions of set_target_retry_callback, by the numbers that Rust has given to them: a number is
-- free again when its request has ended.
local retry_callbacks = {}


function convert.set_target_retry_callback(called, callback)
    if type(callback) ~= "function" then
        reject(called, "retry_callback must be a function", callback)
    end
end


function finish.set_target_retry_callback(code, called, callback)
    if code ~= OK then
        error(read_text() .. ": " .. called.label, 2)
    end
    retry_callbacks[frame.number] = callback
end


-- What a function has thrown or returned, for an error. Calls no metamethod.
local function said(value)
    local kind = type(value)
    return (kind == "string" or kind == "number") and tostring(value) or kind == "nil" and "nil" or "a " .. kind
end


-- Calls the function for retries with this number. Returns a code as set_target has it, which is about
-- the target that it gave; or nil, and what was wrong.
local function ask_for_target(number)
    local ok, host, port, err = pcall(retry_callbacks[number])
    if not ok then
        return nil, "threw: " .. said(host)
    elseif not host then
        return nil, "gave no target: " .. said(err or port)
    elseif host == true then
        -- It has called set_target itself; or else the target stays.
        return raw.choose_peer(get_request())
    elseif type(host) ~= "string" or type(port) ~= "number" then
        return nil, "must return a host and a port, or true: given " .. type(host) .. " and " .. type(port)
    end
    return raw.set_target(get_request(), host, port)
end


function finish.choose_target(code, called)
    if code == CALLBACK then
        local wrong
        code, wrong = ask_for_target(frame.number)
        wrong = wrong or code ~= PEER and "gave a wrong target: " .. read_text()
        if wrong then
            error("the function of kong.service.set_target_retry_callback " .. wrong .. ": " .. called.label, 2)
        end
    elseif code ~= PEER then
        error(read_text() .. ": " .. called.label, 2)
    end
    set_peer(called)
    if raw.may_try_again(get_request()) == OK then
        require("ngx.balancer").set_more_tries(1)
    end
end


-- Fields of ngx.ctx, as Kong names them: each returns its value when it is read.
local RECORDED = {
    upstream_ssl_enabled = function()
        return raw.upstream_tls_version(get_request()) == OK
    end,
    upstream_tls_version = function()
        return text_result(raw.upstream_tls_version(get_request()))
    end,
}
for name, attribute in pairs {
    upstream_ssl_state = "ST", upstream_ssl_common_name = "CN", upstream_ssl_organization_unit = "OU",
} do
    RECORDED[name] = function()
        return text_result(raw.upstream_ssl_subject(get_request(), attribute))
    end
end


function finish.enable_recording_upstream_ssl()
    recording.add(ngx.ctx, RECORDED)
end


function convert.set_scheme(called, scheme)
    check_string(called, "scheme", scheme)
    return scheme
end


function finish.set_scheme(code, called, scheme)
    if code ~= OK then
        error(read_text() .. ": " .. called.label, 2)
    end
    if ngx.get_phase() == "balancer" then
        local set_upstream_tls = require("ngx.balancer").set_upstream_tls
        if not set_upstream_tls then
            error("ngx.balancer has no set_upstream_tls, which this needs in the balancer phase: " .. called.label, 2)
        end
        local ok, err = set_upstream_tls(scheme == "https")
        if not ok then
            error("the scheme could not be set: " .. err .. ": " .. called.label, 2)
        end
    end
end


function convert.set_retries(called, retries)
    check_integer(called, "retries", retries)
    return retries
end


finish.set_retries = throw_error


function convert.set_timeouts(called, connect, write, read)
    check_integer(called, "connect_timeout", connect)
    check_integer(called, "write_timeout", write)
    check_integer(called, "read_timeout", read)
    return connect, write, read
end


finish.set_timeouts = throw_error


function convert.set_tls_cert_key(called, chain, key)
    local chain_pointer, key_pointer = pointer_of(chain), pointer_of(key)
    if not is_chain(chain_pointer) then
        reject_object(called, "chain must be a parsed cdata object", "chain", chain, is_chain)
    end
    if not is_key(key_pointer) then
        reject_object(called, "key must be a parsed cdata object", "key", key, is_key)
    end
    return chain_pointer, key_pointer
end


function convert.set_tls_verify(called, on)
    if type(on) ~= "boolean" then
        reject(called, "argument must be a boolean", on)
    end
    return on and 1 or 0
end


function convert.set_tls_verify_depth(called, depth)
    if type(depth) ~= "number" then
        reject(called, "argument must be a number", depth)
    elseif depth < 0 then
        local words = "depth expects a non-negative integer but found " .. tostring(depth)
        fail(called, called.wrong_type and words or words .. ": " .. called.label, 0)
    end
    return depth
end


-- Returns the pointer of a store, nil if it is none; and the object that keeps it.
local function pointer_of_store(store)
    local pointer
    if type(store) == "table" then
        pointer = store.ctx
    elseif objects.kind_of(store) then
        store = objects.current(store)
        pointer = pointer_of(store)
    end
    return is_store(pointer) and pointer or nil, store
end


function convert.set_tls_verify_store(called, store)
    local pointer = pointer_of_store(store)
    if not pointer then
        -- Kong's function leaves tables to the one that it calls.
        local words = type(store) == "table" and "store expects a resty.openssl.x509.store object but found table"
            or "argument must be a resty.openssl.x509.store object"
        reject_object(called, words, "store", store, is_store)
    end
    return pointer
end


local function convert_names(called, names)
    local list, count = strings_in(names)
    if not list or count == 0 then
        reject_strings(called, "argument must be a table of strings", names)
    end
    return anchored_names(list)
end

convert.set_sans_dnsnames = convert_names
convert.set_sans_uris = convert_names


function convert.set_tls_server_name(called, name)
    check_string(called, "name", name)
    return name
end


-- The lists of names that a service may have: what each is called, and how Rust knows its names.
local LISTS = { { "dns", "d" }, { "uris", "u" }, { "ips", "i" }, { "emails", "e" } }
local NAMES = { host = true, dns = true, uris = true, ips = true, emails = true }


-- Returns the names that a service may have as one list, each after a letter that says what it is.
-- Returns nil and what is wrong, and, if it is a value, that value and whether it should be a list.
local function flat_names(names)
    for field in pairs(names) do
        if not NAMES[field] then
            return nil, mistakes.unknown("field", field, NAMES)
        end
    end
    local flat, host = {}, names.host
    if not is_given(host) or host == true then
        flat[1] = "r"
    elseif type(host) == "string" then
        flat[1] = "h" .. host
    elseif host ~= false then
        return nil, "host must be a boolean or a string", { host }
    end
    for _, kind in ipairs(LISTS) do
        local list = names[kind[1]]
        if is_given(list) then
            local copy = strings_in(list)
            if not copy then
                return nil, kind[1] .. " must be a table of strings", { list }, true
            end
            for _, name in ipairs(copy) do
                flat[#flat + 1] = kind[2] .. name
            end
        end
    end
    return flat
end


local PINS = { spki = true }

-- Returns the digests in `pins`; or nil and what is wrong, and, if it is a value, that value.
local function digests_in(pins)
    for field in pairs(pins) do
        if not PINS[field] then
            return nil, mistakes.unknown("field", field, PINS)
        end
    end
    local digests = pins.spki
    local copy = strings_in(digests)
    if not copy then
        return nil, "spki must be a table of strings", { digests }
    end
    return copy
end


function convert.set_tls_pins(called, pins)
    check_table(called, pins)
    local digests, words, wrong = digests_in(pins)
    if not digests then
        if not wrong then
            fail(called, words .. ": " .. called.label, 0)
        end
        reject_strings(called, words, wrong[1])
    end
    return anchored_names(digests)
end


local POINTERS = ffi.typeof("void *[?]")
local SPIFFE = { trust_domains = true, ids = true }

-- Returns the trust domains and the IDs in `spiffe` as one list, each after a letter that says what
-- it is, and a list of the pointers of the stores, with the `owners` of these; `pointer_of_one`
-- returns the pointer of a store, and its owner. Returns nil and what is wrong, and, if it is a value, that value and its kind.
local function trusted_ids(spiffe, pointer_of_one)
    for field in pairs(spiffe) do
        if not SPIFFE[field] then
            return nil, mistakes.unknown("field", field, SPIFFE)
        end
    end
    local domains, ids = spiffe.trust_domains, spiffe.ids
    if type(domains) ~= "table" then
        return nil, "trust_domains must be a table of stores", { domains }
    end
    local accepted = strings_in(ids)
    if not accepted then
        return nil, "ids must be a table of strings", { ids }, "strings"
    end
    -- Foreign code may take a store out of its table while the others are read.
    local flat, owners = {}, {}
    local stores = { owners = owners }
    for name, store in pairs(domains) do
        if type(name) ~= "string" then
            return nil, "trust_domains must have names of trust domains", { name }
        end
        local pointer, owner = pointer_of_one(store)
        if not pointer then
            return nil, "trust_domains must be a table of stores", { store }, "store"
        end
        flat[#flat + 1], stores[#stores + 1] = "t" .. name, pointer
        owners[#owners + 1] = owner
    end
    for _, id in ipairs(accepted) do
        flat[#flat + 1] = "i" .. id
    end
    return flat, stores
end


-- The stores of the last call: only their pointers go to Rust.
local anchored_stores

function convert.set_tls_verify_spiffe(called, spiffe)
    check_table(called, spiffe)
    local flat, stores, wrong, kind = trusted_ids(spiffe, pointer_of_store)
    if not flat then
        local words = stores
        if not wrong then
            fail(called, words .. ": " .. called.label, 0)
        elseif kind == "strings" then
            reject_strings(called, words, wrong[1])
        elseif kind == "store" then
            reject_object(called, words, "store", wrong[1], is_store)
        end
        reject(called, words, wrong[1])
    end
    anchored_stores = stores
    local pointers = ffi.new(POINTERS, #anchored_stores)
    for i, pointer in ipairs(anchored_stores) do
        pointers[i - 1] = pointer
    end
    anchored_stores.pointers = pointers
    local texts, count = anchored_names(flat)
    return texts, count, pointers, #anchored_stores
end


-- The options of TLS, and how Rust knows each.
local OPTIONS = {
    min_version = "l", max_version = "h", ciphers = "c", ciphersuites = "s", groups = "g", signature_algorithms = "a",
}


-- Returns options of TLS as a list, each after a letter that says what it is. Returns nil and what is
-- wrong, and, if it is a value, that value.
local function flat_options(options)
    local flat = {}
    for name, value in pairs(options) do
        local letter = OPTIONS[name]
        if not letter then
            return nil, mistakes.unknown("option", name, OPTIONS)
        end
        if type(value) ~= "string" then
            return nil, name .. " must be a string", { value }
        end
        flat[#flat + 1] = letter .. value
    end
    -- Lua tables have no order: with one of their own, options are recognised.
    sort(flat)
    return flat
end


function convert.set_tls_options(called, options)
    check_table(called, options)
    local flat, words, wrong = flat_options(options)
    if not flat then
        if not wrong then
            fail(called, words .. ": " .. called.label, 0)
        end
        reject(called, words, wrong[1])
    end
    return anchored_names(flat)
end


function convert.set_tls_verify_names(called, names)
    check_table(called, names)
    local flat, words, wrong, is_list = flat_names(names)
    if not flat then
        if not wrong then
            fail(called, words .. ": " .. called.label, 0)
        end
        (is_list and reject_strings or reject)(called, words, wrong[1])
    end
    return anchored_names(flat)
end


local M = { is_chain = is_chain }


-- Throws at the line that has called a plugin's method if that may not be called in the current
-- phase. `label` is the method, and `name` a function of requests that may be called in the same
-- phases.
function M.check_method(name, label)
    local refusal = refusal_of(name, label)
    if refusal then
        error(refusal, 3)
    end
end


-- Resets the target of the current request, its timeouts and retries, and all TLS settings for the
-- service.
function M.forget_service()
    return result(raw.forget_service(get_request()))
end


-- Verifies the client of the current handshake, who was asked for a certificate, with a plugin's
-- store; `depth` is the maximum number of intermediates.
function M.verify_client_with(store, depth)
    local is_told = at_init.tells(store)
    return result(raw.verify_client_with(get_request(), pointer_of(store), depth or -1, is_told and 1 or 0))
end


-- Returns the digest of the chain that the client has presented, on this connection or in the first
-- handshake of a resumed session; nil if it has presented none, or nil and an error.
function M.client_chain_digest()
    return text_result(raw.client_chain_digest(get_request()))
end


-- Returns nginx's objection to the client's certificate, which plugins must not overrule: it is
-- revoked, or its status is unknown. Returns nil if there is none.
function M.client_objection()
    if raw.client_objection(get_request()) == OK then
        return read_text()
    end
end


-- Makes an object of another library's chain, a cdata of a suitable type; returns nil and an error if
-- it isn't one.
function M.adopt_chain(chain)
    local ok, err = result(raw.pass_chain(nil, chain))
    if not ok then
        return nil, err
    end
    return objects.passed_chain()
end


-- Events for `count_cache`, which counts one in a cache; `cache` is its name in the status.
M.HIT, M.MISS, M.EVICTION = 0, 1, 2

function M.count_cache(cache, event)
    raw.count_cache(nil, cache, event)
end


-- Checks of values, which need no request. Return true, or nil and an error.

function M.check_upstream(host)
    return result(raw.check_upstream(nil, host))
end


function M.check_target(host, port)
    return result(raw.check_target(nil, host, port))
end


function M.check_verify_names(names)
    local flat, words = flat_names(names)
    if not flat then
        return nil, words
    end
    return result(raw.check_verify_names(nil, anchored_names(flat)))
end


function M.check_pins(pins)
    local digests, words = digests_in(pins)
    if not digests then
        return nil, words
    end
    return result(raw.check_pins(nil, anchored_names(digests)))
end


-- Checks trust domains, whatever their stores, and IDs.
function M.check_verify_spiffe(spiffe)
    local flat, words = trusted_ids(spiffe, function() return true end)
    if not flat then
        return nil, words
    end
    return result(raw.check_verify_spiffe(nil, anchored_names(flat)))
end


function M.check_options(options)
    local flat, words = flat_options(options)
    if not flat then
        return nil, words
    end
    return result(raw.check_options(nil, anchored_names(flat)))
end


function M.check_server_name(name)
    return result(raw.check_server_name(nil, name))
end


-- For plugins that tell services who the consumer is, by headers that clients must not set. Called
-- in the handshake, `guard_headers` makes the module remove these headers from all requests of the
-- connection, before any phase; `strip_headers` removes them from the current request.

function M.guard_headers()
    return result(raw.guard_headers(get_request()))
end


-- Returns a list of names for `strip_headers` and `remove_headers`.
function M.header_names(names)
    local texts, count = anchored_names(names)
    return { names = names, texts = texts, count = count }
end


-- Also removes the headers with `names`, if these are given.
function M.strip_headers(names)
    if not names then
        return result(raw.strip_headers(get_request(), nil, 0))
    end
    return result(raw.strip_headers(get_request(), names.texts, names.count))
end


-- Removes the headers with these names, and with names that services may take for one of them, from
-- the current request.
function M.remove_headers(names)
    return result(raw.remove_headers(get_request(), names.texts, names.count))
end


-- Keeps a text under a name for the current request, also across internal redirects.
function M.keep_text(name, value)
    return result(raw.keep_text(get_request(), name, value))
end


-- Returns the text kept under a name, or nil.
function M.kept_text(name)
    if raw.kept_text(get_request(), name) == OK then
        return read_text()
    end
end


-- Returns whether the location of the current request has an error_page for a status.
function M.has_error_page(status)
    return raw.has_error_page(get_request(), status) == OK
end


-- Returns the time of the monotonic clock and the date, in milliseconds. Only for `still_holds`.
function M.clocks()
    raw.clocks(nil)
    return frame.clocks[0], frame.clocks[1]
end


-- Returns whether a verdict from a moment is still valid; `ends` is the date at which it may
-- change.
function M.still_holds(monotonic, date, ends)
    return raw.still_holds(nil, monotonic, date, ends) == OK
end


-- Returns the store that an object is now, and its number if it may be replaced: what has to do with
-- one store in several steps takes it once. See `current` of `objects`.
M.current_store = objects.current


-- Returns the digest of a text that says everything about a policy but its store.
function M.policy_digest(policy)
    raw.policy_digest(nil, policy)
    return read_text()
end


-- Returns the verdict on a chain that a worker has shared for a store and a key, or nil.
function M.shared_verdict(store, key)
    if raw.shared_verdict(get_request(), pointer_of(store), key) == OK then
        return read_text()
    end
end


-- Shares a verdict with all workers.
function M.share_verdict(store, key, verdict, is_accepted)
    raw.share_verdict(get_request(), pointer_of(store), key, verdict, is_accepted and 1 or 0)
end


-- Decode a certificate that a proxy has sent in a header to DER; return nil and an error if the
-- text is invalid.

local function decoder(decode)
    return function(value)
        if decode(nil, value) == OK then
            return read_text()
        end
        return nil, read_text()
    end
end

M.decode_url = decoder(raw.decode_url)
M.decode_base64 = decoder(raw.decode_base64)


-- What errors say about each function that users call, by function: `name` is the name in Rust,
-- `label` that by which users call it, and `owner` the table that has it.
local calls = {}


-- Makes the errors that a function returns begin with these words.
local function beginning_with(words, finish_call)
    return function(code, ...)
        local value, err = finish_call(code, ...)
        if err then
            return nil, words .. ": " .. err
        end
        return value
    end
end


-- Returns the function `name` as users call it: without the request. The request and its phase are
-- determined after the arguments were converted; a wrong phase is reported before a wrong argument.
--
-- `words` are those of lua-kong-nginx-module, for a function of that module: `wrong_phase` begins the
-- error for a wrong phase, and `failed` what is returned; `wrong_type` is a function that returns
-- what is thrown for an argument, or nil if that module has no words for it.
function M.public(name, words)
    words = words or {}
    local convert_arguments, finish_call, invoke = convert[name], finish[name] or result, raw[name]
    if words.failed then
        finish_call = beginning_with(words.failed, finish_call)
    end
    if not invoke then
        error("no function " .. name)
    end
    if name == "request_client_certificate" then
        raw.library_is_loaded(nil)
    end
    local called = { name = name, wrong_phase = words.wrong_phase, wrong_type = words.wrong_type }
    local call
    if convert_arguments then
        function call(a, b, c)
            local v, w, x, y, z = convert_arguments(called, a, b, c)
            local code = invoke(get_request(), v, w, x, y, z)
            if code == WRONG_PHASE then
                check_phase(called, 2)
            end
            -- With the arguments, which are used until here: LuaJIT may free what is not used any
            -- more, and the call has pointers to it.
            return finish_call(code, called, a, b, c)
        end
    else
        function call()
            local code = invoke(get_request())
            if code == WRONG_PHASE then
                check_phase(called, 2)
            end
            return finish_call(code, called)
        end
    end
    calls[call] = called
    return call
end


-- Returns a table of such functions, which users know as `label`, for errors.
function M.interface(label, functions)
    for name, call in pairs(functions) do
        local called = calls[call]
        called.label, called.owner = label .. "." .. name, functions
    end
    return functions
end


return M
