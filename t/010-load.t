# SPDX-License-Identifier: Apache-2.0

# The module loads, its packages have the expected functions, and each function checks the phase that it is called in.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: kong.client.tls, kong.service and kong.service.request have exactly these functions
--- config
    location = /t {
        content_by_lua_block {
            local names = {}
            for name in pairs(kong.client.tls) do names[#names + 1] = "client.tls." .. name end
            for name in pairs(kong.service) do names[#names + 1] = "service." .. name end
            for name in pairs(kong.service.request) do names[#names + 1] = "service.request." .. name end
            table.sort(names)
            ngx.say(table.concat(names, "\n"))
        }
    }
--- request
GET /t
--- response_body
client.tls.disable_http2_alpn
client.tls.disable_session_reuse
client.tls.get_full_client_certificate_chain
client.tls.request_client_certificate
client.tls.set_client_verify
service.choose_target
service.enable_recording_upstream_ssl
service.request
service.request.set_scheme
service.set_retries
service.set_target
service.set_target_retry_callback
service.set_timeouts
service.set_tls_cert_key
service.set_tls_options
service.set_tls_pins
service.set_tls_server_name
service.set_tls_verify
service.set_tls_verify_depth
service.set_tls_verify_names
service.set_tls_verify_spiffe
service.set_tls_verify_store
service.set_upstream
--- no_error_log
[error]



=== TEST 2: resty.kong.tls has exactly these functions
--- config
    location = /t {
        content_by_lua_block {
            local names = {}
            for name in pairs(tls) do names[#names + 1] = name end
            table.sort(names)
            ngx.say(table.concat(names, "\n"))
        }
    }
--- request
GET /t
--- response_body
disable_http2_alpn
disable_session_reuse
get_full_client_certificate_chain
get_request_ssl_pointer
get_ssl_pointer
request_client_certificate
set_upstream_cert_and_key
set_upstream_ssl_sans_dnsnames
set_upstream_ssl_sans_uris
set_upstream_ssl_trusted_store
set_upstream_ssl_verify
set_upstream_ssl_verify_depth
--- no_error_log
[error]



=== TEST 3: a PDK function called in the content phase names that phase and the allowed ones
--- config
    location = /t {
        content_by_lua_block {
            local function say(f, ...)
                local ok, err = pcall(f, ...)
                ngx.say(ok, " ", type(err), " ", (tostring(err):gsub("^.-:%d+: ", "")))
            end
            say(kong.service.set_tls_verify, true)
            say(kong.service.set_tls_verify_depth, 1)
            say(kong.service.set_tls_verify_store, pki.store("ca"))
            say(kong.service.set_tls_cert_key, cert.client1, key.client1)
            say(kong.client.tls.request_client_certificate)
            say(kong.client.tls.disable_session_reuse)
            say(kong.client.tls.disable_http2_alpn)
        }
    }
--- request
GET /t
--- response_body
false string function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.set_tls_verify
false string function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.set_tls_verify_depth
false string function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.set_tls_verify_store
false string function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.set_tls_cert_key
false string function cannot be called in content phase (only in: certificate): kong.client.tls.request_client_certificate (call it in ssl_certificate_by_lua*)
false string function cannot be called in content phase (only in: certificate): kong.client.tls.disable_session_reuse (call it in ssl_certificate_by_lua*)
false string function cannot be called in content phase (only in: client_hello): kong.client.tls.disable_http2_alpn (call it in ssl_client_hello_by_lua*)
--- no_error_log
[error]



=== TEST 4: PDK functions called in other phases name that phase and the allowed ones
--- http_config
    init_worker_by_lua_block {
        local ok, err = pcall(kong.service.set_tls_verify, true)
        ngx.log(ngx.WARN, err)
    }
    gateway {
        ssl_client_hello_by_lua_block {
            local ok, err = pcall(kong.client.tls.request_client_certificate)
            ngx.log(ngx.WARN, err)
        }
        ssl_certificate_by_lua_block {
            local ok, err = pcall(kong.client.tls.disable_http2_alpn)
            ngx.log(ngx.WARN, err)
            ok, err = pcall(kong.service.set_tls_verify_depth, 1)
            ngx.log(ngx.WARN, err)
        }
    }
--- config
    location = /t {
        access_by_lua_block {
            local ok, err = pcall(kong.client.tls.disable_session_reuse)
            ngx.log(ngx.WARN, err)
            ngx.timer.at(0, function()
                local ok, err = pcall(kong.client.tls.get_full_client_certificate_chain)
                ngx.log(ngx.WARN, err)
            end)
        }
        content_by_lua_block {
            require("client").s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock" }
            ngx.say("done")
        }
        header_filter_by_lua_block {
            local ok, err = pcall(kong.client.tls.set_client_verify, "NONE")
            ngx.log(ngx.WARN, err)
        }
        body_filter_by_lua_block {
            local ok, err = pcall(kong.service.set_tls_verify_depth, 1)
            ngx.log(ngx.WARN, err)
        }
        log_by_lua_block {
            local ok, err = pcall(kong.service.set_tls_verify, true)
            ngx.log(ngx.WARN, err)
        }
    }
--- request
GET /t
--- response_body
done
--- error_log
function cannot be called in init_worker phase (only in: rewrite, access, balancer): kong.service.set_tls_verify (there is no request in this phase)
function cannot be called in client_hello phase (only in: certificate): kong.client.tls.request_client_certificate (call it in ssl_certificate_by_lua*)
function cannot be called in certificate phase (only in: client_hello): kong.client.tls.disable_http2_alpn (call it in ssl_client_hello_by_lua*)
function cannot be called in certificate phase (only in: rewrite, access, balancer): kong.service.set_tls_verify_depth (there is no request in this phase)
function cannot be called in access phase (only in: certificate): kong.client.tls.disable_session_reuse (call it in ssl_certificate_by_lua*)
function cannot be called in timer phase (only in: rewrite, access, content, balancer, header_filter, body_filter, log): kong.client.tls.get_full_client_certificate_chain (there is no request in this phase)
function cannot be called in header_filter phase (only in: rewrite, access, content, balancer): kong.client.tls.set_client_verify
function cannot be called in body_filter phase (only in: rewrite, access, balancer): kong.service.set_tls_verify_depth
function cannot be called in log phase (only in: rewrite, access, balancer): kong.service.set_tls_verify
--- no_error_log
[error]



=== TEST 5: a low-level function called in the content phase fails with "API disabled in the current context" and its name
--- config
    location = /t {
        content_by_lua_block {
            for name, call in pairs(tls) do
                if name ~= "get_full_client_certificate_chain"
                   and name ~= "get_request_ssl_pointer" and name ~= "get_ssl_pointer"
                then
                    local ok, err = pcall(function() local ok = call() end)
                    local label = tostring(err):match("^.-%):%d+: API disabled in the current context: "
                        .. "function cannot be called in content phase %(only in: [^)]+%): (%S+)")
                    if ok or label ~= "resty.kong.tls." .. name then
                        ngx.say(name, " ", ok, " ", err)
                    end
                end
            end
            local ok, err = pcall(function() local ok = tls.set_upstream_ssl_verify(1) end)
            ngx.say((err:gsub("^.-:%d+: ", "")))
        }
    }
--- request
GET /t
--- response_body
API disabled in the current context: function cannot be called in content phase (only in: rewrite, access, balancer): resty.kong.tls.set_upstream_ssl_verify
--- no_error_log
[error]



=== TEST 6: an error names the file and the line of the caller
--- user_files
>>> plugin.lua
return function()
    kong.service.set_tls_verify("yes")
end
--- config
    location = /t {
        access_by_lua_block {
            local ok, err = pcall(dofile("$TEST_NGINX_HTML_DIR/plugin.lua"))
            ngx.say((err:gsub("^.*/", "")))
            ok, err = pcall(function()
                tls.set_upstream_ssl_sans_uris { 1 }
            end)
            ngx.say((err:gsub("nginx.conf:%d+", "nginx.conf")))
        }
    }
--- request
GET /t
--- response_body
plugin.lua:2: argument must be a boolean: given the string "yes": kong.service.set_tls_verify
access_by_lua(nginx.conf):5: argument must be a table of strings: given a table that holds something else: resty.kong.tls.set_upstream_ssl_sans_uris
--- no_error_log
[error]



=== TEST 7: set_tls_cert_key works with lua_code_cache off
--- config
    lua_code_cache off;
    location = /t {
        proxy_pass https://service;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
    }
--- request
GET /t
--- response_body_like
^client=CN=client-1,
--- error_log
lua_code_cache is off
--- no_error_log
[error]
