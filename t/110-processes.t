# SPDX-License-Identifier: Apache-2.0

# Several workers, reloads, and workers that shut down.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

$ENV{TEST_NGINX_BINARY} //= 'nginx';
master_on();
workers(2);
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: each of two workers sends the certificate of the request
--- config
    location /t {
        access_by_lua_block {
            local name = "client" .. (ngx.var.arg_n % 2 + 1)
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_pass https://service;
        add_header X-Worker $pid;
    }
--- exchanges
for $odd, $even (1 2  3 4  5 6  7 8  9 10  11 12  13 14  15 16  17 18  19 20)
    GET /t?n=$odd  => /^client=CN=client-2,/
    GET /t?n=$even => /^client=CN=client-1,/
--- no_error_log eval
# With OpenSSL 3.5, nginx logs an error when a service has closed the connection first.
[qr/\[error\](?!.*SSL_shutdown\(\) failed)/, "[alert]"]



=== TEST 2: requests with settings succeed during reloads
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
    location /loaded {
        content_by_lua_block { ngx.print(loaded) }
    }
    location /reload {
        content_by_lua_block {
            local client = require "client"
            local base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
            local file = io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid")
            local master = file:read("*n")
            file:close()

            local wrong = 0
            for turn = 1, 5 do
                local before = client.curl({ base .. "/loaded" }).out
                assert(client.run({ "kill", "-HUP", master }).code == 0)

                -- Repeats until a worker of the new configuration has answered.
                local deadline = ngx.now() + 5
                local new
                repeat
                    local answer = client.curl({ base .. "/t" }).out
                    if not answer:find("^client=CN=client%-1,") then
                        wrong = wrong + 1
                        ngx.log(ngx.WARN, "wrong answer: ", answer)
                    end
                    new = client.curl({ base .. "/loaded" }).out ~= before
                    ngx.update_time()
                until new or ngx.now() > deadline
                if not new then
                    ngx.say("not reloaded")
                end
            end
            ngx.say(wrong, " wrong answers")
        }
    }
--- request
GET /reload
--- response_body
0 wrong answers
--- no_error_log eval
# With OpenSSL 3.5, nginx logs an error when a service has closed the connection first.
[qr/\[error\](?!.*SSL_shutdown\(\) failed)/, "[alert]"]



=== TEST 3: reloads under traffic with idle connections mix no identities, and old workers exit
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 timeout=1h;
    }
--- config
    # The service is reloaded too, and may close an idle connection just as it is used: nginx logs an error, and sends
    # the request on another connection.
    location /connection {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        keeps_connections;
        proxy_pass https://kept;
    }
    location /loaded {
        content_by_lua_block { ngx.print(loaded, " ", ngx.worker.pid()) }
    }
    location /reload {
        content_by_lua_block {
            local client = require "client"
            local base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
            local file = io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid")
            local master = file:read("*n")
            file:close()

            local reloading, wrong, reused = true, 0, 0
            local function traffic(name, subject)
                while reloading do
                    -- Two requests on one connection to a worker: the second may find an idle connection to the
                    -- service.
                    local url = base .. "/connection?client=" .. name
                    local answer = client.curl({ url, url }).out
                    local _, good = answer:gsub("client=CN=" .. subject .. ",O=Test connection=%d+\n", "")
                    if good ~= 2 then
                        wrong = wrong + 1
                        ngx.log(ngx.WARN, "wrong answer: ", answer)
                    end
                    if answer:find("connection=[2-9]") then
                        reused = reused + 1
                    end
                end
            end
            local one = ngx.thread.spawn(traffic, "client1", "client%-1")
            local two = ngx.thread.spawn(traffic, "client2", "client%-2")

            local workers = {}
            for turn = 1, 3 do
                local before, worker = client.curl({ base .. "/loaded" }).out:match("^(.+) (%d+)$")
                workers[#workers + 1] = worker
                assert(client.run({ "kill", "-HUP", master }).code == 0)
                local deadline = ngx.now() + 5
                repeat
                    assert(ngx.now() < deadline, "not reloaded")
                    ngx.sleep(0.02)
                until client.curl({ base .. "/loaded" }).out:match("^(.+) %d+$") ~= before
            end
            reloading = false
            ngx.thread.wait(one)
            ngx.thread.wait(two)

            -- This request keeps the first of the workers alive; the others must exit.
            local mine = tostring(ngx.worker.pid())
            local deadline = ngx.now() + 10
            for _, worker in ipairs(workers) do
                while worker ~= mine and client.run({ "kill", "-0", worker }).code == 0 do
                    assert(ngx.now() < deadline, "worker " .. worker .. " does not end")
                    ngx.sleep(0.02)
                end
            end
            ngx.say(wrong, " wrong answers, ", reused > 0 and "connections reused" or "none reused")
        }
    }
--- request
GET /reload
--- response_body
0 wrong answers, connections reused
--- no_error_log eval
[qr/\[error\](?!.*SSL_write\(\) failed .*Broken pipe|.* upstream prematurely closed connection)/, qr/\[(?:crit|alert|emerg)\]/]



=== TEST 4: a worker that shuts down closes its idle connections without waiting for their timeout
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_SERVER_ROOT/apart.sock;
        kong_tls_keepalive 8 timeout=1h;
    }
