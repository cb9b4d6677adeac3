-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.forwarded_certificate

---How a certificate is written in headers.
---@alias resty.kong.forwarded_certificate.format
---| "rfc9440" # `Client-Cert` and `Client-Cert-Chain`
---| "xfcc" # `X-Forwarded-Client-Cert`, as Envoy
---| "x-client-cert" # `X-Client-Cert`: URL-encoded PEM

---`require "resty.kong.forwarded_certificate"`: sends the client's certificate to the service in a header.
---@class resty.kong.forwarded_certificate
local M = {}

---Sends the certificate of the connection's client, if it is verified, or `chain`. What the client has sent under the
---names of these headers is removed.
---
---Phases: rewrite, access.
---@param format resty.kong.forwarded_certificate.format
---@param chain? kong.chain
---@return true? ok nil without an error if the client has presented no certificate
---@return string? err
function M.set(format, chain) end

return M
