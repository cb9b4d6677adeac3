# SPDX-License-Identifier: Apache-2.0

# Targets in the balancer phase: set_target, choose_target, and the function of set_target_retry_callback.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# Three addresses: the first answers 503, the second closes connections before the handshake, the third answers.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $http_config = $block->http_config // '';
    $block->set_value('http_config', <<'_EOC_' . $http_config);
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.3:$TEST_NGINX_RAND_PORT_1 ssl;
        ssl_certificate $TEST_NGINX_PKI/service.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        set $answer "$server_addr sni=$ssl_server_name host=$http_host client=$ssl_client_s_dn connection=$connection_requests\n";
        location / {
            if ($server_addr = 127.0.0.1) {
                return 503;
            }
            return 200 $answer;
        }
    }
    server {
        listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
        return 444;
    }
_EOC_
    (my $config = $block->config // '') =~ s{ passes;[ \n]}{<<"_EOC_"}ge;
        proxy_ssl_name service.test;
        proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate \$TEST_NGINX_PKI/ca.crt;
        proxy_next_upstream error timeout http_503;
        proxy_set_header Host service.test;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://chosen;
_EOC_
    $block->set_value('config', $config);
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: set_target in the balancer phase makes the address the peer, for each request its own
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(select("#", kong.service.set_target(ngx.var.arg_host, $TEST_NGINX_RAND_PORT_1)) == 0)
        }
        kong_tls_keepalive 4;
    }
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            assert(kong.service.set_tls_verify(true))
        }
        passes;
    }
--- exchanges
GET /t?host=127.0.0.3&client=client1 => /^127.0.0.3 sni=service.test host=service.test client=CN=client-1,O=Test connection=1/
GET /t?host=127.0.0.3&client=client2 => /^127.0.0.3 sni=service.test host=service.test client=CN=client-2,O=Test connection=1/
GET /t?host=127.0.0.3&client=client1 => /^127.0.0.3 sni=service.test host=service.test client=CN=client-1,O=Test connection=2/
GET /t?host=127.0.0.1                => 503
GET /t?host=127.0.0.3                => /^127.0.0.3 sni=service.test host=service.test client= connection=1/
--- no_error_log
[alert]
[error]



=== TEST 2: the verified name stays that of the location, or is what set_tls_verify_names says
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block {
            kong.service.set_target("127.0.0.3", $TEST_NGINX_RAND_PORT_1)
            if ngx.var.arg_ip then
                assert(kong.service.set_tls_verify_names { host = "127.0.0.3" })
            elseif ngx.var.arg_name then
                assert(kong.service.set_tls_verify_names { host = "service.test" })
            end
        }
    }
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://chosen;
    }
--- exchanges
GET /t        => 502
GET /t?ip=1   => 502
GET /t?name=1 => /^127.0.0.3 /
--- error_log
carries none of the accepted names: host "127.0.0.3"
upstream SSL certificate does not match "chosen"
--- no_error_log
[alert]



=== TEST 3: set_target in the balancer phase takes no name, and nothing that is no target
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block {
            local ok, err = pcall(kong.service.set_target, ngx.var.arg_host, tonumber(ngx.var.arg_port) or 443)
            ngx.log(ngx.WARN, "said: ", ok, " ", err, ";")
            if ngx.var.arg_throw then
                kong.service.set_target("service.test", 443)
            end
            assert(require("ngx.balancer").set_current_peer("127.0.0.3", $TEST_NGINX_RAND_PORT_1))
        }
    }
--- config
    location /t { passes; }
--- exchanges
GET /t?host=service.test   => /^127.0.0.3 /
GET /t?host=a/b            => /^127.0.0.3 /
GET /t?host=127.1          => /^127.0.0.3 /
GET /t?host=1.2.3.4&port=70000 => /^127.0.0.3 /
GET /t?throw=1             => 500
--- grep_error_log eval
qr/said: [^;]*/
--- grep_error_log_out
said: false host must be an IP address in the balancer phase: given "service.test" (nothing can be resolved there): kong.service.set_target
said: false host must be a host name or an IP address: given "a/b": kong.service.set_target
said: false host must be an IPv4 address of four decimal numbers: given "127.1": kong.service.set_target
said: false port must be an integer between 0 and 65535: given 70000: kong.service.set_target
said: false host must be a string: given nil: kong.service.set_target
--- error_log
host must be an IP address in the balancer phase: given "service.test" (nothing can be resolved there): kong.service.set_target
--- no_error_log
[alert]



=== TEST 4: a balancer that forgets the target of a former attempt is refused
--- http_config
    upstream chosen {
        server 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
        balancer_by_lua_block {
            local attempt = (ngx.ctx.attempt or 0) + 1
            ngx.ctx.attempt = attempt
            if attempt == 1 then
                assert(require("ngx.balancer").set_more_tries(1))
                kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            elseif ngx.var.arg_keep then
                kong.service.choose_target()
            end
        }
    }
--- config
    location /t { passes; }
    location /status { kong_tls_status; }
