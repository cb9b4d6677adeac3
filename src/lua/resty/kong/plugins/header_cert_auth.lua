-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.header_cert_auth: authenticates clients by a certificate that a proxy in front
-- sends in a header, after it has verified that the client has the key.
--
-- A sender of this header can claim any identity. So it is only accepted from the addresses in
-- `trusted`, and never forwarded to the service.

local addresses = require "resty.kong.addresses"
local authentication = require "resty.kong.plugins.authentication"
local functions = require "resty.kong.tls.functions"
local replaced = require "resty.kong.plugins.replaced"
local mistakes = require "resty.kong.tls.mistakes"
local x509 = require "resty.kong.x509"
local is_list_of_strings = require("resty.kong.tls.values").is_list_of_strings

local type = type
local error = error
local pairs = pairs
local setmetatable = setmetatable
local keep_text, kept_text = functions.keep_text, functions.kept_text
local follow = replaced.follow

-- The maximum length of the header's value, in bytes.
local MAX_LENGTH = 32 * 1024

local CLASS = "header_cert_auth"
local NEW = "header_cert_auth.new"

local methods = {}


-- Decode the value of the header to the DER of a single certificate.
local ENCODINGS = { url = functions.decode_url, base64 = functions.decode_base64 }


local ACCESS = "header_cert_auth:access"
local ACCESS_OPTIONS = { optional = true }


-- Authenticates the client. To be called in access_by_lua*. Options:
--
--     optional   whether clients without a certificate are let in
function methods:access(options)
    mistakes.check_object(self, "common", CLASS, "access")
    functions.check_method("set_retries", ACCESS)
    -- Before anything can fail: an error page may be another location of the gateway.
    authentication.strip()
    follow(self)
    options = authentication.access_options(options, ACCESS_OPTIONS, ACCESS)
    local common = self.common
    local text = ngx.req.get_headers(0)[self.header]
    authentication.strip(self.header)

    -- The address of the connection itself: set_real_ip_from may have replaced the other by one
    -- that the request names.
    local peer = ngx.var.realip_remote_addr or ngx.var.remote_addr
    local is_trusted = self.trusted:contain(peer)
    if not is_trusted and not (options.optional and (not text or text == "") and not kept_text(self.header)) then
        return common:refuse(peer .. " is not trusted to send certificates")
    end
    if type(text) == "table" then
        return common:refuse("there are several headers " .. self.header)
    end
    if text and text ~= "" then
        assert(keep_text(self.header, text))
    else
        -- The value that the request had before an internal redirect.
        text = kept_text(self.header)
    end
    if not text then
        return common:without_certificate(options.optional)
    end
    -- A trusted proxy may forward what its client has sent.
    if #text > MAX_LENGTH then
        return common:refuse("header " .. self.header .. " is longer than " .. MAX_LENGTH .. " bytes")
    end
    return common:accept(text, self.decode)
end


local meta = { __index = methods }

local OPTIONS = { header = true, encoding = true, trusted = true, dict = true }

local M = {}


-- Returns what the plugin needs of its options, by fields; or nil and an error.
local function built(options)
    local common, err = authentication.new(CLASS, options, OPTIONS, M, "")
    if not common then
        return nil, err
    end
    if type(options.header) ~= "string" or not options.header:find("^[%w-]+$") then
        error(mistakes.about("header must be the name of a header", options.header, NEW), 3)
    end
    local encoding = ENCODINGS[options.encoding]
    if not encoding then
        error(mistakes.about("encoding must be \"url\" or \"base64\"", options.encoding, NEW), 3)
    end
    local function decode(text)
        local chain
        local der, wrong = encoding(text)
        if der then
            chain, wrong = x509.chain_from_der(der)
        end
        if not chain then
            return nil, "header " .. options.header .. ": " .. wrong
        end
        return chain
    end
    if not is_list_of_strings(options.trusted) then
        error(mistakes.about_strings("trusted must be a list of strings", options.trusted, NEW), 3)
    end
    local trusted
    trusted, err = addresses.new(options.trusted)
    if not trusted then
        return nil, "trusted: " .. err
    end
    return { common = common, header = options.header, decode = decode, trusted = trusted }
end


-- Puts other options into effect.
local function use(self, other)
    for field, value in pairs(other) do
        self[field] = value
    end
end


-- Replaces all options, in all workers: see resty.kong.plugins.replaced. Returns true; or nil and an
-- error, and nothing changes.
function methods:replace(options)
    mistakes.check_object(self, "common", CLASS, "replace")
    return replaced.replace(self, options)
end


methods.consumer = authentication.consumer


-- Makes the plugin. Options: those of resty.kong.plugins.authentication, and
--
--     header     the header with the certificate
--     encoding   "url" for URL-encoded PEM, "base64" for DER in base64: exactly one certificate
--     trusted    a list of addresses and networks from which the header is accepted
--     dict       the name of a lua_shared_dict, for replace
--
-- Returns nil and an error if an option can't be used.
function M.new(options)
    local self, err = built(options)
    if not self then
        return nil, err
    end
    local ok
    ok, err = replaced.prepare(self, { dict = options.dict }, OPTIONS, {
        class = CLASS, given = options, built = built, use = use, label = NEW,
    })
    if not ok then
        return nil, err
    end
    return setmetatable(self, meta)
end


-- Returns the consumer of the current request: see resty.kong.plugins.authentication.
M.consumer = authentication.consumer


return M
