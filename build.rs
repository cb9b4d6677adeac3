//! Tells the compiler what the nginx we build for can do.
//!
//! `nginx-sys` reads nginx's own configuration and hands it on in `DEP_NGINX_*` variables.

use std::env;

/// First version whose HTTP/2 may be enabled by the `http2` directive of a server, and not only by
/// the parameter of `listen` (nginx 1.25.1).
const HTTP2_DIRECTIVE: u64 = 1_025_001;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    let version = env::var("DEP_NGINX_VERSION_NUMBER")
        .ok()
        .and_then(|version| version.parse::<u64>().ok())
        .unwrap_or_default();

    if version >= HTTP2_DIRECTIVE {
        println!(
            "cargo::error=this version of the module supports nginx 1.22.0 to 1.25.0: later ones \
             choose HTTP/2 by the \"http2\" directive, which it does not read yet"
        );
    }

    let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
    for feature in ["http", "http_ssl"] {
        if !features.split(',').any(|present| present == feature) {
            println!("cargo::error=this nginx is built without {feature}");
        }
    }

    // The module registers callbacks with OpenSSL. Kept in memory, it can't leave one of them
    // dangling when a reload drops `load_module`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
