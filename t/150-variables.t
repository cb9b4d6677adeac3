# SPDX-License-Identifier: Apache-2.0

# $kong_upstream_ssl_*: properties of the TLS connection to the service, in headers and in logs.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# What a block expects depends on its earlier requests.
repeat_each(1);

add_block_preprocessor(sub {
    my ($block) = @_;
    my $variables = join ' ', map {"\$kong_upstream_ssl_$_"}
        qw(protocol cipher session_reused verify);
    # "/logged" returns the last line that the requests before have logged.
    $block->set_value('http_config', ($block->http_config // '') . <<"_EOC_");
    log_format outcome '$variables';
_EOC_
    $block->set_value('config', ($block->config // '') . <<"_EOC_");
    location /logged {
        access_log off;
        content_by_lua_block {
            local last
            for line in io.lines("\$TEST_NGINX_SERVER_ROOT/logs/outcome.log") do
                last = line
            end
            ngx.say(last)
        }
    }
    access_log logs/outcome.log outcome;
    add_header X-Outcome "$variables" always;
_EOC_
});

run_tests();

__DATA__

=== TEST 1: the variables describe the connection of a request with settings
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(ngx.var.arg_verify == "1"))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_protocols TLSv1.2;
        proxy_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        proxy_pass https://service;
    }
    location /t13 {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://service;
    }
--- exchanges
GET /t?verify=1 => {X-Outcome: TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 . SUCCESS} /client-1/
GET /logged     => /^TLSv1\.2 ECDHE-ECDSA-AES128-GCM-SHA256 \. SUCCESS$/
GET /t?verify=1 => {X-Outcome: TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 r SUCCESS} /client-1/
GET /logged     => /^TLSv1\.2 ECDHE-ECDSA-AES128-GCM-SHA256 r SUCCESS$/
GET /t          => {X-Outcome: TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 . NONE} /client-1/
GET /logged     => /^TLSv1\.2 ECDHE-ECDSA-AES128-GCM-SHA256 \. NONE$/
GET /t13        => {X-Outcome: TLSv1.3 TLS_AES_256_GCM_SHA384 . SUCCESS} /client=/
GET /logged     => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 \. SUCCESS$/
--- no_error_log
[error]



=== TEST 2: the variables describe the connection of a request without settings
--- config
    location /t {
        proxy_ssl_verify on;
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://service;
    }
--- exchanges
GET /t      => /client=/
GET /logged => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 \. SUCCESS$/
GET /t      => /client=/
GET /logged => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 r SUCCESS$/
--- no_error_log
[error]



=== TEST 3: $kong_upstream_ssl_verify has the reason of a failure that the module or nginx found
--- config
    location /t {
        access_by_lua_block {
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
            if ngx.var.arg_name then
                assert(kong.service.set_tls_verify_names { host = false, dns = { ngx.var.arg_name } })
            end
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name $arg_for;
        proxy_pass https://$arg_to;
    }
    location /static {
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name $arg_for;
        proxy_pass https://$arg_to;
    }
--- exchanges
GET /t?verify=1&to=other&for=service.test                   => 502 /502 Bad Gateway/
GET /logged                                                 => /^- - - FAILED:unable to get local issuer certificate$/
GET /t?verify=1&to=service&for=wrong.test                   => 502 /502 Bad Gateway/
GET /logged                                                 => /^- - - FAILED:hostname mismatch$/
GET /t?verify=1&to=service&for=service.test&name=wrong.test => 502 /502 Bad Gateway/
GET /logged                                                 => /^- - - FAILED:none of the required names$/
GET /t?to=service&name=wrong.test                           => 502 /502 Bad Gateway/
GET /logged                                                 => /^- - - FAILED:none of the required names$/
GET /static?to=other&for=service.test                       => 502 /502 Bad Gateway/
GET /logged                                                 => /^TLSv1\.[23] \S+ \. FAILED:unable to verify the first certificate$/
GET /static?to=service&for=wrong.test                       => 502 /502 Bad Gateway/
GET /logged                                                 => /^TLSv1\.[23] \S+ \. FAILED:hostname mismatch$/



=== TEST 4: the variables are empty without a TLS connection
--- http_config
    upstream nobody {
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 "plain\n";
    }
--- config
    location /none {
        return 200 "none\n";
    }
    location /plain {
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/plain.sock;
    }
    location /nobody {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        proxy_pass https://nobody;
    }
    location /early {
        proxy_set_header X-Identity "[$kong_upstream_ssl_identity]";
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/plain.sock;
    }
--- exchanges
GET /none   => /^none$/
GET /logged => /^- - - -$/
GET /plain  => /^plain$/
GET /logged => /^- - - -$/
GET /nobody => 502 /502/
GET /logged => /^- - - -$/
GET /early  => /^plain$/
GET /logged => /^- - - -$/



=== TEST 5: $kong_upstream_ssl_server_raw_cert is the service's certificate, also in the log phase
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        header_filter_by_lua_block {
            local pem = ngx.var.kong_upstream_ssl_server_raw_cert
            local file = pki.read("service-other")
            ngx.header["X-Same"] = tostring(pem == file:match("%-%-%-%-%-BEGIN.*"))
        }
        log_by_lua_block {
            local pem = ngx.var.kong_upstream_ssl_server_raw_cert
            at_the_end = tostring(pem == pki.read("service-other"):match("%-%-%-%-%-BEGIN.*"))
        }
        proxy_pass https://other;
    }
    location /end {
        content_by_lua_block { ngx.say(at_the_end) }
    }
--- exchanges
GET /t   => {X-Same: true} /client=/
GET /end => /^true$/
--- no_error_log
[error]



=== TEST 6: $kong_upstream_ssl_identity is equal for equal settings, different for others, and empty without settings
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                -- Equal to the certificate of the request before, but another object.
                assert(kong.service.set_tls_cert_key(pki.chain(name), pki.key(name)))
            end
        }
        log_by_lua_block {
            identities = identities or {}
            table.insert(identities, ngx.var.kong_upstream_ssl_identity)
        }
        keeps_connections;
        proxy_pass https://$arg_to;
    }
    location /identities {
        content_by_lua_block {
            local known, names = {}, {}
            for _, identity in ipairs(identities) do
                assert(identity == "-" or identity:match("^%x+$") and identity == identity:lower())
                known[identity] = known[identity] or identity == "-" and "-" or string.char(#names + 65)
                if identity ~= "-" then
                    table.insert(names, known[identity])
                end
                ngx.print(known[identity], " ")
            end
            ngx.say()
        }
    }
--- exchanges
GET /t?to=service                => /client=/
GET /t?to=service&client=client1 => /client=/
GET /t?to=service&client=client2 => /client=/
GET /t?to=service&client=client1 => /client=/
GET /t?to=service                => /client=/
# The first of these requests opens the connection that the second uses.
GET /t?to=kept&client=client1    => /client=/
GET /t?to=kept&client=client1    => /client=/
GET /t?to=kept                   => /client=/
GET /identities                  => /^- A B A - A A - \n$/
--- no_error_log
[error]



=== TEST 7: the variables describe the last connection of a request that was retried
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock max_fails=0;
    }
    upstream two-back {
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
    }
--- config
    proxy_next_upstream http_503 error;
    proxy_ssl_protocols TLSv1.3;
    location /fail/forth {
        proxy_pass https://two;
    }
    location /fail/back {
        proxy_pass https://two-back;
    }
--- exchanges
GET /fail/forth => 502 /502/
GET /logged     => /^- - - -$/
GET /fail/back  => 503 /503/
GET /logged     => /^TLSv1.3 TLS_AES_256_GCM_SHA384 . NONE$/



=== TEST 8: the variables describe a service whose address is in a variable
--- config
    location /t {
        set $socket unix:$TEST_NGINX_HTML_DIR/service.sock:;
        access_by_lua_block {
            if ngx.var.arg_client then
                assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            end
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://$socket/;
    }
--- exchanges
GET /t?client=1 => /client-1/
GET /logged     => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 \. NONE$/
GET /t?client=1 => /client-1/
GET /logged     => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 r NONE$/
GET /t          => /client=/
GET /logged     => /^TLSv1\.3 TLS_AES_256_GCM_SHA384 \. NONE$/
--- no_error_log
[error]
