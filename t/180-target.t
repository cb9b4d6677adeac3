# SPDX-License-Identifier: Apache-2.0

# kong.service.set_upstream, kong.service.set_target and $kong_upstream_target decide where a request goes.

use lib 't/support';
use TestService;
use TestDns;
use TestHarness 'no_plan';

repeat_each(1);

# A plugin that follows the arguments of the request.
my $PLUGIN = <<'_EOC_';
        access_by_lua_block {
            local arg = ngx.var
            local client = arg.arg_client
            if client then
                assert(kong.service.set_tls_cert_key(cert[client], key[client]))
            end
            if arg.arg_upstream then
                assert(kong.service.set_upstream(arg.arg_upstream))
            end
            if arg.arg_host then
                kong.service.set_target(ngx.unescape_uri(arg.arg_host), tonumber(arg.arg_port) or PORT)
            end
        }
_EOC_

# "named" is a server on the loopback addresses, with a certificate for service.test. It answers with the address and
# the names that it was requested by.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    my $ipv6 = -e '/proc/net/if_inet6' ? 'listen [::1]:$TEST_NGINX_RAND_PORT_1 ssl;' : '';
    $config =~ s{^    named;\n}{<<"_EOC_"}me;
    resolver 127.0.0.1:\$TEST_NGINX_DNS_PORT;
    server {
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.2:\$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.3:\$TEST_NGINX_RAND_PORT_1 ssl;
        $ipv6
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate \$TEST_NGINX_PKI/ca.crt;
        location / {
            return 200 "\$server_addr sni=\$ssl_server_name host=\$http_host client=\$ssl_client_s_dn reused=\$ssl_session_reused\\n";
        }
    }
_EOC_
    $block->set_value('http_config', $config);
    for my $section (qw(config http_config)) {
        my $text = $block->$section;
        (my $plugin = $PLUGIN) =~ s/PORT/\$TEST_NGINX_RAND_PORT_1/;
        $text =~ s/^ +plugin;\n/$plugin/mg;
        $block->set_value($section, $text);
    }
});

# The directives of the upstream block in each generated test.
my %METHODS = (
    'the default'          => '',
    least_conn             => 'least_conn;',
    ip_hash                => 'ip_hash;',
    hash                   => 'hash $request_uri;',
    'consistent hash'      => 'hash $request_uri consistent;',
    random                 => 'random two;',
    zone                   => 'zone chosen 64k;',
    keepalive              => 'keepalive 4;',
    kong_tls_keepalive     => 'kong_tls_keepalive 4;',
    'both, in a zone'      => 'zone chosen 64k; least_conn; keepalive 4; kong_tls_keepalive 4;',
);

my @methods = map {<<"_EOC_"} sort keys %METHODS;
=== set_upstream works with an upstream block with: $_
--- http_config
    upstream chosen {
        $METHODS{$_}
        server unix:\$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    location /t {
        plugin;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://\$kong_upstream_target;
        add_header X-Target \$kong_upstream_target;
    }
--- request eval
[map { "GET /t?upstream=chosen&client=\$_" } qw(client1 client2 client1)]
--- response_body_like eval
["^client=CN=client-1,O=Test ", "^client=CN=client-2,O=Test ", "^client=CN=client-1,O=Test "]
--- response_headers eval
[("X-Target: chosen") x 3]
--- error_code eval
[(200) x 3]
--- no_error_log
[error]

_EOC_

Test::Base::spec_string(join "\n\n", @methods, do { local $/; <DATA> });
run_tests();

__DATA__


=== TEST 1: set_upstream sends requests to the peers of a Lua balancer
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?upstream=chosen&client=client1 => /^client=CN=client-1,O=Test reused=\./
GET /t?upstream=chosen&client=client2 => /^client=CN=client-2,O=Test reused=\./
GET /t?upstream=chosen&client=client1 => /^client=CN=client-1,O=Test reused=r/
--- no_error_log
[error]



=== TEST 2: set_upstream works over gRPC, and without TLS
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 "plain $http_host\n";
    }
    upstream plain {
        server unix:$TEST_NGINX_HTML_DIR/plain.sock;
    }
