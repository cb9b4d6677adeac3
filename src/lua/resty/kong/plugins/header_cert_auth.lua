-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.header_cert_auth: authenticates clients by a certificate that a proxy in front
-- sends in a header, after it has verified that the client has the key.
--
-- A sender of this header can claim any identity. So it is only accepted from the addresses in
-- `trusted`, and never forwarded to the service.

local addresses = require "resty.kong.addresses"
local authentication = require "resty.kong.plugins.authentication"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local replaced = require "resty.kong.plugins.replaced"
local values = require "resty.kong.tls.values"
local x509 = require "resty.kong.x509"

local type = type
local error = error
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local tonumber = tonumber
local concat = table.concat
local is_given, is_list_of_strings = values.is_given, values.is_list_of_strings
local keep_text, kept_text = functions.keep_text, functions.kept_text
local about = mistakes.about
local follow = replaced.follow

-- The maximum length of the headers' values, in bytes (src/client/header_certificate.rs).
local MAX_LENGTH = 32 * 1024

local CLASS = "header_cert_auth"
local NEW = "header_cert_auth.new"

local methods = {}


-- Decode the value of the header to the DER of a single certificate.
local ENCODINGS = { url = functions.decode_url, base64 = functions.decode_base64 }

-- How families of proxies send certificates (src/client/header_certificate/). The names are defaults.
--
--     header     has the client's certificate
--     chain      has the other certificates of its chain
--     lines      the chain may be in several lines
--     numbered   "-0" and so on follow the name of the chain's header, one for each certificate
--     none       the value without a certificate
--     beside     other headers of the proxy with certificates, which are removed but not read
local FORMATS = {
    ["rfc9440"] = { header = "Client-Cert", chain = "Client-Cert-Chain", lines = true },
    ["xfcc"] = { header = "X-Forwarded-Client-Cert" },
    ["haproxy"] = { header = "X-SSL-Client-DER", chain = "X-SSL-Client-Chain-DER", none = "\"\"" },
    ["aws-alb"] = { header = "X-Amzn-Mtls-Clientcert-Leaf",
                    beside = { "X-Amzn-Mtls-Clientcert-Leaf", "X-Amzn-Mtls-Clientcert" } },
    ["traefik"] = { header = "X-Forwarded-Tls-Client-Cert" },
    ["apache"] = { header = "SSL-Client-Cert", chain = "SSL-Client-Cert-Chain", numbered = true, none = "(null)" },
    ["azure"] = { header = "X-ARR-ClientCert" },
    ["nginx"] = { header = "X-Client-Cert" },
}

local ELEMENTS = { only = true, first = true, last = true }

-- The maximum number of numbered headers that are read.
local NUMBERED = 10