--- config
    location /service {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        keeps_connections;
        proxy_pass https://kept;
        add_header X-Worker $pid;
    }
    location /t {
        content_by_lua_block {
            local client = require "client"

            -- Another nginx, which keeps its side of the connections open.
            local file = assert(io.open("$TEST_NGINX_SERVER_ROOT/apart.conf", "w"))
            file:write([[
                pid $TEST_NGINX_SERVER_ROOT/apart.pid;
                error_log $TEST_NGINX_SERVER_ROOT/apart.log;
                events {}
                http {
                    access_log off;
                    server {
                        listen unix:$TEST_NGINX_SERVER_ROOT/apart.sock ssl;
                        certificate service;
                        keepalive_timeout 1h;
                        return 200 "apart\n";
                    }
                }
            ]])
            file:close()
            local service = { "nginx", "-p", "$TEST_NGINX_SERVER_ROOT", "-c", "apart.conf" }
            assert(client.run(service).code == 0)

            local function from_worker()
                local answer = client.curl({ "-i", "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/service" }).out
                assert(answer:find("apart", 1, true), answer)
                return answer:match("X%-Worker: (%d+)")
            end
            local mine, worker = tostring(ngx.worker.pid())
            repeat
                worker = from_worker()
            until worker ~= mine

            local pid = assert(io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid"))
            assert(client.run({ "kill", "-HUP", pid:read("*n") }).code == 0)
            pid:close()
            local deadline = ngx.now() + 10
            while client.run({ "kill", "-0", worker }).code == 0 and ngx.now() < deadline do
                ngx.sleep(0.02)
            end
            ngx.say(ngx.now() < deadline and "ended" or "waits")

            service[#service + 1] = "-s"
            service[#service + 1] = "stop"
            client.run(service)
        }
    }
--- request
GET /t
--- response_body
ended
--- no_error_log
[error]
[alert]



=== TEST 5: counters cover all workers, and survive reloads
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        proxy_ssl_session_reuse off;
        proxy_pass https://service;
        add_header X-Worker $pid;
    }
    location /loaded {
        content_by_lua_block { ngx.print(loaded) }
    }
    location /status {
        kong_tls_status;
    }
    location /count {
        content_by_lua_block {
            local client = require "client"
            local base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
            local pid = assert(io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid"))
            local master = pid:read("*n")
            pid:close()

            -- Reloads, and waits until this worker, which takes no new connections, is the only old one.
            local function reload()
                local before = client.curl({ base .. "/loaded" }).out
                local old = client.run({ "ps", "-o", "pid=", "--ppid", master }).out
                assert(client.run({ "kill", "-HUP", master }).code == 0)
                local deadline = ngx.now() + 20
                local function is_done()
                    local new = client.run({ "ps", "-o", "pid=", "--ppid", master }).out
                    for pid in new:gmatch("%d+") do
                        if tonumber(pid) ~= ngx.worker.pid() and (" " .. old:gsub("%s+", " ")):find(" " .. pid .. " ", 1, true) then
                            return false
                        end
                    end
                    return ngx.worker.exiting() and client.curl({ base .. "/loaded" }).out ~= before
                end
                repeat
                    assert(ngx.now() < deadline, "not reloaded")
                    ngx.sleep(0.02)
                until is_done()
            end
            -- Sends requests until both workers have served some.
            local function serve()
                local workers, seen, requests = 0, {}, 0
                repeat
                    local answer = client.curl({ "-i", base .. "/t" }).out
                    local worker = assert(answer:match("X%-Worker: (%d+)"), answer)
                    workers = workers + (seen[worker] and 0 or 1)
                    seen[worker] = true
                    requests = requests + 1
                until workers == 2
                return requests
            end
            local function counted()
                return tonumber(client.curl({ base .. "/status" }).out:match('"full": (%d+)'))
            end
            local function edit(from, to)
                local name = "$TEST_NGINX_SERVER_ROOT/conf/nginx.conf"
                local file = assert(io.open(name))
                local text = file:read("*a")
                file:close()
                text = text:gsub(from, to)
                file = assert(io.open(name, "w"))
                file:write(text)
                file:close()
            end

            local function started()
                return tonumber(client.curl({ base .. "/status" }).out:match('"start_time_seconds": (%d+)'))
            end
            -- Lets the clock go on, so that another start would have another time.
            local function wait()
                local now = ngx.time()
                repeat
                    ngx.sleep(0.02)
                until ngx.time() > now
            end

            local served, first = serve(), started()
            ngx.say("all: ", counted() == served)
            wait()
            reload()
            ngx.say("after a reload: ", counted() == served, " ", started() == first)
            served = served + serve()
            ngx.say("and on: ", counted() == served)

            -- A configuration without counters, then one with counters again.
            edit("\n        kong_tls_status;", "\n        return 204;")
            reload()
            serve()
            ngx.say("without: ", counted())
            edit("\n        return 204;", "\n        kong_tls_status;")
            reload()
            served = serve()
            ngx.say("anew: ", counted() == served, " ", started() > first)
        }
    }
--- request
GET /count
--- response_body
all: true
after a reload: true true
and on: true
without: nil
anew: true true
--- no_error_log eval
# With OpenSSL 3.5, nginx logs an error when a service has closed the connection first.
[qr/\[error\](?!.*SSL_shutdown\(\) failed)/, "[alert]"]



=== TEST 6: a reload may remove the module, and load it again with another module
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local folder = "$TEST_NGINX_SERVER_ROOT"

            local function configure(modules, locations)
                local file = assert(io.open(folder .. "/apart.conf", "w"))
                for _, module in ipairs(modules) do
                    file:write("load_module ", module, ";\n")
                end
                file:write("pid ", folder, "/apart.pid; error_log ", folder, "/apart.log; events {}\n",
                           "http { access_log off; server { listen unix:", folder, "/apart.sock;\n",
                           locations, "} }\n")
                file:close()
            end
            local function get(path)
                return client.curl({ "--unix-socket", folder .. "/apart.sock", "http://localhost" .. path }).out
            end
            local with = {}
            for module in ("$TEST_NGINX_LOAD_MODULES"):gmatch("%S+") do
                with[#with + 1] = module
            end
            local echo = "/usr/lib/nginx/modules/ngx_http_echo_module.so"
            -- The module under test is last. The Lua module is before it, unless it is compiled in.
            local without, without_and_echo, with_and_echo = { unpack(with) }, { unpack(with) }, { unpack(with) }
            without[#with] = nil
            without_and_echo[#with] = echo
            with_and_echo[#with + 1] = echo
            local nginx = { "$TEST_NGINX_BINARY", "-p", folder, "-c", "apart.conf" }

            configure(with, "return 200 'with';")
            assert(client.run(nginx).code == 0)
            for number, turn in ipairs {
                { without, "return 200 'without';", "/", "without" },
                { without_and_echo, "location / { echo -n other; }", "/", "other" },
                { with_and_echo,
                  "location / { echo -n both; } location /status { kong_tls_status; }", "/", "both" },
                { with_and_echo,
                  "location / { echo -n again; } location /status { kong_tls_status; }", "/", "again" },
            } do
                configure(turn[1], turn[2])
                local pid = assert(io.open(folder .. "/apart.pid"))
                assert(client.run({ "kill", "-HUP", pid:read("*n") }).code == 0)
                pid:close()
                local deadline = ngx.now() + 10
                local answer
                repeat
                    ngx.sleep(0.02)
                    answer = get(turn[3])
                until answer == turn[4] or ngx.now() > deadline
                ngx.say(number, " ", answer)
            end
            ngx.say(get("/status"):match('"target": %d'))

            nginx[#nginx + 1] = "-s"
            nginx[#nginx + 1] = "stop"
            ngx.say(client.run(nginx).code)
        }
    }
--- request
GET /t
--- response_body
1 without
2 other
3 both
4 again
"target": 0
0
--- no_error_log
[error]
[alert]



=== TEST 7: a client's session resumes in all workers, and a client is asked first after a reload
--- http_config
    ssl_session_ticket_key $TEST_NGINX_HTML_DIR/ticket.key;
    gateway {
        ssl_verify_depth 3;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
        location = /which {
            content_by_lua_block {
                local pem = kong.client.tls.get_full_client_certificate_chain()
                ngx.print(loaded, " ", ngx.worker.pid(), " ", select(2, pem:gsub("BEGIN CERTIFICATE", "")))
            }
        }
    }
--- user_files eval
[["ticket.key" => pack "C*", 0 .. 79]]
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local function connect(direction)
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "gateway.test", tls = "1.3",
                    cert = "client-deep", [direction] = "$TEST_NGINX_HTML_DIR/session",
                    request = "GET /which HTTP/1.0\r\nHost: gateway.test\r\n\r\n",
                }
                local configuration, worker, certificates = seen.body:match("^(.*) (%d+) (%d+)$")
                assert(certificates == "3", seen.body .. seen.err)
                return seen.reused, worker, configuration
            end
            local function until_all(done)
                local deadline = ngx.now() + 20
                repeat
                    assert(ngx.now() < deadline, "this takes too long")
                    ngx.update_time()
                until done()
            end

            local _, first, before = connect("sess_out")
            -- How each worker treated the session, in order.
            local turns, workers = { [first] = "" }, 1
            until_all(function()
                local reused, worker = connect("sess_in")
                workers = workers + (turns[worker] and 0 or 1)
                turns[worker] = (turns[worker] or "") .. (reused and "reused " or "new ")
                local shortest = math.huge
                for _, seen in pairs(turns) do
                    shortest = math.min(shortest, #seen)
                end
                return workers == 2 and shortest > 10
            end)
            for worker, seen in pairs(turns) do
                if seen:find("new") then
                    ngx.say(worker == first and "first: " or "second: ", seen)
                end
            end

            local pid = assert(io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid"))
            assert(client.run({ "kill", "-HUP", pid:read("*n") }).code == 0)
            pid:close()
            until_all(function()
                local reused, _, configuration = connect("sess_in")
                if configuration ~= before then
                    ngx.say("after a reload: ", reused and "reused" or "new")
                    return true
                end
            end)
        }
    }
--- request
GET /t
--- response_body
after a reload: new
--- no_error_log
[error]
[alert]
