// SPDX-License-Identifier: Apache-2.0

//! The client's answer to a certificate request, and its verification.

use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslVerifyMode};
use openssl::x509::X509VerifyResult;

use crate::client::connection::ClientState;
use crate::nginx::tls_callbacks::VerifyPeer;
use crate::openssl::revocation::Found;
use crate::openssl::ssl::{self, Verification};
use crate::openssl::{store, verification};
use crate::status::counters::{self, Counter};

/// Asks the client for a certificate.
pub fn ask(ssl: &SslRef, state: &ClientState) {
    Answer::verify(ssl);
    let depth = state.verification.borrow().as_ref().and_then(|verification| verification.depth);
    ssl::set_verify_depth(ssl, depth.unwrap_or_else(|| ssl::context_verify_depth(ssl)));
}

/// Returns whether the client is still asked and verified as this module does it: Lua code can also
/// do so by other functions, such as `ngx.ssl.verify_client`.
pub fn is_asked_by_module(ssl: &SslRef) -> bool {
    Answer::verifies(ssl)
}

/// The client's answer. The handshake continues in any case, and the verification result records
/// errors; only without memory for that, it ends.
struct Answer;

impl VerifyPeer for Answer {
    const NAME: &'static str = "client verification";

    fn judge(verification: Option<&Verification<'_>>, is_good: bool) -> bool {
        let Some(verification) = verification else {
            // A failure to verify the issuer of a revocation list is reported as an error of the
            // outer verification.
            return is_good;
        };
        let found = verification.found(is_good);
        if found == Found::Lost {
            return false;
        }
        if found == Found::Good
            && verification.is_at_leaf()
            && verification.error() == X509VerifyResult::OK
        {
            let result = by_lists_of_server(verification);
            if result != X509VerifyResult::OK {
                verification.fail(result);
            }
        }
        // nginx would find errors left in the queue, and attribute them to a later call.
        drop(ErrorStack::get());
        true
    }
}

/// Checks a chain that is good by a plugin's store against the server's own revocation lists.
fn by_lists_of_server(verification: &Verification<'_>) -> X509VerifyResult {
    let ssl = verification.ssl;
    let is_due = ClientState::find(ssl).is_some_and(|state| {
        state.verification.borrow().as_ref().is_some_and(|verification| verification.lacks_lists)
    });
    let base = ssl.ssl_context().cert_store();
    if !is_due || store::revocation_flags(base).is_empty() {
        return X509VerifyResult::OK;
    }
    verification::check_lists(verification.context(), base)
}

/// Asks the client again, if it was asked: for a second `ClientHello` nginx selects the server
/// again, and applies that server's verification settings to the SSL. To be called at each step of
/// the handshake.
pub fn ask_again(ssl: &SslRef, state: &ClientState) {
    let is_asked = ssl.verify_mode().contains(SslVerifyMode::PEER);
    if state.certificate_requested.get() && !ssl.session_reused() && !is_asked {
        ask(ssl, state);
    }
}

/// Counts the client's answer, if it was asked. To be called at the end of the handshake.
pub fn count_answer(ssl: &SslRef, state: &ClientState) {
    if state.certificate_requested.get() {
        counters::count(match ssl.peer_certificate() {
            Some(_) => Counter::ClientCertificatePresented,
            None => Counter::ClientCertificateAbsent,
        });
    }
}
