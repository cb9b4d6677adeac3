-- SPDX-License-Identifier: Apache-2.0

-- Right uses of everything in types/library: t/205-types.t expects that a type checker finds nothing here.

local pdk = require "resty.kong.pdk"
local tls = require "resty.kong.tls"
local x509 = require "resty.kong.x509"
local addresses = require "resty.kong.addresses"
local sessions = require "resty.kong.sessions"
local services = require "resty.kong.plugins.services"
local sni = require "resty.kong.plugins.sni"
local mtls_auth = require "resty.kong.plugins.mtls_auth"
local forwarded_certificate = require "resty.kong.forwarded_certificate"
local header_cert_auth = require "resty.kong.plugins.header_cert_auth"
local testing = require "resty.kong.testing"

local pem = "-----BEGIN CERTIFICATE-----"

-- ---- resty.kong.x509, resty.kong.addresses, resty.kong.sessions

local chain = assert(x509.chain(pem))
local from_der = assert(x509.chain_from_der("0"))
local key = assert(x509.key(pem))
local with_password = assert(x509.key(pem, "secret"))
local store = assert(x509.store { pem = pem, crl = pem, partial_chain = true })
local of_system = assert(x509.store { system = true, file = "ca.crt", dir = "/etc/ca", check_revocation = true })
local refreshed = assert(x509.store { pem = pem, crl_file = "revoked.crl", refresh = 60, on_expired = "accept", leaf_only = true })
print(refreshed:verify(chain))
print(key:belongs_to(chain), with_password:belongs_to(from_der), from_der:count(), chain:to_pem())
print(store:verify(chain), store:verify(pem, { purpose = "clientAuth", depth = 1, at = 0 }))

