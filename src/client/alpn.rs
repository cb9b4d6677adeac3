// SPDX-License-Identifier: Apache-2.0

//! `disable_http2_alpn`
//!
//! nginx selects the protocol in an ALPN callback of its own, which OpenSSL does not return. This
//! module's callback replaces it, and selects what nginx would, without `h2` where it is disabled
//! for the connection.

use openssl::ssl::SslRef;

use crate::client::connection::{ClientError, ClientState, client_ssl};
use crate::client::hook;
use crate::client::protocols::Protocols;
use crate::conf::MainConf;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::own_conf::OwnConf;
use crate::nginx::request::Request;
use crate::nginx::server::{ClientConnection, Servers};
use crate::nginx::tls_callbacks::SelectProtocol;
use crate::openssl::session;

/// Disables HTTP/2 for the client. Phase: client_hello, which comes before the selection.
pub fn disable_http2_alpn(request: Request<'_>) -> Result<(), ClientError> {
    let ssl = client_ssl(request)?;
    // OpenSSL itself refuses a malformed extension later.
    let name = session::server_name_of_client_hello(ssl).unwrap_or_default();
    hook::watch(ssl, name)?.http2_disabled.set(true);
    Ok(())
}

/// Installs the ALPN callback on all servers. To be called in *postconfiguration*.
pub fn postconfiguration(parser: ConfParser<'_>, main_conf: &MainConf) {
    let Some(servers) = Servers::new(parser) else {
        return;
    };
    main_conf.protocols.get_or_init(|| Protocols::find(parser));
    for server in servers.all() {
        if let Some(context) = servers.ssl_context(server) {
            Selection::select_for(context);
        }
    }
}

struct Selection;

impl SelectProtocol for Selection {
    fn supported(ssl: &SslRef) -> Option<&'static [u8]> {
        let http2_disabled = ClientState::find(ssl).is_some_and(|state| state.http2_disabled.get());
        let client = ClientConnection::find(ssl)?;
        MainConf::of_server(client.default_server())?.protocols.get()?.of(client, http2_disabled)
    }
}
