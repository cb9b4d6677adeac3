// SPDX-License-Identifier: Apache-2.0

//! Functions of OpenSSL that the `openssl` crate does not call, or not for objects that nginx made,
//! with types that say what they take and return.
//!
//! Each is documented in the OpenSSL manual page of the same name, unless stated otherwise. All
//! exist in OpenSSL 1.1.1 and later.

#![allow(
    improper_ctypes,
    reason = "a reference to an opaque type of the `openssl` crate is a pointer of C"
)]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    reason = "OpenSSL's names"
)]

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

use foreign_types::{ForeignTypeRef, Opaque};
use libc::time_t;
use openssl::asn1::{Asn1IntegerRef, Asn1OctetStringRef, Asn1StringRef};
use openssl::ocsp::{OcspBasicResponseRef, OcspRequestRef};
use openssl::pkey::{PKeyRef, Private};
use openssl::ssl::{SslCipher, SslCipherRef, SslContextRef, SslRef, SslSessionRef};
use openssl::stack::StackRef;
use openssl::x509::store::X509StoreRef;
use openssl::x509::verify::X509VerifyParamRef;
use openssl::x509::{
    X509, X509AlgorithmRef, X509CrlRef, X509ExtensionRef, X509Name, X509NameRef, X509Object,
    X509ObjectRef, X509Ref, X509RevokedRef, X509StoreContextRef,
};
use openssl_sys::{
    BIO, EVP_PKEY, OPENSSL_STACK, SSL, SSL_CTX, SSL_SESSION, X509_LOOKUP, X509_LOOKUP_METHOD,
    X509_STORE_CTX, stack_st_X509_NAME,
};

use crate::openssl::memory::{Allocated, BioRef, Text};

/// `SSL_CTX_set_info_callback(3)`
pub type info_callback = unsafe extern "C" fn(ssl: *const SSL, where_: c_int, ret: c_int);

/// `SSL_set_cert_cb(3)`
pub type certificate_callback = extern "C" fn(ssl: &SslRef, argument: *mut c_void) -> c_int;

/// `SSL_CTX_set_client_cert_cb(3)`
pub type client_certificate_callback = unsafe extern "C" fn(
    ssl: *mut SSL,
    certificate: *mut *mut openssl_sys::X509,
    key: *mut *mut EVP_PKEY,
) -> c_int;

/// `SSL_set_verify(3)`
pub type verify_callback =
    unsafe extern "C" fn(preverified: c_int, context: *mut X509_STORE_CTX) -> c_int;

/// `X509_STORE_CTX_set_verify_cb(3)`
pub type judge_callback = extern "C" fn(preverified: c_int, context: &X509StoreContextRef) -> c_int;

/// `SSL_set_not_resumable_session_callback(3)`
pub type not_resumable_callback = extern "C" fn(ssl: &SslRef, is_forward_secure: c_int) -> c_int;

/// `X509_LOOKUP_meth_set_get_by_subject(3)`
pub type get_by_subject = unsafe extern "C" fn(
    lookup: &Lookup,
    r#type: c_int,
    name: &X509NameRef,
    found: &mut X509ObjectRef,
) -> c_int;

/// `SSL_CTX_set_session_ticket_cb(3)`
pub type generate_ticket_callback =
    unsafe extern "C" fn(ssl: *mut SSL, argument: *mut c_void) -> c_int;

/// `SSL_CTX_set_session_ticket_cb(3)`
pub type decrypt_ticket_callback = unsafe extern "C" fn(
    ssl: *mut SSL,
    session: *mut SSL_SESSION,
    key_name: *const c_uchar,
    key_name_length: usize,
    status: c_int,
    argument: *mut c_void,
) -> c_int;

/// `SSL_CTX_sess_set_get_cb(3)`
pub type get_session_callback = unsafe extern "C" fn(
    ssl: *mut SSL,
    id: *const c_uchar,
    length: c_int,
    copy: *mut c_int,
) -> *mut SSL_SESSION;

/// The control behind `SSL_CTX_get_session_cache_mode(3)`.
pub const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
/// `SSL_CTX_set_session_cache_mode(3)`
pub const SSL_SESS_CACHE_SERVER: c_long = 0x2;
/// The control behind `SSL_CTX_set_session_cache_mode(3)`.
pub const SSL_CTRL_SET_SESS_CACHE_MODE: c_int = 44;
/// `SSL_CTX_set_session_cache_mode(3)`
pub const SSL_SESS_CACHE_NO_INTERNAL_LOOKUP: c_long = 0x100;
/// `SSL_CTX_set_session_cache_mode(3)`
pub const SSL_SESS_CACHE_NO_INTERNAL_STORE: c_long = 0x200;