--- exchanges
GET /t        => 500
GET /t?keep=1 => 503
GET /status   => /"target": 1,/
--- grep_error_log eval
qr/\[error\]|kong.service.set_target was called in the balancer phase of a former attempt/
--- grep_error_log_out
[error]
kong.service.set_target was called in the balancer phase of a former attempt
--- no_error_log
[alert]



=== TEST 5: choose_target makes the target that was set before the peer, and tries it as often as set_retries says
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block { kong.service.choose_target() }
    }
--- config
    location /t {
        access_by_lua_block {
            if ngx.var.arg_host then
                kong.service.set_target(ngx.var.arg_host, $TEST_NGINX_RAND_PORT_1)
            end
            if ngx.var.arg_retries then
                kong.service.set_retries(tonumber(ngx.var.arg_retries))
            end
        }
        add_header X-Tries $upstream_addr always;
        passes;
    }
--- request eval
[map {"GET /t?$_"} qw(host=127.0.0.3 host=127.0.0.1 host=127.0.0.1&retries=2 host=service.test none=1)]
--- response_headers_like eval
['X-Tries: 127.0.0.3:\d+$', 'X-Tries: 127.0.0.1:\d+$', 'X-Tries: 127.0.0.1:\d+, 127.0.0.1:\d+, 127.0.0.1:\d+$', '', '']
--- error_code eval
[200, 503, 503, 500, 500]
--- error_log eval
[qr/the target of the request is "service.test:\d+": in the balancer phase, it must be an IP address/,
 'no target is set: kong.service.set_target was not called for the request: kong.service.choose_target']
--- no_error_log
[alert]



=== TEST 6: the function of set_target_retry_callback gives the target of each retry, and its settings
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block { kong.service.choose_target() }
        kong_tls_keepalive 4;
    }
--- config
    location /t {
        access_by_lua_block {
            local way, port = ngx.var.arg_way, $TEST_NGINX_RAND_PORT_1
            kong.service.set_target("127.0.0.1", port)
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            local calls = 0
            assert(select("#", kong.service.set_target_retry_callback(function()
                calls = calls + 1
                assert(ngx.get_phase() == "balancer")
                assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
                local host = ({ "127.0.0.2", "127.0.0.3" })[calls]
                if way == "kong" then
                    -- As Kong's own plugins do.
                    kong.service.set_target(host, port)
                    return true
                elseif way == "same" then
                    return true
                end
                return host, port
            end)) == 0)
        }
        add_header X-Tries $upstream_addr always;
        passes;
    }
--- request eval
[map {"GET /t?way=$_"} qw(returned kong same)]
--- response_headers_like eval
[('X-Tries: 127.0.0.1:\d+, 127.0.0.2:\d+, 127.0.0.3:\d+$') x 2, 'X-Tries: (?:127.0.0.1:\d+, ){5}127.0.0.1:\d+$']
--- response_body_like eval
[('^127.0.0.3 sni=service.test host=service.test client=CN=client-2,O=Test connection=') x 2, '503']
--- error_code eval
[200, 200, 503]
--- no_error_log
[alert]



=== TEST 7: set_retries and proxy_next_upstream_tries limit the retries of the function
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block { kong.service.choose_target() }
    }
--- config
    access_by_lua_block {
        kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
        kong.service.set_target_retry_callback(function() return "127.0.0.1", $TEST_NGINX_RAND_PORT_1 end)
        if ngx.var.arg_retries then
            kong.service.set_retries(tonumber(ngx.var.arg_retries))
        end
    }
    add_header X-Tries $upstream_addr always;
    location /t { passes; }
    location /tries {
        proxy_next_upstream_tries 2;
        passes;
    }
--- request eval
["GET /t?retries=0", "GET /t?retries=7", "GET /t", "GET /tries"]
--- response_headers_like eval
[map { 'X-Tries: (?:127.0.0.1:\d+, ){' . $_ . '}127.0.0.1:\d+$' } 0, 7, 5, 1]
--- error_code eval
[503, 503, 503, 503]
--- no_error_log
[alert]
[error]



=== TEST 8: a function that fails ends the request with one line, and is never asked again
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block { kong.service.choose_target() }
    }
--- config
    location /t {
        access_by_lua_block {
            local port = $TEST_NGINX_RAND_PORT_1
            local functions = {
                throws = function() error("no more", 0) end,
                throws_table = function() error({}) end,
                yields = function() error(select(2, pcall(ngx.sleep, 0.01)), 0) end,
                coroutine = function() error(select(2, pcall(coroutine.yield)), 0) end,
                socket = function() error(select(2, pcall(ngx.socket.tcp)), 0) end,
                nothing = function() end,
                refuses = function() return false, "all failed" end,
                reason = function() return nil, nil, "all failed" end,
                number = function() return 1, 443 end,
                no_port = function() return "127.0.0.3" end,
                text_port = function() return "127.0.0.3", "443" end,
                name = function() return "service.test", port end,
                bad = function() return "a/b", port end,
                range = function() return "127.0.0.3", 70000 end,
                exits = function() ngx.exit(503) return "127.0.0.3", port end,
            }
            kong.service.set_target("127.0.0.1", port)
            kong.service.set_target_retry_callback(functions[ngx.var.arg_way])
        }
        passes;
    }
