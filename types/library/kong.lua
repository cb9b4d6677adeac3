-- SPDX-License-Identifier: Apache-2.0

---@meta _

---A parsed certificate chain: what `ngx.ssl.parse_pem_cert` returns, the `.ctx` of a
---`resty.openssl.x509.chain`, or a chain of `resty.kong.x509`.
---@alias kong.chain ffi.cdata*|resty.kong.x509.chain

---A parsed private key: what `ngx.ssl.parse_pem_priv_key` returns, the `.ctx` of a
---`resty.openssl.pkey`, or a key of `resty.kong.x509`.
---@alias kong.key ffi.cdata*|resty.kong.x509.key

---A store of trusted certificates: of `resty.kong.x509`, a `resty.openssl.x509.store`, or any table
---with an `X509_STORE *` in its field `ctx`.
---@alias kong.store resty.kong.x509.store|kong.foreign_store

---A store of another library.
---@class kong.foreign_store
---@field ctx ffi.cdata*

---The result of a client's verification, in the form of `$ssl_client_verify`. `"FAILED:<reason>"` needs a
---reason.
---@alias kong.client_verify "SUCCESS"|"NONE"|string

---How a client is asked for a certificate.
---@class (exact) kong.client_certificate_options
---@field partial_chain? boolean whether an intermediate is trusted as a root is
---The other names that the result of the verification counts for: host names, or `"*."` and a host name. `"*."`
---stands for any number of labels.
---@field names? string[]

---TLS towards the client.
---@class kong.client.tls
local client_tls = {}

---Asks the client for a certificate during the handshake. The handshake continues whatever the client
---presents, and `$ssl_client_verify` has the result.
---
---With `ca_certs`, their names are sent, and the client's chain is verified up to a root among them, within
---the server's `ssl_verify_depth`. With `partial_chain`, the chain may end at any of them. Without `ca_certs`, no
---names are sent, and the chain is verified with what the server trusts. The server's `ssl_crl` and `ssl_ocsp`
---apply in any case. Parse the list once, in `init_by_lua`: each worker then makes its form for handshakes only
---once.
---
---The result counts for the name that the client has asked for (SNI), and for those in `options.names`.
---A request for any other server on that connection is answered with 421. If the client has sent no name, so is a
---request for another `server {}` block.
---
---On a resumed session this phase does not run, and the result is that of the first handshake. The session is
---resumed only under the same server name. If the choice of whom to ask depends on more than the name, also call
---`disable_session_reuse`.
---
---Phase: certificate.
---@param ca_certs? kong.chain
---@param options? kong.client_certificate_options
---@return true?
---@return string? err
function client_tls.request_client_certificate(ca_certs, options) end

---Gives the client nothing to resume: no session id, no ticket of TLS 1.2 or 1.3.
---
---Phase: certificate.
---@return true?
---@return string? err
function client_tls.disable_session_reuse() end

---Disables HTTP/2 on this connection. A client that also offers HTTP/1.1 gets HTTP/1.1; any other client that
---offers HTTP/2 gets the alert `no_application_protocol`.
---
---Phase: client_hello.
---@return true?
---@return string? err
function client_tls.disable_http2_alpn() end

---Returns the certificates that the client presented, the leaf first; nil if it presented none; nil and an
---error if they are not known, as on a resumed session of a client that only nginx has asked.
---
---Phases: rewrite, access, content, balancer, header_filter, body_filter, log.
---@return string? pem
---@return string? err
function client_tls.get_full_client_certificate_chain() end

---Overrides the result of the client's verification in `$kong_client_verify`. If nginx has found the certificate
---revoked, or could not find out, a success does not hide that.
---
---Phases: rewrite, access, content, balancer.
---@param v kong.client_verify
function client_tls.set_client_verify(v) end

---Where the current request goes, and how TLS is used there. A later call overrides an earlier one.
---@class kong.service
---@field request kong.service.request
local service = {}

---Sends the request to the `upstream {}` block of this name, through `$kong_upstream_target`. Throws if the name
---can't be that of a host.
---
---Phase: access.
---@param host string
---@return true?
---@return string? err `could not find an Upstream named '<host>'`
function service.set_upstream(host) end

---Sends the request to an IPv4 or IPv6 address, or to a name that nginx's `resolver` resolves, through
---`$kong_upstream_target`. The host is also the name that is sent (SNI) and verified, unless `proxy_ssl_name` sets
---another. In the balancer phase, makes an address the peer of the attempt. Throws on a bad argument.
---
---Phases: rewrite, access, balancer.
---@param host string
---@param port integer 0 to 65535
function service.set_target(host, port) end

---Has a function give the target of each attempt after the first: a host and a port; true, if it has called
---`set_target` or the target is to stay; nil or false and an error, if there is none. `choose_target` calls it.
---
---Phases: rewrite, access.
---@param retry_callback fun(): string|boolean|nil, integer|string|nil
function service.set_target_retry_callback(retry_callback) end

---Makes the target of the request the peer, or what the function for retries gives. Throws if there is none.
---
---Phase: balancer.
function service.choose_target() end

---Makes `ngx.ctx` say what the TLS connection to the service is, in the header_filter phase and later:
---`upstream_ssl_enabled` (boolean), `upstream_tls_version`, and of the subject of the service's certificate
---`upstream_ssl_state`, `upstream_ssl_common_name` and `upstream_ssl_organization_unit` (strings, or nil).
---
---Phases: rewrite, access, balancer.
function service.enable_recording_upstream_ssl() end