/// `SSL_client_hello_get0_ext(3)`
pub const TLSEXT_TYPE_server_name: c_uint = 0;

/// Status for a ticket callback: see `SSL_CTX_set_session_ticket_cb(3)`.
pub const SSL_TICKET_SUCCESS: c_int = 5;
/// Status for a ticket callback.
pub const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
/// Return value of a ticket callback.
pub const SSL_TICKET_RETURN_IGNORE_RENEW: c_int = 2;
/// Return value of a ticket callback.
pub const SSL_TICKET_RETURN_USE: c_int = 3;
/// Return value of a ticket callback.
pub const SSL_TICKET_RETURN_USE_RENEW: c_int = 4;

/// A handshake starts.
pub const SSL_CB_HANDSHAKE_START: c_int = 0x10;
/// A handshake is complete.
pub const SSL_CB_HANDSHAKE_DONE: c_int = 0x20;
/// The state of a handshake is about to change.
pub const SSL_CB_LOOP: c_int = 0x01;
/// A call that continues a handshake returns.
pub const SSL_CB_EXIT: c_int = 0x02;
/// An alert was received.
pub const SSL_CB_READ_ALERT: c_int = 0x4000 | 0x04;

/// `BIO_set_close(3)`
pub const BIO_NOCLOSE: c_int = 0;

/// The control behind `SSL_set1_chain(3)`.
pub const SSL_CTRL_CHAIN: c_int = 88;
/// `SSL_CTX_set_tlsext_ticket_keys(3)`
pub const SSL_CTRL_SET_TLSEXT_TICKET_KEYS: c_int = 59;
/// `SSL_CTX_select_current_cert(3)`
pub const SSL_CTRL_SELECT_CURRENT_CERT: c_int = 116;
/// `SSL_CTX_set_current_cert(3)`
pub const SSL_CTRL_SET_CURRENT_CERT: c_int = 117;
pub const SSL_CERT_SET_FIRST: c_long = 1;
pub const SSL_CERT_SET_NEXT: c_long = 2;
/// The control behind `SSL_set1_groups_list(3)`.
pub const SSL_CTRL_SET_GROUPS_LIST: c_int = 92;
/// The control behind `SSL_set1_sigalgs_list(3)`.
pub const SSL_CTRL_SET_SIGALGS_LIST: c_int = 98;
/// The controls behind `SSL_set_min_proto_version(3)` and `SSL_set_max_proto_version(3)`.
pub const SSL_CTRL_SET_PROTO_VERSIONS: [c_int; 2] = [123, 124];
/// The controls behind `SSL_get_min_proto_version(3)` and `SSL_get_max_proto_version(3)`.
pub const SSL_CTRL_GET_PROTO_VERSIONS: [c_int; 2] = [130, 131];

/// `X509_OBJECT_get_type(3)`
pub const X509_LU_X509: c_int = 1;
/// `X509_OBJECT_get_type(3)`
pub const X509_LU_CRL: c_int = 2;

/// `X509_LOOKUP`, which belongs to a store.
pub struct Lookup(Opaque);

/// `SSL_CTX_sessions(3)`: `LHASH_OF(SSL_SESSION)`.
pub struct SessionTable(Opaque);

/// `X509_PUBKEY`
#[repr(transparent)]
pub struct X509Pubkey(Opaque);
pub enum stack_st_X509_CRL {}
/// `UI_METHOD(3)`
pub enum UI_METHOD {}
/// `OSSL_STORE_open(3)`
pub enum OSSL_STORE_CTX {}
/// `OSSL_STORE_INFO(3)`
pub enum OSSL_STORE_INFO {}

/// `pem_password_cb(3)`
pub type password_callback = unsafe extern "C" fn(
    buffer: *mut c_char,
    size: c_int,
    is_for_writing: c_int,
    data: *mut c_void,
) -> c_int;
/// `OSSL_STORE_open(3)`
pub type post_process_info =
    unsafe extern "C" fn(*mut OSSL_STORE_INFO, *mut c_void) -> *mut OSSL_STORE_INFO;

/// The type of a private key in OpenSSL 3.0 and later; see `OSSL_STORE_INFO(3)`.
pub const OSSL_STORE_INFO_PKEY: c_int = 4;