local leaf = assert(chain[1])
local same = assert(chain:certificate())
local next_one = chain:certificate(2)
print(same.issuer, same.serial, same.not_before, same.not_after, next_one and next_one.subject)
print(leaf.subject and leaf.subject:upper(), leaf.common_name or "none", leaf:fingerprint(), leaf:to_pem())
print(leaf:fingerprint("sha1"))
print(leaf:thumbprint(), leaf:confirms { ["x5t#S256"] = "a" }, leaf:confirms("a"), leaf:confirms(nil))
if leaf.sans then
    print(#leaf.sans.dns, #leaf.sans.email, #leaf.sans.uri, leaf.sans.ip[1])
end

local list = assert(addresses.new { "10.0.0.0/8" })
print(list:contain("10.0.0.1"), assert(x509.addresses { "unix:" }):contain("unix:"))

local count, not_dropped = sessions.drop("0123456789abcdef")
print(count and count + 1, not_dropped, assert(sessions.drop()))

-- ---- kong.client.tls and kong.service, by a local variable and by the global one

assert(pdk.client.tls.request_client_certificate())
assert(pdk.client.tls.request_client_certificate(chain))
assert(pdk.client.tls.request_client_certificate(chain, { partial_chain = true, names = { "*.a.test" } }))
assert(pdk.client.tls.request_client_certificate(chain.ctx))
assert(pdk.client.tls.disable_session_reuse())
assert(pdk.client.tls.disable_http2_alpn())
local presented, err = kong.client.tls.get_full_client_certificate_chain()
if presented then
    print(presented:sub(1, 5))
elseif err then
    print(err:sub(1, 5))
end
kong.client.tls.set_client_verify("SUCCESS")
kong.client.tls.set_client_verify("FAILED:expired")

local ok, no_upstream = kong.service.set_upstream("orders")
print(ok, no_upstream)
kong.service.set_target("service.test", 443)
kong.service.set_target_retry_callback(function() return "192.0.2.1", 443 end)
kong.service.set_target_retry_callback(function() return nil, "there is no other" end)
kong.service.choose_target()
kong.service.enable_recording_upstream_ssl()
kong.service.request.set_scheme("http")
kong.service.set_retries(3)
kong.service.set_timeouts(1000, 5000, 5000)
assert(kong.service.set_tls_cert_key(chain, key))
assert(kong.service.set_tls_cert_key(chain.ctx, key.ctx))
assert(kong.service.set_tls_verify(true))
assert(kong.service.set_tls_verify_depth(2))
assert(kong.service.set_tls_verify_store(store))
assert(kong.service.set_tls_verify_store({ ctx = of_system.ctx }))
assert(kong.service.set_tls_server_name("a.test"))
assert(kong.service.set_tls_verify_names { host = "a.test", dns = { "b.test" }, ips = { "::1" }, emails = { "a@b.test" } })
assert(kong.service.set_tls_verify_names { host = false, uris = { "spiffe://a.test/*" } })
assert(kong.service.set_tls_pins { spki = { "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" } })
assert(kong.service.set_tls_verify_spiffe { trust_domains = { ["a.test"] = store, b = { ctx = of_system.ctx } }, ids = { "spiffe://b/*" } })
assert(kong.service.set_tls_options { min_version = "TLSv1.2", max_version = "TLSv1.3", ciphers = "HIGH", groups = "X25519" })
assert(kong.service.set_tls_options { ciphersuites = "TLS_AES_128_GCM_SHA256", signature_algorithms = "ECDSA+SHA256" })

-- ---- resty.kong.tls

assert(tls.request_client_certificate(chain, {}))
assert(tls.disable_session_reuse())
assert(tls.disable_http2_alpn())
print(tls.get_full_client_certificate_chain(), tls.get_request_ssl_pointer(), tls.get_ssl_pointer({}))
assert(tls.set_upstream_cert_and_key(chain, key))
assert(tls.set_upstream_ssl_verify(false))
assert(tls.set_upstream_ssl_verify_depth(1))
assert(tls.set_upstream_ssl_trusted_store(store))
assert(tls.set_upstream_ssl_sans_dnsnames { "a.test", "b.test" })
assert(tls.set_upstream_ssl_sans_uris { "spiffe://a.test/b" })

-- ---- plugins

local by_service = assert(services.new {
    services = {
        orders = { upstream = "orders", certificate = "a.crt", key = "a.key", password = "secret" },
        billing = { host = "127.0.0.1", port = 8444, depth = 2, server_name = "a.test",
                    verify_names = { host = false, dns = { "a.test" }, uris = { "a:b" } },
                    pins = { spki = { "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" } } },
        workload = { verify_spiffe = { trust_domains = { ["a.test"] = { file = "ca.crt" } }, ids = { "spiffe://a.test/b" } },
                     options = { min_version = "TLSv1.3" } },
        open = { verify = false, ca = false, verify_spiffe = false, options = false },
    },
    defaults = { ca = { file = "ca.crt" }, depth = 0 },
    check = "used",
})
by_service:access("orders")
assert(services.new { file = "services.lua" }):access("billing")

local certificates = assert(sni.new { dict = "certificates" })
assert(certificates:set("a.test", pem))
assert(certificates:set_all { ["*.a.test"] = { pem, pem } })
certificates:remove("a.test")
local found = certificates:find("b.test")
for _, certificate in ipairs(found or {}) do
    print(certificate.chain:count(), certificate.key:belongs_to(certificate.chain))
end
certificates:select()

local clients = assert(mtls_auth.new {
    {
        names = { "a.test", "*.b.test", "default" },
        ca = { file = "ca.crt" },
        depth = 1,
        send_ca_dn = false,
        consumers = {
            { name = "alice", common_name = "client-1" },
            { name = "bob", fingerprint = "00", uri = "a:b", dns = "a.test", email = "a@b.test" },
        },
    },
    { names = { "c.test" }, ca = { pem = pem }, consumers = {}, anonymous = "guest" },
})
clients:certificate()
clients:access()
clients:access { policy = "internal", optional = true }
print(clients:replace { { names = { "a.test" }, ca = { pem = pem }, skip_consumer_lookup = true, name = "internal" } })
local client = clients:consumer() or mtls_auth.consumer()
if client then
    print(client.username and client.username:upper(), client.id, client.custom_id, #client.groups, client.anonymous)
end
assert(mtls_auth.new({
    {
        names = { "a.test" },
        ca = { pem = pem },
        consumer_by = { "username", "custom_id" },
        consumers = { { username = "alice", custom_id = "1", id = "2", groups = { "a" }, ca_certificate = pem } },
        default_consumer = { name = "visitor", groups = {} },
        authenticated_group_by = "OU",
    },
    {
        names = { "b.test" },
        ca = { pem = pem },
        lookup = function(certificate)
            if not certificate.common_name then
                return nil, "it has no name"
            end
            return { username = certificate.common_name, created_at = 1 }
        end,
        cache_ttl = 60,
        negative_ttl = 0.5,
        default_consumer = "visitor",
    },
}, { dict = "policies" }))

local by_header = assert(header_cert_auth.new {
    ca = { file = "ca.crt" },
    consumers = {},
    header = "X-Client-Cert",
    encoding = "url",
    trusted = { "10.0.0.0/8" },
})
by_header:access()
by_header:access { optional = true }
print(by_header:replace {
    ca = { file = "ca.crt" }, consumers = {}, header = "X-Client-Cert", encoding = "url", trusted = {}, dict = "policies",
})
print(by_header:consumer(), header_cert_auth.consumer())
assert(header_cert_auth.new {
    ca = { file = "ca.crt" }, consumers = {}, trusted = {}, format = "xfcc", element = "last", forward = "rfc9440",
}):access()

print(forwarded_certificate.set("rfc9440"))
assert(forwarded_certificate.set("xfcc", assert(x509.chain(pem))))

-- ---- resty.kong.testing

testing.install()
testing.request()
testing.request { headers = { ["X-Tenant"] = "a" }, client_certificate = testing.certificate("a"), upstreams = {} }
testing.phase("certificate")
print(testing.run("access", by_service.access, by_service, "orders"), testing.key("a"))
local settings = testing.settings()
print(settings.certificate and settings.certificate:count(), settings.verify, settings.target)
for _, line in ipairs(testing.log()) do
    print(line.level, line.message:upper())
end
print(testing.certificate("b", { issuer = "CN=ca", sans = { dns = { "a.test" } } }), testing.kong.service)
