-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.forwarded_certificate: sends the client's certificate to the service in a header, for
-- services that have no TLS connection with the client.
--
-- A service believes these headers. So those of the client are removed first, whatever follows.

local bounded = require "resty.kong.plugins.bounded"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local objects = require "resty.kong.tls.objects"
local is_given = require("resty.kong.tls.values").is_given
local x509 = require "resty.kong.x509"
local keep_text, kept_text = functions.keep_text, functions.kept_text
local get_chain = require("resty.kong.pdk").client.tls.get_full_client_certificate_chain

local type = type
local error = error

-- What has the certificate, and the other certificates of its chain, in each format.
local HEADERS = {
    ["rfc9440"] = { "Client-Cert", "Client-Cert-Chain" },
    ["xfcc"] = { "X-Forwarded-Client-Cert" },
    ["x-client-cert"] = { "X-Client-Cert" },
}

-- What is written takes longer than the rest of a request, so each worker keeps it, by the format
-- and by what identifies the chain.
local ENTRIES, BYTES = 4096, 4 * 1024 * 1024
-- The estimated size of an entry besides its texts, in bytes.
local ENTRY = 400
local CACHE = "forwarded_certificates"
local written = bounded.new(CACHE, ENTRIES, BYTES)
-- The same for objects: those of a request are collected with it.
local by_object = setmetatable({}, { __mode = "k" })

local names = functions.header_names(functions.certificate_headers)

-- The name of the text that says that the verified certificate is not that of the connection.
local IN_HEADER = "in header"

local SET = "resty.kong.forwarded_certificate.set"

local M = {}


-- Removes what the client has sent under the names of these headers, and names that a service may
-- take for one of them.
local function strip()
    local ok, err = functions.remove_headers(names)
    if not ok then
        error(err, 0)
    end
end


local function send(format, of)
    local headers = HEADERS[format]
    ngx.req.set_header(headers[1], of.certificate)
    if of.chain then
        ngx.req.set_header(headers[2], of.chain)
    end
    return true
end


local function write(chain, format)
    local certificate, others = functions.headers_of_chain(chain, format)
    if not certificate then
        return nil, others
    end
    return { certificate = certificate, chain = others }
end


-- Sends a chain, whose headers the client can't have sent any more. `key` identifies the chain, and
-- `parse` makes it from the key. Returns true, or nil and an error.
function functions.forward(format, key, parse)
    local id = format .. " " .. key
    local of = written:get(id)
    functions.count_cache(CACHE, of and functions.HIT or functions.MISS)
    if not of then
        local chain, err = parse(key)
        if not chain then
            return nil, err
        end
        of, err = write(chain, format)
        if not of then
            return nil, err
        end
        written:set(id, of, ENTRY + #id + #of.certificate + #(of.chain or ""))
    end
    return send(format, of)
end


local function chain_of_client()
    local pem, err = get_chain()
    if not pem then
        return nil, err or "there is no certificate"
    end
    return x509.chain(pem)
end


-- Returns whether the value of the option `forward` is a format.
function functions.is_forward_format(format)
    return type(format) == "string" and HEADERS[format] ~= nil
end


-- Notes whether the certificate that a plugin has verified came in a header.
function functions.note_place(in_header)
    if in_header then
        assert(keep_text(IN_HEADER, "1"))
    elseif kept_text(IN_HEADER) then
        assert(keep_text(IN_HEADER, ""))
    end
end

functions.FORWARD_FORMATS = "\"rfc9440\", \"xfcc\" or \"x-client-cert\""


-- Sends the certificate of the current connection's client, if it is verified, or `chain`. Returns
-- true if it does; nil if the client has presented none; or nil and an error. In all of these
-- cases, the service gets nothing that the client has sent under the names of the headers.
function M.set(format, chain)
    functions.check_method("set_retries", SET)
    strip()
    if not functions.is_forward_format(format) then
        error(mistakes.about("format must be " .. functions.FORWARD_FORMATS, format, SET, M), 2)
    end
    if not is_given(chain) then
        if not ngx.var.ssl_protocol then
            return nil, "the client's connection has no TLS"
        end
        local digest, err = functions.client_chain_digest()
        if not digest then
            return nil, err
        end
        local verified = ngx.var.kong_client_verify
        if verified ~= "SUCCESS" then
            return nil, "the client's certificate is not verified: " .. verified
        elseif kept_text(IN_HEADER) == "1" then
            return nil, "the verified certificate is not that of the connection: the client's is in a header"
        end
        return functions.forward(format, digest, chain_of_client)
    end
    local is_object = objects.kind_of(chain) == "chain"
    local known = is_object and by_object[chain]
    local of = known and known[format]
    if not of then
        local err
        local object = chain
        if not is_object then
            if not functions.is_chain(chain) then
                local remedy = mistakes.remedy("chain", chain, functions.is_chain)
                error(mistakes.about("chain must be a chain", chain, SET, nil, remedy), 2)
            end
            object, err = functions.adopt_chain(chain)
            if not object then
                return nil, err
            end
        end
        of, err = write(object, format)
        if not of then
            return nil, err
        end
        if is_object then
            known = known or {}
            known[format], by_object[chain] = of, known
        end
    end
    return send(format, of)
end


return M
