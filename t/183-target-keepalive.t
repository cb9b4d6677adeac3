# SPDX-License-Identifier: Apache-2.0

# kong_tls_keepalive in http, server and location: connections to peers that are in no upstream block are kept, by
# identity and address.

use lib 't/support';
use TestService;
use TestDns;
use TestHarness 'no_plan';

repeat_each(1);

# "named" is a server on the loopback addresses. It answers with the address and the names that it was requested by,
# and how: "requests" is the number of requests on the connection. /close closes the connection.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config // '';
    $config =~ s{^    named;\n}{<<"_EOC_"}me;
    resolver 127.0.0.1:\$TEST_NGINX_DNS_PORT;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/unix.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        return 200 "unix client=\$ssl_client_s_dn requests=\$connection_requests\\n";
    }
    server {
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.2:\$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.3:\$TEST_NGINX_RAND_PORT_1 ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        location / {
            return 200 "\$server_addr from=\$remote_addr host=\$http_host client=\$ssl_client_s_dn requests=\$connection_requests\\n";
        }
        location ~ /close\\z {
            keepalive_timeout 0;
            return 200 "\$server_addr requests=\$connection_requests\\n";
        }
    }
_EOC_
    $block->set_value('http_config', $config);
    my $text = $block->config // '';
    $text =~ s/^( +)plugin;\n/<<"_EOC_"/gme;
$1access_by_lua_block {
$1    local client = ngx.var.arg_client
$1    if client then
$1        assert(kong.service.set_tls_cert_key(cert[client], key[client]))
$1    end
$1    kong.service.set_target(ngx.var.arg_host, tonumber(ngx.var.arg_port) or \$TEST_NGINX_RAND_PORT_1)
$1}
_EOC_
    $block->set_value('config', $text);
});

run_tests();

__DATA__

=== TEST 1: connections to an address are kept, each for its identity
--- http_config
    named;
    kong_tls_keepalive 16;
