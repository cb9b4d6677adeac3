//! The functions for requests.

use std::convert::Infallible;
use std::ffi::{c_char, c_int, c_void};
use std::fmt::Display;
use std::ptr::NonNull;
use std::rc::Rc;

use foreign_types::ForeignTypeRef;
use ngx::ffi::ngx_http_request_t;
use openssl::x509::store::X509StoreRef;

use crate::client::finding::{self, Moment};
use crate::client::{
    alpn, asking, certificate_chain, certificate_request, client_verify, connection,
    guarded_headers, header_certificate, objection, session_reuse,
};
use crate::conf;
use crate::lua::ffi::{ERROR, INTERNAL_ERROR, NONE, OK, Text, api, bytes, run, say};
use crate::nginx::connection::process_log;
use crate::nginx::lua::current_phase;
use crate::nginx::panic::guard;
use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::time;
use crate::openssl::client_certificate::{ClientCertificate, InvalidCertificate};
use crate::openssl::lua_object;
use crate::openssl::san::RequiredNames;
use crate::openssl::store::TrustedStore;
use crate::phase::Function;
use crate::status::counters::{self, Cache, CacheEvent};
use crate::upstream::handshake::verify::VerificationEnforced;
use crate::upstream::settings::forwarding::{
    Forwarding, InvalidArgument, Target, is_block_name, timeouts, tries,
};
use crate::upstream::settings::request_state::RequestState;
use crate::upstream::settings::tls::{
    InvalidDepth, InvalidNames, UpstreamTls, depth_from_number, required_names,
};

type R = *mut ngx_http_request_t;

api! {
    find_function: fn(*const c_char, usize) -> c_int,
        "int (*find_function)(const char *name, size_t length)";
    is_allowed: fn(R, c_int) -> c_int,
        "int (*is_allowed)(void *r, int function)";
    phase_error: fn(R, c_int, *mut Text) -> c_int,
        "int (*phase_error)(void *r, int function, void *text)";
    request_client_certificate:
        fn(R, *mut c_void, c_int, *const *const c_char, *const usize, usize, *mut Text) -> c_int,
        "int (*request_client_certificate)(void *r, void *chain, int partial_chain, \
         const char **names, const size_t *lengths, size_t count, void *text)";
    guard_headers: fn(R, *mut Text) -> c_int,
        "int (*guard_headers)(void *r, void *text)";
    strip_headers: fn(R, *mut Text) -> c_int,
        "int (*strip_headers)(void *r, void *text)";
    verify_client_with: fn(R, *mut c_void, f64, *mut Text) -> c_int,
        "int (*verify_client_with)(void *r, void *store, double depth, void *text)";
    client_chain_digest: fn(R, *mut Text) -> c_int,
        "int (*client_chain_digest)(void *r, void *text)";
    client_objection: fn(R, *mut Text) -> c_int,
        "int (*client_objection)(void *r, void *text)";
    disable_session_reuse: fn(R, *mut Text) -> c_int,
        "int (*disable_session_reuse)(void *r, void *text)";
    disable_http2_alpn: fn(R, *mut Text) -> c_int,
        "int (*disable_http2_alpn)(void *r, void *text)";
    get_full_client_certificate_chain: fn(R, *mut Text) -> c_int,
        "int (*get_full_client_certificate_chain)(void *r, void *text)";
    set_client_verify: fn(R, *const c_char, usize, *mut Text) -> c_int,
        "int (*set_client_verify)(void *r, const char *value, size_t length, void *text)";
    keep_text: fn(R, *const c_char, usize, *const c_char, usize, *mut Text) -> c_int,
        "int (*keep_text)(void *r, const char *name, size_t name_length, const char *value, \
         size_t length, void *text)";
    kept_text: fn(R, *const c_char, usize, *mut Text) -> c_int,
        "int (*kept_text)(void *r, const char *name, size_t length, void *text)";
    moment: fn(*mut f64) -> (),
        "void (*moment)(double *clocks)";
    counts: fn(f64, f64, f64) -> c_int,
        "int (*counts)(double monotonic, double date, double ends)";
    count_cache: fn(*const c_char, usize, c_int) -> (),
        "void (*count_cache)(const char *cache, size_t length, int event)";
    decode_url: fn(*const c_char, usize, *mut Text) -> c_int,
        "int (*decode_url)(const char *value, size_t length, void *text)";
    decode_base64: fn(*const c_char, usize, *mut Text) -> c_int,
        "int (*decode_base64)(const char *value, size_t length, void *text)";
    get_request_ssl_pointer: fn(R, *mut *mut c_void, *mut Text) -> c_int,
        "int (*get_request_ssl_pointer)(void *r, void **ssl, void *text)";
    set_upstream: fn(R, *const c_char, usize, *mut Text) -> c_int,
        "int (*set_upstream)(void *r, const char *host, size_t length, void *text)";
    set_target: fn(R, *const c_char, usize, f64, *mut Text) -> c_int,
        "int (*set_target)(void *r, const char *host, size_t length, double port, void *text)";
    check_upstream: fn(*const c_char, usize, *mut Text) -> c_int,
        "int (*check_upstream)(const char *host, size_t length, void *text)";
    check_target: fn(*const c_char, usize, f64, *mut Text) -> c_int,
        "int (*check_target)(const char *host, size_t length, double port, void *text)";
    check_names: fn(*const *const c_char, *const usize, usize, *mut Text) -> c_int,
        "int (*check_names)(const char **names, const size_t *lengths, size_t count, void *text)";
    set_retries: fn(R, f64, *mut Text) -> c_int,
        "int (*set_retries)(void *r, double retries, void *text)";
    set_timeouts: fn(R, f64, f64, f64, *mut Text) -> c_int,
        "int (*set_timeouts)(void *r, double connect, double write, double read, void *text)";
    forget_service: fn(R, *mut Text) -> c_int,
        "int (*forget_service)(void *r, void *text)";
    set_tls_cert_key: fn(R, *mut c_void, *mut c_void, *mut Text) -> c_int,
        "int (*set_tls_cert_key)(void *r, void *chain, void *key, void *text)";
    set_tls_verify: fn(R, c_int, *mut Text) -> c_int,
        "int (*set_tls_verify)(void *r, int on, void *text)";
    set_tls_verify_depth: fn(R, f64, *mut Text) -> c_int,
        "int (*set_tls_verify_depth)(void *r, double depth, void *text)";
    set_tls_verify_store: fn(R, *mut c_void, *mut Text) -> c_int,
        "int (*set_tls_verify_store)(void *r, void *store, void *text)";
    set_sans_dnsnames: fn(R, *const *const c_char, *const usize, usize, *mut Text) -> c_int,
        "int (*set_sans_dnsnames)(void *r, const char **names, const size_t *lengths, \
         size_t count, void *text)";
    set_sans_uris: fn(R, *const *const c_char, *const usize, usize, *mut Text) -> c_int,
        "int (*set_sans_uris)(void *r, const char **names, const size_t *lengths, size_t count, \
         void *text)";
}

