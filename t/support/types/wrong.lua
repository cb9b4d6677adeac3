-- SPDX-License-Identifier: Apache-2.0

-- Typical mistakes: t/205-types.t expects that a type checker finds each, and nothing else, with the code in the
-- comment at its line.

local pdk = require "resty.kong.pdk"
local x509 = require "resty.kong.x509"
local forwarded_certificate = require "resty.kong.forwarded_certificate"
local mtls_auth = require "resty.kong.plugins.mtls_auth"
local services = require "resty.kong.plugins.services"
local sessions = require "resty.kong.sessions"

local pem = "-----BEGIN CERTIFICATE-----"
local key = assert(x509.key(pem))

pdk.service.set_tls_verify("on") -- param-type-mismatch
pdk.service.set_tls_cert_key(pem, key) -- param-type-mismatch
pdk.service.set_target("service.test") -- missing-parameter
pdk.service.set_tls_verfy(true) -- undefined-field
pdk.service:set_tls_verify(true) -- redundant-parameter

local unchecked = x509.chain(pem)
pdk.service.set_tls_cert_key(unchecked, key) -- param-type-mismatch
local store = assert(x509.store { file = 1 }) -- assign-type-mismatch
kong.service.set_tls_verify_store(key) -- param-type-mismatch
kong.client.tls.request_client_certificate(nil, { names = "a.test" }) -- param-type-mismatch

local certificate = assert(x509.chain(pem))[1]
print(certificate.subject) -- need-check-nil
print(assert(certificate).suject, store) -- undefined-field

sessions.drop(5) -- param-type-mismatch
forwarded_certificate.set("pem") -- param-type-mismatch

mtls_auth.new { { names = { "a.test" }, cas = { file = "ca.crt" }, consumers = {} } } -- missing-fields
---@type resty.kong.plugins.mtls_auth.policy
local policy = { names = { "a.test" }, ca = { file = "ca.crt" }, consumers = {} }
policy.anonymus = "guest" -- inject-field
mtls_auth.new { policy }
services.new { file = "services.lua", check = "never" } -- assign-type-mismatch
