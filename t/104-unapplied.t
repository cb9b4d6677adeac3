# SPDX-License-Identifier: Apache-2.0

# Settings that have no TLS connection to apply to, and requests that lack required settings, are refused with one
# line when the peer is chosen.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    # A service without TLS that answers, so that only the module can refuse a request.
    $block->set_value('http_config', <<'_EOC_' . ($block->http_config // ''));
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        return 200 "plain $request_uri\n";
    }
    upstream plain {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
_EOC_
});

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: each TLS setting is refused for a service without TLS, a request without settings is not
--- config
    location /t {
        access_by_lua_block {
            local set = {
                certificate = function() return kong.service.set_tls_cert_key(cert.client1, key.client1) end,
                verify = function() return kong.service.set_tls_verify(true) end,
                no_verify = function() return kong.service.set_tls_verify(false) end,
                depth = function() return kong.service.set_tls_verify_depth(1) end,
                store = function() return kong.service.set_tls_verify_store(pki.store("ca")) end,
                dns = function() return tls.set_upstream_ssl_sans_dnsnames { "a.test" } end,
                uris = function() return tls.set_upstream_ssl_sans_uris { "urn:a" } end,
                none = function() return true end,
            }
            assert(set[ngx.var.arg_set]())
        }
        proxy_pass http://plain;
    }
--- exchanges
for $setting (certificate verify no_verify depth store dns uris)
    GET /t?set=$setting => 500
GET /t?set=none => 200
--- grep_error_log eval
qr/\[error\]|the request has TLS settings, and its service is spoken to without TLS/
--- grep_error_log_out eval
"[error]\nthe request has TLS settings, and its service is spoken to without TLS\n" x 7
--- no_error_log
[crit]



=== TEST 2: TLS settings are refused for a service without TLS, with every form of proxy_pass
--- http_config
    upstream kept {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        keepalive 4;
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
            if ngx.var.arg_late then
                assert(kong.service.set_tls_verify(true))
            end
        }
    }
