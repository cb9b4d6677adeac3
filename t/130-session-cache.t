# SPDX-License-Identifier: Apache-2.0

# kong_tls_session_cache: sessions of upstream connections, kept by TLS identity and address.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# What a block expects depends on its earlier requests.
repeat_each(1);

# Expands steered { ... } to a service whose sessions the test can control, and sends_no_tickets to what keeps it from
# sending any by itself.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{^        sends_no_tickets;\n}{<<"_EOC_"}me;
        ssl_certificate_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, [[
                int SSL_set_num_tickets(void *, size_t);
                int SSL_new_session_ticket(void *);
                int SSL_do_handshake(void *);
            ]])
            ffi.C.SSL_set_num_tickets(tls.get_request_ssl_pointer(), 0)
        }
_EOC_
    $config =~ s{^    steered \{\n(.*?)^    \}\n}{<<"_EOC_"}mse;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/steered.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_protocols TLSv1.3;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate \$TEST_NGINX_PKI/ca.crt;
$1
    }
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: sessions with peers of a Lua balancer are kept by identity and peer, with settings and without
--- http_config
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            local to = ngx.var.arg_to or "service"
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/" .. to .. ".sock"))
        }
    }
--- config
    location /t {
        client_argument;
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://balanced;
    }
    location /t13 {
        client_argument;
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://balanced;
    }
--- exchanges
for $at, $version (/t TLSv1.2  /t13 TLSv1.3)
    GET $at                        => client= reused=. $version
    GET $at?client=client1         => client=CN=client-1,O=Test reused=. $version
    GET $at                        => client= reused=r $version
    GET $at?client=client1         => client=CN=client-1,O=Test reused=r $version
    GET $at?to=deep                => client= reused=. $version
    GET $at?to=deep&client=client1 => client=CN=client-1,O=Test reused=. $version
    GET $at?to=deep                => client= reused=r $version
    GET $at?to=deep&client=client1 => client=CN=client-1,O=Test reused=r $version
    GET $at                        => client= reused=r $version
--- no_error_log
[error]
[alert]



=== TEST 2: proxy_ssl_session_reuse off keeps no sessions
--- http_config
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    proxy_ssl_session_reuse off;
    proxy_ssl_protocols TLSv1.3;
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://service;
    }
    location /balanced {
        proxy_pass https://balanced;
    }
--- exchanges
GET /t x 2        => client=CN=client-1,O=Test reused=. TLSv1.3
GET /balanced x 2 => client= reused=. TLSv1.3
--- no_error_log
[error]



=== TEST 3: kong_tls_session_cache off keeps no sessions of requests with settings, or with peers of a Lua balancer
--- http_config
    kong_tls_session_cache off;
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://service;
    }
    location /balanced {
        proxy_pass https://balanced;
    }
    location /plain {
        proxy_pass https://service/;
    }
--- exchanges
GET /t x 2        => /^client=CN=client-1,O=Test reused=\./
GET /balanced x 2 => /^client= reused=\./
GET /plain        => /^client= reused=\./
GET /plain        => /^client= reused=r/
--- no_error_log
[error]



=== TEST 4: the least recently used session is removed when the cache is full
--- http_config
    kong_tls_session_cache 2;
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_pass https://service;
    }
--- exchanges
GET /t?client=client1 => /^client=CN=client-1,O=Test reused=\./
GET /t?client=client2 => /^client=CN=client-2,O=Test reused=\./
GET /t?client=client1 => /^client=CN=client-1,O=Test reused=r/
GET /t?client=rsa     => /^client=CN=client-rsa,O=Test reused=\./
GET /t?client=client1 => /^client=CN=client-1,O=Test reused=r/
GET /t?client=client2 => /^client=CN=client-2,O=Test reused=\./
--- no_error_log
[error]



=== TEST 5: resumption does not extend a TLS 1.3 session: it expires timeout= after its full handshake
# Under valgrind, a handshake takes as long as the session lives.
--- skip_eval: 3: $ENV{TEST_NGINX_USE_VALGRIND}
--- http_config
    kong_tls_session_cache 8 timeout=1500ms;
