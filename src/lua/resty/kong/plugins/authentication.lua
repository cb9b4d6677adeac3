-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.authentication: the common part of the plugins that authenticate clients by
-- certificates. It verifies a chain, finds the consumer, and tells the service.

local at_init = require "resty.kong.tls.at_init"
local bounded = require "resty.kong.plugins.bounded"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local values = require "resty.kong.tls.values"
local x509 = require "resty.kong.x509"
local pdk = require "resty.kong.pdk"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local setmetatable = setmetatable
local is_given, is_list = values.is_given, values.is_list
local clocks, still_holds = functions.clocks, functions.still_holds
local client_objection = functions.client_objection
local set_client_verify = pdk.client.tls.set_client_verify

-- Headers for the service, which clients must not set (src/client/header_names.rs).
local CONSUMER = "X-Consumer-Username"
local ANONYMOUS = "X-Anonymous-Consumer"
local SUBJECT = "X-Client-Cert-DN"

-- The functions below normalize the values that identify a consumer.
local function exact(text)
    return text
end

-- Hexadecimal digits, optionally with colons between pairs.
local function hexadecimal(text)
    local pairs_of_digits = text:lower() .. ":"
    if pairs_of_digits:gsub("%x%x:", "") == "" then
        return (pairs_of_digits:gsub(":", ""))
    end
    return text:lower()
end

-- The part before the "@" is only for its own server to compare (RFC 5321, section 2.4).
local function email(text)
    local mailbox, host = text:match("^(.*)@([^@]*)$")
    return mailbox and mailbox .. "@" .. host:lower() or text
end

local FIELDS = {
    fingerprint = hexadecimal,
    dns = string.lower,
    email = email,
    uri = exact,
    common_name = exact,
}

-- Verdicts on chains are cached for a while: verification takes much longer than the rest of a
-- request. These limits apply to each worker, for all policies together. Unknown clients can send
-- any number of chains, so refused ones have a separate cache, and can't evict accepted ones.
local ACCEPTED, REFUSED, BYTES = 16384, 1024, 4 * 1024 * 1024
-- The estimated size of an entry besides its texts, in bytes.
local ENTRY = 400
-- The maximum length of a reason that is kept and reported.
local MAX_REASON_LENGTH = 1024

-- The verdicts, by the key of the chain, and then by policy.
local CACHE = "verdicts"
local accepted = bounded.new(CACHE, ACCEPTED, BYTES)
local refused = bounded.new(CACHE, REFUSED, BYTES)
-- Verdicts must not keep an unused policy alive.
local BY_POLICY = { __mode = "k" }

local M = {}

local methods = {}


-- Returns the consumer of a certificate: by its fingerprint, else by an alternative name, else, if
-- it has no alternative names, by the common name of its subject (RFC 6125, section 6.4.4). A field
-- that can't be read is an error: the next one could identify a different consumer.
local function find_consumer(self, certificate)
    local known = self.known
    local fingerprint, err = certificate:fingerprint()
    if not fingerprint then
        return nil, "fingerprint: " .. err
    end
    local found = known.fingerprint[fingerprint]
    if found then
        return found
    end
    local sans = certificate.sans
    if not sans then
        return nil, "its alternative names can't be read"
    end
    if #sans.uri + #sans.dns + #sans.email + #sans.ip == 0 then
        return certificate.common_name and known.common_name[certificate.common_name]
    end
    for _, kind in ipairs { "uri", "dns", "email" } do
        for _, name in ipairs(sans[kind]) do
            found = known[kind][FIELDS[kind](name)]
            if found then
                return found
            end
        end
    end
end


-- Normalizes the name of a header as many services do: they do not distinguish characters other
-- than letters and digits.
local function plain(name)
    return (name:lower():gsub("%W", "-"))
end


-- Removes the headers that only this module may set from a request, with names that services may
-- take for one of them, and `header` too if it is given. To be called first, for each request: the
-- module has already done most of this before any phase, but not after an internal redirect, and
-- not for a connection that was not guarded.
function M.strip(header)
    assert(functions.strip_headers())
    header = header and plain(header)
    if header then
        for name in pairs(ngx.req.get_headers(0, true)) do
            if plain(name) == header then
                ngx.req.clear_header(name)
            end
        end
    end
end