--- config
    keeps_connections;
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
    # Has connections of its own.
    location /own {
        plugin;
        kong_tls_keepalive 4;
        proxy_pass https://$kong_upstream_target;
    }
    location /off {
        plugin;
        kong_tls_keepalive off;
        proxy_pass https://$kong_upstream_target;
    }
    location /variable {
        set $to $arg_host:$TEST_NGINX_RAND_PORT_1;
        proxy_pass https://$to;
    }
    location /unix {
        client_argument;
        set $to unix:$TEST_NGINX_HTML_DIR/unix.sock:;
        proxy_pass https://$to;
    }
    location /written {
        proxy_pass https://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- exchanges
GET /t?host=127.0.0.1                  => /^127.0.0.1 .*host=127.0.0.1:\d+ client= requests=1$/
GET /t?host=127.0.0.1                  => /^127.0.0.1 .*host=127.0.0.1:\d+ client= requests=2$/
GET /t?host=127.0.0.2                  => /^127.0.0.2 .*host=127.0.0.2:\d+ client= requests=1$/
GET /t?host=127.0.0.1&client=client1   => /^127.0.0.1 .* client=CN=client-1,O=Test requests=1$/
GET /t?host=127.0.0.1&client=client2   => /^127.0.0.1 .* client=CN=client-2,O=Test requests=1$/
GET /t?host=127.0.0.1&client=client1   => /^127.0.0.1 .* client=CN=client-1,O=Test requests=2$/
GET /t?host=127.0.0.1                  => /^127.0.0.1 .* client= requests=3$/
GET /t?host=127.0.0.2                  => /^127.0.0.2 .* client= requests=2$/
GET /own?host=127.0.0.1                => /^127.0.0.1 .* client= requests=1$/
GET /own?host=127.0.0.1                => /^127.0.0.1 .* client= requests=2$/
for $time (1 2)
    GET /off?host=127.0.0.1            => /^127.0.0.1 .* client= requests=1$/
# The location and the TLS context are alike, and so is the identity.
GET /variable?host=127.0.0.1           => /^127.0.0.1 .* client= requests=4$/
GET /variable?host=127.0.0.1           => /^127.0.0.1 .* client= requests=5$/
GET /unix?client=client1               => unix client=CN=client-1,O=Test requests=1
GET /unix?client=client1               => unix client=CN=client-1,O=Test requests=2
GET /unix?client=client2               => unix client=CN=client-2,O=Test requests=1
GET /written                           => /^127.0.0.1 .* client= requests=/
GET /written                           => /^127.0.0.1 .* client= requests=[2-9]$/
# A connection that the service closes is not used.
GET /t/close?host=127.0.0.3            => /requests=1$/
GET /t/close?host=127.0.0.3            => /requests=1$/
--- no_error_log
[error]
[crit]



=== TEST 2: connections to a name are kept, and the name is looked up now and then
--- http_config
    named;
    kong_tls_keepalive 16;
--- config
    keeps_connections;
    location /t {
        plugin;
        add_header X-Address $upstream_addr;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=a.test                     => /^127.0.0.1 .*host=a.test:\d+ client= requests=1$/
GET /t?host=a.test                     => {X-Address: 127.0.0.1:$TEST_NGINX_RAND_PORT_1} /^127.0.0.1 .*host=a.test:\d+ client= requests=2$/
GET /t?host=A.test                     => /^127.0.0.1 .*host=A.test:\d+ client= requests=3$/
GET /t?host=a.test&client=client1      => /^127.0.0.1 .* client=CN=client-1,O=Test requests=1$/
GET /t?host=a.test&client=client1      => /^127.0.0.1 .* client=CN=client-1,O=Test requests=2$/
GET /t?host=none.test                  => 502
--- error_log
none.test could not be resolved
--- no_error_log
[crit]



=== TEST 3: each address of a name is tried, also when the name is not looked up again
--- http_config
    resolver 127.0.0.1:$TEST_NGINX_DNS_PORT;
    kong_tls_keepalive 16;
    # Nobody listens on this port of 127.0.0.1 and 127.0.0.2.
    server {
        listen 127.0.0.3:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        location / { return 200 "$server_addr requests=$connection_requests\n"; }
        location ~ /close\z { keepalive_timeout 0; return 200 "$server_addr requests=$connection_requests\n"; }
    }
--- config
    keeps_connections;
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=many.test                  => 127.0.0.3 requests=1
for $time (1 2 3 4)
    GET /t/close?host=many.test        => /^127.0.0.3 /
--- no_error_log
[crit]



=== TEST 4: an upstream block is used as before, and so is a peer without TLS
--- http_config
    named;
    kong_tls_keepalive 16;
    upstream block.test {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        return 200 "plain $host requests=$connection_requests\n";
    }
--- config
    keeps_connections;
    location /t {
        access_by_lua_block { assert(kong.service.set_upstream("block.test")) }
        proxy_pass https://$kong_upstream_target;
    }
    location /plain {
        set $to 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        proxy_pass http://$to;
    }
    location /unix {
        set $to unix:$TEST_NGINX_HTML_DIR/plain.sock:;
        proxy_pass http://$to;
    }
--- exchanges
for $time (1 2)
    GET /t         => /^127.0.0.1 .*host=block.test client= requests=1$/
    GET /plain     => plain 127.0.0.1 requests=1
    GET /unix      => /^plain .* requests=1$/
--- no_error_log
[error]



=== TEST 5: the address that a connection comes from is the location's, and part of what it is kept by
--- http_config
    named;
    kong_tls_keepalive 16;
--- config
    keeps_connections;
    location /fixed {
        plugin;
        proxy_bind 127.0.0.7;
        proxy_pass https://$kong_upstream_target;
    }
    location /variable {
        plugin;
        proxy_bind $arg_from;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /fixed?host=127.0.0.1                     => /from=127.0.0.7 .*requests=1$/
GET /fixed?host=127.0.0.1                     => /from=127.0.0.7 .*requests=2$/
GET /variable?host=127.0.0.1&from=127.0.0.8   => /from=127.0.0.8 .*requests=1$/
GET /variable?host=127.0.0.1&from=127.0.0.9   => /from=127.0.0.9 .*requests=1$/
GET /variable?host=127.0.0.1&from=127.0.0.8   => /from=127.0.0.8 .*requests=2$/
GET /variable?host=127.0.0.1                  => /from=127.0.0.1 .*requests=1$/
GET /variable?host=127.0.0.1                  => /from=127.0.0.1 .*requests=2$/
GET /variable?host=127.0.0.1&from=none        => /from=127.0.0.1 .*requests=3$/
--- error_log
invalid local address "none"
--- no_error_log
[crit]



=== TEST 6: connections of locations that verify are for the name that was verified
--- http_config
    named;
    kong_tls_keepalive 16;
--- config
    keeps_connections;
    location /t {
        plugin;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=service.test   => /^127.0.0.1 .*requests=1$/
GET /t?host=service.test   => /^127.0.0.1 .*requests=2$/
# The same address.
GET /t?host=a.test         => 502
GET /t?host=127.0.0.1      => /^127.0.0.1 .*requests=1$/
GET /t?host=127.0.0.1      => /^127.0.0.1 .*requests=2$/
GET /t?host=a.test         => 502
GET /t?host=service.test   => /^127.0.0.1 .*requests=3$/
--- error_log
upstream SSL certificate does not match "a.test"
--- no_error_log
[crit]



=== TEST 7: a name is looked up by the location's own resolver
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        return 200 "requests=$connection_requests\n";
    }
    kong_tls_keepalive 16;
--- config
    keeps_connections;
    location /knows {
        plugin;
        resolver 127.0.0.1:$TEST_NGINX_DNS_PORT;
        proxy_pass https://$kong_upstream_target;
    }
    location /silent {
        plugin;
        resolver 127.0.0.1:$TEST_NGINX_SILENT_DNS_PORT;
        resolver_timeout 1s;
        proxy_pass https://$kong_upstream_target;
    }
    location /none {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
for $time (1 2)
    GET /knows?host=a.test => /^requests=\d$/
    GET /silent?host=a.test => 502
    GET /none?host=a.test => 502
--- error_log
no resolver defined to resolve a.test
--- no_error_log
[crit]