--- config
    resolver 127.0.0.1:1;
    set $http http;
    set $address 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    set $block plain;
    access_by_lua_block {
        if not ngx.var.arg_none and not ngx.var.arg_late then
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        end
    }
    location /block { proxy_pass http://plain; }
    location /kept { proxy_pass http://kept; }
    location /lua { proxy_pass http://lua; }
    location /implicit { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    location /address { proxy_pass http://$address; }
    location /named { proxy_pass http://$block; }
    set $hash "plain#.evil.test";
    location /hash { proxy_pass http://$hash; }
    location /scheme { proxy_pass $http://$address; }
    location /scheme/named { proxy_pass $http://$block; }
    location /scheme/implicit { proxy_pass $http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    location /target {
        access_by_lua_block {
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            if not ngx.var.arg_none then
                assert(kong.service.set_tls_verify(true))
            end
        }
        proxy_pass http://$kong_upstream_target;
    }
    location /upstream {
        access_by_lua_block {
            assert(kong.service.set_upstream("plain"))
            if not ngx.var.arg_none then
                assert(kong.service.set_tls_verify(true))
            end
        }
        proxy_pass http://$kong_upstream_target;
    }
--- exchanges
for $way (block kept lua implicit address named scheme scheme/named scheme/implicit target upstream)
    GET /$way => 500
GET /lua?late=1 => 500
GET /hash       => 500
for $way (block kept lua implicit address named scheme scheme/named scheme/implicit target upstream)
    GET /$way?none=1 => 200
--- grep_error_log eval
qr/its service is spoken to without TLS/
--- grep_error_log_out eval
"its service is spoken to without TLS\n" x 13
--- no_error_log
[crit]



=== TEST 3: TLS settings are refused for fastcgi, scgi, uwsgi, memcached and grpc services without TLS
--- config
    set $address 127.0.0.1:1;
    access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
    location /fastcgi { fastcgi_pass plain; }
    location /fastcgi/address { fastcgi_pass $address; }
    location /scgi { scgi_pass plain; }
    location /uwsgi { uwsgi_pass plain; }
    location /memcached { set $memcached_key a; memcached_pass plain; }
    location /grpc { grpc_pass grpc://plain; }
    location /grpc/address { grpc_pass $address; }
--- exchanges
for $way (fastcgi fastcgi/address scgi uwsgi memcached grpc grpc/address)
    GET /$way => 500
--- grep_error_log eval
qr/its service is spoken to without TLS/
--- grep_error_log_out eval
"its service is spoken to without TLS\n" x 7
--- no_error_log
[crit]
while reading response header



=== TEST 4: kong_tls_allow_plaintext on allows TLS settings for a service without TLS, for all or some locations
--- config
    kong_tls_allow_plaintext on;
    set $address 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    access_by_lua_block {
        assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
    }
    location /block { proxy_pass http://plain; }
    location /address { proxy_pass http://$address; }
    location /tls { proxy_pass https://service; }
    location /off { kong_tls_allow_plaintext off; proxy_pass http://plain; }
--- exchanges
GET /block   => /^plain /block/
GET /address => /^plain /address/
GET /tls     => /^client=CN=client-1,O=Test /
GET /off     => 500



=== TEST 5: settings are no error where no peer is chosen
--- config
    access_by_lua_block {
        assert(kong.service.set_tls_verify(true))
        kong.service.set_target("127.0.0.1", 1)
        kong.service.set_retries(1)
    }
    location /return { return 200 "here\n"; }
    location /say { content_by_lua_block { ngx.say("here") } }
    location /exit { access_by_lua_block { assert(kong.service.set_tls_verify(true)) ngx.say("here") ngx.exit(200) } proxy_pass http://plain; }
    location /capture { content_by_lua_block { ngx.print(ngx.location.capture("/inner").body) } }
    location /inner { access_by_lua_block { } proxy_pass http://plain/here; }
--- exchanges
GET /return  => /^here/
GET /say     => /^here/
GET /exit    => /^here/
GET /capture => /^plain /here/
--- no_error_log
[error]



=== TEST 6: set_target and set_upstream are refused in a location that does not use $kong_upstream_target
--- config
    resolver 127.0.0.1:1;
    set $there https://service;
    set $address https://127.0.0.1:2;
    access_by_lua_block {
        if ngx.var.arg_set == "target" then
            kong.service.set_target("127.0.0.1", 1)
        elseif ngx.var.arg_set == "upstream" then
            assert(kong.service.set_upstream("other"))
        end
    }
    location /fixed { proxy_pass https://service; }
    location /fixed/header { proxy_set_header X-Target $kong_upstream_target; proxy_pass https://service; }
    location /variable { proxy_pass $there; }
    location /variable/address { proxy_pass $address; }
    location /plain { proxy_pass http://plain; }
    location /fastcgi { fastcgi_pass service; }
--- exchanges
for $way (fixed fixed/header variable variable/address plain fastcgi)
    GET /$way?set=target   => 500
    GET /$way?set=upstream => 500
--- grep_error_log eval
qr/set_upstream or set_target was called, and the location does not send requests to "\$kong_upstream_target"/
--- grep_error_log_out eval
qq{set_upstream or set_target was called, and the location does not send requests to "\$kong_upstream_target"\n} x 12
--- no_error_log
[crit]



=== TEST 7: $kong_upstream_target is needed only with a target, and may be used by way of a map
--- http_config
    map $kong_upstream_target $mapped {
        default $kong_upstream_target;
    }
--- config
    set $there https://service;
    location /fixed { proxy_pass https://service; }
    location /variable { proxy_pass $there; }
    location /map {
        access_by_lua_block { assert(kong.service.set_upstream("other")) }
        proxy_pass https://$mapped;
    }
    location /map/early {
        access_by_lua_block {
            assert(kong.service.set_upstream("other"))
            -- A map is evaluated once.
            assert(ngx.var.mapped == "other")
        }
        proxy_pass https://$mapped;
    }
    location /Case {
        access_by_lua_block { assert(kong.service.set_upstream("other")) }
        proxy_pass https://${Kong_Upstream_Target}/connection;
    }
--- exchanges
GET /fixed     => 200
GET /variable  => 200
GET /map       => 200
GET /map/early => 200
GET /Case      => 200
--- no_error_log
[error]



=== TEST 8: an unset $kong_upstream_target in the path, the arguments or the host is a 503
--- config
    resolver 127.0.0.1:1;
    location /path { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1/$kong_upstream_target; }
    location /arguments { proxy_pass http://plain/?to=${kong_upstream_target}; }
    location /host { proxy_pass http://$kong_upstream_target; }
    location /part { proxy_pass http://a.$kong_upstream_target.test; }
    location /set { access_by_lua_block { kong.service.set_target("a.test", 80) } proxy_pass http://plain/$kong_upstream_target; }
--- exchanges
GET /path      => 503 /./
GET /arguments => 503 /./
GET /host      => 503 /./
GET /part      => 503 /./
GET /set       => /^plain /a.test:80/
--- grep_error_log eval
qr/"\$kong_upstream_target" is not set/
--- grep_error_log_out eval
qq{"\$kong_upstream_target" is not set\n} x 4



=== TEST 9: kong_tls_required on refuses requests without TLS settings
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
            if ngx.var.arg_late then
                assert(kong.service.set_tls_verify(false))
            end
        }
    }
--- config
    kong_tls_required on;
    set $there https://unix:$TEST_NGINX_HTML_DIR/service.sock:;
    set $plain http://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    rewrite_by_lua_block {
        if ngx.var.arg_set then
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        end
    }
    location /block { proxy_pass https://service; }
    location /lua { proxy_pass https://lua; }
    location /variable { proxy_pass $there; }
    location /grpc { grpc_pass grpcs://grpc; }
    location /plain { proxy_pass http://plain; }
    location /plain/variable { proxy_pass $plain; }
    location /plain/allowed { kong_tls_allow_plaintext on; proxy_pass http://plain; }
    location /fastcgi { fastcgi_pass plain; }
    location /off { kong_tls_required off; proxy_pass https://service; }
    location /return { return 200 here; }
--- exchanges
for $way (block lua variable grpc plain plain/variable plain/allowed fastcgi)
    GET /$way => 500
GET /off                  => 200
GET /return               => 200
GET /block?set=1          => 200
GET /lua?set=1            => 200
GET /variable?set=1       => 200
GET /plain?set=1          => 500
GET /plain/variable?set=1 => 500
GET /plain/allowed?set=1  => 200
GET /off?set=1            => 200
GET /lua?late=1           => 200
--- grep_error_log eval
qr/"kong_tls_required" is on, and nobody has set/
--- grep_error_log_out eval
qq{"kong_tls_required" is on, and nobody has set\n} x 8
--- no_error_log
[crit]



=== TEST 10: kong_tls_required on refuses subrequests, which have no access phase
--- http_config
    proxy_cache_path $TEST_NGINX_HTML_DIR/cache keys_zone=z:1m;
    log_format service "service saw $uri $ssl_client_s_dn";
--- config
    location /service {
        kong_tls_required on;
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_pass https://service/connection;
    }
    location /auth_request { auth_request /service; return 200 "let in\n"; proxy_pass http://plain; }
    location /mirror { mirror /service; proxy_pass http://plain; }
    location /capture { content_by_lua_block { ngx.say(ngx.location.capture("/service").status) } }
--- exchanges
GET /service => /^client=CN=client-1/
GET /mirror  => /^plain/
GET /capture => /^500$/
--- grep_error_log eval
qr/"kong_tls_required" is on|(?<=, )subrequest: "[^"]*"/
--- grep_error_log_out eval
qq{"kong_tls_required" is on\nsubrequest: "/service"\n} x 2



=== TEST 11: set_retries and set_timeouts are allowed with handlers that ignore them
--- config
    location /t {
        access_by_lua_block {
            kong.service.set_retries(1)
            kong.service.set_timeouts(1000, 1000, 1000)
        }
        location /t/proxy { proxy_pass https://service; }
        location /t/variable { set $there service; proxy_pass https://$there; }
        location /t/fastcgi { fastcgi_pass 127.0.0.1:1; }
        location /t/return { return 200; }
    }
--- exchanges
GET /t/proxy    => 200
GET /t/variable => 200
GET /t/fastcgi  => 502
GET /t/return   => 200
--- no_error_log
the location has no pass directive



=== TEST 12: an idle connection with TLS is not used for a request without TLS, nor the reverse
--- http_config
    upstream kept {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        keepalive 4;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        error_page 497 = /plain;
        location / { return 200 "$ssl_protocol client=$ssl_client_s_dn connection=$connection_requests\n"; }
        location = /plain { return 200 "plain connection=$connection_requests\n"; }
    }
--- config
    keeps_connections;
    location /tls {
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass https://kept;
    }
    location /plain {
        kong_tls_allow_plaintext on;
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client2, key.client2)) }
        proxy_pass http://kept;
    }
    location /enforced {
        kong_tls_certificate_verify on;
        proxy_pass http://kept;
    }
--- exchanges
GET /tls      => /client=CN=client-1/
GET /plain    => /^plain connection=1/
GET /tls      => /client=CN=client-1/
GET /enforced => /^plain connection=1/
GET /tls      => /client=CN=client-1/
--- no_error_log
[crit]



=== TEST 13: a refused request leaves idle connections of others alone
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 4;
    }
    upstream kept-plain {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        keepalive 4;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        return 200 "plain connection=$connection_requests\n";
    }
--- config
    keeps_connections;
    location /tls { proxy_pass https://kept/connection; }
    location /required { kong_tls_required on; proxy_pass https://kept/connection; }
    location /plain { proxy_pass http://kept-plain; }
    location /settings {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass http://kept-plain;
    }
--- exchanges
GET /tls      => /connection=[13]\n/
GET /required => 500 /./
GET /tls      => /connection=[24]\n/
GET /plain    => /connection=[13]\n/
GET /settings => 500 /./
GET /plain    => /connection=[24]\n/
--- no_error_log
[crit]
[alert]



=== TEST 14: kong_tls_required takes only "on" or "off"
--- config
    kong_tls_required maybe;
--- must_die
--- error_log
"kong_tls_required" directive has invalid value "maybe": "on" or "off" is expected



=== TEST 15: kong_tls_allow_plaintext may not be given twice
--- config
    kong_tls_allow_plaintext on;
    kong_tls_allow_plaintext off;
--- must_die
--- error_log
"kong_tls_allow_plaintext" directive is duplicate