-- Rejects a request without an acceptable certificate, or accepts it as the anonymous consumer.
-- `verified` is the value of $kong_client_verify.
function methods:refuse(reason, verified)
    -- Fields of a certificate may have any length.
    reason = reason:sub(1, MAX_REASON_LENGTH)
    set_client_verify(verified or "FAILED:" .. reason:gsub("%c", " "))
    if self.anonymous then
        ngx.log(ngx.INFO, self.name, ": anonymous, ", reason)
        ngx.req.set_header(CONSUMER, self.anonymous)
        ngx.req.set_header(ANONYMOUS, "true")
        return
    end
    ngx.log(ngx.INFO, self.name, ": ", reason)
    return ngx.exit(401)
end


-- Verifies a chain and finds its consumer. Returns the verdict, and the date from which it may
-- change; a verdict due to a problem such as a lack of memory is not valid beyond this request.
local function judge(self, presented, parse)
    local chain, reason = parse(presented)
    if not chain then
        return { reason = reason }, 1 / 0
    end
    local ok, ends
    ok, reason, ends = functions.verify_until(self.store, chain, self.terms)
    if not ok then
        return { reason = reason }, ends
    end
    local certificate = chain[1]
    local subject = certificate.subject
    local consumer, err
    if subject then
        consumer, err = find_consumer(self, certificate)
    else
        err = "its subject can't be read"
    end
    if err then
        -- Not only the client's fault: the certificate was issued this way, or memory has run out.
        ngx.log(ngx.ERR, self.name, ": ", err)
        return { reason = err }, -1 / 0
    end
    if not consumer then
        return { reason = "no consumer has this certificate: " .. subject }, ends
    end
    return { consumer = consumer, subject = subject }, ends
end


-- Returns the verdict of this policy on a chain, if one is cached and still valid.
local function known(judgements, presented, policy)
    local by_policy = judgements:get(presented)
    local judged = by_policy and by_policy[policy]
    return judged and still_holds(judged.monotonic, judged.date, judged.ends) and judged
end


