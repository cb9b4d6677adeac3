// SPDX-License-Identifier: Apache-2.0

//! Declarations that neither `openssl-sys` nor `nginx-sys` has.
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

use std::ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};

use libc::time_t;
use openssl::asn1::Asn1IntegerRef;
use openssl::pkey::{PKeyRef, Private};
use openssl::x509::{X509NameRef, X509Ref};
use openssl_sys::{
    BIO, EVP_PKEY, OPENSSL_STACK, SSL, SSL_CTX, SSL_SESSION, X509, X509_CRL, X509_LOOKUP,
    X509_LOOKUP_METHOD, X509_NAME, X509_STORE, X509_STORE_CTX, X509_VERIFY_PARAM, stack_st_X509,
    stack_st_X509_NAME, stack_st_X509_OBJECT,
};

use crate::openssl::memory::{Allocated, BioRef};

/// `SSL_CTX_set_info_callback(3)`
pub type info_callback = unsafe extern "C" fn(ssl: *const SSL, where_: c_int, ret: c_int);

/// `SSL_set_cert_cb(3)`
pub type certificate_callback = unsafe extern "C" fn(ssl: *mut SSL, argument: *mut c_void) -> c_int;

/// `SSL_CTX_set_client_cert_cb(3)`
pub type client_certificate_callback = unsafe extern "C" fn(
    ssl: *mut SSL,
    certificate: *mut *mut X509,
    key: *mut *mut EVP_PKEY,
) -> c_int;

/// `SSL_set_verify(3)`
pub type verify_callback = extern "C" fn(preverified: c_int, context: *mut X509_STORE_CTX) -> c_int;