// SAFETY: the signatures are those of the headers of OpenSSL 1.1.1 to 3.6. A reference stands for
// the pointer to an object: the types of the `openssl` crate are opaque, and a reference to one is
// the address of the object (`ForeignTypeRef::as_ptr`). `Option` stands for a pointer that may be
// NULL. A returned reference is to a part of the argument, which lives as long.
//
// A function is `safe` if no argument of these types makes it unsound: beside objects it takes
// numbers, which OpenSSL checks, places to write to, which it does not keep, and callbacks that
// are safe; and it frees nothing that somebody may have borrowed. An object is used in one thread
// at a time, as nginx and the Lua module do. What other functions rely on is with their callers.
unsafe extern "C" {
    pub safe fn SSL_CTX_get_info_callback(ctx: &SslContextRef) -> Option<info_callback>;
    pub fn SSL_CTX_set_info_callback(ctx: &SslContextRef, callback: Option<info_callback>);
    pub fn SSL_set_info_callback(ssl: &SslRef, callback: Option<info_callback>);

    pub safe fn SSL_set_options(ssl: &SslRef, options: u64) -> u64;
    pub safe fn SSL_get_options(ssl: &SslRef) -> u64;
    pub safe fn SSL_clear_options(ssl: &SslRef, options: u64) -> u64;
    pub safe fn SSL_get_ciphers(ssl: &SslRef) -> Option<&StackRef<SslCipher>>;
    pub fn SSL_certs_clear(ssl: &SslRef);
    pub fn SSL_use_certificate(ssl: &SslRef, certificate: &X509Ref) -> c_int;
    pub fn SSL_use_PrivateKey(ssl: &SslRef, key: &PKeyRef<Private>) -> c_int;
    pub safe fn SSL_set_cert_cb(
        ssl: &SslRef,
        callback: Option<certificate_callback>,
        argument: *mut c_void,
    );
    pub safe fn SSL_CTX_get_client_cert_cb(
        ctx: &SslContextRef,
    ) -> Option<client_certificate_callback>;
    pub fn SSL_CTX_set_client_cert_cb(
        ctx: &SslContextRef,
        callback: Option<client_certificate_callback>,
    );
    pub safe fn SSL_set_post_handshake_auth(ssl: &SslRef, enabled: c_int);
    pub safe fn SSL_state_string(ssl: &SslRef) -> Text<'static>;
    pub safe fn SSL_get_sigalgs(
        ssl: &SslRef,
        index: c_int,
        signature: Option<&mut c_int>,
        hash: Option<&mut c_int>,
        both: Option<&mut c_int>,
        raw_signature: Option<&mut c_uchar>,
        raw_hash: Option<&mut c_uchar>,
    ) -> c_int;
    pub fn SSL_set0_wbio(ssl: &SslRef, bio: *mut BIO);
    pub safe fn SSL_set_verify_depth(ssl: &SslRef, depth: c_int);
    pub safe fn SSL_set_verify_result(ssl: &SslRef, result: c_long);
    pub safe fn SSL_get_verify_callback(ssl: &SslRef) -> Option<verify_callback>;
    pub fn SSL_set_verify(ssl: &SslRef, mode: c_int, callback: Option<verify_callback>);
    pub fn SSL_set_session(ssl: &SslRef, session: Option<&SslSessionRef>) -> c_int;
    pub fn SSL_set0_CA_list(ssl: &SslRef, names: *mut stack_st_X509_NAME);
    pub fn SSL_get_client_CA_list(ssl: &SslRef) -> Option<&StackRef<X509Name>>;
    pub fn SSL_set_client_CA_list(ssl: &SslRef, names: *mut stack_st_X509_NAME);
    pub safe fn SSL_has_pending(ssl: &SslRef) -> c_int;
    pub safe fn SSL_get_version(ssl: &SslRef) -> *const c_char;
    pub safe fn SSL_get_current_cipher(ssl: &SslRef) -> Option<&SslCipherRef>;
    /// `SSL_CIPHER_get_name(3)`: "(NONE)" for a null pointer.
    pub safe fn SSL_CIPHER_get_name(cipher: Option<&SslCipherRef>) -> *const c_char;
    pub safe fn SSL_get_shutdown(ssl: &SslRef) -> c_int;
    pub safe fn SSL_set_shutdown(ssl: &SslRef, mode: c_int);
    pub safe fn SSL_up_ref(ssl: &SslRef) -> c_int;
    pub safe fn SSL_get_ex_data(ssl: &SslRef, index: c_int) -> *mut c_void;
    pub fn SSL_set_ex_data(ssl: &SslRef, index: c_int, data: *mut c_void) -> c_int;
    pub safe fn SSL_CTX_get_ex_data(ctx: &SslContextRef, index: c_int) -> *mut c_void;
    pub fn SSL_CTX_set_ex_data(ctx: &SslContextRef, index: c_int, data: *mut c_void) -> c_int;
    pub fn SSL_set_SSL_CTX(ssl: &SslRef, ctx: &SslContextRef) -> *mut SSL_CTX;
    pub safe fn SSL_SESSION_is_resumable(session: &SslSessionRef) -> c_int;
    pub safe fn SSL_CTX_get_verify_callback(ctx: &SslContextRef) -> Option<verify_callback>;
    pub fn X509_STORE_CTX_get0_cert(context: &X509StoreContextRef) -> Option<&X509Ref>;
    pub fn SSL_SESSION_set1_id(
        session: &SslSessionRef,
        id: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub safe fn SSL_SESSION_new() -> *mut SSL_SESSION;
    /// `OPENSSL_malloc(3)`
    pub fn CRYPTO_get_mem_functions(
        malloc: *mut *mut c_void,
        realloc: *mut *mut c_void,
        free: *mut *mut c_void,
    );
    /// `OPENSSL_malloc(3)`: what OpenSSL uses unless it is told to use something else.
    pub fn CRYPTO_malloc(size: usize, file: *const c_char, line: c_int) -> *mut c_void;
    pub safe fn SSL_SESSION_set_protocol_version(session: &SslSessionRef, version: c_int) -> c_int;
    pub safe fn SSL_version(ssl: &SslRef) -> c_int;
    pub safe fn SSL_CTX_sessions(ctx: &SslContextRef) -> &SessionTable;
    /// `LHASH(3)`: the function behind `lh_SSL_SESSION_retrieve`.
    pub fn OPENSSL_LH_retrieve<'a>(
        table: &'a SessionTable,
        like: &SslSessionRef,
    ) -> Option<&'a SslSessionRef>;
    pub safe fn SSL_SESSION_get0_id_context(
        session: &SslSessionRef,
        length: &mut c_uint,
    ) -> *const c_uchar;
    pub fn SSL_SESSION_set1_id_context(
        session: &SslSessionRef,
        context: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub safe fn SSL_SESSION_get0_ticket_appdata(
        session: &SslSessionRef,
        data: &mut *mut c_void,
        length: &mut usize,
    ) -> c_int;
    pub fn SSL_SESSION_set1_ticket_appdata(
        session: &SslSessionRef,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    pub safe fn SSL_SESSION_get0_hostname(session: &SslSessionRef) -> Text<'_>;
    pub safe fn SSL_SESSION_get0_peer(session: &SslSessionRef) -> Option<&X509Ref>;
    pub safe fn SSL_client_hello_get0_ext(
        ssl: &SslRef,
        r#type: c_uint,
        data: &mut *const c_uchar,
        length: &mut usize,
    ) -> c_int;
    pub fn SSL_set_session_id_context(
        ssl: &SslRef,
        context: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub fn SSL_CTX_set_session_ticket_cb(
        ctx: &SslContextRef,
        generate: Option<generate_ticket_callback>,
        decrypt: Option<decrypt_ticket_callback>,
        argument: *mut c_void,
    ) -> c_int;
    pub safe fn SSL_CTX_sess_get_get_cb(ctx: &SslContextRef) -> Option<get_session_callback>;
    pub fn SSL_CTX_sess_set_get_cb(ctx: &SslContextRef, callback: Option<get_session_callback>);
    pub safe fn SSL_set_not_resumable_session_callback(
        ssl: &SslRef,
        callback: Option<not_resumable_callback>,
    );
    pub safe fn SSL_set_num_tickets(ssl: &SslRef, number: usize) -> c_int;

    pub safe fn X509_STORE_CTX_get_ex_data(
        context: &X509StoreContextRef,
        index: c_int,
    ) -> *mut c_void;
    pub fn X509_STORE_CTX_set_ex_data(
        context: &X509StoreContextRef,
        index: c_int,
        data: *mut c_void,
    ) -> c_int;
    pub safe fn X509_STORE_CTX_set_error(context: &X509StoreContextRef, error: c_int);
    pub safe fn X509_STORE_CTX_set_verify_cb(
        context: &X509StoreContextRef,
        callback: judge_callback,
    );
    pub safe fn X509_STORE_set_verify_cb(store: &X509StoreRef, callback: judge_callback);
    pub fn X509_STORE_CTX_set0_crls(context: &X509StoreContextRef, lists: *mut stack_st_X509_CRL);
    pub fn X509_STORE_CTX_get0_store(context: &X509StoreContextRef) -> Option<&X509StoreRef>;
    pub fn X509_STORE_CTX_get0_untrusted(context: &X509StoreContextRef) -> Option<&StackRef<X509>>;
    pub safe fn SSL_CTX_get_verify_depth(ctx: &SslContextRef) -> c_int;
    pub safe fn SSL_CTX_get_verify_mode(ctx: &SslContextRef) -> c_int;
    pub safe fn SSL_CTX_get_options(ctx: &SslContextRef) -> u64;
    pub safe fn SSL_CTX_get_security_level(ctx: &SslContextRef) -> c_int;
    pub safe fn SSL_CTX_get_ciphers(ctx: &SslContextRef) -> Option<&StackRef<SslCipher>>;
    pub safe fn SSL_CTX_get0_param(ctx: &SslContextRef) -> &X509VerifyParamRef;
    pub safe fn SSL_CTX_get0_certificate(ctx: &SslContextRef) -> Option<&X509Ref>;
    pub safe fn SSL_CIPHER_get_id(cipher: &SslCipherRef) -> u32;
    pub safe fn X509_STORE_CTX_get0_param(
        context: &X509StoreContextRef,
    ) -> Option<&X509VerifyParamRef>;
    pub safe fn X509_NAME_print_ex(
        out: &BioRef,
        name: &X509NameRef,
        indent: c_int,
        flags: c_ulong,
    ) -> c_int;
    pub safe fn i2a_ASN1_INTEGER(out: &BioRef, number: &Asn1IntegerRef) -> c_int;
    pub fn i2d_X509(certificate: &X509Ref, into: *mut *mut c_uchar) -> c_int;
    /// `d2i_X509(3)`: allocates memory if there is none yet.
    pub fn i2d_X509_AUX(certificate: &X509Ref, into: &mut Allocated<c_uchar>) -> c_int;
    pub safe fn X509_get_X509_PUBKEY(certificate: &X509Ref) -> Option<&X509Pubkey>;
    pub fn i2d_X509_PUBKEY(key: &X509Pubkey, into: *mut *mut c_uchar) -> c_int;
    pub safe fn X509_get_extension_flags(certificate: &X509Ref) -> u32;
    pub safe fn X509_get_key_usage(certificate: &X509Ref) -> u32;
    pub safe fn X509_check_private_key(certificate: &X509Ref, key: &PKeyRef<Private>) -> c_int;
    pub fn X509_check_host(
        certificate: &X509Ref,
        name: *const c_uchar,
        length: usize,
        flags: c_uint,
        peer_name: Option<&mut *mut c_char>,
    ) -> c_int;
    pub safe fn X509_get_ext_d2i(
        certificate: &X509Ref,
        nid: c_int,
        critical: &mut c_int,
        index: Option<&mut c_int>,
    ) -> *mut c_void;
    pub safe fn X509_get_ext_by_NID(certificate: &X509Ref, nid: c_int, last: c_int) -> c_int;
    pub safe fn X509_get_ext(certificate: &X509Ref, place: c_int) -> Option<&X509ExtensionRef>;
    pub safe fn X509_REVOKED_get_ext_by_NID(
        revoked: &X509RevokedRef,
        nid: c_int,
        last: c_int,
    ) -> c_int;
    pub safe fn X509_REVOKED_get_ext(
        revoked: &X509RevokedRef,
        place: c_int,
    ) -> Option<&X509ExtensionRef>;
    pub safe fn ASN1_STRING_type(string: &Asn1StringRef) -> c_int;
    pub safe fn X509_CRL_get_ext_by_NID(list: &X509CrlRef, nid: c_int, last: c_int) -> c_int;
    pub safe fn X509_CRL_get_signature_nid(list: &X509CrlRef) -> c_int;
    pub fn OCSP_request_add1_nonce(
        request: &OcspRequestRef,
        value: *mut c_uchar,
        length: c_int,
    ) -> c_int;
    pub safe fn OCSP_check_nonce(request: &OcspRequestRef, basic: &OcspBasicResponseRef) -> c_int;
    pub safe fn OCSP_resp_get0_tbs_sigalg(
        basic: &OcspBasicResponseRef,
    ) -> Option<&X509AlgorithmRef>;
    /// `OCSP_BASICRESP(3)`: as `X509_get_ext_by_critical(3)`.
    pub safe fn OCSP_BASICRESP_get_ext_by_critical(
        basic: &OcspBasicResponseRef,
        is_critical: c_int,
        last: c_int,
    ) -> c_int;
    /// `OCSP_BASICRESP(3)`: as `X509_get_ext_by_NID(3)`.
    pub safe fn OCSP_BASICRESP_get_ext_by_NID(
        basic: &OcspBasicResponseRef,
        nid: c_int,
        last: c_int,
    ) -> c_int;
    pub safe fn X509_STORE_up_ref(store: &X509StoreRef) -> c_int;
    pub safe fn X509_STORE_add_cert(store: &X509StoreRef, certificate: &X509Ref) -> c_int;
    pub safe fn X509_STORE_add_crl(store: &X509StoreRef, list: &X509CrlRef) -> c_int;
    pub safe fn X509_STORE_get0_param(store: &X509StoreRef) -> &X509VerifyParamRef;
    pub safe fn X509_STORE_get0_objects(store: &X509StoreRef) -> &StackRef<X509Object>;
    pub safe fn X509_get_default_cert_dir() -> Text<'static>;
    pub safe fn X509_get_default_cert_dir_env() -> Text<'static>;
    pub safe fn X509_get_default_cert_file() -> Text<'static>;
    pub safe fn X509_get_default_cert_file_env() -> Text<'static>;
    pub safe fn X509_get_ex_data(certificate: &X509Ref, index: c_int) -> *mut c_void;
    pub fn X509_set_ex_data(certificate: &X509Ref, index: c_int, data: *mut c_void) -> c_int;
    pub safe fn X509_VERIFY_PARAM_get_time(param: &X509VerifyParamRef) -> time_t;
    pub safe fn X509_VERIFY_PARAM_set_time(param: &X509VerifyParamRef, time: time_t);
    pub safe fn X509_VERIFY_PARAM_get_auth_level(param: &X509VerifyParamRef) -> c_int;
    pub safe fn X509_VERIFY_PARAM_set_auth_level(param: &X509VerifyParamRef, level: c_int);
    pub safe fn X509_VERIFY_PARAM_get_hostflags(param: &X509VerifyParamRef) -> c_uint;
    pub fn X509_STORE_lock(store: &X509StoreRef) -> c_int;
    pub fn X509_STORE_unlock(store: &X509StoreRef) -> c_int;
    pub safe fn X509_STORE_get_ex_data(store: &X509StoreRef, index: c_int) -> *mut c_void;
    pub fn X509_STORE_set_ex_data(store: &X509StoreRef, index: c_int, data: *mut c_void) -> c_int;
    pub fn X509_STORE_add_lookup(
        store: &X509StoreRef,
        method: *mut X509_LOOKUP_METHOD,
    ) -> *mut X509_LOOKUP;
    pub fn X509_LOOKUP_meth_new(name: *const c_char) -> *mut X509_LOOKUP_METHOD;
    pub fn X509_LOOKUP_meth_set_get_by_subject(
        method: *mut X509_LOOKUP_METHOD,
        function: Option<get_by_subject>,
    ) -> c_int;
    pub safe fn X509_LOOKUP_get_store(lookup: &Lookup) -> &X509StoreRef;
    pub safe fn X509_OBJECT_retrieve_by_subject<'a>(
        objects: &'a StackRef<X509Object>,
        r#type: c_int,
        name: &X509NameRef,
    ) -> Option<&'a X509ObjectRef>;
    pub fn X509_OBJECT_set1_X509(object: &X509ObjectRef, certificate: &X509Ref) -> c_int;
    pub fn X509_OBJECT_set1_X509_CRL(object: &X509ObjectRef, list: &X509CrlRef) -> c_int;
    pub safe fn X509_OBJECT_get0_X509(object: &X509ObjectRef) -> Option<&X509Ref>;
    pub safe fn X509_OBJECT_get0_X509_CRL(object: &X509ObjectRef) -> Option<&X509CrlRef>;
    pub safe fn X509_CRL_get_ext(list: &X509CrlRef, place: c_int) -> Option<&X509ExtensionRef>;
    pub safe fn X509_EXTENSION_get_data(
        extension: &X509ExtensionRef,
    ) -> Option<&Asn1OctetStringRef>;
    pub safe fn SSL_get0_param(ssl: &SslRef) -> &X509VerifyParamRef;
    pub safe fn X509_VERIFY_PARAM_get_flags(param: &X509VerifyParamRef) -> c_ulong;
    pub safe fn X509_VERIFY_PARAM_set_flags(param: &X509VerifyParamRef, flags: c_ulong) -> c_int;
    pub safe fn X509_VERIFY_PARAM_set_purpose(param: &X509VerifyParamRef, purpose: c_int) -> c_int;
    pub safe fn X509_VERIFY_PARAM_set_trust(param: &X509VerifyParamRef, trust: c_int) -> c_int;
    pub safe fn X509_VERIFY_PARAM_set1(
        param: &X509VerifyParamRef,
        from: &X509VerifyParamRef,
    ) -> c_int;
    pub safe fn X509_VERIFY_PARAM_get_depth(param: &X509VerifyParamRef) -> c_int;
    pub safe fn X509_VERIFY_PARAM_set_depth(param: &X509VerifyParamRef, depth: c_int);

    pub safe fn PEM_read_bio(
        bio: &BioRef,
        name: &mut Allocated<c_char>,
        header: &mut Allocated<c_char>,
        data: &mut Allocated<c_uchar>,
        length: &mut c_long,
    ) -> c_int;
    pub fn d2i_X509_AUX(
        certificate: *mut *mut openssl_sys::X509,
        bytes: *mut *const c_uchar,
        length: c_long,
    ) -> *mut openssl_sys::X509;

    pub fn UI_UTIL_wrap_read_pem_callback(
        callback: Option<password_callback>,
        is_for_writing: c_int,
    ) -> *mut UI_METHOD;
    pub fn UI_get_default_method() -> *const UI_METHOD;
    pub fn UI_set_default_method(method: *const UI_METHOD);
    pub fn OSSL_STORE_open(
        uri: *const c_char,
        method: *const UI_METHOD,
        data: *mut c_void,
        post_process: Option<post_process_info>,
        post_process_data: *mut c_void,
    ) -> *mut OSSL_STORE_CTX;
    pub fn OSSL_STORE_expect(store: *mut OSSL_STORE_CTX, r#type: c_int) -> c_int;
    pub fn OSSL_STORE_eof(store: *mut OSSL_STORE_CTX) -> c_int;
    pub fn OSSL_STORE_load(store: *mut OSSL_STORE_CTX) -> *mut OSSL_STORE_INFO;
    pub fn OSSL_STORE_close(store: *mut OSSL_STORE_CTX) -> c_int;
    pub fn OSSL_STORE_INFO_get_type(info: *const OSSL_STORE_INFO) -> c_int;
    pub fn OSSL_STORE_INFO_get1_PKEY(info: *const OSSL_STORE_INFO) -> *mut EVP_PKEY;
    pub fn OSSL_STORE_INFO_free(info: *mut OSSL_STORE_INFO);
    pub fn OPENSSL_cleanse(bytes: *mut c_void, length: usize);

    pub fn OPENSSL_sk_dup(stack: *const OPENSSL_STACK) -> *mut OPENSSL_STACK;
    pub fn OPENSSL_sk_zero(stack: *mut OPENSSL_STACK);
}

/// `SSL_set1_chain(3)`: the SSL object takes its own references.
pub fn SSL_set1_chain(ssl: &SslRef, chain: &StackRef<X509>) -> c_long {
    // SAFETY: both are valid, and this control takes a stack of certificates.
    unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_CHAIN, 1, chain.as_ptr().cast()) }
}

/// `SSL_CTX_get_extra_chain_certs(3)`: the intermediates of the context's certificate.
pub fn SSL_CTX_get_extra_chain_certs(ctx: &SslContextRef) -> Option<&StackRef<X509>> {
    let mut chain = std::ptr::null_mut();
    // SAFETY: the context is valid, and `chain` a place for the address of what it has.
    unsafe { openssl_sys::SSL_CTX_get_extra_chain_certs(ctx.as_ptr(), &raw mut chain) };
    // SAFETY: the chain is NULL, or part of the context.
    (!chain.is_null()).then(|| unsafe { StackRef::from_ptr(chain) })
}

/// `SSL_CTX_set_current_cert(3)`: makes one of the context's certificates the current one. Returns
/// whether there is one.
pub fn SSL_CTX_set_current_cert(ctx: &SslContextRef, which: c_long) -> bool {
    let (control, none) = (SSL_CTRL_SET_CURRENT_CERT, std::ptr::null_mut());
    // SAFETY: the context is valid; the control takes a number.
    unsafe { openssl_sys::SSL_CTX_ctrl(ctx.as_ptr(), control, which, none) == 1 }
}

/// `SSL_CTX_select_current_cert(3)`
pub fn SSL_CTX_select_current_cert(ctx: &SslContextRef, certificate: &X509Ref) -> bool {
    let control = SSL_CTRL_SELECT_CURRENT_CERT;
    let certificate = certificate.as_ptr().cast();
    // SAFETY: the context and the certificate are valid. The control looks the latter up.
    unsafe { openssl_sys::SSL_CTX_ctrl(ctx.as_ptr(), control, 0, certificate) == 1 }
}

/// `SSL_CTX_get_min_proto_version(3)` and `SSL_CTX_get_max_proto_version(3)`
pub fn SSL_CTX_get_proto_versions(ctx: &SslContextRef) -> [c_int; 2] {
    // SAFETY: the context is valid.
    unsafe {
        [
            openssl_sys::SSL_CTX_get_min_proto_version(ctx.as_ptr()),
            openssl_sys::SSL_CTX_get_max_proto_version(ctx.as_ptr()),
        ]
    }
}

/// `SSL_set1_verify_cert_store(3)`: the SSL object takes its own reference.
pub fn SSL_set1_verify_cert_store(ssl: &SslRef, store: Option<&X509StoreRef>) -> c_long {
    let store = store.map_or(std::ptr::null_mut(), ForeignTypeRef::as_ptr).cast();
    let control = openssl_sys::SSL_CTRL_SET_VERIFY_CERT_STORE;
    // SAFETY: the SSL object is valid, and this control takes a store or NULL.
    unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), control, 1, store) }
}