/// What a function gives to Lua.
enum Answer {
    Done,
    None,
    Text(Vec<u8>),
    /// There is nothing that was asked for, and why.
    Missing(String),
}

/// Runs the body of a function: finds its request, and turns its result into an answer.
///
/// # Safety
/// `r` must be NULL or a valid request, `text` valid.
unsafe fn answer<E: Display>(
    name: &str,
    r: R,
    text: *mut Text,
    body: impl FnOnce(Request<'_>) -> Result<Answer, E>,
) -> c_int {
    let Some(r) = NonNull::new(r) else {
        // SAFETY: `text` is valid by contract.
        return unsafe { say(text, b"no request".to_vec(), ERROR) };
    };
    // SAFETY: `r` is valid by contract, at least until the caller in Lua goes on.
    let request = unsafe { Request::from_ptr(r) };

    let result = guard(name, request.log(), None, || Some(body(request)));

    // SAFETY: `text` is valid by contract.
    unsafe {
        match result {
            Some(Ok(Answer::Done)) => OK,
            Some(Ok(Answer::None)) => NONE,
            Some(Ok(Answer::Text(bytes))) => say(text, bytes, OK),
            Some(Ok(Answer::Missing(reason))) => say(text, reason.into_bytes(), NONE),
            Some(Err(error)) => say(text, error.to_string().into_bytes(), ERROR),
            None => say(text, INTERNAL_ERROR.to_vec(), ERROR),
        }
    }
}

/// As [`answer`], for a function that changes what the upstream connection is to have.
///
/// # Safety
/// As for [`answer`].
unsafe fn change_upstream_tls<E: Display>(
    name: &str,
    r: R,
    text: *mut Text,
    change: impl FnOnce(&mut UpstreamTls) -> Result<(), E>,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe {
        answer(name, r, text, |request| {
            let state = RequestState::find_or_make(request).map_err(|error| error.to_string())?;
            change(&mut state.upstream_tls.borrow_mut()).map_err(|error| error.to_string())?;
            Ok::<_, String>(Answer::Done)
        })
    }
}

unsafe extern "C" fn find_function(name: *const c_char, length: usize) -> c_int {
    // SAFETY: our Lua code passes a string.
    let name = unsafe { bytes(name, length) };
    let index = Function::index_of_name(name);
    if index.and_then(Function::from_index) == Some(Function::RequestClientCertificate) {
        asking::library_is_loaded();
    }
    index.and_then(|index| c_int::try_from(index).ok()).unwrap_or(ERROR)
}

fn function(index: c_int) -> Option<Function> {
    Function::from_index(usize::try_from(index).ok()?)
}

/// # Safety
/// `r` must be NULL or a valid request for `'a`.
unsafe fn optional_request<'a>(r: R) -> Option<Request<'a>> {
    // SAFETY: by contract.
    NonNull::new(r).map(|r| unsafe { Request::from_ptr(r) })
}

unsafe extern "C" fn is_allowed(r: R, index: c_int) -> c_int {
    // SAFETY: our Lua code passes its request.
    let request = unsafe { optional_request(r) };
    let phase = current_phase(request);
    function(index).is_some_and(|function| function.phases().contains(phase)).into()
}

unsafe extern "C" fn phase_error(r: R, index: c_int, text: *mut Text) -> c_int {
    guard("phase_error", process_log(), ERROR, || {
        // SAFETY: our Lua code passes its request and a valid text.
        unsafe {
            let phase = current_phase(optional_request(r));
            let message = function(index).map(|function| function.phase_error(phase));
            say(text, message.unwrap_or_default().into_bytes(), OK)
        }
    })
}

unsafe extern "C" fn request_client_certificate(
    r: R,
    chain: *mut c_void,
    partial_chain: c_int,
    list: *const *const c_char,
    lengths: *const usize,
    count: usize,
    text: *mut Text,
) -> c_int {
    let names = Names { list, lengths, count };
    // SAFETY: our Lua code has checked the type of the chain, or passes NULL for none, and passes
    // arrays of this length.
    unsafe {
        answer("request_client_certificate", r, text, |request| {
            let authorities = if chain.is_null() {
                None
            } else {
                Some(lua_object::chain(chain).map_err(|error| format!("ca_certs: {error}"))?)
            };
            let names = names.iter();
            certificate_request::request_client_certificate(
                request,
                authorities,
                partial_chain != 0,
                names,
            )
            .map(|()| Answer::Done)
            .map_err(|error| error.to_string())
        })
    }
}

/// Says, in the handshake, that this server sets the headers which name a consumer.
unsafe extern "C" fn guard_headers(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("guard_headers", r, text, |request| {
            guarded_headers::guard(request).map(|()| Answer::Done)
        })
    }
}