--- exchanges
for $way (throws throws_table yields coroutine socket nothing refuses reason number no_port text_port name bad range exits)
    GET /t?way=$way => 500
--- grep_error_log eval
qr/failed to run balancer_by_lua\*: balancer_by_lua\S+ the function of kong.service.set_target_retry_callback \K[^\n]*/
--- grep_error_log_out eval
my $gave = 'gave a wrong target:';
my $must = 'must return a host and a port, or true:';
CORE::join '', map {"$_: kong.service.choose_target\n"}
    'threw: no more', 'threw: a table', ('threw: API disabled in the context of balancer_by_lua*') x 3,
    'gave no target: nil', 'gave no target: all failed', 'gave no target: all failed',
    "$must given number and number", "$must given string and nil", "$must given string and string",
    qq{$gave host must be an IP address in the balancer phase: given "service.test" (nothing can be resolved there)},
    qq{$gave host must be a host name or an IP address: given "a/b"},
    "$gave port must be an integer between 0 and 65535: given 70000"
--- no_error_log
[alert]



=== TEST 9: without choose_target in the block, a function for retries is refused at the first attempt
--- http_config
    upstream chosen {
        server 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("127.0.0.3", $TEST_NGINX_RAND_PORT_1))
        }
    }
--- config
    set $block chosen;
    set $address 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
    rewrite_by_lua_block {
        if not ngx.var.arg_none then
            kong.service.set_target_retry_callback(function() return "127.0.0.3", $TEST_NGINX_RAND_PORT_1 end)
        end
    }
    location /block { passes; }
    location /lua { proxy_pass https://lua; }
    location /variable { proxy_pass https://$block; }
    location /address { proxy_pass https://$address; }
    location /target {
        access_by_lua_block { kong.service.set_target("127.0.0.3", $TEST_NGINX_RAND_PORT_1) }
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
for $way (block lua variable address target)
    GET /$way        => 500
    GET /$way?none=1 => /^127.0.0.3 /
--- grep_error_log eval
qr/\[error\]|kong.service.set_target_retry_callback was called, and no balancer_by_lua\* calls kong.service.choose_target/
--- grep_error_log_out eval
"[error]\nkong.service.set_target_retry_callback was called, and no balancer_by_lua* calls kong.service.choose_target\n" x 5
--- no_error_log
[alert]



=== TEST 10: a function for retries stays with its request through redirects, and with no other
--- http_config
    upstream chosen {
        server 0.0.0.1;
        balancer_by_lua_block { kong.service.choose_target() }
    }
--- config
    location /t {
        rewrite_by_lua_block {
            -- In a function of its own: locals of a handler do not outlive ngx.exec.
            local function set(n, port)
                kong.service.set_target("127.0.0.1", port)
                if n then
                    kong.service.set_target_retry_callback(function() error("an older one") end)
                    kong.service.set_target_retry_callback(function()
                        ngx.log(ngx.WARN, "asked: ", n, ";")
                        return "127.0.0.3", port
                    end)
                end
            end
            set(ngx.var.arg_n, $TEST_NGINX_RAND_PORT_1)
            collectgarbage()
            ngx.exec("/next")
        }
    }
    location /next {
        internal;
        passes;
    }
--- exchanges
GET /t?n=1 => /^127.0.0.3 /
GET /t     => 503
GET /t?n=2 => /^127.0.0.3 /
GET /t?n=3 => /^127.0.0.3 /
--- grep_error_log eval
qr/asked: [^;]*/
--- grep_error_log_out
asked: 1
asked: 2
asked: 3
--- no_error_log
[alert]
an older one



=== TEST 11: set_target_retry_callback takes only a function
--- config
    location /t {
        access_by_lua_block {
            for _, wrong in ipairs { 1, "f", {}, setmetatable({}, { __call = function() end }), true } do
                ngx.say(select(2, pcall(kong.service.set_target_retry_callback, wrong)))
            end
            ngx.say(select(2, pcall(kong.service.set_target_retry_callback)))
            ngx.say(select(2, pcall(kong.service.choose_target)))
        }
    }
--- request
GET /t
--- response_body
retry_callback must be a function: given 1: kong.service.set_target_retry_callback
retry_callback must be a function: given the string "f": kong.service.set_target_retry_callback
retry_callback must be a function: given an empty table: kong.service.set_target_retry_callback
retry_callback must be a function: given an empty table: kong.service.set_target_retry_callback
retry_callback must be a function: given true: kong.service.set_target_retry_callback
retry_callback must be a function: given nil: kong.service.set_target_retry_callback
function cannot be called in access phase (only in: balancer): kong.service.choose_target
--- no_error_log
[error]
