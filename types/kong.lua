-- SPDX-License-Identifier: Apache-2.0

---@meta

-- Annotations of the module's Lua interface, for editors with the Lua language server: add the
-- folder of this file to `workspace.library`.

---A parsed certificate chain: what `ngx.ssl.parse_pem_cert` returns, the `.ctx` of a
---`resty.openssl.x509.chain`, or a chain of `resty.kong.x509`.
---@alias kong.chain ffi.cdata*|resty.kong.x509.chain

---A parsed private key: what `ngx.ssl.parse_pem_priv_key` returns, the `.ctx` of a
---`resty.openssl.pkey`, or a key of `resty.kong.x509`.
---@alias kong.key ffi.cdata*|resty.kong.x509.key

---A store of trusted certificates: of `resty.kong.x509`, a `resty.openssl.x509.store`, or any table
---with an `X509_STORE *` in its field `ctx`.
---@class kong.store
---@field ctx ffi.cdata*

---The result of a client's verification, in the form of `$ssl_client_verify`. `"FAILED:<reason>"` needs a
---reason.
---@alias kong.client_verify "SUCCESS"|"NONE"|string

---How a client is asked for a certificate.
---@class kong.client_certificate_options
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
---another. Throws on a bad argument.
---
---Phases: rewrite, access.
---@param host string
---@param port integer 0 to 65535
function service.set_target(host, port) end

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

---`require "resty.kong.pdk"`
---@class kong
---@field client { tls: kong.client.tls }
---@field service kong.service

---`require "resty.kong.tls"`: the low-level interface. In a wrong phase, its functions throw
---`API disabled in the current context`.
---@class resty.kong.tls
local tls = {}

---See `kong.client.tls.request_client_certificate`.
---@param ca_certs? kong.chain
---@param options? kong.client_certificate_options
---@return true?
---@return string? err
function tls.request_client_certificate(ca_certs, options) end

---See `kong.client.tls.disable_session_reuse`.
---@return true?
---@return string? err
function tls.disable_session_reuse() end

---See `kong.client.tls.disable_http2_alpn`.
---@return true?
---@return string? err
function tls.disable_http2_alpn() end

---See `kong.client.tls.get_full_client_certificate_chain`.
---@return string? pem
---@return string? err
function tls.get_full_client_certificate_chain() end

---Returns the `SSL *` of the client's connection. It is valid as long as the connection.
---
---Phases: client_hello, certificate, and all phases of a request.
---@return ffi.cdata*? ssl
---@return string? err
function tls.get_request_ssl_pointer() end

---See `kong.service.set_tls_cert_key`.
---@param chain kong.chain
---@param key kong.key
---@return true?
---@return string? err
function tls.set_upstream_cert_and_key(chain, key) end

---See `kong.service.set_tls_verify`.
---@param on boolean
---@return true?
---@return string? err
function tls.set_upstream_ssl_verify(on) end

---See `kong.service.set_tls_verify_depth`.
---@param depth integer
---@return true?
---@return string? err
function tls.set_upstream_ssl_verify_depth(depth) end

---See `kong.service.set_tls_verify_store`.
---@param store kong.store
---@return true?
---@return string? err
function tls.set_upstream_ssl_trusted_store(store) end

---Requires the certificate of the service to carry one of these DNS names. Otherwise the request is refused,
---whether the service is verified or not.
---
---Phases: rewrite, access, balancer.
---@param names string[]
---@return true?
---@return string? err
function tls.set_upstream_ssl_sans_dnsnames(names) end

---Requires the certificate of the service to carry one of these URIs. Otherwise the request is refused, whether
---the service is verified or not.
---
---Phases: rewrite, access, balancer.
---@param uris string[]
---@return true?
---@return string? err
function tls.set_upstream_ssl_sans_uris(uris) end

---`require "resty.kong.x509"`: chains, keys and stores from PEM. Make them once, in `init_by_lua`, and
---keep them.
---@class resty.kong.x509
local x509 = {}

---A certificate. Its fields are read on first use.
---@class resty.kong.x509.certificate
---@field subject string in the form of `$ssl_client_s_dn`
---@field common_name string? of the subject; nil if there is none, or more than one
---@field issuer string in the form of `$ssl_client_i_dn`
---@field serial string in the form of `$ssl_client_serial`
---@field not_before number seconds since the epoch
---@field not_after number seconds since the epoch
---@field sans? { dns: string[], email: string[], uri: string[], ip: string[] } the subject alternative names; nil if they can't be read
local certificate = {}

---Returns the digest of the whole certificate, in lower-case hexadecimal.
---@param digest? string default: `"sha256"`
---@return string? fingerprint
---@return string? err
function certificate:fingerprint(digest) end

---@return string? pem
---@return string? err
function certificate:to_pem() end

---Certificates, the leaf first: `chain[1]` is the first of them.
---@class resty.kong.x509.chain
---@field [integer] resty.kong.x509.certificate?
local chain = {}

---@return integer
function chain:count() end

---@param index? integer default: 1
---@return resty.kong.x509.certificate?
function chain:certificate(index) end

---@return string pem
function chain:to_pem() end

---A private key.
---@class resty.kong.x509.key
local key = {}

---Returns whether the key belongs to a chain's first certificate.
---@param chain kong.chain
---@return boolean
function key:belongs_to(chain) end

---What is trusted. Stores of the same texts share one OpenSSL object: don't change it.
---@class resty.kong.x509.store: kong.store
local store = {}

---Verifies that a chain leads to the store.
---@param chain kong.chain|string the leaf first, or PEM
---@param options? { purpose?: "clientAuth"|"serverAuth"|"any", depth?: integer, at?: number }
---@return true?
---@return string? reason
function store:verify(chain, options) end

---Parses the certificates in a text, the leaf first.
---@param pem string
---@return resty.kong.x509.chain?
---@return string? err with the place of the error
function x509.chain(pem) end

---Makes a chain of one certificate in DER. No bytes may follow it.
---@param der string
---@return resty.kong.x509.chain?
---@return string? err
function x509.chain_from_der(der) end

---Addresses and networks: `"192.0.2.1"`, `"10.0.0.0/8"`, `"2001:db8::/32"`, `"unix:"`.
---@class resty.kong.addresses.list
local list = {}

---Returns whether an address, in the form of `$remote_addr`, is in the list.
---@param address string
---@return boolean
function list:contain(address) end

---`require "resty.kong.addresses"`
---@class resty.kong.addresses
local addresses = {}

---@param ranges string[]
---@return resty.kong.addresses.list?
---@return string? err
function addresses.new(ranges) end

---An older name of `resty.kong.addresses.new`.
---@param ranges string[]
---@return resty.kong.addresses.list?
---@return string? err
function x509.addresses(ranges) end

---Parses the first private key in a text.
---@param pem string
---@param password? string
---@return resty.kong.x509.key?
---@return string? err
function x509.key(pem, password) end

---Makes a store of what is trusted: one or more of pem, file, dir and system. With crl (also PEM), or with
---check_revocation and lists in dir, the whole chain is checked for revocation. With partial_chain, an intermediate
---is trusted as a root is.
---@param options { pem?: string, file?: string, dir?: string, system?: boolean, crl?: string, check_revocation?: boolean, partial_chain?: boolean }
---@return resty.kong.x509.store?
---@return string? err
function x509.store(options) end
