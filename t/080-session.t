# SPDX-License-Identifier: Apache-2.0

# kong.client.tls.disable_session_reuse: the client gets no session to resume.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# Connects twice with each version of TLS; the second connection offers the session of the first.
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('config', <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, version in ipairs { "1.2", "1.3" } do
                for _, direction in ipairs { "sess_out", "sess_in" } do
                    local name = ngx.var.arg_name or "gateway.test"
                    local file = "$TEST_NGINX_HTML_DIR/" .. name .. version
                    if direction == "sess_out" then
                        os.remove(file)
                    elseif not io.open(file) then
                        -- s_client has written no session to offer.
                        direction = "nothing"
                    end
                    local seen = client.s_client {
                        unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = name, tls = version,
                        cert = ngx.var.arg_cert,
                        [direction] = file,
                        request = "GET /reused HTTP/1.0\r\nHost: " .. name .. "\r\n\r\n",
                    }
                    ngx.print(seen.protocol, " ", seen.reused and "reused" or "new",
                              seen.session_id ~= "" and version == "1.2" and " id" or "",
                              seen.tickets > 0 and " tickets" or "", " ", seen.body)
                end
            end
        }
    }
_EOC_
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: sessions are resumed without disable_session_reuse (tickets)
--- http_config
    gateway {
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- request
GET /t
--- response_body
TLSv1.2 new id tickets .
TLSv1.2 reused id tickets r
TLSv1.3 new tickets .
TLSv1.3 reused tickets r
--- no_error_log
[error]



=== TEST 2: sessions are resumed without disable_session_reuse (session cache)
--- http_config
    gateway {
        ssl_session_tickets off;
        ssl_session_cache shared:sessions:1m;
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- request
GET /t
--- response_body
TLSv1.2 new id .
TLSv1.2 reused id r
TLSv1.3 new tickets .
TLSv1.3 reused tickets r
--- no_error_log
[error]



=== TEST 3: disable_session_reuse sends neither a session id nor a ticket
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.disable_session_reuse())
        }
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- request
GET /t
--- response_body
TLSv1.2 new .
TLSv1.2 new .
TLSv1.3 new .
TLSv1.3 new .
--- no_error_log
[error]



=== TEST 4: disable_session_reuse works with a shared session cache
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        ssl_certificate_by_lua_block {
            assert(tls.disable_session_reuse())
        }
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- request
GET /t
--- response_body
TLSv1.2 new .
TLSv1.2 new .
TLSv1.3 new .
TLSv1.3 new .
--- no_error_log
[error]



=== TEST 5: disable_session_reuse works with a builtin session cache and no tickets
--- http_config
    gateway {
        ssl_session_cache builtin:1000;
        ssl_session_tickets off;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.disable_session_reuse())
        }
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- request
GET /t
--- response_body
TLSv1.2 new .
TLSv1.2 new .
TLSv1.3 new .
TLSv1.3 new .
--- no_error_log
[error]



=== TEST 6: disable_session_reuse works with a client certificate
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(kong.client.tls.disable_session_reuse())
        }
        location /reused {
            return 200 "$ssl_session_reused $ssl_client_verify\n";
        }
    }
--- config
--- request
GET /t?cert=client1
--- response_body
TLSv1.2 new . SUCCESS
TLSv1.2 new . SUCCESS
TLSv1.3 new . SUCCESS
TLSv1.3 new . SUCCESS
--- no_error_log
[error]



=== TEST 7: disable_session_reuse applies to one connection: another server name still resumes
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        ssl_certificate_by_lua_block {
            if require("ngx.ssl").server_name() == "a.test" then
                assert(kong.client.tls.disable_session_reuse())
            end
        }
        location /reused {
            return 200 "$ssl_session_reused\n";
        }
    }
--- config
--- exchanges
GET /t?name=a.test =>
    TLSv1.2 new .
    TLSv1.2 new .
    TLSv1.3 new .
    TLSv1.3 new .
GET /t?name=b.test =>
    TLSv1.2 new id tickets .
    TLSv1.2 reused id tickets r
    TLSv1.3 new tickets .
    TLSv1.3 reused tickets r
GET /t?name=a.test =>
    TLSv1.2 new .
    TLSv1.2 new .
    TLSv1.3 new .
    TLSv1.3 new .
--- no_error_log
[error]
