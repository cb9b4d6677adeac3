# Workers, a single process, reload, and quitting.

use lib 't/support';
use TestService;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: several workers
--- config
    location /t {
        access_by_lua_block {
            local name = "client" .. (ngx.var.arg_n % 2 + 1)
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_pass https://service;
        add_header X-Worker $pid;
    }
--- request eval
[map { "GET /t?n=$_" } 1 .. 20]
--- response_body_like eval
[map { $_ % 2 ? "^client=CN=client-2," : "^client=CN=client-1," } 1 .. 20]
--- error_code eval
[(200) x 20]
--- no_error_log
[error]
[alert]



=== TEST 2: reload: requests go on, with the settings of the new configuration
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

                -- Until a worker of the new configuration has answered.
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
--- timeout: 60
--- response_body
0 wrong answers
--- no_error_log
[error]
[alert]