--- config
    location /service {
        internal;
        # nginx has no access phase for subrequests.
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://service/;
    }
    location /t {
        content_by_lua_block {
            local function resumes()
                local answer = ngx.location.capture("/service").body
                return assert(answer:match("^client=CN=client%-1,O=Test reused=(.)"), answer) == "r"
            end
            assert(not resumes())
            local started, resumed = ngx.now(), 0
            while resumes() do
                resumed = resumed + 1
                if ngx.now() > started + 10 then
                    return ngx.say("never ends")
                end
                ngx.sleep(0.02)
            end
            ngx.say(resumed > 0, " ", ngx.now() - started > 1.2)
            ngx.say(resumes())
        }
    }
--- request
GET /t
--- response_body
true true
true
--- no_error_log
[error]



=== TEST 6: resumption does not extend a TLS 1.2 session: it expires timeout= after its full handshake
# Under valgrind, a handshake takes as long as the session lives.
--- skip_eval: 3: $ENV{TEST_NGINX_USE_VALGRIND}
--- http_config
    kong_tls_session_cache 8 timeout=1500ms;
--- config
    location /service {
        internal;
        # nginx has no access phase for subrequests.
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://service/;
    }
    location /t {
        content_by_lua_block {
            local function resumes()
                local answer = ngx.location.capture("/service").body
                return assert(answer:match("^client=CN=client%-1,O=Test reused=(.)"), answer) == "r"
            end
            assert(not resumes())
            local started, resumed = ngx.now(), 0
            while resumes() do
                resumed = resumed + 1
                if ngx.now() > started + 10 then
                    return ngx.say("never ends")
                end
                ngx.sleep(0.02)
            end
            ngx.say(resumed > 0, " ", ngx.now() - started > 1.2)
            ngx.say(resumes())
        }
    }
--- request
GET /t
--- response_body
true true
true
--- no_error_log
[error]



=== TEST 7: a session expires with the client's certificate
--- config
    location /service {
        internal;
        # nginx has no access phase for subrequests.
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(ending, key.client1))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://service/;
    }
    location /t {
        content_by_lua_block {
            local function seen()
                local answer = ngx.location.capture("/service").body
                return answer:match("reused=(.)") or answer:match("SSL certificate error")
            end
            -- Dates are in whole seconds: at least two, and less than four, are left.
            ending = pki.ending("client1", "ca", 3)
            ngx.say(seen())
            local started, resumed, first, last = ngx.now(), 0
            repeat
                last = seen()
                resumed = resumed + (last == "r" and 1 or 0)
                first = first or last ~= "r" and last
                ngx.sleep(0.02)
            until last == "SSL certificate error" or ngx.now() > started + 10
            -- Once the service refuses the certificate, the session is not resumed either. OpenSSL 3.5 accepts a
            -- certificate in its last second; the module and OpenSSL 3.0 don't.
            ngx.say(resumed > 0, " ", first ~= "r", " ", last, " ", seen())
        }
    }
--- request
GET /t
--- response_body
.
true true SSL certificate error SSL certificate error
--- no_error_log
[error]



=== TEST 8: a ticket that comes with a later response is kept for the identity of the handshake
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/steered.sock;
        kong_tls_keepalive 8;
    }
    steered {
        sends_no_tickets;
        location / {
            access_by_lua_block {
                if ngx.var.arg_ticket then
                    -- The ticket is sent with the next data.
                    assert(require("ffi").C.SSL_new_session_ticket(tls.get_request_ssl_pointer()) == 1)
                end
            }
            content_by_lua_block {
                ngx.say("client=", ngx.var.ssl_client_s_dn or "", " reused=", ngx.var.ssl_session_reused,
                        " connection=", ngx.var.connection_requests)
            }
        }
    }
--- config
    location /t {
        client_argument;
        proxy_ssl_protocols TLSv1.3;
        proxy_http_version 1.1;
        proxy_set_header Connection $http_x_connection;
        proxy_pass https://kept;
    }