local function keep(presented, policy, judged)
    local kept_by = judged.reason and refused or accepted
    local by_policy = kept_by:get(presented)
    if not by_policy then
        by_policy = setmetatable({}, BY_POLICY)
        kept_by:set(presented, by_policy, ENTRY + #presented + #(judged.reason or judged.subject))
    end
    by_policy[policy] = judged
end


-- A verdict as a text, which all workers share.

local function encode(judged)
    local first, second = judged.reason or judged.consumer, judged.subject or ""
    return ("%s %.17g %.17g %.17g %d "):format(judged.reason and "refused" or "accepted", judged.monotonic,
        judged.date, judged.ends, #first) .. first .. second
end


local function decode(text)
    local kind, monotonic, date, ends, length, from = text:match("^(%l+) (%S+) (%S+) (%S+) (%d+) ()")
    local first, second = text:sub(from, from + length - 1), text:sub(from + length)
    local judged = { monotonic = tonumber(monotonic), date = tonumber(date), ends = tonumber(ends) }
    if kind == "refused" then
        judged.reason = first
    else
        judged.consumer, judged.subject = first, second
    end
    return judged
end


-- Returns the verdict of this policy that a worker has shared, if there is one that is still valid.
local function shared(self, presented)
    local text = functions.shared_verdict(self.store, self.digest .. presented)
    local judged = text and decode(text)
    return judged and still_holds(judged.monotonic, judged.date, judged.ends) and judged
end


-- Accepts the request of a client with a chain that is valid and has a consumer, and refuses
-- others. `presented` is the key of the chain, and `parse` makes the chain from it.
function methods:accept(presented, parse)
    local own = known(accepted, presented, self) or known(refused, presented, self)
    local judged = own or shared(self, presented)
    functions.count_cache(CACHE, judged and functions.HIT or functions.MISS)
    if not judged then
        local monotonic, date = clocks()
        local ends
        judged, ends = judge(self, presented, parse)
        judged.monotonic, judged.date, judged.ends = monotonic, date, ends
        judged.reason = judged.reason and judged.reason:sub(1, MAX_REASON_LENGTH)
        if ends > -1 / 0 then
            functions.share_verdict(self.store, self.digest .. presented, encode(judged), not judged.reason)
        end
    end
    if not own then
        keep(presented, self, judged)
    end
    if judged.reason then
        return self:refuse(judged.reason)
    end
    local objection = client_objection()
    if objection then
        return self:refuse(objection)
    end
    set_client_verify("SUCCESS")
    ngx.req.set_header(CONSUMER, judged.consumer)
    ngx.req.set_header(SUBJECT, judged.subject)
end


local meta = { __index = methods }

local OPTIONS = { ca = true, depth = true, consumers = true, anonymous = true }


local NAME = { name = true }

local function consumers_of(list)
    local consumers = {}
    for field in pairs(FIELDS) do
        consumers[field] = {}
    end
    for index, consumer in ipairs(list) do
        if type(consumer) ~= "table" or type(consumer.name) ~= "string" or consumer.name == "" then
            return nil, "consumer " .. index .. ": name must be a string"
        end
        local fields = 0
        for field, value in pairs(consumer) do
            local normalize = FIELDS[field]
            if field ~= "name" then
                if not normalize then
                    return nil, "consumer " .. index .. ": " .. mistakes.unknown("field", field, FIELDS, NAME)
                end
                if type(value) ~= "string" or value == "" then
                    return nil, "consumer " .. index .. ": " .. field .. " must be a string"
                end
                value = normalize(value)
                if field == "fingerprint" and not (#value == 64 and value:find("^%x+$")) then
                    return nil, "consumer " .. index .. ": fingerprint must be that of SHA-256, in hexadecimal"
                end
                fields = fields + 1
                if consumers[field][value] then
                    return nil, "consumer " .. index .. ": " .. field .. " is that of another consumer"
                end
                consumers[field][value] = consumer.name
            end
        end
        if fields == 0 then
            return nil, "consumer " .. index .. ": it has nothing to be known by"
        end
    end
    return consumers
end


-- Returns a text that says everything about a policy but its store: the same in all workers.
-- How the chain is read from a header, is part of it.
local function policy_text(name, options, consumers)
    local parts = { name }
    for _, option in ipairs { "depth", "header", "encoding" } do
        parts[#parts + 1] = option .. " " .. tostring(options[option])
    end
    for field, by_value in pairs(consumers) do
        for value, consumer in pairs(by_value) do
            parts[#parts + 1] = field .. " " .. #value .. " " .. value .. " " .. consumer
        end
    end
    table.sort(parts)
    for index, part in ipairs(parts) do
        parts[index] = #part .. " " .. part
    end
    return table.concat(parts)
end


-- Makes the common part of the plugin `name`. Options:
--
--     ca          what is trusted: see x509.store
--     depth       the maximum number of intermediates
--     consumers   a list of { name =, fingerprint =, uri =, dns =, email =, common_name = }
--     anonymous   the name of the consumer for all other clients; without it, they are rejected
--
-- and those in the set `others`. `plugin` is the package of the plugin, and `place` begins the errors
-- that this function throws. Returns nil and an error if an option can't be used.
function M.new(name, options, others, plugin, place)
    local label = name .. ".new"
    local function check(is_right, words, value, remedy)
        if not is_right then
            error(place .. mistakes.about(words, value, label, plugin, remedy), 4)
        end
    end
    check(type(options) == "table" and options ~= plugin, "options must be a table", options)
    mistakes.check_options(options, OPTIONS, 3, label, others, place)
    local ca, anonymous, depth = options.ca, options.anonymous, options.depth
    check(type(ca) == "table", "ca must be a table", ca, type(ca) == "string" and "write { pem = ... }")
    check(is_list(options.consumers), "consumers must be a list", options.consumers)
    check(not is_given(anonymous) or type(anonymous) == "string" and anonymous ~= "",
          "anonymous must be a string", anonymous)
    check(not is_given(depth) or type(depth) == "number" and depth >= 0 and depth % 1 == 0,
          "depth must be an integer, and not negative", depth)
    local wrong
    ca, wrong = functions.store_options(ca)
    if not ca then
        error(place .. "ca: " .. wrong .. ": " .. label, 3)
    end
    local store, err = x509.store(ca)
    if not store then
        return nil, "ca: " .. err
    end
    local consumers
    consumers, err = consumers_of(options.consumers)
    if not consumers then
        return nil, err
    end
    local digest = functions.policy_digest(policy_text(name, options, consumers))
    at_init.text(digest)
    return setmetatable({
        name = name,
        store = store,
        digest = digest,
        known = consumers,
        anonymous = anonymous,
        terms = { purpose = "clientAuth", depth = depth },
    }, meta)
end


return M