--- config
    location /grpc {
        plugin;
        grpc_ssl_protocols TLSv1.2;
        grpc_pass grpcs://$kong_upstream_target;
    }
    location /plain {
        plugin;
        proxy_pass http://$kong_upstream_target;
    }
--- exchanges
GET /grpc?upstream=grpc&client=client1 => client=CN=client-1,O=Test reused=. TLSv1.2
GET /plain?upstream=plain              => plain plain
--- no_error_log
[error]



=== TEST 3: set_upstream accepts only the names of upstream blocks
--- http_config
    upstream Mixed_case-1.test {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
    upstream with:443 {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    location /implicit {
        proxy_pass https://127.0.0.1:1;
    }
    location /t {
        access_by_lua_block {
            for _, name in ipairs { "service", "SERVICE", "mixed_CASE-1.test", "none", "with:443", "with",
                                    "service:443", "service.", "127.0.0.1", "unix", "", "%2f", "é" } do
                ngx.say(kong.service.set_upstream(name))
            end
            ngx.exit(200)
        }
        proxy_pass https://$kong_upstream_target;
    }
--- request
GET /t
--- response_body
true
true
true
nilcould not find an Upstream named 'none'
nilcould not find an Upstream named 'with:443'
nilcould not find an Upstream named 'with'
nilcould not find an Upstream named 'service:443'
nilcould not find an Upstream named 'service.'
nilcould not find an Upstream named '127.0.0.1'
nilcould not find an Upstream named 'unix'
nilcould not find an Upstream named ''
nilcould not find an Upstream named '%2f'
nilcould not find an Upstream named 'é'
--- no_error_log
[error]



=== TEST 4: set_upstream finds a block by its name in another case
--- http_config
    upstream Mixed_case-1.test {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    location /t {
        plugin;
        rewrite ^ /sni break;
        proxy_ssl_server_name on;
        proxy_pass https://$kong_upstream_target;
        add_header X-Target $kong_upstream_target;
    }
--- request
GET /t?upstream=mixed_CASE-1.test
--- response_headers
X-Target: Mixed_case-1.test
--- response_body
sni=Mixed_case-1.test
--- no_error_log
[error]



=== TEST 5: set_target accepts IPv4 addresses, and names that the resolver finds
--- http_config
    named;
--- config
    location /t {
        plugin;
        proxy_ssl_server_name on;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=127.0.0.1             => /^127.0.0.1 sni= host=127.0.0.1:\d+ client= /
GET /t?host=127.0.0.2             => /^127.0.0.2 sni= host=127.0.0.2:\d+ client= /
GET /t?host=a.test                => /^127.0.0.1 sni=a.test host=a.test:\d+ client= /
GET /t?host=A.TEST&client=client1 => /^127.0.0.1 sni=a.test host=A.TEST:\d+ client=CN=client-1,O=Test /
--- no_error_log
[error]



=== TEST 6: set_target accepts IPv6 addresses with and without brackets, and names that have an IPv6 address
--- skip_eval: 11: !-e '/proc/net/if_inet6'
--- http_config
    named;
--- config
    location /t {
        plugin;
        proxy_ssl_server_name on;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=::1                   => /^\[?::1\]? sni= host=\[::1\]:\d+ client= reused=\./
GET /t?host=[::1]                 => /^\[?::1\]? sni= host=\[::1\]:\d+ client= reused=/
GET /t?host=aaaa.test             => /^\[?::1\]? sni=aaaa.test host=aaaa.test:\d+ /
GET /t?host=0:0::1&client=client1 => /^\[?::1\]? sni= host=\[0:0::1\]:\d+ client=CN=client-1,O=Test /
--- no_error_log
[error]



=== TEST 7: set_target tries each address of a name
--- http_config
    resolver 127.0.0.1:$TEST_NGINX_DNS_PORT;
    # Nobody listens on this port of 127.0.0.1 and 127.0.0.2.
    server {
        listen 127.0.0.3:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        return 200 "$server_addr\n";
    }
--- config
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- request
GET /t?host=many.test&client=client1
--- response_body
127.0.0.3
--- error_code: 200
--- no_error_log
[alert]



=== TEST 8: set_target with a name that does not exist is a 502, with port 0 a 500
--- http_config
    named;
--- config
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=none.test     => 502
GET /t?host=a.test&port=0 => 500
GET /t?host=a..test       => 502
--- error_log eval
[qr/none\.test could not be resolved \(3: Host not found\)/, qr/invalid port in upstream "a\.test:0"/]



=== TEST 9: the worker serves other requests while a name server does not answer
--- http_config
    named;
--- config
    location /t {
        plugin;
        resolver 127.0.0.1:$TEST_NGINX_SILENT_DNS_PORT;
        resolver_timeout 1s;
        proxy_pass https://$kong_upstream_target;
    }
    location /others {
        return 200 "others\n";
    }
    location /both {
        content_by_lua_block {
            local waits = ngx.socket.tcp()
            assert(waits:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
            assert(waits:send("GET /t?host=a.test HTTP/1.0\r\n\r\n"))
            local started = ngx.now()
            local function others()
                local quick = ngx.socket.tcp()
                assert(quick:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
                assert(quick:send("GET /others HTTP/1.0\r\n\r\n"))
                local answer = assert(quick:receive("*a"))
                quick:close()
                return answer:match("others\n$")
            end
            local served = 0
            while ngx.now() < started + 0.5 do
                served = served + (others() and 1 or 0)
                ngx.sleep(0.02)
            end
            ngx.say(served > 2, " ", assert(waits:receive()))
        }
    }
--- request
GET /both
--- response_body
true HTTP/1.1 502 Bad Gateway
--- error_log eval
qr/a\.test could not be resolved \(110: Operation timed out\)/



=== TEST 10: set_target with a name is a 502 without a resolver
--- config
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
--- request
GET /t?host=a.test
--- error_code: 502
--- error_log
no resolver defined to resolve a.test



=== TEST 11: the host of set_target is the name that is verified, unless proxy_ssl_name is set
--- http_config
    named;
--- config
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_server_name on;
    location /t {
        plugin;
        proxy_pass https://$kong_upstream_target;
    }
    location /named {
        plugin;
        proxy_ssl_name service.test;
        proxy_pass https://$kong_upstream_target;
    }
    location /set {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            kong.service.set_target(ngx.var.arg_host, $TEST_NGINX_RAND_PORT_1)
        }
        proxy_ssl_verify off;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?host=service.test   => /sni=service.test/
GET /t?host=a.test         => 502 /502 Bad Gateway/
GET /named?host=a.test     => /sni=service.test host=a.test:/
GET /named?host=127.0.0.1  => /sni=service.test host=127.0.0.1:/
GET /set?host=service.test => /sni=service.test/
GET /set?host=a.test       => 502 /502 Bad Gateway/
--- grep_error_log eval
qr/upstream SSL certificate does not match "[^"]*"/
--- grep_error_log_out
upstream SSL certificate does not match "a.test"
upstream SSL certificate does not match "a.test"



=== TEST 12: the host of set_target is part of the TLS identity: a session resumes only for its host
--- http_config
    named;
--- config
    location /t {
        plugin;
        proxy_ssl_server_name on;
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?client=client1&host=a.test       => /reused=\./
GET /t?client=client1&host=service.test => /reused=\./
GET /t?client=client1&host=127.0.0.1    => /reused=\./
GET /t?client=client1&host=a.test       => /reused=r/
GET /t?client=client1&host=service.test => /reused=r/
GET /t?client=client1&host=127.0.0.1    => /reused=r/
--- no_error_log
[error]



=== TEST 13: a request without set_upstream or set_target is a 503, with one line
--- config
    location /proxy {
        proxy_pass https://$kong_upstream_target;
    }
    location /plain {
        proxy_pass http://$kong_upstream_target/path;
    }
    location /grpc {
        grpc_pass grpcs://$kong_upstream_target;
    }
    location /if {
        if ($arg_x) {
            proxy_pass https://$kong_upstream_target;
        }
    }
    location /inside {
        if ($arg_x) {
            set $y 1;
        }
        proxy_pass https://$kong_upstream_target;
    }
    location /limited {
        limit_except GET {
            deny 192.0.2.1;
        }
        proxy_pass https://$kong_upstream_target;
    }
    location /part {
        proxy_pass https://a.$kong_upstream_target.test:443/;
    }
    location /number {
        proxy_pass https://127.0.0.1${kong_upstream_target}1;
    }
--- exchanges
GET /proxy      => 503
GET /plain      => 503
GET /grpc       => 503
GET /if?x=1     => 503
GET /inside?x=1 => 503
POST /limited   => 503
GET /part       => 503
GET /number     => 503
--- grep_error_log eval
qr/\[error\]|"\$kong_upstream_target" is not set: .*?(?=,)/
--- grep_error_log_out
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request
[error]
"$kong_upstream_target" is not set: neither kong.service.set_upstream nor kong.service.set_target was called for the request



=== TEST 14: $kong_upstream_target is empty and no error where no pass directive uses it
--- http_config
    log_format target "target=[$kong_upstream_target]";
--- config
    location /t {
        access_log $TEST_NGINX_SERVER_ROOT/logs/target.log target;
        access_by_lua_block {
            ngx.ctx.before = tostring(ngx.var.kong_upstream_target)
        }
        header_filter_by_lua_block {
            ngx.header["X-Before"] = ngx.ctx.before
        }
        proxy_set_header X-Target "[$kong_upstream_target]";
        proxy_pass https://service/;
    }
    location /failed {
        access_log $TEST_NGINX_SERVER_ROOT/logs/target.log target;
        proxy_pass https://$arg_nothing;
    }
    location /log {
        content_by_lua_block {
            ngx.print(io.open("$TEST_NGINX_SERVER_ROOT/logs/target.log"):read("*a"))
        }
    }
--- exchanges
GET /t      => {X-Before: nil} /^client= /
GET /failed => 500 /500 Internal/
GET /log    => /^target=\[-\]\ntarget=\[-\]\n$/
--- no_error_log
kong_upstream_target



=== TEST 15: other errors of proxy_pass keep their status, and error_page applies to the 503
--- config
    location /t {
        proxy_pass $arg_scheme://$arg_host;
    }
    location /page {
        error_page 503 = /kind;
        proxy_pass https://$kong_upstream_target;
    }
    location /kind {
        return 200 "kind\n";
    }
--- exchanges
GET /t?scheme=ftp&host=a     => 500 /500 Internal/
GET /page                    => /^kind\n/
GET /t?scheme=https&host=a:0 => 500 /500 Internal/



=== TEST 16: a later call of set_upstream or set_target overrides an earlier one
--- http_config
    named;
--- config
    location /t {
        access_by_lua_block {
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            assert(kong.service.set_upstream("service"))
            -- Failed calls change nothing.
            assert(not kong.service.set_upstream("none"))
            assert(not pcall(kong.service.set_target, "a/b", 443))
            assert(not pcall(kong.service.set_target, "a", 65536))
        }
        proxy_pass https://$kong_upstream_target;
    }
    location /back {
        rewrite_by_lua_block {
            kong.service.set_target("127.0.0.9", 1)
        }
        access_by_lua_block {
            assert(kong.service.set_upstream("service"))
            kong.service.set_target("127.0.0.2", $TEST_NGINX_RAND_PORT_1)
        }
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t    => /^client= reused/
GET /back => /^127.0.0.2 /
--- no_error_log
[error]



=== TEST 17: internal redirects keep the target, a subrequest does not get it
--- http_config
    named;
--- config
    location /exec {
        access_by_lua_block {
            kong.service.set_target("127.0.0.2", $TEST_NGINX_RAND_PORT_1)
            ngx.exec("/there")
        }
    }
    location /there {
        proxy_pass https://$kong_upstream_target;
    }
    location /named {
        access_by_lua_block {
            kong.service.set_target("127.0.0.2", $TEST_NGINX_RAND_PORT_1)
            ngx.exec("@there")
        }
    }
    location @there {
        proxy_pass https://$kong_upstream_target;
    }
    location /page {
        access_by_lua_block {
            kong.service.set_target("127.0.0.2", $TEST_NGINX_RAND_PORT_1)
        }
        error_page 502 = @there;
        content_by_lua_block { ngx.exit(502) }
    }
    location /parent {
        access_by_lua_block {
            kong.service.set_target("127.0.0.2", $TEST_NGINX_RAND_PORT_1)
        }
        content_by_lua_block {
            ngx.say(ngx.location.capture("/there").status)
        }
    }
--- exchanges
GET /exec   => /^127.0.0.2 /
GET /named  => /^127.0.0.2 /
GET /page   => /^127.0.0.2 /
GET /parent => /^503$/



=== TEST 18: slices go to the target of their request
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        root $TEST_NGINX_HTML_DIR;
    }
--- config
    location /sliced.txt {
        access_by_lua_block {
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            kong.service.set_timeouts(3000, 3000, 3000)
        }
        slice 4;
        proxy_set_header Range $slice_range;
        proxy_pass https://$kong_upstream_target;
    }
--- user_files
>>> sliced.txt
0123456789
--- request
GET /sliced.txt
--- response_body
0123456789
--- no_error_log
[error]



=== TEST 19: set_upstream, set_target, set_retries and set_timeouts refuse wrong arguments
--- config
    location /t {
        access_by_lua_block {
            local s = kong.service
            for _, case in ipairs {
                { s.set_upstream }, { s.set_upstream, 1 }, { s.set_upstream, {} }, { s.set_upstream, "a/b" },
                { s.set_upstream, "a?b" }, { s.set_upstream, "a#b" }, { s.set_upstream, "a@service" },
                { s.set_upstream, "service " }, { s.set_upstream, "service\0" }, { s.set_upstream, "service\r\n" },
                { s.set_target }, { s.set_target, 1, 443 }, { s.set_target, "a" }, { s.set_target, "a", "443" },
                { s.set_target, "a", 1.5 }, { s.set_target, "a", 0 / 0 }, { s.set_target, "a", -1 },
                { s.set_target, "a", 65536 }, { s.set_target, "a", 1 / 0 }, { s.set_target, "", 443 },
                { s.set_target, "a/b", 443 }, { s.set_target, "a?b", 443 }, { s.set_target, "a#b", 443 },
                { s.set_target, "u@a", 443 }, { s.set_target, "a b", 443 }, { s.set_target, "a\0b", 443 },
                { s.set_target, "a\r\nX: y", 443 }, { s.set_target, "a:80", 443 }, { s.set_target, "a\127", 443 },
                { s.set_target, "unix", 443 }, { s.set_target, "UniX", 443 }, { s.set_target, "unix:/s", 443 },
                { s.set_target, "[::1", 443 }, { s.set_target, "[a]", 443 }, { s.set_target, "::1%lo", 443 },
                { s.set_target, "é", 443 }, { s.set_target, "a%2f", 443 }, { s.set_target, "$host", 443 },
                { s.set_retries }, { s.set_retries, "1" }, { s.set_retries, 1.5 }, { s.set_retries, -1 },
                { s.set_retries, 32768 }, { s.set_retries, 0 / 0 },
                { s.set_timeouts }, { s.set_timeouts, 1, 1 }, { s.set_timeouts, 1, "1", 1 },
                { s.set_timeouts, 0, 1, 1 }, { s.set_timeouts, 1, 2147483647, 1 }, { s.set_timeouts, 1, 1, 0.5 },
                { s.set_timeouts, 1, 1, -1 }, { s.set_timeouts, 1, 1, 1 / 0 },
            } do
                local ok, err = pcall(case[1], case[2], case[3], case[4])
                ngx.say(ok, " ", err)
            end
            -- Errors are plain strings that name the line of the caller.
            for _, call in ipairs { function() s.set_target("a/b", 443) end, function() s.set_retries("1") end } do
                local ok, err = pcall(call)
                ngx.say((err:gsub("^access_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
            ngx.exit(200)
        }
    }
--- request
GET /t
--- response_body eval
sub of { my ($function, @errors) = @_; return map {"$_: kong.service.$function"} @errors }
CORE::join '', map({ my $error = $_; "false $error\n" }
    of('set_upstream', map({"host must be a string: given $_"} 'nil', '1', 'an empty table'),
        map { qq{host must be a host name or an IP address: given "$_"} }
            'a/b', 'a?b', 'a#b', 'a@service', 'service ', 'service\x00', 'service\r\n'),
    of('set_target', map({"host must be a string: given $_"} 'nil', '1'),
        map({"port must be an integer: given $_"} 'nil', 'the string "443"', '1.5', 'NaN'),
        map({ "port must be an integer between 0 and 65535: given $_" } -1, 65536, 'inf'),
        map { qq{host must be a host name or an IP address: given "$_"} }
            '', 'a/b', 'a?b', 'a#b', 'u@a', 'a b', 'a\x00b', 'a\r\nX: y', 'a:80', 'a\x7f', 'unix', 'UniX',
            'unix:/s', '[::1', '[a]', '::1%lo', '\xc3\xa9', 'a%2f', '$host'),
    of('set_retries', map({"retries must be an integer: given $_"} 'nil', 'the string "1"', '1.5'),
        map({ "retries must be an integer between 0 and 32767: given $_" } -1, 32768),
        'retries must be an integer: given NaN'),
    of('set_timeouts',
        'connect_timeout must be an integer: given nil', 'read_timeout must be an integer: given nil',
        'write_timeout must be an integer: given the string "1"',
        'connect_timeout must be an integer between 1 and 2147483646: given 0',
        'write_timeout must be an integer between 1 and 2147483646: given 2147483647',
        'read_timeout must be an integer: given 0.5',
        'read_timeout must be an integer between 1 and 2147483646: given -1',
        'read_timeout must be an integer between 1 and 2147483646: given inf'),
), map { "here: $_\n" }
    of('set_target', 'host must be a host name or an IP address: given "a/b"'),
    of('set_retries', 'retries must be an integer: given the string "1"')
--- no_error_log
[error]



=== TEST 20: set_upstream, set_target, set_retries and set_timeouts refuse wrong phases
--- config
    location /t {
        rewrite_by_lua_block {
            ngx.ctx.errors = { select(2, pcall(kong.service.set_upstream, "service")) }
            -- These are allowed.
            kong.service.set_target("127.0.0.1", 1)
            kong.service.set_retries(1)
            kong.service.set_timeouts(1, 1, 1)
        }
        content_by_lua_block {
            local errors = ngx.ctx.errors
            for _, name in ipairs { "set_upstream", "set_target", "set_retries", "set_timeouts" } do
                errors[#errors + 1] = select(2, pcall(kong.service[name], "service", 1))
            end
            ngx.say(table.concat(errors, "\n"))
        }
    }
--- request
GET /t
--- response_body
function cannot be called in rewrite phase (only in: access): kong.service.set_upstream
function cannot be called in content phase (only in: access): kong.service.set_upstream
function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.set_target
function cannot be called in content phase (only in: rewrite, access): kong.service.set_retries
function cannot be called in content phase (only in: rewrite, access): kong.service.set_timeouts
--- no_error_log
[error]



=== TEST 21: each refused request of a connection is logged, before the lines of plugins
--- config
    location /none {
        log_by_lua_block {
            ngx.log(ngx.WARN, "a line of a plugin")
        }
        proxy_pass https://$kong_upstream_target;
    }
    location /t {
        content_by_lua_block {
            local gateway = ngx.socket.tcp()
            assert(gateway:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
            for number = 1, 2 do
                assert(gateway:send("GET /none?" .. number .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                local length
                ngx.say((assert(gateway:receive())))
                repeat
                    local line = assert(gateway:receive())
                    length = tonumber(line:match("^Content%-Length: (%d+)")) or length
                until line == ""
                assert(gateway:receive(length))
            end
        }
    }
--- request
GET /t
--- response_body
HTTP/1.1 503 Service Temporarily Unavailable
HTTP/1.1 503 Service Temporarily Unavailable
--- grep_error_log eval
qr/(?:\$kong_upstream_target" is not set|a line of a plugin).*?request: "\K\S+ \S+/
--- grep_error_log_out
GET /none?1
GET /none?1
GET /none?2
GET /none?2



=== TEST 22: an unset $kong_upstream_target that nginx reads twice is logged once and counted once
--- http_config
    map $kong_upstream_target $path {
        default /sni;
    }
    map $kong_upstream_target $fixed {
        default https://service/sni;
    }
--- config
    location /twice {
        proxy_pass https://$kong_upstream_target$path;
    }
    # The map has a value for everything, also for an unset target.
    location /map {
        proxy_pass $fixed;
    }
    location /status {
        kong_tls_status;
    }
--- exchanges
GET /twice  => 503 /503 Service/
GET /map    => /^sni=/
GET /status => /"target": 1,/
--- grep_error_log eval
qr/is not set: neither|request: "\K\S+ \S+/
--- grep_error_log_out
is not set: neither
GET /twice



=== TEST 23: nginx uses the last of several pass directives
--- config
    location /first {
        fastcgi_pass unix:$TEST_NGINX_HTML_DIR/none.sock;
        access_by_lua_block {
            assert(kong.service.set_upstream("service"))
        }
        proxy_pass https://$kong_upstream_target/;
    }
    location /none {
        fastcgi_pass unix:$TEST_NGINX_HTML_DIR/none.sock;
        proxy_pass https://$kong_upstream_target/;
    }
    location /t {
        content_by_lua_block {
            -- Accepts connections, and never answers.
            local client = require "client"
            local silent = ngx.thread.spawn(client.run, { "perl", "-MSocket", "-e", [[
                socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
                bind($s, sockaddr_un($ARGV[0])) && listen($s, 8) or die $!;
                chmod 0777, $ARGV[0];
                sleep 60;
            ]], "$TEST_NGINX_HTML_DIR/silent.sock" }, { timeout = 60 })
            local deadline = ngx.now() + 10
            repeat
                ngx.sleep(0.01)
                local file = ngx.socket.tcp()
                local ok = file:connect("unix:$TEST_NGINX_HTML_DIR/silent.sock")
            until ok or ngx.now() > deadline
            ngx.say(ngx.location.capture("/timeouts").status)
            ngx.thread.kill(silent)
        }
    }
    location /timeouts {
        rewrite_by_lua_block {
            kong.service.set_timeouts(100, 100, 100)
        }
        proxy_pass https://service;
        scgi_pass unix:$TEST_NGINX_HTML_DIR/silent.sock;
    }
--- exchanges
GET /first => /^client=/
GET /none  => 503 /503 Service/
GET /t     => /^504$/



=== TEST 24: set_target removes a dot at the end, and refuses ambiguous IPv4 addresses
--- config
    location /t {
        access_by_lua_block {
            local function try(host)
                local ok, err = pcall(kong.service.set_target, host, 443)
                return ok and ngx.var.kong_upstream_target or (err:gsub("^.-host must", "host must"))
            end
            for _, host in ipairs { "service.test.", "192.0.2.1.", "0177.0.0.1", "127.1", "2130706433", "0x7f000001", "1.2.3.256",
                                    "service.test..", "." } do
                ngx.say(try(host))
            end
            ngx.say(try(("a"):rep(255)) == ("a"):rep(255) .. ":443", " ", try(("a"):rep(256)))
        }
    }
--- request
GET /t
--- response_body
service.test:443
192.0.2.1:443
host must be an IPv4 address of four decimal numbers: given "0177.0.0.1": kong.service.set_target
host must be an IPv4 address of four decimal numbers: given "127.1": kong.service.set_target
host must be an IPv4 address of four decimal numbers: given "2130706433": kong.service.set_target
host must be an IPv4 address of four decimal numbers: given "0x7f000001": kong.service.set_target
host must be an IPv4 address of four decimal numbers: given "1.2.3.256": kong.service.set_target
host must be a host name or an IP address: given "service.test..": kong.service.set_target
host must be a host name or an IP address: given ".": kong.service.set_target
true host must not be longer than 255 bytes: given 256: kong.service.set_target
--- no_error_log
[error]
