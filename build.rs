// SPDX-License-Identifier: Apache-2.0

//! Passes the version and features of nginx to the compiler, and builds the C part.
//!
//! `nginx-sys` reads nginx's own configuration, and provides it in `DEP_NGINX_*` variables.

use std::env;

/// The oldest supported version of nginx.
const OLDEST: u64 = 1_022_000;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    let version = env::var("DEP_NGINX_VERSION_NUMBER")
        .ok()
        .and_then(|version| version.parse::<u64>().ok())
        .unwrap_or_default();

    if version < OLDEST {
        println!("cargo::error=nginx 1.22.0 or later is needed");
        return;
    }
    // The version of OpenSSL's headers: see src/openssl/version.rs.
    let openssl = env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    println!("cargo::rustc-env=KONG_TLS_OPENSSL_VERSION_NUMBER={openssl}");

    let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
    for feature in ["http", "http_ssl"] {
        if !features.split(',').any(|present| present == feature) {
            println!("cargo::error=this nginx is built without {feature}");
            return;
        }
    }

    let include = env::var_os("DEP_NGINX_INCLUDE").unwrap_or_default();
    cc::Build::new()
        .file("src/nginx/bitfields.c")
        .includes(env::split_paths(&include))
        .flags(env::var("DEP_NGINX_CFLAGS").unwrap_or_default().split_whitespace())
        // Keep the functions private: others may export functions with the same names.
        .flag("-fvisibility=hidden")
        .compile("bitfields");
    println!("cargo::rerun-if-changed=src/nginx/bitfields.c");

    // The module registers callbacks with OpenSSL. `nodelete` keeps it in memory, so that they stay
    // valid after a reload without `load_module`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
