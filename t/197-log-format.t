# SPDX-License-Identifier: Apache-2.0

# nginx-conf/log-format.conf: an access log in JSON.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

$ENV{TEST_NGINX_CONF} = project_root() . '/nginx-conf';
repeat_each(1);

run_tests();

__DATA__

=== TEST 1: each line of the log is JSON, for requests with TLS on both sides and without TLS
--- http_config
    include $TEST_NGINX_CONF/log-format.conf;
    gateway {
        listen unix:$TEST_NGINX_HTML_DIR/gateway2.sock ssl http2;
        access_log $TEST_NGINX_SERVER_ROOT/logs/json.log kong_tls;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate())
        }
        location /set {
            access_by_lua_block {
                kong.client.tls.set_client_verify("FAILED:not for \"you\"")
                assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
                assert(kong.service.set_tls_verify(true))
                assert(kong.service.set_upstream("service"))
            }
            proxy_ssl_name service.test;
            proxy_ssl_protocols TLSv1.2;
            proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
            proxy_pass https://$kong_upstream_target/;
        }
        location /static {
            proxy_ssl_protocols TLSv1.2;
            proxy_pass https://service/;
        }
    }
--- config
    location /plain {
        access_log $TEST_NGINX_SERVER_ROOT/logs/json.log kong_tls;
        return 200 "plain";
    }
    location /log {
        content_by_lua_block {
            local client = require "client"
            local pki = os.getenv("TEST_NGINX_PKI")
            local function visit(socket, path, ...)
                client.curl({ "-k", "--connect-to", "::localhost:", "--unix-socket",
                              "$TEST_NGINX_HTML_DIR/" .. socket .. ".sock", "https://gateway.test" .. path, ... })
            end
            visit("gateway", "/set?a=\"b\"", "--http1.1", "--tls-max", "1.2", "--cert", pki .. "/client1.crt",
                  "--key", pki .. "/client1.key")
            visit("gateway2", "/static", "--http2")
            -- Characters that would end the string or the line if they were not escaped.
            client.curl({ 'http://127.0.0.1:$TEST_NGINX_SERVER_PORT/plain?"\\x' })

            -- Prints a line for each value, with a strict reader of JSON.
            local result = client.run({ "perl", "-MJSON::PP", "-e", [[
                sub show {
                    my ($name, $value) = @_;
                    return print "$name [$value]\n" unless ref $value;
                    show(defined $name ? "$name.$_" : $_, $value->{$_}) for sort keys %$value;
                }
                while (<STDIN>) {
                    show(undef, decode_json($_));
                    print "\n";
                }
            ]] }, { stdin = io.open("$TEST_NGINX_SERVER_ROOT/logs/json.log"):read("*a") })
            ngx.print(result.err, result.out)
        }
    }
--- request
GET /log
--- response_body_like eval
my $text = <<'_EOC_';
client [unix:]
request.host [gateway.test]
request.method [GET]
request.protocol [HTTP/1.1]
request.tls.alpn [http/1.1]
request.tls.cipher [ECDHE-*]
request.tls.client_subject [CN=client-1,O=Test]
request.tls.client_verify [FAILED:not for "you"]
request.tls.server_name [gateway.test]
request.tls.session_reused [.]
request.tls.version [TLSv1.2]
request.uri [/set?a=*]
response.seconds [*]
response.status [200]
time [*T*]
upstream.address [unix:*/service.sock]
upstream.seconds [*]
upstream.status [200]
upstream.target [service]
upstream.tls.cipher [ECDHE-*]
upstream.tls.identity [*]
upstream.tls.session_reused [.]
upstream.tls.verify [SUCCESS]
upstream.tls.version [TLSv1.2]

client [unix:]
request.host [gateway.test]
request.method [GET]
request.protocol [HTTP/2.0]
request.tls.alpn [h2]
request.tls.cipher [TLS_*]
request.tls.client_subject []
request.tls.client_verify [NONE]
request.tls.server_name [gateway.test]
request.tls.session_reused [.]
request.tls.version [TLSv1.3]
request.uri [/static]
response.seconds [*]
response.status [200]
time [*T*]
upstream.address [unix:*/service.sock]
upstream.seconds [*]
upstream.status [200]
upstream.target []
upstream.tls.cipher [ECDHE-*]
upstream.tls.identity [-]
upstream.tls.session_reused [.]
upstream.tls.verify [NONE]
upstream.tls.version [TLSv1.2]

client [127.0.0.1]
request.host [127.0.0.1]
request.method [GET]
request.protocol [HTTP/1.1]
request.tls.alpn []
request.tls.cipher []
request.tls.client_subject []
request.tls.client_verify []
request.tls.server_name []
request.tls.session_reused []
request.tls.version []
request.uri [/plain?"\*]
response.seconds [*]
response.status [200]
time [*T*]
upstream.address []
upstream.seconds []
upstream.status []
upstream.target []
upstream.tls.cipher []
upstream.tls.identity []
upstream.tls.session_reused []
upstream.tls.verify []
upstream.tls.version []

_EOC_
my $pattern = quotemeta $text;
$pattern =~ s/\\\*/[^\\]]+/g;
qr/\A$pattern\z/
--- no_error_log
[error]
