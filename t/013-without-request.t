# SPDX-License-Identifier: Apache-2.0

# A function that is called where there is no request says so.

use lib 't/support';
use TestKong;
use TestHarness 'no_plan';

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: without a request, functions say so, at the caller's line
--- http_config
    init_by_lua_block {
        kong, tls = require "resty.kong.pdk", require "resty.kong.tls"
        errors = {}
        for _, call in ipairs {
            function() local ok = kong.service.set_tls_verify(true) end,
            function() local ok = kong.service.set_tls_verify("on") end,
            function() local ok = kong.client.tls.disable_session_reuse() end,
            function() local ok = tls.get_request_ssl_pointer() end,
        } do
            local ok, err = pcall(call)
            errors[#errors + 1] = err:gsub("^init_by_lua%(nginx.conf:%d+%)", "init_by_lua")
        end
    }
--- config
    location = /t {
        content_by_lua_block { ngx.say(table.concat(errors, "\n")) }
    }
--- request
GET /t
--- response_body
init_by_lua:5: function cannot be called in init phase (only in: rewrite, access, balancer): kong.service.set_tls_verify (there is no request in this phase)
init_by_lua:6: function cannot be called in init phase (only in: rewrite, access, balancer): kong.service.set_tls_verify (there is no request in this phase)
init_by_lua:7: function cannot be called in init phase (only in: certificate): kong.client.tls.disable_session_reuse (call it in ssl_certificate_by_lua*)
init_by_lua:8: API disabled in the current context: function cannot be called in init phase (only in: client_hello, certificate, rewrite, access, content, balancer, header_filter, body_filter, log): resty.kong.tls.get_request_ssl_pointer (there is no request in this phase)
--- no_error_log
[error]
