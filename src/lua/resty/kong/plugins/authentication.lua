-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.authentication: the common part of the plugins that authenticate clients by
-- certificates. It verifies a chain, finds the consumer, and tells the service.

local at_init = require "resty.kong.tls.at_init"
local bounded = require "resty.kong.plugins.bounded"
local consumers = require "resty.kong.plugins.consumers"
require "resty.kong.forwarded_certificate"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local revocation = require "resty.kong.plugins.revocation"
local values = require "resty.kong.tls.values"
local x509 = require "resty.kong.x509"
local pdk = require "resty.kong.pdk"

local type = type
local error = error
local ipairs = ipairs
local tonumber = tonumber
local tostring = tostring
local setmetatable = setmetatable
local is_given, is_list = values.is_given, values.is_list
local clocks, still_holds = functions.clocks, functions.still_holds
local client_objection = functions.client_objection
local keep_text, kept_text = functions.keep_text, functions.kept_text
local set_client_verify = pdk.client.tls.set_client_verify
local pack, unpack_texts = consumers.pack, consumers.unpack

-- Headers for the service, which clients must not set (src/client/header_names.rs).
local CONSUMER = "X-Consumer-Username"
local CONSUMER_ID = "X-Consumer-ID"
local CUSTOM_ID = "X-Consumer-Custom-ID"
local CREDENTIAL = "X-Credential-Identifier"
local GROUPS = "X-Authenticated-Groups"
local ANONYMOUS = "X-Anonymous-Consumer"
local SUBJECT = "X-Client-Cert-DN"
local SAN = "X-Client-Cert-San"

-- The name under which the client of a request is kept: it is no header's.
local CLIENT = "the client"

-- Answers of 401 for clients that accept JSON.
local JSON = "application/json; charset=utf-8"
local NO_CERTIFICATE = '{"message":"No required TLS certificate was sent"}'
local NOT_VERIFIED = '{"message":"TLS certificate failed verification"}'

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


-- Removes the headers that only this module may set from a request, with names that services may
-- take for one of them, and those of `names` too (see functions.header_names); and forgets whom
-- another call has found. To be called first, for each request: the module has already done most of
-- this before any phase, but not after an internal redirect, and not for a connection that was not
-- guarded.
function M.strip(names)
    assert(functions.strip_headers(names))
    if kept_text(CLIENT) then
        assert(keep_text(CLIENT, ""))
    end
end


-- Returns who the client of the current request is, as a table, if a plugin has let it in; nil for
-- everybody else. The name is nil if the policy has no consumers.
function M.consumer()
    local text = kept_text(CLIENT)
    if not text or text == "" then
        return nil
    end
    local kind, username, id, custom_id, groups, fingerprint = unpack(unpack_texts(text))
    local function given(value)
        return value ~= "" and value or nil
    end
    return {
        username = given(username), id = given(id), custom_id = given(custom_id), groups = unpack_texts(groups),
        fingerprint = given(fingerprint), anonymous = kind == "anonymous" or nil,
    }
end


-- Checks the options of `access`, which may be nil, and returns them as a table. Throws at the line
-- that has called the method `label`.
function M.access_options(options, known, label)
    if not is_given(options) then
        return {}
    end
    mistakes.check_type("options", options, "table", 3, label)
    mistakes.check_options(options, known, 3, label)
    local is_optional = options.optional
    if is_given(is_optional) then
        mistakes.check_type("optional", is_optional, "boolean", 3, label)
    end
    return options
end


-- Returns whether the client names JSON as a type that it accepts.
local function accepts_json()
    for range in (ngx.var.http_accept or ""):lower():gmatch("[^,]+") do
        local media_type = range:match("^%s*([^%s;]+)")
        if media_type and (media_type == "application/json" or media_type:find("^application/.*%+json$")) then
            return not range:find(";%s*q=0%.?0*%s*$") and not range:find(";%s*q=0%.?0*%s*;")
        end
    end
    return false
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
        assert(keep_text(CLIENT, pack { "anonymous", self.anonymous, "", "", "", "" }))
        return
    end
    ngx.log(ngx.INFO, self.name, ": ", reason)
    -- An error_page takes precedence, as over nginx's own page.
    if accepts_json() and not functions.has_error_page(401) then
        ngx.status = 401
        ngx.header["Content-Type"] = JSON
        ngx.print(verified == "NONE" and NO_CERTIFICATE or NOT_VERIFIED)
    end
    return ngx.exit(401)