--- exchanges
# The first connection gets no ticket, so the next connection makes a full handshake too.
GET /t?client=client1                                => client=CN=client-1,O=Test reused=. connection=1
GET /t?client=client1 {X-Connection: close}          => client=CN=client-1,O=Test reused=. connection=2
GET /t?client=client1 {X-Connection: close}          => client=CN=client-1,O=Test reused=. connection=1
GET /t?client=client2                                => client=CN=client-2,O=Test reused=. connection=1
# A ticket comes with the second response on the connection, which has the same identity.
GET /t?client=client1                                => client=CN=client-1,O=Test reused=. connection=1
GET /t?client=client1&ticket=1 {X-Connection: close} => client=CN=client-1,O=Test reused=. connection=2
# Other identities don't get the ticket, its own identity does.
GET /t?client=client2                                => client=CN=client-2,O=Test reused=. connection=2
GET /t {X-Connection: close}                         => client= reused=. connection=1
GET /t?client=client1 {X-Connection: close}          => client=CN=client-1,O=Test reused=r connection=1
--- no_error_log
[error]
[alert]



=== TEST 9: a ticket that comes on an idle connection is kept, and so is the connection
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/steered.sock;
        kong_tls_keepalive 8;
    }
    steered {
        sends_no_tickets;
        location / {
            content_by_lua_block {
                ngx.say("client=", ngx.var.ssl_client_s_dn or "", " reused=", ngx.var.ssl_session_reused,
                        " connection=", ngx.var.connection_requests)
            }
            log_by_lua_block {
                -- The response was sent, and the connection waits for another request.
                if ngx.var.arg_ticket then
                    local C, ssl = require("ffi").C, tls.get_request_ssl_pointer()
                    assert(C.SSL_new_session_ticket(ssl) == 1)
                    assert(C.SSL_do_handshake(ssl) == 1)
                end
            }
        }
    }
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_http_version 1.1;
        proxy_set_header Connection $http_x_connection;
        proxy_pass https://kept;
    }
--- exchanges
GET /t?client=client1&ticket=1              => client=CN=client-1,O=Test reused=. connection=1
GET /t?client=client2                       => client=CN=client-2,O=Test reused=. connection=1
GET /t?client=client1 {X-Connection: close} => client=CN=client-1,O=Test reused=. connection=2
GET /t?client=client2                       => client=CN=client-2,O=Test reused=. connection=2
GET /t?client=client1 {X-Connection: close} => client=CN=client-1,O=Test reused=r connection=1
--- no_error_log
[error]
[alert]



=== TEST 10: each peer that a request is retried with has its own sessions
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/deep.sock max_fails=0;
    }
--- config
    location /fail {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_next_upstream http_503;
        proxy_pass https://two;
        add_header X-Reused "$upstream_status: $kong_upstream_ssl_session_reused" always;
    }
--- exchanges
GET /fail?client=client1 => 503 {X-Reused: 503, 503: .}
GET /fail?client=client1 => 503 {X-Reused: 503, 503: r}
GET /fail?client=client2 => 503 {X-Reused: 503, 503: .}
--- no_error_log
[error]



=== TEST 11: a retry with other settings of a Lua balancer uses the sessions of those settings
--- http_config
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            if not ngx.ctx.tried then
                ngx.ctx.tried = true
                assert(balancer.set_more_tries(1))
                assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
                assert(kong.service.set_tls_verify(true))
                assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_first .. ".sock"))
            else
                assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
                assert(kong.service.set_tls_verify(false))
                assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/deep.sock"))
            end
        }
        kong_tls_keepalive 8;
    }
--- config
    location /t {
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_next_upstream error;
        proxy_http_version 1.1;
        proxy_set_header Connection $http_x_connection;
        proxy_pass https://balanced;
    }
--- exchanges
GET /t?first=service {X-Connection: close} => /^client=CN=client-1,O=Test reused=\./
GET /t?first=other {X-Connection: close}   => /^client=CN=client-2,O=Test reused=\./
GET /t?first=service {X-Connection: close} => /^client=CN=client-1,O=Test reused=r/
GET /t?first=other x 2                     => /^client=CN=client-2,O=Test reused=r/
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream



