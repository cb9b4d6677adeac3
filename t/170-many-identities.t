# SPDX-License-Identifier: Apache-2.0

# Ten times as many identities as the session cache has room for: memory does not grow, and each request is served.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# A debug log would take longer than the requests.
log_level('notice');
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: 10,000 identities are served with room for 1,000 sessions, and memory does not grow
--- http_config
    kong_tls_session_cache 1000 timeout=1h;
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/quick.sock;
        kong_tls_keepalive 16;
    }
    # Requests no client certificate, which saves a signature in each of 10,000 handshakes.
    server {
        listen unix:$TEST_NGINX_HTML_DIR/quick.sock ssl;
        certificate service;
        return 200 "name=$ssl_server_name reused=$ssl_session_reused\n";
    }
--- config
    keepalive_requests 1000000;
    location /service {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            -- The service's certificate has all of these names.
            assert(tls.set_upstream_ssl_sans_dnsnames { "n" .. ngx.var.arg_n .. ".wild.test" })
        }
        proxy_ssl_name n$arg_n.wild.test;
        proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        keeps_connections;
        proxy_pass https://kept/;
    }
    location /t {
        content_by_lua_block {
            local gateway = ngx.socket.tcp()
            gateway:settimeouts(60000, 60000, 60000)
            assert(gateway:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))

            local function seen(n)
                assert(gateway:send("GET /service?n=" .. n .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                local length
                repeat
                    local line = assert(gateway:receive())
                    length = tonumber(line:match("^Content%-Length: (%d+)")) or length
                until line == ""
                return assert(gateway:receive(length))
            end
            -- Returns the number of bytes that belong to this worker alone.
            local function memory()
                collectgarbage()
                local total = 0
                for line in io.lines("/proc/self/smaps_rollup") do
                    total = total + (tonumber(line:match("^Private_Dirty: +(%d+) kB")) or 0) * 1024
                end
                return total
            end
            local answered, resumed = 0, 0
            local function all(from, to)
                for n = from, to do
                    local answer = seen(n)
                    if answer:find("name=n" .. n .. ".wild.test ", 1, true) then
                        answered = answered + 1
                    end
                    if answer:find("reused=r", 1, true) then
                        resumed = resumed + 1
                    end
                end
            end

            all(1, 2000)
            local full = memory()
            all(2001, 10000)
            local grown = memory() - full
            ngx.say(answered, " answered, ", resumed, " resumed")
            -- 8,000 more sessions would take far more than this.
            ngx.say(grown < 2 * 1024 * 1024 and "flat" or "grown by " .. grown)
            -- In turn, one identity more than there is room for: if the least recently used session always made room,
            -- no session would ever be resumed.
            for turn = 1, 8 do
                resumed = 0
                all(1, 1001)
            end
            ngx.say(resumed > 800 and "most resumed" or resumed .. " resumed")
        }
    }
--- timeout: 600
--- request
GET /t
--- response_body
10000 answered, 0 resumed
flat
most resumed
--- no_error_log
[error]
[alert]