/// Has the client verified by a store of ours; `depth` is negative where nothing is said.
unsafe extern "C" fn verify_client_with(
    r: R,
    store: *mut c_void,
    depth: f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, a store of ours and a valid text.
    unsafe {
        answer("verify_client_with", r, text, |request| {
            let store = X509StoreRef::from_ptr(store.cast());
            // Casts of floats saturate.
            let depth = (depth >= 0.0).then_some(depth as u32);
            certificate_request::verify_with(request, store, depth).map(|()| Answer::Done)
        })
    }
}

/// Takes from a request the headers that name a consumer.
unsafe extern "C" fn strip_headers(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("strip_headers", r, text, |request| {
            guarded_headers::strip(request).map(|()| Answer::Done)
        })
    }
}

/// What stands for the chain that the client has presented.
unsafe extern "C" fn client_chain_digest(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("client_chain_digest", r, text, |request| {
            certificate_chain::digest(request)
                .inspect_err(|error| {
                    if !error.is_fault_of_client() {
                        request
                            .log()
                            .error(format_args!("certificate chain of the client: {error}"));
                    }
                })
                .map(|digest| digest.map_or(Answer::None, |digest| Answer::Text(digest.to_vec())))
        })
    }
}

/// What nginx holds against the client's certificate, whoever thinks it good.
unsafe extern "C" fn client_objection(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("client_objection", r, text, |request| {
            let objection = objection::of(request.connection());
            Ok::<_, Infallible>(objection.map_or(Answer::None, |words| Answer::Text(words.into())))
        })
    }
}

