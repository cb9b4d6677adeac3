# SPDX-License-Identifier: Apache-2.0

# Settings belong to one request: internal redirects keep them, and no subrequest gets them, except clones such as
# slices and background updates.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: ngx.exec, named locations, error_page, X-Accel-Redirect, set_uri and try_files keep the certificate
--- config
    location = /exec {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exec("/service")
        }
    }
    location = /exec_named {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exec("@service")
        }
    }
    location = /error_page {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exit(502)
        }
        error_page 502 =200 /service;
    }
    location = /error_page_named {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exit(502)
        }
        error_page 502 =200 @service;
    }
    location = /accel {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://accel;
    }
    location = /set_uri {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.req.set_uri("/service", true)
        }
    }
    location = /try_files {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        try_files /nothing /service;
    }
    location = /service {
        internal;
        proxy_pass https://service;
    }
    location @service {
        proxy_pass https://service;
    }
    location = /twice {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exec("/exec_again")
        }
    }
    location = /exec_again {
        access_by_lua_block {
            ngx.exec("@service")
        }
    }
    location = /override {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exec("/override_again")
        }
    }
    location = /override_again {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
        }
        proxy_pass https://service;
    }
--- http_config
    upstream accel {
        server unix:$TEST_NGINX_HTML_DIR/accel.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/accel.sock ssl;
        certificate service;
        location / {
            add_header X-Accel-Redirect /service;
            return 204;
        }
    }
--- exchanges
for $way (exec exec_named error_page error_page_named accel set_uri try_files twice)
    GET /$way => /^client=CN=client-1,/
GET /override => /^client=CN=client-2,/
--- no_error_log
[error]
[alert]



=== TEST 2: ngx.exec keeps set_tls_verify
--- config
    location = /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            ngx.exec("@other")
        }
    }
    location = /off {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
            ngx.exec("@other")
        }
    }
    location @other {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://other;
    }
--- exchanges
GET /t   => 502
GET /off => 200
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate)



=== TEST 3: error_page keeps set_tls_verify, and the other settings are those of the new location
--- config
    location = /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://other;
        error_page 502 = @fallback;
    }
    location @fallback {
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
    location = /u {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://other;
        error_page 502 = @fallback_off;
    }
    location @fallback_off {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name wrong.test;
        proxy_pass https://service;
    }
    location = /v {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
        proxy_ssl_name wrong.test;
        proxy_pass https://service;
        error_page 502 = @fallback_right;
    }
    location @fallback_right {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
--- exchanges
GET /t => 200
GET /u => 502
GET /v => 200
--- error_log
upstream SSL certificate does not match "wrong.test"



=== TEST 4: ngx.exec keeps set_client_verify
--- config
    location = /t {
        access_by_lua_block {
            kong.client.tls.set_client_verify("FAILED:by plugin")
            ngx.exec("/u")
        }
    }
    location = /u {
        return 200 "$kong_client_verify\n";
    }
--- request
GET /t
--- response_body
FAILED:by plugin
--- no_error_log
[error]



=== TEST 5: a subrequest inherits no upstream settings, and gives none to its parent
--- config
    location = /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            kong.client.tls.set_client_verify("FAILED:main")
        }
        content_by_lua_block {
            ngx.print(ngx.location.capture("/service").body)
            ngx.print(ngx.location.capture("/own").body)
            ngx.print(ngx.location.capture("/service").body)
            -- The client is the same, so set_client_verify applies to subrequests too.
            ngx.print(ngx.location.capture("/verify").body)
            ngx.say(ngx.var.kong_client_verify)
        }
    }
    location = /verify {
        return 200 "$kong_client_verify\n";
    }
    location = /service {
        proxy_pass https://service;
        proxy_ssl_session_reuse off;
    }
    location = /own {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
        }
        proxy_pass https://service;
        proxy_ssl_session_reuse off;
    }
--- request
GET /t
--- response_body_like
\Aclient= .*
client=CN=client-2,.*
client= .*
FAILED:main
FAILED:main
\z
--- no_error_log
[error]



=== TEST 6: auth_request and mirror inherit no settings, and give none to their parent
--- config
    location = /t {
        auth_request /auth;
        mirror /mirror;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_session_reuse off;
        proxy_pass https://service;
    }
    location = /plain {
        auth_request /auth_own;
        proxy_ssl_session_reuse off;
        proxy_pass https://service;
    }
    location = /auth {
        internal;
        proxy_ssl_session_reuse off;
        proxy_pass https://seen/auth;
    }
    location = /mirror {
        internal;
        proxy_ssl_session_reuse off;
        proxy_pass https://seen/mirror;
    }
    location = /auth_own {
        internal;
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
        }
        proxy_ssl_session_reuse off;
        proxy_pass https://seen/own;
    }
--- http_config
    upstream seen {
        server unix:$TEST_NGINX_HTML_DIR/seen.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/seen.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        location / {
            log_by_lua_block {
                ngx.log(ngx.WARN, ngx.var.uri, " saw \"", ngx.var.ssl_client_s_dn or "", "\"")
            }
            return 204;
        }
    }
--- exchanges
GET /t     => /^client=CN=client-1,/
GET /plain => /^client= /
--- error_log
/auth saw ""
/mirror saw ""
/own saw "CN=client-2,O=Test"
--- no_error_log
[error]
saw "CN=client-1



=== TEST 7: slices use the settings of their request
--- config
    location = /t {
        slice 5;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_set_header Range $slice_range;
        proxy_ssl_session_reuse off;
        proxy_pass https://slices;
    }
    location = /verify {
        slice 5;
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_set_header Range $slice_range;
        proxy_ssl_session_reuse off;
        proxy_pass https://slices/t;
    }
    location = /exec {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            ngx.exec("@slices")
        }
    }
    location @slices {
        slice 5;
        proxy_set_header Range $slice_range;
        proxy_ssl_session_reuse off;
        proxy_pass https://slices;
    }
