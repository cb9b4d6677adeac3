#![no_main]
// SPDX-License-Identifier: Apache-2.0

use libfuzzer_sys::fuzz_target;
use ngx_http_kong_tls_module::fuzzing::revocation;

fuzz_target!(|input: &[u8]| revocation(input));