---Sets how many attempts there may be after the first, instead of `proxy_next_upstream_tries`. Throws on a bad
---argument.
---
---Phases: rewrite, access.
---@param retries integer 0 to 32767
function service.set_retries(retries) end

---Sets timeouts in milliseconds, instead of `proxy_connect_timeout` (which also limits the TLS handshake),
---`proxy_send_timeout` and `proxy_read_timeout`. Throws on a bad argument.
---
---Phases: rewrite, access.
---@param connect integer 1 to 2147483646
---@param write integer 1 to 2147483646
---@param read integer 1 to 2147483646
function service.set_timeouts(connect, write, read) end

---Presents this certificate to the service, instead of the location's. The module takes references of its own.
---
---Phases: rewrite, access, balancer.
---@param chain kong.chain the certificate first, then its intermediates
---@param key kong.key the private key of the certificate
---@return true?
---@return string? err
function service.set_tls_cert_key(chain, key) end

---Turns verification of the service's certificate on or off, instead of `proxy_ssl_verify`. If the location has
---`kong_tls_certificate_verify on`, false is an error.
---
---Phases: rewrite, access, balancer.
---@param on boolean
---@return true?
---@return string? err
function service.set_tls_verify(on) end

---Sets how many intermediates the chain of the service may have, instead of `proxy_ssl_verify_depth`.
---
---Phases: rewrite, access, balancer.
---@param depth integer 0 to 100
---@return true?
---@return string? err
function service.set_tls_verify_depth(depth) end

---Sets what the chain of the service must lead to, instead of `proxy_ssl_trusted_certificate`. It is used if the
---service is verified.
---
---Phases: rewrite, access, balancer.
---@param store kong.store
---@return true?
---@return string? err
function service.set_tls_verify_store(store) end

---Sets the name that is sent to the service (SNI), instead of that of the request, and whether
---`proxy_ssl_server_name` is on or not. With an empty name, none is sent. The verified names stay as they are.
---
---Phases: rewrite, access, balancer.
---@param name string a host name, or ""
---@return true?
---@return string? err
function service.set_tls_server_name(name) end

---The names that a service may have: its certificate must carry one of them.
---@class kong.verify_names
---@field host? boolean | string the name of the request (`true`, the default), another host, or none (`false`)
---@field dns? string[] DNS names
---@field uris? string[] URIs, or the beginning of SPIFFE IDs: `spiffe://trust.domain/path/*`
---@field ips? string[] IP addresses
---@field emails? string[] e-mail addresses

---Sets the names of which the service's certificate must carry one, instead of the name of the request alone.
---
---Phases: rewrite, access, balancer.
---@param names kong.verify_names
---@return true?
---@return string? err
function service.set_tls_verify_names(names) end

---The keys that a service may have.
---@class kong.pins
---@field spki string[] SHA-256 digests of `SubjectPublicKeyInfo`, in Base64

---Pins public keys: that of the service's certificate must be one of them, whether the service is verified or not.
---
---Phases: rewrite, access, balancer.
---@param pins kong.pins
---@return true?
---@return string? err
function service.set_tls_pins(pins) end

---The SPIFFE IDs that a service may have.
---@class (exact) kong.verify_spiffe
---@field trust_domains table<string, resty.kong.x509.store | { ctx: ffi.cdata* }> the store of each trust domain, by its name
---@field ids string[] SPIFFE IDs, or the beginning of some: `spiffe://trust.domain/path/*`

---Accepts services by their SPIFFE ID: the service must present an X.509-SVID with one of these IDs, issued by an
---authority in the store of its trust domain. Such a service is verified in any case, and by no other store.
---
---Phases: rewrite, access, balancer.
---@param spiffe kong.verify_spiffe
---@return true?
---@return string? err
function service.set_tls_verify_spiffe(spiffe) end

---@alias kong.tls_version "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3"

---How TLS is spoken. At least one must be set; lists have OpenSSL's names, separated by colons.
---@class (exact) kong.tls_options
---@field min_version? kong.tls_version the lowest version; alone, all later ones are allowed too
---@field max_version? kong.tls_version the highest version; alone, the lowest is that of the location
---@field ciphers? string the ciphers of TLS 1.2 and earlier
---@field ciphersuites? string the cipher suites of TLS 1.3
---@field groups? string the groups of the key exchange
---@field signature_algorithms? string the algorithms of signatures

---Sets versions, ciphers, groups and signature algorithms, instead of those of the location.
---
---Phases: rewrite, access, balancer.
---@param options kong.tls_options
---@return true?
---@return string? err
function service.set_tls_options(options) end

---How the service of the current request is spoken to.
---@class kong.service.request
local request = {}

---Sends the request with TLS or without it, through `$kong_upstream_scheme`. Throws on a bad argument.
---
---Phases: rewrite, access, balancer.
---@param scheme "http"|"https"
function request.set_scheme(scheme) end

---What `require "resty.kong.pdk"` returns.
---@class kong
---@field client { tls: kong.client.tls }
---@field service kong.service

---For configurations with `init_by_lua_block { kong = require "resty.kong.pdk" }`.
---@type kong
kong = {}