/// `SSL_get_min_proto_version(3)` and `SSL_get_max_proto_version(3)`
pub fn SSL_get_proto_versions(ssl: &SslRef) -> [c_int; 2] {
    SSL_CTRL_GET_PROTO_VERSIONS.map(|control| {
        // SAFETY: the SSL object is valid; the control takes nothing.
        let version =
            unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), control, 0, std::ptr::null_mut()) };
        version as c_int
    })
}

/// `SSL_set_min_proto_version(3)` and `SSL_set_max_proto_version(3)`
pub fn SSL_set_proto_versions(ssl: &SslRef, versions: [c_int; 2]) -> [c_long; 2] {
    let [min, max] = SSL_CTRL_SET_PROTO_VERSIONS;
    [(min, versions[0]), (max, versions[1])].map(|(control, version)| {
        let (version, none) = (c_long::from(version), std::ptr::null_mut());
        // SAFETY: the SSL object is valid; the control takes a number.
        unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), control, version, none) }
    })
}

/// `SSL_set_cipher_list(3)`
pub fn SSL_set_cipher_list(ssl: &SslRef, list: &CStr) -> c_int {
    // SAFETY: both are valid, and the function keeps no pointer to the list.
    unsafe { openssl_sys::SSL_set_cipher_list(ssl.as_ptr(), list.as_ptr()) }
}

/// `SSL_set_ciphersuites(3)`
pub fn SSL_set_ciphersuites(ssl: &SslRef, list: &CStr) -> c_int {
    // SAFETY: both are valid, and the function keeps no pointer to the list.
    unsafe { openssl_sys::SSL_set_ciphersuites(ssl.as_ptr(), list.as_ptr()) }
}

/// `SSL_set1_groups_list(3)`
pub fn SSL_set1_groups_list(ssl: &SslRef, list: &CStr) -> c_long {
    let list = list.as_ptr().cast_mut().cast();
    // SAFETY: both are valid, and the control only reads the list.
    unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_SET_GROUPS_LIST, 0, list) }
}

/// `SSL_set1_sigalgs_list(3)`
pub fn SSL_set1_sigalgs_list(ssl: &SslRef, list: &CStr) -> c_long {
    let list = list.as_ptr().cast_mut().cast();
    // SAFETY: both are valid, and the control only reads the list.
    unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_SET_SIGALGS_LIST, 0, list) }
}
