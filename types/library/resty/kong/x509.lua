-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.x509

---`require "resty.kong.x509"`: chains, keys and stores from PEM. Make them once, in `init_by_lua`, and
---keep them.
---@class resty.kong.x509
local x509 = {}

---The subject alternative names of a certificate.
---@class resty.kong.x509.sans
---@field dns string[]
---@field email string[]
---@field uri string[]
---@field ip string[]

---A certificate. A field that can't be read is nil.
---@class resty.kong.x509.certificate
---@field subject string? in the form of `$ssl_client_s_dn`
---@field common_name string? of the subject; nil if there is none, or more than one
---@field issuer string? in the form of `$ssl_client_i_dn`
---@field serial string? in the form of `$ssl_client_serial`
---@field not_before number? seconds since the epoch
---@field not_after number? seconds since the epoch
---@field sans resty.kong.x509.sans?
---@field ctx ffi.cdata* its `X509 *`, for other libraries to read
local certificate = {}

---Returns the digest of the whole certificate, in lower-case hexadecimal.
---@param digest? string default: `"sha256"`
---@return string? fingerprint
---@return string? err
function certificate:fingerprint(digest) end

---Returns the thumbprint that access tokens have which are bound to the certificate (`x5t#S256`, RFC 8705).
---@return string? thumbprint
---@return string? err
function certificate:thumbprint() end

---Returns whether a token is bound to the certificate.
---@param cnf any its claim `cnf`, or the thumbprint in it
---@return boolean
function certificate:confirms(cnf) end

---@return string? pem
---@return string? err
function certificate:to_pem() end

---Certificates, the leaf first: `chain[1]` is the first of them.
---@class resty.kong.x509.chain
---@field [integer] resty.kong.x509.certificate?
---@field ctx ffi.cdata* its `STACK_OF(X509) *`, for other libraries to read
local chain = {}

---@return integer
function chain:count() end

---@param index? integer default: 1
---@return resty.kong.x509.certificate?
function chain:certificate(index) end

---@return string? pem
---@return string? err
function chain:to_pem() end

---A private key.
---@class resty.kong.x509.key
---@field ctx ffi.cdata* its `EVP_PKEY *`, for other libraries to read
local key = {}

---Returns whether the key belongs to a chain's first certificate.
---@param chain kong.chain
---@return boolean
function key:belongs_to(chain) end

---How a chain is verified.
---@class (exact) resty.kong.x509.verify_options
---@field purpose? "clientAuth"|"serverAuth"|"any"
---@field depth? integer the maximum number of intermediates
---@field at? number the time of the verification, in seconds since the epoch; by default now

---What is trusted. Stores of the same texts share one OpenSSL object: don't change it.
---@class resty.kong.x509.store
---@field ctx ffi.cdata* its `X509_STORE *`, for other libraries to read
local store = {}

---Verifies that a chain leads to the store.
---@param chain kong.chain|string the leaf first, or PEM
---@param options? resty.kong.x509.verify_options
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

---An older name of `resty.kong.addresses.new`.
---@param ranges string[]
---@return resty.kong.addresses.list?
---@return string? err
function x509.addresses(ranges) end

---A private key in a token, such as a hardware security module.
---@class (exact) resty.kong.x509.key_options
---@field uri string where it is, such as "pkcs11:token=tenants;object=client1"
---@field pin? string the pin of the token

---Parses the first private key in a text; or opens one that is in a token.
---@param pem string|resty.kong.x509.key_options
---@param password? string
---@return resty.kong.x509.key?
---@return string? err
function x509.key(pem, password) end

---What a store trusts: one or more of `pem`, `file`, `dir` and `system`.
---@class (exact) resty.kong.x509.store_options
---@field pem? string certificates
---@field file? string the name of a file with certificates
---@field dir? string the name of a folder, as prepared by `openssl rehash`
---@field system? boolean whether to trust what the system trusts
---@field crl? string revocation lists, in PEM: then the whole chain is checked for revocation
---@field crl_file? string the name of a file with revocation lists, as with `crl`
---@field leaf_only? boolean whether only the first certificate of a chain is checked for revocation
---@field on_expired? "refuse"|"accept" what a list counts after its `nextUpdate`
---@field refresh? number after how many seconds `file`, `dir` and `crl_file` are looked at again
---@field check_revocation? boolean whether to check for revocation with the lists in `dir`
---@field partial_chain? boolean whether an intermediate is trusted as a root is

---Makes a store of what is trusted.
---@param options resty.kong.x509.store_options
---@return resty.kong.x509.store?
---@return string? err
function x509.store(options) end

return x509