--- user_files
>>> t
0123456789abcdef
>>> exec
0123456789abcdef
--- http_config
    upstream slices {
        server unix:$TEST_NGINX_HTML_DIR/slices.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/slices.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        root $TEST_NGINX_HTML_DIR;
        location / {
            log_by_lua_block {
                ngx.log(ngx.WARN, ngx.var.http_range, " for \"", ngx.var.ssl_client_s_dn or "", "\"")
            }
        }
    }
--- exchanges
GET /t      => /0123456789abcdef/
GET /verify => /0123456789abcdef/
GET /exec   => /0123456789abcdef/
--- error_log
bytes=0-4 for "CN=client-1,O=Test"
bytes=5-9 for "CN=client-1,O=Test"
bytes=10-14 for "CN=client-1,O=Test"
bytes=15-19 for "CN=client-1,O=Test"
--- no_error_log
[error]



=== TEST 8: a slice is refused when the service fails verification
--- config
    location = /first {
        slice 5;
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_set_header Range $slice_range;
        proxy_pass https://changing/t;
    }
--- user_files
>>> t
0123456789abcdef
--- http_config
    # The first connection goes to the right service, later ones to the other service.
    upstream changing {
        server unix:$TEST_NGINX_HTML_DIR/slices.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/other_slices.sock max_fails=0;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/slices.sock ssl;
        certificate service;
        root $TEST_NGINX_HTML_DIR;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/other_slices.sock ssl;
        certificate service-other;
        root $TEST_NGINX_HTML_DIR;
    }
--- request
GET /first
--- ignore_response
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate)



=== TEST 9: a background cache update uses the settings of its request
--- http_config
    proxy_cache_path $TEST_NGINX_HTML_DIR/cache keys_zone=cache:1m;
    upstream cached {
        server unix:$TEST_NGINX_HTML_DIR/cached.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/cached.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        location / {
            return 200 "$ssl_client_s_dn $connection";
        }
    }
--- config
    location = /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_cache cache;
        proxy_cache_key $uri;
        proxy_cache_valid 200 1s;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        proxy_pass https://cached;
    }
    location = /all {
        content_by_lua_block {
            local client = require "client"
            local url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/t"
            -- Repeats the request until the stale entry has been updated.
            local first = client.curl({ url }).out
            local last = first
            local deadline = ngx.now() + 10
            while last == first and ngx.now() < deadline do
                ngx.sleep(0.05)
                last = client.curl({ url }).out
                ngx.update_time()
            end
            ngx.say(first == last, " ", first:match("^%S+"), " ", last:match("^%S+"))
        }
    }
--- request
GET /all
--- response_body
false CN=client-1,O=Test CN=client-1,O=Test
--- no_error_log
[error]



=== TEST 10: a background cache update keeps the settings when its request goes on to post_action or error_page
--- http_config
    proxy_cache_path $TEST_NGINX_HTML_DIR/cache keys_zone=cache:1m;
    upstream cached {
        server unix:$TEST_NGINX_HTML_DIR/cached.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/cached.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        return 200 "$ssl_client_s_dn $connection";
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        return 200 "$ssl_client_s_dn $connection";
    }
--- config
    location = /post_action {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        post_action /post;
        proxy_cache cache;
        proxy_cache_key $uri;
        proxy_cache_valid 200 1s;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        proxy_pass https://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
    location = /post {
        return 204;
    }
    location = /error_page {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_cache cache;
        proxy_cache_key $uri;
        proxy_cache_valid 200 1s;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        set $target unix:$TEST_NGINX_HTML_DIR/nobody.sock:;
        proxy_pass https://$target;
        error_page 502 = @fallback;
    }
    location @fallback {
        proxy_cache cache;
        proxy_cache_key $uri;
        proxy_cache_valid 200 1s;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        proxy_pass https://cached;
    }
    location = /all {
        content_by_lua_block {
            local client = require "client"
            for _, name in ipairs { "post_action", "error_page" } do
                local url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/" .. name
                local first = client.curl({ url }).out
                local last = first
                local deadline = ngx.now() + 10
                while last == first and ngx.now() < deadline do
                    ngx.sleep(0.05)
                    last = client.curl({ url }).out
                    ngx.update_time()
                end
                ngx.say(name, " ", first == last, " ", first:match("^%S+"), " ", last:match("^%S+"))
            end
        }
    }
--- request
GET /all
--- response_body
post_action false CN=client-1,O=Test CN=client-1,O=Test
error_page false CN=client-1,O=Test CN=client-1,O=Test



=== TEST 11: a slice that error_page redirects before its first TLS connection keeps the certificate
--- http_config
    upstream turns {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/"
                .. (ngx.var.slice_range == "bytes=0-4" and "plain" or "nobody") .. ".sock"))
        }
    }
    upstream slices {
        server unix:$TEST_NGINX_HTML_DIR/slices.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        root $TEST_NGINX_HTML_DIR;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/slices.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        root $TEST_NGINX_HTML_DIR;
        location / {
            log_by_lua_block {
                ngx.log(ngx.WARN, ngx.var.uri, " for \"", ngx.var.ssl_client_s_dn or "", "\"")
            }
        }
    }
--- config
    location = /t {
        slice 5;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        kong_tls_allow_plaintext on;
        proxy_set_header Range $slice_range;
        proxy_pass http://turns;
        error_page 502 = /redirected;
    }
    location = /redirected {
        proxy_pass https://slices;
    }
--- user_files
>>> t
0123456789
>>> redirected
0123456789
--- request
GET /t
--- ignore_response
--- error_log
/redirected for "CN=client-1,O=Test"