-- Returns what the request has of the chain's headers, as one text; nil if there is nothing. Returns
-- nil and an error if there are several of a header that must be the only one.
local function chain_text(self, headers)
    local format = self.format
    local name = self.chain_key
    if format.numbered then
        local texts = {}
        for number = 0, NUMBERED - 1 do
            local text = headers[name .. "-" .. number]
            if not text or text == "" or text == format.none then
                break
            elseif type(text) == "table" then
                return nil, self.chain_header .. "-" .. number
            end
            texts[#texts + 1] = text
        end
        return #texts > 0 and concat(texts, " ") or nil
    end
    local text = headers[name]
    if type(text) ~= "table" then
        return text ~= "" and text or nil
    elseif not format.lines then
        return nil, self.chain_header
    end
    local lines = {}
    for _, line in ipairs(text) do
        if line ~= "" then
            lines[#lines + 1] = line
        end
    end
    -- Lines are parts of one list (RFC 8941, section 4.2).
    return #lines > 0 and concat(lines, ", ") or nil
end


-- The texts of both headers as one, which identifies the chain: different texts give different ones.
local function joined(text, chain)
    return #text .. ":" .. text .. chain
end


local function divided(presented)
    local length, from = presented:match("^(%d+):()")
    local behind = from + tonumber(length)
    return presented:sub(from, behind - 1), presented:sub(behind)
end


local ACCESS = "header_cert_auth:access"
local ACCESS_OPTIONS = { optional = true }


-- Authenticates the client. To be called in access_by_lua*. Options:
--
--     optional   whether clients without a certificate are let in
function methods:access(options)
    mistakes.check_object(self, "common", CLASS, "access")
    functions.check_method("set_retries", ACCESS)
    -- Before anything can fail: an error page may be another location of the gateway.
    local headers, names = ngx.req.get_headers(0), self.names
    authentication.strip(names)
    follow(self)
    if self.names ~= names then
        authentication.strip(self.names)
    end
    options = authentication.access_options(options, ACCESS_OPTIONS, ACCESS)
    local common = self.common
    local text = headers[self.key]
    local chain, several
    if self.chain_key then
        chain, several = chain_text(self, headers)
    end
    if text then
        -- nginx knows some headers apart from the list of all.
        ngx.req.clear_header(self.header)
    end
    if text == "" or text == self.none then
        text = nil
    end

    -- The address of the connection itself: set_real_ip_from may have replaced the other by one
    -- that the request names.
    local peer = ngx.var.realip_remote_addr or ngx.var.remote_addr
    local is_trusted = self.trusted:contain(peer)
    if not is_trusted and not (options.optional and not text and not kept_text(self.header)) then
        return common:refuse(peer .. " is not trusted to send certificates")
    end
    if type(text) == "table" then
        several = self.header
    end
    if several then
        return common:refuse("there are several headers " .. several)
    end
    if text then
        assert(keep_text(self.header, text))
        if self.chain_key then
            assert(keep_text(self.chain_header, chain or ""))
        end
    else
        -- The values that the request had before an internal redirect.
        text = kept_text(self.header)
        chain = text and self.chain_key and kept_text(self.chain_header)
    end
    if not text then
        return common:without_certificate(options.optional)
    end
    -- A trusted proxy may forward what its client has sent.
    if #text > MAX_LENGTH then
        return common:refuse("header " .. self.header .. " is longer than " .. MAX_LENGTH .. " bytes")
    elseif chain and #text + #chain > MAX_LENGTH then
        return common:refuse("headers " .. self.header .. " and " .. self.chain_header .. " are longer than "
                             .. MAX_LENGTH .. " bytes")
    end
    return common:accept(self.chain_key and joined(text, chain or "") or text, self.decode)
end


local meta = { __index = methods }

local OPTIONS = {
    header = true, encoding = true, format = true, chain_header = true, element = true, trusted = true, dict = true,
}

local M = {}


local function is_name(name)
    return type(name) == "string" and name:find("^[%w-]+$") ~= nil
end


-- Returns the function that makes a chain of the value of the only header, for an encoding.
local function decoder_of_encoding(header, decode)
    return function(text)
        local chain
        local der, wrong = decode(text)
        if der then
            chain, wrong = x509.chain_from_der(der)
        end
        if not chain then
            return nil, "header " .. header .. ": " .. wrong
        end
        return chain
    end
end


-- Returns the function that makes a chain of what identifies it, for a format.
local function decoder_of_format(name, header, chain_header, element)
    local label = chain_header and "headers " .. header .. " and " .. chain_header or "header " .. header
    return function(presented)
        local text, others = presented, nil
        if chain_header then
            text, others = divided(presented)
        end
        local chain, wrong = functions.chain_from_headers(name, element, text, others)
        if not chain then
            return nil, (others == "" and "header " .. header or label) .. ": " .. wrong
        end
        return chain
    end
end


-- Checks the options about headers, and returns the fields of the plugin that depend on them.
local function headers_of(options)
    local function check(is_right, words, value)
        if not is_right then
            error(about(words, value, NEW), 5)
        end
    end
    local name, element = options.format, options.element
    if not is_given(name) then
        check(is_name(options.header), "header must be the name of a header", options.header)
        local decode = ENCODINGS[options.encoding]
        check(decode, "encoding must be \"url\" or \"base64\"", options.encoding)
        check(not is_given(options.chain_header), "chain_header needs format", options.chain_header)
        check(not is_given(element), "element is for format = \"xfcc\"", element)
        return { header = options.header, decode = decoder_of_encoding(options.header, decode) }
    end
    local format = type(name) == "string" and FORMATS[name]
    if not format then
        local known = {}
        for one in pairs(FORMATS) do
            known[#known + 1] = "\"" .. one .. "\""
        end
        table.sort(known)
        check(false, "format must be one of " .. concat(known, ", "), name)
    end
    check(not is_given(options.encoding), "encoding is in place of format", options.encoding)
    local header, chain_header = options.header, options.chain_header
    check(not is_given(header) or is_name(header), "header must be the name of a header", header)
    check(format.chain or not is_given(chain_header), "chain_header is for formats with a header of the chain",
          chain_header)
    check(not is_given(chain_header) or is_name(chain_header), "chain_header must be the name of a header",
          chain_header)
    check(name == "xfcc" or not is_given(element), "element is for format = \"xfcc\"", element)
    check(not is_given(element) or ELEMENTS[element], "element must be \"only\", \"first\" or \"last\"", element)
    header, chain_header = header or format.header, chain_header or format.chain
    check(not chain_header or header:lower() ~= chain_header:lower(), "chain_header must not be header", chain_header)
    return {
        format = format,
        none = format.none,
        header = header,
        chain_header = chain_header,
        chain_key = chain_header and chain_header:lower(),
        decode = decoder_of_format(name, header, chain_header, element or "only"),
    }
end


-- The names of the headers that are removed from requests.
local function names_of(self, forwards)
    local names = { self.header }
    local function add(list)
        for _, name in ipairs(list or {}) do
            names[#names + 1] = name
        end
    end
    local format = self.format
    add(format and format.beside)
    if self.chain_header and format.numbered then
        for number = 0, NUMBERED - 1 do
            add { self.chain_header .. "-" .. number }
        end
    else
        add { self.chain_header }
    end
    add(forwards and functions.certificate_headers)
    return functions.header_names(names)
end


-- Returns what the plugin needs of its options, by fields; or nil and an error.
local function built(options)
    local common, err = authentication.new(CLASS, options, OPTIONS, M, "")
    if not common then
        return nil, err
    end
    local self = headers_of(options)
    if not is_list_of_strings(options.trusted) then
        error(mistakes.about_strings("trusted must be a list of strings", options.trusted, NEW), 3)
    end
    local trusted
    trusted, err = addresses.new(options.trusted)
    if not trusted then
        return nil, "trusted: " .. err
    end
    self.common, self.trusted = common, trusted
    self.key = self.header:lower()
    self.names = names_of(self, common.forward)
    return self
end


-- Puts other options into effect.
local function use(self, other)
    for _, field in ipairs {
        "common", "trusted", "format", "none", "header", "chain_header", "key", "chain_key", "names", "decode",
    } do
        self[field] = other[field]
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
--     format     how the proxy sends certificates: see FORMATS
--     header, chain_header   the headers, if they are not those of the format
--     element    for "xfcc": "only", "first" or "last"; which element is the client's
--     encoding   without format, that of `header`: "url" for URL-encoded PEM, "base64" for DER in
--                base64; exactly one certificate
--     trusted    a list of addresses and networks from which the headers are accepted
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