end


-- Decides about the client without a certificate: it is let in as nobody if a certificate is
-- `optional`.
function methods:without_certificate(is_optional)
    if is_optional and not self.anonymous then
        return set_client_verify("NONE")
    end
    return self:refuse("there is no certificate", "NONE")
end

-- ---- the verdict on a chain ---------------------------------------------------------------------

-- Texts of a certificate that name the groups of its client.
local GROUPS_BY = {
    CN = function(certificate) return { certificate.common_name } end,
    DN = function(certificate) return { certificate.subject } end,
    OU = function(certificate) return functions.organizational_units(certificate) end,
    DNS = function(certificate) return certificate.sans and certificate.sans.dns end,
    URI = function(certificate) return certificate.sans and certificate.sans.uri end,
    EMAIL = function(certificate) return certificate.sans and certificate.sans.email end,
}

-- How the names in X-Client-Cert-San begin, by kind.
local KINDS = { { "uri", "URI:" }, { "dns", "DNS:" }, { "email", "email:" }, { "ip", "IP:" } }


-- Returns the alternative names of a certificate as the value of a header.
local function shown_names(sans)
    local all = {}
    for _, kind in ipairs(KINDS) do
        for _, name in ipairs(sans[kind[1]]) do
            all[#all + 1] = kind[2] .. name
        end
    end
    return consumers.elements(all)
end


-- Returns the fingerprints of the certificates of a verified chain, of which only the leaf counts if
-- no consumer is pinned to another.
local function fingerprints_of(self, chain)
    local all = {}
    for number = 1, self.is_pinned and chain:count() or 1 do
        local fingerprint, err = chain[number]:fingerprint()
        if not fingerprint then
            return nil, "fingerprint: " .. err
        end
        all[number] = fingerprint
    end
    return all
end


-- Reads what a policy needs to know of a certificate with a verified chain. Returns it as a verdict;
-- or nil, and what can't be read.
local function read(self, certificate, verified)
    local subject = certificate.subject
    if not subject then
        return nil, "its subject can't be read"
    end
    local chain, err = fingerprints_of(self, verified)
    if not chain then
        return nil, err
    end
    local judged = { subject = subject, chain = chain, names = "", groups = {}, number = 0 }
    local sans = certificate.sans
    if sans then
        judged.names = shown_names(sans)
    elseif self.takes_all then
        return nil, "its alternative names can't be read"
    end
    if self.group_by then
        judged.groups = GROUPS_BY[self.group_by](certificate)
        if not judged.groups then
            return nil, "its groups can't be read"
        end
    end
    if self.list then
        local record
        record, err = self.list:find(certificate, chain)
        if err then
            return nil, err
        end
        judged.number = record and record.number or 0
    end
    return judged
end


-- Verifies a chain, and reads what decides who the client is. Returns the verdict, and the date from
-- which it may change; a verdict due to a problem such as a lack of memory is not valid beyond this
-- request.
local function judge(self, store, presented, parse)
    local chain, reason = parse(presented)
    if not chain then
        return { reason = reason }, 1 / 0
    end
    local ok, ends, verified
    ok, reason, ends, verified = functions.verify_until(store, chain, self.terms)
    if not ok then
        return { reason = reason }, ends
    end
    local judged, err = read(self, chain[1], verified)
    if err then
        -- Not only the client's fault: the certificate was issued this way, or memory has run out.
        ngx.log(ngx.ERR, self.name, ": ", err)
        return { reason = err }, -1 / 0
    end
    if judged.number == 0 and not self.takes_all then
        return { reason = "no consumer has this certificate: " .. judged.subject }, ends
    end
    return judged, ends
end


-- Returns the verdict of this policy on a chain, if one is cached and still valid. `number` is that of
-- the policy's store, which may have been replaced.
local function known(judgements, presented, policy, number)
    local by_policy = judgements:get(presented)
    local judged = by_policy and by_policy[policy]
    return judged and judged.store == number and still_holds(judged.monotonic, judged.date, judged.ends) and judged
end


local function keep(presented, policy, judged, length)
    local kept_by = judged.reason and refused or accepted
    local by_policy = kept_by:get(presented)
    if not by_policy or not by_policy[policy] then
        -- Anybody can have many policies judge one chain.
        local bytes = kept_by:size(presented) or #presented
        by_policy = by_policy or setmetatable({}, BY_POLICY)
        kept_by:set(presented, by_policy, bytes + ENTRY + length)
    end
    by_policy[policy] = judged
end


-- A verdict as a text, which all workers share.

local function encode(judged)
    local texts
    if judged.reason then
        texts = { judged.reason }
    else
        texts = { tostring(judged.number), judged.subject, pack(judged.chain), judged.names, pack(judged.groups) }
    end
    return ("%s %.17g %.17g %.17g "):format(judged.reason and "refused" or "accepted", judged.monotonic,
        judged.date, judged.ends) .. pack(texts)
end


local function decode(text)
    local kind, monotonic, date, ends, from = text:match("^(%l+) (%S+) (%S+) (%S+) ()")
    local texts = unpack_texts(text:sub(from))
    local judged = { monotonic = tonumber(monotonic), date = tonumber(date), ends = tonumber(ends) }
    if kind == "refused" then
        judged.reason = texts[1]
    else
        judged.number, judged.subject, judged.chain = tonumber(texts[1]), texts[2], unpack_texts(texts[3])
        judged.names, judged.groups = texts[4], unpack_texts(texts[5])
    end
    return judged
end


-- Returns the verdict of this policy that a worker has shared, if there is one that is still valid,
-- and the length of its text.
local function shared(self, store, presented)
    local text = functions.shared_verdict(store, self.digest .. presented)
    local judged = text and decode(text)
    if judged and still_holds(judged.monotonic, judged.date, judged.ends) then
        return judged, #text
    end
end


-- Returns the verdict of this policy on a chain: one that this worker or another has made before, or a
-- new one.
local function verdict(self, presented, parse)
    local store, number = functions.current_store(self.store)
    local own = known(accepted, presented, self, number) or known(refused, presented, self, number)
    if own then
        functions.count_cache(CACHE, functions.HIT)
        return own
    end
    local judged, length = shared(self, store, presented)
    functions.count_cache(CACHE, judged and functions.HIT or functions.MISS)
    if not judged then
        local monotonic, date = clocks()
        local ends
        judged, ends = judge(self, store, presented, parse)
        judged.monotonic, judged.date, judged.ends = monotonic, date, ends
        judged.reason = judged.reason and judged.reason:sub(1, MAX_REASON_LENGTH)
        local text = encode(judged)
        length = #text
        if ends > -1 / 0 then
            functions.share_verdict(store, self.digest .. presented, text, not judged.reason)
        end
    end
    judged.store = number
    keep(presented, self, judged, length)
    return judged
end

-- ---- the consumer -------------------------------------------------------------------------------

-- Returns the consumer of a client with an accepted chain, or nil if it has none; or nil and an error
-- if a function that knows it has failed.
local function consumer_of(self, judged, presented, parse)
    local found, err
    if self.list then
        found = self.list.records[judged.number]
    elseif self.lookup then
        found, err = self.lookup:find(judged.chain[1], function()
            local chain, wrong = parse(presented)
            return chain and chain[1], wrong
        end)
        if err then
            return nil, err
        end
        found = consumers.may_have(found, judged.chain) and found or nil
    end
    return found or self.default
end

-- ---- headers ------------------------------------------------------------------------------------

-- Makes what the service, and other plugins, are told of a client: once for a verdict and a consumer.
local function told(judged, record)
    local groups, has = {}, {}
    for _, list in ipairs { record and record.groups or {}, judged.groups } do
        for _, group in ipairs(list) do
            if group ~= "" and not has[group] then
                has[group] = true
                groups[#groups + 1] = group
            end
        end
    end
    local headers = {}
    local function add(name, value)
        if value and value ~= "" then
            headers[#headers + 1] = { name, value }
        end
    end
    if record then
        add(CONSUMER, record.username)
        add(CONSUMER_ID, record.id)
        add(CUSTOM_ID, record.custom_id)
        add(CREDENTIAL, judged.chain[1])
    end
    add(GROUPS, consumers.elements(groups))
    add(SUBJECT, judged.subject)
    add(SAN, judged.names)
    judged.headers, judged.record = headers, record
    judged.client = pack {
        "consumer", record and record.username or "", record and record.id or "", record and record.custom_id or "",
        pack(groups), judged.chain[1],
    }
end


-- Tells the service who the client is.
local function tell(judged, record)
    if not judged.headers or judged.record ~= record then
        told(judged, record)
    end
    for _, header in ipairs(judged.headers) do
        ngx.req.set_header(header[1], header[2])
    end
    assert(keep_text(CLIENT, judged.client))
end


-- Sends the certificates of an accepted client to the service, or ends the request.
local function forward(self, presented, parse)
    -- Policies may read other chains from the same text.
    local ok, err = functions.forward(self.forward, self.digest .. presented, function()
        return parse(presented)
    end)
    if not ok then
        ngx.log(ngx.ERR, self.name, ": the certificate can't be forwarded: ", err)
        return ngx.exit(400)
    end
end


-- Accepts the request of a client with a chain that is valid and has a consumer, and refuses
-- others. `presented` is the key of the chain, and `parse` makes the chain from it.
function methods:accept(presented, parse)
    local judged = verdict(self, presented, parse)
    if judged.reason then
        return self:refuse(judged.reason)
    end

    local objection = client_objection()
    if objection then
        return self:refuse(objection)
    end

    local revoked = self.revocation and self.revocation:check(presented, parse, judged.store)
    if revoked then
        return self:refuse(revoked)
    end

    local record, err = consumer_of(self, judged, presented, parse)
    if err then
        ngx.log(ngx.ERR, self.name, ": lookup: ", err)
        return ngx.exit(500)
    end
    if not record and not self.skips then
        return self:refuse("no consumer has this certificate: " .. judged.subject)
    end

    set_client_verify("SUCCESS")
    functions.note_place(self.in_header)
    tell(judged, record)
    if self.forward then
        return forward(self, presented, parse)
    end
end

-- ---- the options --------------------------------------------------------------------------------

local meta = { __index = methods }

local OPTIONS = {
    ca = true, depth = true, consumers = true, anonymous = true, skip_consumer_lookup = true, default_consumer = true,
    consumer_by = true, authenticated_group_by = true, lookup = true, cache_ttl = true, negative_ttl = true,
    forward = true,
}
for option in pairs(revocation.OPTIONS) do
    OPTIONS[option] = true
end

-- How long the answers of `lookup` count, in seconds.
local CACHE_TTL, NEGATIVE_TTL = 60, 10


-- Returns a text that says everything about a policy but its store: the same in all workers.
-- How the chain is read from a header, is part of it.
local function policy_text(self, options)
    local parts = { self.name }
    for _, option in ipairs { "depth", "header", "encoding", "format", "chain_header", "element",
                              "authenticated_group_by", "skip_consumer_lookup" } do
        parts[#parts + 1] = option .. " " .. tostring(options[option])
    end
    parts[#parts + 1] = "consumers " .. (self.list and self.list.text or "none")
    parts[#parts + 1] = "default " .. (self.default and self.default.text or "none")
    -- What the verdict tells is decided by these.
    parts[#parts + 1] = "all " .. tostring(self.takes_all) .. tostring(self.is_pinned)
    return pack(parts)
end


-- Makes the part of a policy that knows consumers, of checked options. Returns true, or nil and an
-- error.
local function add_consumers(self, options)
    local err
    if options.consumers then
        self.list, err = consumers.list(options.consumers, options.consumer_by or {})
        if not self.list then
            return nil, err
        end
    end
    if options.lookup then
        self.lookup = consumers.lookup(options.lookup, options.cache_ttl or CACHE_TTL, options.negative_ttl or NEGATIVE_TTL)
    end
    if is_given(options.default_consumer) then
        self.default, err = consumers.named(options.default_consumer)
        if not self.default then
            return nil, "default_consumer: " .. err
        end
    end
    self.skips = options.skip_consumer_lookup == true
    self.group_by = options.authenticated_group_by
    -- Whether certificates without a consumer in the list may be accepted.
    self.takes_all = self.skips or self.default ~= nil or self.lookup ~= nil
    self.is_pinned = self.lookup ~= nil or self.list ~= nil and self.list.is_pinned
    return true
end


-- Makes the common part of the plugin `name`. Options:
--
--     ca                      what is trusted: see x509.store
--     depth                   the maximum number of intermediates
--     consumers               a list of { name =, fingerprint =, uri =, dns =, email =, common_name =,
--                             id =, custom_id =, groups =, ca_certificate = }
--     consumer_by             what the names of a certificate are compared with too
--     lookup                  a function that returns the consumer of a certificate, in place of a list
--     cache_ttl               how long its answers count, in seconds
--     negative_ttl            the same, for certificates that are nobody's
--     default_consumer        the consumer of certificates that are valid, and nobody's
--     skip_consumer_lookup    whether valid certificates are accepted, whose ever they are
--     authenticated_group_by  what in a certificate names groups
--     anonymous               the name of the consumer for all other clients; without it, they are
--                             rejected
--     forward                 how the service gets the certificates: see
--                             resty.kong.forwarded_certificate
--
-- and those in the set `others`. `plugin` is the package of the plugin, and `place` begins the errors
-- that this function throws. Returns nil and an error if an option can't be used.
function M.new(name, options, others, plugin, place)
    local label = name .. ".new"
    local function check(is_right, words, value, remedy)
        if not is_right then
            error(place .. mistakes.about(words, value, label, plugin, remedy), 5)
        end
    end
    check(type(options) == "table" and options ~= plugin, "options must be a table", options)
    mistakes.check_options(options, OPTIONS, 4, label, others, place)
    local ca, anonymous, depth = options.ca, options.anonymous, options.depth
    check(type(ca) == "table", "ca must be a table", ca, type(ca) == "string" and "write { pem = ... }")
    local skips, lookup = options.skip_consumer_lookup, options.lookup
    check(not is_given(skips) or type(skips) == "boolean", "skip_consumer_lookup must be a boolean", skips)
    check(not is_given(lookup) or type(lookup) == "function", "lookup must be a function", lookup)
    check(is_list(options.consumers) or not is_given(options.consumers) and (skips or lookup),
          "consumers must be a list", options.consumers)
    check(not is_given(anonymous) or type(anonymous) == "string" and anonymous ~= "",
          "anonymous must be a string", anonymous)
    check(not is_given(depth) or type(depth) == "number" and depth >= 0 and depth % 1 == 0,
          "depth must be an integer, and not negative", depth)
    check(not is_given(options.forward) or functions.is_forward_format(options.forward),
          "forward must be " .. functions.FORWARD_FORMATS, options.forward)
    local by = options.consumer_by
    local wrong = is_given(by) and consumers.wrong_by(by)
    check(not wrong, wrong, by)
    local group_by = options.authenticated_group_by
    check(not is_given(group_by) or GROUPS_BY[group_by] ~= nil,
          "authenticated_group_by must be \"CN\", \"DN\", \"OU\", \"DNS\", \"URI\" or \"EMAIL\"", group_by)
    for _, option in ipairs { "cache_ttl", "negative_ttl" } do
        local seconds = options[option]
        check(not is_given(seconds) or type(seconds) == "number" and seconds >= 0 and seconds < 1 / 0,
              option .. " must be a number of seconds", seconds)
    end
    -- Options that exclude each other: none has no effect.
    local function excludes(one, other)
        if is_given(options[one]) and options[one] ~= false and is_given(options[other]) then
            error(place .. one .. " and " .. other .. " exclude each other: " .. label, 5)
        end
    end
    excludes("lookup", "consumers")
    excludes("lookup", "consumer_by")
    for _, option in ipairs { "consumers", "lookup", "consumer_by", "default_consumer" } do
        excludes("skip_consumer_lookup", option)
    end
    for _, option in ipairs { "cache_ttl", "negative_ttl" } do
        check(not is_given(options[option]) or lookup, option .. " is for lookup", options[option])
    end
    ca, wrong = functions.store_options(ca)
    if not ca then
        error(place .. "ca: " .. wrong .. ": " .. label, 4)
    end
    local of_revocation
    of_revocation, wrong = revocation.options(options)
    if not of_revocation then
        error(place .. wrong .. ": " .. label, 4)
    end
    local store, err = x509.store(ca)
    if not store then
        return nil, "ca: " .. err
    end
    local self = setmetatable({
        name = name,
        store = store,
        anonymous = anonymous,
        forward = options.forward,
        -- Otherwise, the certificate is that of the connection.
        in_header = name == "header_cert_auth",
        terms = { purpose = "clientAuth", depth = depth },
    }, meta)
    self.revocation, err = revocation.new(of_revocation, store, self.terms)
    if err then
        return nil, err
    end
    local ok
    ok, err = add_consumers(self, options)
    if not ok then
        return nil, err
    end
    self.digest = functions.policy_digest(policy_text(self, options))
    at_init.text(self.digest)
    return self
end


return M