unsafe extern "C" fn disable_session_reuse(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("disable_session_reuse", r, text, |request| {
            session_reuse::disable_session_reuse(request).map(|()| Answer::Done)
        })
    }
}

unsafe extern "C" fn disable_http2_alpn(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("disable_http2_alpn", r, text, |request| {
            alpn::disable_http2_alpn(request).map(|()| Answer::Done)
        })
    }
}

unsafe extern "C" fn get_full_client_certificate_chain(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("get_full_client_certificate_chain", r, text, |request| {
            certificate_chain::get_full_client_certificate_chain(request)
                .map(|pem| pem.map_or(Answer::None, Answer::Text))
        })
    }
}

unsafe extern "C" fn set_client_verify(
    r: R,
    value: *const c_char,
    length: usize,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, a string and a valid text.
    unsafe {
        answer("set_client_verify", r, text, |request| {
            let value = bytes(value, length);
            client_verify::check(value).map_err(|error| error.to_string())?;
            RequestState::find_or_make(request)
                .and_then(|state| {
                    state.client_verify.set(Some(request.pool().copy_bytes(value)?));
                    Ok(Answer::Done)
                })
                .map_err(|error| error.to_string())
        })
    }
}

unsafe extern "C" fn keep_text(
    r: R,
    name: *const c_char,
    name_length: usize,
    value: *const c_char,
    length: usize,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, two strings and a valid text.
    unsafe {
        answer("keep_text", r, text, |request| {
            let state = RequestState::find_or_make(request)?;
            state.keep_text(request.pool(), bytes(name, name_length), bytes(value, length))?;
            Ok::<_, OutOfMemory>(Answer::Done)
        })
    }
}

unsafe extern "C" fn kept_text(r: R, name: *const c_char, length: usize, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request, a string and a valid text.
    unsafe {
        answer("kept_text", r, text, |request| {
            let kept = RequestState::find(request)
                .and_then(|state| state.kept_text(bytes(name, length)))
                .map(<[u8]>::to_vec);
            Ok::<_, Infallible>(kept.map_or(Answer::None, Answer::Text))
        })
    }
}

/// The time, in milliseconds, by the monotonic clock and by the date.
unsafe extern "C" fn moment(clocks: *mut f64) {
    let Moment { monotonic, date } = time::moment();
    // SAFETY: our Lua code passes a place for two numbers.
    unsafe {
        *clocks = monotonic as f64;
        *clocks.add(1) = date as f64;
    }
}

/// Whether what was found at a [`moment`] still counts, which depends on a date.
unsafe extern "C" fn counts(monotonic: f64, date: f64, ends: f64) -> c_int {
    // They are whole, and were made of integers.
    let found = Moment { monotonic: monotonic as i64, date: date as i64 };
    finding::counts(found, ends, time::moment()).into()
}

/// The DER of a certificate that is URL-encoded PEM.
/// Counts what has happened in a cache of the plugins': 0 for something that was found, 1 for what
/// was not, 2 for what has made room.
unsafe extern "C" fn count_cache(cache: *const c_char, length: usize, event: c_int) {
    guard("count_cache", process_log(), (), || {
        // SAFETY: our Lua code passes a string.
        let cache = Cache::by_name(unsafe { bytes(cache, length) });
        let event = [CacheEvent::Hit, CacheEvent::Miss, CacheEvent::Eviction]
            .get(usize::try_from(event).unwrap_or(usize::MAX));
        if let (Some(cache), Some(event)) = (cache, event) {
            counters::count_cache(cache, *event, 1);
        }
    });
}

unsafe extern "C" fn decode_url(value: *const c_char, length: usize, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes a string and a valid text.
    unsafe { run("decode_url", text, || header_certificate::from_url(bytes(value, length))) }
}

/// The DER of a certificate that is base64.
unsafe extern "C" fn decode_base64(value: *const c_char, length: usize, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes a string and a valid text.
    unsafe { run("decode_base64", text, || header_certificate::from_base64(bytes(value, length))) }
}