=== TEST 12: a session is not used with another source address (proxy_bind)
--- http_config
    upstream apart {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        return 200 "$remote_addr reused=$ssl_session_reused\n";
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        proxy_bind $arg_from;
        proxy_pass https://apart;
    }
--- exchanges
GET /t?from=127.0.0.2 => 127.0.0.2 reused=.
GET /t?from=127.0.0.3 => 127.0.0.3 reused=.
GET /t?from=127.0.0.2 => 127.0.0.2 reused=r
GET /t?from=127.0.0.3 => 127.0.0.3 reused=r
--- no_error_log
[error]



=== TEST 13: each TLS 1.3 ticket is used once, and four tickets are kept
--- http_config
    steered {
        ssl_client_hello_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, "int SSL_set_num_tickets(void *, size_t);")
            ffi.C.SSL_set_num_tickets(tls.get_request_ssl_pointer(), pki.tickets)
            pki.tickets = 0
        }
        location / {
            return 200 "reused=$ssl_session_reused\n";
        }
    }
--- config
    location /t {
        access_by_lua_block {
            -- A handshake sends as many tickets as the last request has set, and the next handshake sends none.
            pki.tickets = tonumber(ngx.var.arg_tickets) or pki.tickets
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/steered.sock:/;
    }
--- exchanges
GET /t?tickets=3 => reused=.
GET /t x 3       => reused=r
GET /t           => reused=.
# At most four tickets are kept.
GET /t?tickets=6 => reused=.
GET /t x 4       => reused=r
GET /t           => reused=.
--- no_error_log
[error]



=== TEST 14: a service that does not resume the session gets the certificate of the request
--- http_config
    steered {
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_client_hello_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, "int SSL_set_session_id_context(void *, const char *, unsigned int);")
            if pki.forgets then
                -- A session of another context is not resumed.
                ffi.C.SSL_set_session_id_context(tls.get_request_ssl_pointer(), "other", 5)
            end
        }
        location / {
            return 200 "client=$ssl_client_s_dn reused=$ssl_session_reused\n";
        }
    }
--- config
    # A certificate with another type of key: OpenSSL has room for both, and could choose either.
    proxy_ssl_certificate $TEST_NGINX_PKI/client-rsa.crt;
    proxy_ssl_certificate_key $TEST_NGINX_PKI/client-rsa.key;
    location /1.2 {
        access_by_lua_block {
            pki.forgets = ngx.var.arg_forgets
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/steered.sock:/;
    }
    location /1.3 {
        access_by_lua_block {
            pki.forgets = ngx.var.arg_forgets
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/steered.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    GET /$version           => client=CN=client-1,O=Test reused=.
    GET /$version           => client=CN=client-1,O=Test reused=r
    GET /$version?forgets=1 => client=CN=client-1,O=Test reused=.
--- no_error_log
[error]



=== TEST 15: a ticket of a connection that was made before sessions were dropped is not kept
--- http_config
    steered {
        sends_no_tickets;
        location / {
            content_by_lua_block {
                local identity = ngx.req.get_headers()["X-Identity"]
                if identity then
                    pki.dropped = require("resty.kong.sessions").drop(identity ~= "all" and identity or nil)
                end
                assert(require("ffi").C.SSL_new_session_ticket(tls.get_request_ssl_pointer()) == 1)
                ngx.say("reused=", ngx.var.ssl_session_reused)
            }
        }
    }
--- config
    location /t {
        client_argument;
        proxy_ssl_protocols TLSv1.3;
        proxy_set_header X-Identity $arg_drop;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/steered.sock:/;
    }
--- exchanges
GET /t?client=client1                       => reused=.
GET /t?client=client1                       => reused=r
GET /t?client=client1&drop=all              => reused=r
GET /t?client=client1                       => reused=.
GET /t?client=client1                       => reused=r
# When those of another identity are dropped, the earlier ones of this one are kept.
GET /t?client=client1&drop=0123456789abcdef => reused=r
GET /t?client=client1                       => reused=r
--- no_error_log
[error]