/// `X509_LOOKUP_meth_set_get_by_subject(3)`
pub type get_by_subject = unsafe extern "C" fn(
    lookup: *mut X509_LOOKUP,
    r#type: c_int,
    name: *const X509_NAME,
    found: *mut X509_OBJECT,
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
/// An alert was received.
pub const SSL_CB_READ_ALERT: c_int = 0x4000 | 0x04;

/// `BIO_set_close(3)`
pub const BIO_NOCLOSE: c_int = 0;

/// The control behind `SSL_set1_chain(3)`.
pub const SSL_CTRL_CHAIN: c_int = 88;

/// `X509_OBJECT_get_type(3)`
pub const X509_LU_X509: c_int = 1;
/// `X509_OBJECT_get_type(3)`
pub const X509_LU_CRL: c_int = 2;

pub enum X509_OBJECT {}

/// `SSL_CTX_sessions(3)`: `LHASH_OF(SSL_SESSION)`.
pub enum SessionTable {}
pub enum stack_st_X509_CRL {}

// SAFETY: the signatures are those of the headers of OpenSSL 1.1.1 to 3.6. A reference stands for
// the pointer to an object: the types of the `openssl` crate are opaque, and a reference to one is
// the address of the object (`ForeignTypeRef::as_ptr`).
//
// A function is `safe` if no argument of these types makes it unsound: beside objects it takes
// numbers, which OpenSSL checks, and places to write to, which it does not keep.
unsafe extern "C" {
    pub fn SSL_CTX_get_info_callback(ctx: *const SSL_CTX) -> Option<info_callback>;
    pub fn SSL_CTX_set_info_callback(ctx: *mut SSL_CTX, callback: Option<info_callback>);
    pub fn SSL_set_info_callback(ssl: *mut SSL, callback: Option<info_callback>);

    pub fn SSL_set_options(ssl: *mut SSL, options: u64) -> u64;
    pub fn SSL_certs_clear(ssl: *mut SSL);
    pub fn SSL_set_cert_cb(
        ssl: *mut SSL,
        callback: Option<certificate_callback>,
        argument: *mut c_void,
    );
    pub fn SSL_CTX_get_client_cert_cb(ctx: *mut SSL_CTX) -> Option<client_certificate_callback>;
    pub fn SSL_CTX_set_client_cert_cb(
        ctx: *mut SSL_CTX,
        callback: Option<client_certificate_callback>,
    );
    pub fn SSL_set_post_handshake_auth(ssl: *mut SSL, enabled: c_int);
    pub fn SSL_state_string(ssl: *const SSL) -> *const c_char;
    pub fn SSL_get_sigalgs(
        ssl: *mut SSL,
        index: c_int,
        signature: *mut c_int,
        hash: *mut c_int,
        both: *mut c_int,
        raw_signature: *mut c_uchar,
        raw_hash: *mut c_uchar,
    ) -> c_int;
    pub fn SSL_set0_wbio(ssl: *mut SSL, bio: *mut BIO);
    pub fn SSL_set_verify_depth(ssl: *mut SSL, depth: c_int);
    pub fn SSL_set_verify_result(ssl: *mut SSL, result: c_long);
    pub fn SSL_set_session(ssl: *mut SSL, session: *mut SSL_SESSION) -> c_int;
    pub fn SSL_set0_CA_list(ssl: *mut SSL, names: *mut stack_st_X509_NAME);
    pub fn SSL_get_client_CA_list(ssl: *const SSL) -> *mut stack_st_X509_NAME;
    pub fn SSL_has_pending(ssl: *const SSL) -> c_int;
    pub fn SSL_up_ref(ssl: *mut SSL) -> c_int;
    pub fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
    pub fn SSL_CTX_get_verify_callback(ctx: *const SSL_CTX) -> Option<verify_callback>;
    pub fn X509_STORE_CTX_get0_cert(context: *const X509_STORE_CTX) -> *mut X509;
    pub fn SSL_SESSION_set1_id(
        session: *mut SSL_SESSION,
        id: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub fn SSL_SESSION_new() -> *mut SSL_SESSION;
    pub fn SSL_SESSION_set_protocol_version(session: *mut SSL_SESSION, version: c_int) -> c_int;
    pub fn SSL_CTX_sessions(ctx: *mut SSL_CTX) -> *mut SessionTable;
    /// `LHASH(3)`: the function behind `lh_SSL_SESSION_retrieve`.
    pub fn OPENSSL_LH_retrieve(table: *mut SessionTable, data: *const c_void) -> *mut c_void;
    pub fn SSL_SESSION_get0_id_context(
        session: *const SSL_SESSION,
        length: *mut c_uint,
    ) -> *const c_uchar;
    pub fn SSL_SESSION_set1_id_context(
        session: *mut SSL_SESSION,
        context: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub fn SSL_SESSION_get0_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *mut *mut c_void,
        length: *mut usize,
    ) -> c_int;
    pub fn SSL_SESSION_set1_ticket_appdata(
        session: *mut SSL_SESSION,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    pub fn SSL_SESSION_get0_hostname(session: *const SSL_SESSION) -> *const c_char;
    pub fn SSL_SESSION_get0_peer(session: *mut SSL_SESSION) -> *mut X509;
    pub fn SSL_set_session_id_context(
        ssl: *mut SSL,
        context: *const c_uchar,
        length: c_uint,
    ) -> c_int;
    pub fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut SSL_CTX,
        generate: Option<generate_ticket_callback>,
        decrypt: Option<decrypt_ticket_callback>,
        argument: *mut c_void,
    ) -> c_int;
    pub fn SSL_CTX_sess_get_get_cb(ctx: *mut SSL_CTX) -> Option<get_session_callback>;
    pub fn SSL_CTX_sess_set_get_cb(ctx: *mut SSL_CTX, callback: Option<get_session_callback>);
    pub fn SSL_set_not_resumable_session_callback(
        ssl: *mut SSL,
        callback: Option<unsafe extern "C" fn(ssl: *mut SSL, is_forward_secure: c_int) -> c_int>,
    );

    pub fn X509_STORE_CTX_set_ex_data(
        context: *mut X509_STORE_CTX,
        index: c_int,
        data: *mut c_void,
    ) -> c_int;
    pub fn X509_STORE_CTX_set_verify_cb(context: *mut X509_STORE_CTX, callback: verify_callback);
    pub fn X509_STORE_set_verify_cb(store: *mut X509_STORE, callback: verify_callback);
    pub fn X509_STORE_CTX_set0_crls(context: *mut X509_STORE_CTX, lists: *mut stack_st_X509_CRL);
    pub fn X509_STORE_CTX_get0_store(context: *const X509_STORE_CTX) -> *mut X509_STORE;
    pub fn X509_STORE_CTX_get0_untrusted(context: *const X509_STORE_CTX) -> *mut stack_st_X509;
    pub fn SSL_CTX_get_verify_depth(ctx: *const SSL_CTX) -> c_int;
    pub fn X509_STORE_CTX_get0_param(context: *mut X509_STORE_CTX) -> *mut X509_VERIFY_PARAM;
    pub safe fn X509_NAME_print_ex(
        out: &BioRef,
        name: &X509NameRef,
        indent: c_int,
        flags: c_ulong,
    ) -> c_int;
    pub safe fn i2a_ASN1_INTEGER(out: &BioRef, number: &Asn1IntegerRef) -> c_int;
    pub safe fn X509_check_private_key(certificate: &X509Ref, key: &PKeyRef<Private>) -> c_int;
    pub safe fn X509_get_ext_d2i(
        certificate: &X509Ref,
        nid: c_int,
        critical: &mut c_int,
        index: Option<&mut c_int>,
    ) -> *mut c_void;
    pub fn X509_STORE_up_ref(store: *mut X509_STORE) -> c_int;
    pub fn X509_STORE_add_crl(store: *mut X509_STORE, crl: *mut X509_CRL) -> c_int;
    pub fn X509_STORE_get0_param(store: *const X509_STORE) -> *mut X509_VERIFY_PARAM;
    pub fn X509_STORE_get0_objects(store: *const X509_STORE) -> *mut stack_st_X509_OBJECT;
    pub fn X509_get_default_cert_dir() -> *const c_char;
    pub fn X509_get_default_cert_dir_env() -> *const c_char;
    pub fn X509_get_default_cert_file() -> *const c_char;
    pub fn X509_get_default_cert_file_env() -> *const c_char;
    pub fn X509_set_ex_data(certificate: *mut X509, index: c_int, data: *mut c_void) -> c_int;
    pub fn X509_get_ex_data(certificate: *const X509, index: c_int) -> *mut c_void;
    pub fn X509_VERIFY_PARAM_get_time(param: *const X509_VERIFY_PARAM) -> time_t;
    pub fn X509_VERIFY_PARAM_get_auth_level(param: *const X509_VERIFY_PARAM) -> c_int;
    pub fn X509_VERIFY_PARAM_get_hostflags(param: *const X509_VERIFY_PARAM) -> c_uint;
    pub fn X509_STORE_lock(store: *mut X509_STORE) -> c_int;
    pub fn X509_STORE_unlock(store: *mut X509_STORE) -> c_int;
    pub fn X509_STORE_set_ex_data(store: *mut X509_STORE, index: c_int, data: *mut c_void)
    -> c_int;
    pub fn X509_STORE_get_ex_data(store: *const X509_STORE, index: c_int) -> *mut c_void;
    pub fn X509_LOOKUP_meth_new(name: *const c_char) -> *mut X509_LOOKUP_METHOD;
    pub fn X509_LOOKUP_meth_set_get_by_subject(
        method: *mut X509_LOOKUP_METHOD,
        function: Option<get_by_subject>,
    ) -> c_int;
    pub fn X509_LOOKUP_get_store(lookup: *const X509_LOOKUP) -> *mut X509_STORE;
    pub fn X509_OBJECT_retrieve_by_subject(
        objects: *mut stack_st_X509_OBJECT,
        r#type: c_int,
        name: *const X509_NAME,
    ) -> *mut X509_OBJECT;
    pub fn X509_OBJECT_set1_X509(object: *mut X509_OBJECT, certificate: *mut X509) -> c_int;
    pub fn X509_OBJECT_set1_X509_CRL(object: *mut X509_OBJECT, list: *mut X509_CRL) -> c_int;
    pub fn X509_OBJECT_get_type(object: *const X509_OBJECT) -> c_int;
    pub fn X509_OBJECT_get0_X509(object: *const X509_OBJECT) -> *mut X509;
    pub fn X509_OBJECT_get0_X509_CRL(object: *const X509_OBJECT) -> *mut X509_CRL;
    pub fn SSL_get0_param(ssl: *mut SSL) -> *mut X509_VERIFY_PARAM;
    pub fn X509_VERIFY_PARAM_set_flags(param: *mut X509_VERIFY_PARAM, flags: c_ulong) -> c_int;
    pub fn X509_VERIFY_PARAM_set_trust(param: *mut X509_VERIFY_PARAM, trust: c_int) -> c_int;
    pub fn X509_VERIFY_PARAM_get_flags(param: *const X509_VERIFY_PARAM) -> c_ulong;
    pub fn X509_VERIFY_PARAM_get_depth(param: *const X509_VERIFY_PARAM) -> c_int;

    pub safe fn PEM_read_bio(
        bio: &BioRef,
        name: &mut Allocated<c_char>,
        header: &mut Allocated<c_char>,
        data: &mut Allocated<c_uchar>,
        length: &mut c_long,
    ) -> c_int;
    pub fn d2i_X509_AUX(
        certificate: *mut *mut X509,
        bytes: *mut *const c_uchar,
        length: c_long,
    ) -> *mut X509;

    pub fn OPENSSL_sk_dup(stack: *const OPENSSL_STACK) -> *mut OPENSSL_STACK;
    pub fn OPENSSL_sk_zero(stack: *mut OPENSSL_STACK);
}

/// `SSL_set1_chain(3)`: the SSL object takes its own references.
///
/// # Safety
/// `ssl` must be valid, `chain` valid or NULL.
pub unsafe fn SSL_set1_chain(ssl: *mut SSL, chain: *mut stack_st_X509) -> c_long {
    // SAFETY: the caller ensures that `ssl` is valid, and `chain` valid or NULL, which is what this
    // control needs.
    unsafe { openssl_sys::SSL_ctrl(ssl, SSL_CTRL_CHAIN, 1, chain.cast()) }
}

/// `SSL_set1_verify_cert_store(3)`: the SSL object takes its own reference.
///
/// # Safety
/// `ssl` must be valid, `store` valid or NULL.
pub unsafe fn SSL_set1_verify_cert_store(ssl: *mut SSL, store: *mut X509_STORE) -> c_long {
    // SAFETY: the caller ensures that `ssl` is valid, and `store` valid or NULL, which is what this
    // control needs.
    unsafe {
        openssl_sys::SSL_ctrl(ssl, openssl_sys::SSL_CTRL_SET_VERIFY_CERT_STORE, 1, store.cast())
    }
}
