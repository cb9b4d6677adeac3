-- SPDX-License-Identifier: Apache-2.0

-- Mistakes that no type checker finds: t/205-types.t expects that nothing is found here, as
-- docs/guides/writing-a-plugin.md says.

local pdk = require "resty.kong.pdk"
local x509 = require "resty.kong.x509"
local mtls_auth = require "resty.kong.plugins.mtls_auth"

-- Results that are not looked at, or may be nil.
pdk.service.set_tls_verify(true)
assert(pdk.service.set_tls_verify_store(x509.store { file = "/nowhere" }))

-- A misspelt option that may be missing.
mtls_auth.new { { names = { "a.test" }, ca = { file = "ca.crt" }, consumers = {}, anonymus = "guest" } }