unsafe extern "C" fn get_request_ssl_pointer(
    r: R,
    ssl: *mut *mut c_void,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, a place for a pointer, and a valid text.
    unsafe {
        answer("get_request_ssl_pointer", r, text, |request| {
            connection::client_ssl(request).map(|client_ssl| {
                *ssl = client_ssl.as_ptr().cast();
                Answer::Done
            })
        })
    }
}

/// As [`answer`], for a function that changes where the request goes, and how it is tried.
///
/// # Safety
/// As for [`answer`].
unsafe fn change_forwarding<E: Display>(
    name: &str,
    r: R,
    text: *mut Text,
    change: impl FnOnce(Request<'_>, &mut Forwarding) -> Result<Answer, E>,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe {
        answer(name, r, text, |request| {
            let state = RequestState::find_or_make(request).map_err(|error| error.to_string())?;
            let mut forwarding = state.forwarding.get();
            let answer = change(request, &mut forwarding).map_err(|error| error.to_string())?;
            state.forwarding.set(forwarding);
            Ok::<_, String>(answer)
        })
    }
}

unsafe extern "C" fn set_upstream(
    r: R,
    host: *const c_char,
    length: usize,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, a string and a valid text.
    unsafe {
        change_forwarding("set_upstream", r, text, |request, forwarding| {
            let host = bytes(host, length);
            let found = match conf::blocks(request) {
                Some(blocks) => blocks.names.find(host)?,
                None => None,
            };
            Ok::<_, InvalidArgument>(match found {
                Some(name) => {
                    forwarding.target = Some(NonNull::from(name));
                    Answer::Done
                }
                None => {
                    let host = String::from_utf8_lossy(host);
                    Answer::Missing(format!("could not find an Upstream named '{host}'"))
                }
            })
        })
    }
}

unsafe extern "C" fn set_target(
    r: R,
    host: *const c_char,
    length: usize,
    port: f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request, a string and a valid text.
    unsafe {
        change_forwarding("set_target", r, text, |request, forwarding| {
            let target =
                Target::new(bytes(host, length), port).map_err(|error| error.to_string())?;
            let target = request.pool().copy_bytes(target.to_string().as_bytes());
            forwarding.target = Some(target.map_err(|error| error.to_string())?);
            Ok::<_, String>(Answer::Done)
        })
    }
}

/// What a check has found, for Lua.
///
/// # Safety
/// `text` must be valid.
unsafe fn verdict<E: Display>(
    name: &str,
    text: *mut Text,
    check: impl FnOnce() -> Result<(), E>,
) -> c_int {
    // SAFETY: by contract.
    unsafe { run(name, text, || check().map(|()| Vec::new())) }
}

/// Whether [`set_upstream`] could take it, were there such a block.
unsafe extern "C" fn check_upstream(host: *const c_char, length: usize, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes a string and a valid text.
    unsafe {
        verdict("check_upstream", text, || {
            let host = bytes(host, length);
            is_block_name(host).then_some(()).ok_or_else(|| {
                let given = host.escape_ascii();
                format!("upstream must be the name of an upstream {{}} block: given \"{given}\"")
            })
        })
    }
}

/// Whether [`set_target`] could take them.
unsafe extern "C" fn check_target(
    host: *const c_char,
    length: usize,
    port: f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes a string and a valid text.
    unsafe { verdict("check_target", text, || Target::new(bytes(host, length), port).map(drop)) }
}

/// Whether names can be required of a certificate.
unsafe extern "C" fn check_names(
    list: *const *const c_char,
    lengths: *const usize,
    count: usize,
    text: *mut Text,
) -> c_int {
    let names = Names { list, lengths, count };
    // SAFETY: our Lua code passes arrays of this length, and a valid text.
    unsafe { verdict("check_names", text, || required_names(names.iter()).map(drop)) }
}

unsafe extern "C" fn set_retries(r: R, retries: f64, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        change_forwarding("set_retries", r, text, |_, forwarding| {
            forwarding.tries = Some(tries(retries)?);
            Ok::<_, InvalidArgument>(Answer::Done)
        })
    }
}

unsafe extern "C" fn set_timeouts(
    r: R,
    connect: f64,
    write: f64,
    read: f64,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        change_forwarding("set_timeouts", r, text, |_, forwarding| {
            forwarding.timeouts = Some(timeouts(connect, write, read)?);
            Ok::<_, InvalidArgument>(Answer::Done)
        })
    }
}

