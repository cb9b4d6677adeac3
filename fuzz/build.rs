// SPDX-License-Identifier: Apache-2.0

//! As the build script of the module, but for what takes nginx.

use std::env;

fn main() {
    let openssl = env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    println!("cargo::rustc-env=KONG_TLS_OPENSSL_VERSION_NUMBER={openssl}");
}