/// Takes back where the request goes, how long and how often it may try, and all settings for the
/// connection to there.
unsafe extern "C" fn forget_service(r: R, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        answer("forget_service", r, text, |request| {
            if let Some(state) = RequestState::find(request) {
                state.upstream_tls.take();
                state.forwarding.set(Forwarding::default());
            }
            Ok::<_, Infallible>(Answer::Done)
        })
    }
}

unsafe extern "C" fn set_tls_cert_key(
    r: R,
    chain: *mut c_void,
    key: *mut c_void,
    text: *mut Text,
) -> c_int {
    // SAFETY: our Lua code has checked the types of the pointers.
    unsafe {
        change_upstream_tls("set_tls_cert_key", r, text, |settings| {
            let chain = lua_object::chain(chain)?;
            let key = lua_object::key(key)?;
            settings.client_certificate = Some(ClientCertificate::of(chain, key)?);
            Ok::<_, InvalidCertificate>(())
        })
    }
}

unsafe extern "C" fn set_tls_verify(r: R, on: c_int, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        let is_forbidden = on == 0 && optional_request(r).is_some_and(conf::enforces_verification);
        change_upstream_tls("set_tls_verify", r, text, |settings| {
            if is_forbidden {
                return Err(VerificationEnforced);
            }
            settings.verify = Some(on != 0);
            Ok(())
        })
    }
}

unsafe extern "C" fn set_tls_verify_depth(r: R, depth: f64, text: *mut Text) -> c_int {
    // SAFETY: our Lua code passes its request and a valid text.
    unsafe {
        change_upstream_tls("set_tls_verify_depth", r, text, |settings| {
            settings.verify_depth = Some(depth_from_number(depth)?);
            Ok::<_, InvalidDepth>(())
        })
    }
}

unsafe extern "C" fn set_tls_verify_store(r: R, pointer: *mut c_void, text: *mut Text) -> c_int {
    // SAFETY: our Lua code has checked the type of the pointer.
    unsafe {
        change_upstream_tls("set_tls_verify_store", r, text, |settings| {
            let store = lua_object::store(pointer).map_err(|error| error.to_string())?;
            // OpenSSL does not take a reference to what has none left.
            let trusted =
                TrustedStore::of(store).map_err(|error| format!("store was freed: {error}"))?;
            settings.trusted_store = Some(trusted);
            Ok::<_, String>(())
        })
    }
}

/// Names that Lua passes in two arrays.
struct Names {
    list: *const *const c_char,
    lengths: *const usize,
    count: usize,
}

impl Names {
    /// # Safety
    /// Both arrays must have `count` elements, and each name its length, for `'a`.
    unsafe fn iter<'a>(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let Self { list, lengths, count } = *self;
        // SAFETY: by contract.
        (0..count).map(move |index| unsafe { bytes(*list.add(index), *lengths.add(index)) })
    }
}

/// As [`change_upstream_tls`], for a setting that takes names.
///
/// # Safety
/// As for [`answer`]; both arrays must have `count` elements, and each name its length.
unsafe fn set_required_names(
    name: &str,
    r: R,
    names: Names,
    text: *mut Text,
    set: impl FnOnce(&mut UpstreamTls, Vec<Box<[u8]>>),
) -> c_int {
    // SAFETY: by contract.
    unsafe {
        change_upstream_tls(name, r, text, |settings| {
            set(settings, required_names(names.iter())?);
            Ok::<_, InvalidNames>(())
        })
    }
}

unsafe extern "C" fn set_sans_dnsnames(
    r: R,
    list: *const *const c_char,
    lengths: *const usize,
    count: usize,
    text: *mut Text,
) -> c_int {
    let names = Names { list, lengths, count };
    // SAFETY: our Lua code passes arrays of this length.
    unsafe {
        set_required_names("set_upstream_ssl_sans_dnsnames", r, names, text, |settings, names| {
            settings.dns_names = Some(Rc::new(RequiredNames::dns(names)));
        })
    }
}

unsafe extern "C" fn set_sans_uris(
    r: R,
    list: *const *const c_char,
    lengths: *const usize,
    count: usize,
    text: *mut Text,
) -> c_int {
    let names = Names { list, lengths, count };
    // SAFETY: our Lua code passes arrays of this length.
    unsafe {
        set_required_names("set_upstream_ssl_sans_uris", r, names, text, |settings, names| {
            settings.uris = Some(Rc::new(RequiredNames::Uri(names)));
        })
    }
}
