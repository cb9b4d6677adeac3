# SPDX-License-Identifier: Apache-2.0

# The errors of Kong's PDK and of lua-kong-nginx-module: each of their texts is here once. What resty.kong.tls throws is
# that text, and what it returns begins with it. What kong.client.tls and kong.service throw begins with it.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# Expands "define_try;" to a function that says what a call throws, without the place, or returns; and "sockets;" to
# functions that connect to the service, and that say which server name a socket has sent.
add_block_preprocessor(sub {
    my ($block) = @_;
    (my $config = $block->config) =~ s{^( *)define_try;\n}{<<"_EOC_"}me;
            local function try(f, ...)
                local ok, value, err = pcall(f, ...)
                local text = ok and err or tostring(value)
                ngx.say(ok and "returns " or "throws ", text)
            end
_EOC_
    $block->set_value('config', $config);
    (my $http_config = $block->http_config // '') =~ s{^    sockets;\n}{<<'_EOC_'}me;
    init_worker_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "const char *SSL_get_servername(const struct ssl_st *, const int);"
        function name_of(sock)
            local ssl, err = tls.get_ssl_pointer(sock)
            return ssl and ffi.string(ffi.C.SSL_get_servername(ssl, 0)) or err
        end
        function connected(name)
            local sock = ngx.socket.tcp()
            assert(sock:connect("unix:$TEST_NGINX_HTML_DIR/service.sock"))
            if name then
                assert(sock:sslhandshake(nil, name))
            end
            return sock
        end
    }
_EOC_
    $block->set_value('http_config', $http_config);
});

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: what resty.kong.tls throws is what lua-kong-nginx-module throws
--- config
    location /t {
        access_by_lua_block {
    define_try;
            local c, k = cert.client1, key.client1
            try(tls.set_upstream_cert_and_key, nil, k)
            try(tls.set_upstream_cert_and_key, c, nil)
            try(tls.set_upstream_cert_and_key, c, false)
            for _, value in ipairs { "on", 1, {}, print, ngx.null } do
                try(tls.set_upstream_ssl_verify, value)
            end
            try(tls.set_upstream_ssl_verify)
            try(tls.set_upstream_ssl_verify_depth, "1")
            try(tls.set_upstream_ssl_verify_depth)
            try(tls.set_upstream_ssl_verify_depth, -1)
            for _, value in ipairs { "ca.crt", 1, {}, pki.store("ca").ctx } do
                try(tls.set_upstream_ssl_trusted_store, value)
            end
            try(tls.set_upstream_ssl_trusted_store)
            for _, set in ipairs { tls.set_upstream_ssl_sans_dnsnames, tls.set_upstream_ssl_sans_uris } do
                try(set, "a.test")
                try(set)
                try(set, {})
            end
            -- In the wrong phase, what is thrown begins like this.
            ngx.say((select(2, pcall(tls.disable_session_reuse)):match("^[%w ]+")))
        }
    }
--- request
GET /t
--- response_body
throws chain and key must not be nil
throws chain and key must not be nil
throws chain and key must not be nil
throws verify expects a boolean but found string
throws verify expects a boolean but found number
throws verify expects a boolean but found table
throws verify expects a boolean but found function
throws verify expects a boolean but found userdata
throws verify expects a boolean but found nil
throws depth expects a number but found string
throws depth expects a number but found nil
throws depth expects a non-negative integer but found -1
throws store expects a resty.openssl.x509.store object but found string
throws store expects a resty.openssl.x509.store object but found number
throws store expects a resty.openssl.x509.store object but found table
throws store expects a resty.openssl.x509.store object but found cdata
throws store expects a resty.openssl.x509.store object but found nil
throws incorrect argument, expects an array, got string
throws incorrect argument, expects an array, got nil
throws incorrect argument, the value can not be an empty array
throws incorrect argument, expects an array, got string
throws incorrect argument, expects an array, got nil
throws incorrect argument, the value can not be an empty array
API disabled in the current context
--- no_error_log
[error]



=== TEST 2: what resty.kong.tls returns begins with what lua-kong-nginx-module returns
--- config
    location /t {
        kong_tls_certificate_verify on;
        access_by_lua_block {
    define_try;
            local ffi = require "ffi"
            try(tls.set_upstream_cert_and_key, cert.client1, key.client2)
            try(tls.set_upstream_ssl_trusted_store, { ctx = ffi.cast("X509_STORE *", 8) })
            try(tls.set_upstream_ssl_verify, false)
            try(tls.set_upstream_ssl_verify_depth, 101)
            try(tls.set_upstream_ssl_sans_dnsnames, { "a b" })
            try(tls.set_upstream_ssl_sans_uris, { "a b" })
            try(tls.get_full_client_certificate_chain)
            try(tls.get_request_ssl_pointer)
            try(tls.get_ssl_pointer, ngx.socket.tcp())
        }
    }
--- request
GET /t
--- response_body
returns error while setting upstream client cert and key: key does not belong to the first certificate of chain
returns error while setting upstream trusted store: store is not a certificate store
returns error while setting upstream ssl verify mode: TLS certificate verification is enforced
returns error while setting upstream ssl verify depth: depth must be an integer between 0 and 100: given 101
returns error while setting upstream SSL dnsnames SANs: names must hold printable ASCII: given "a b"
returns error while setting upstream SSL URIs SANs: names must hold printable ASCII: given "a b"
returns connection is not TLS or TLS support for Nginx not enabled
returns no ssl object
returns no ssl object
--- no_error_log
[error]



=== TEST 3: what kong.client.tls and kong.service throw begins with what Kong's PDK throws
--- config
    location /t {
        access_by_lua_block {
            local s, c = kong.service, kong.client.tls
            local store = "argument must be a resty.openssl.x509.store object"
            for _, case in ipairs {
                { "host must be a string", s.set_upstream, 127001 },
                { "host must be a string", s.set_target, 127001, 123 },
                { "port must be an integer", s.set_target, "example.test", "foo" },
                { "port must be an integer", s.set_target, "example.test", 123.4 },
                { "port must be an integer between 0 and 65535: given -1", s.set_target, "example.test", -1 },
                { "port must be an integer between 0 and 65535: given 70000", s.set_target, "example.test", 70000 },
                { "retries must be an integer", s.set_retries, "2" },
                { "retries must be an integer", s.set_retries, 1.23 },
                { "retries must be an integer between 0 and 32767: given -1", s.set_retries, -1 },
                { "retries must be an integer between 0 and 32767: given 32768", s.set_retries, 32768 },
                { "connect_timeout must be an integer", s.set_timeouts, "2", 1, 1 },
                { "write_timeout must be an integer", s.set_timeouts, 2, "1", 1 },
                { "read_timeout must be an integer", s.set_timeouts, 2, 1, "1" },
                { "connect_timeout must be an integer between 1 and 2147483646: given -1", s.set_timeouts, -1, 1, 1 },
                { "write_timeout must be an integer between 1 and 2147483646: given 0", s.set_timeouts, 2, 0, 1 },
                { "read_timeout must be an integer between 1 and 2147483646: given 2147483647", s.set_timeouts, 2, 1, 2147483647 },
                { "chain must be a parsed cdata object", s.set_tls_cert_key, "foo", "bar" },
                { "key must be a parsed cdata object", s.set_tls_cert_key, cert.client1, "bar" },
                { "argument must be a boolean", s.set_tls_verify, "on" },
                { "argument must be a number", s.set_tls_verify_depth, "1" },
                { "depth expects a non-negative integer but found -1", s.set_tls_verify_depth, -1 },
                { store, s.set_tls_verify_store, "ca.crt" },
                { "store expects a resty.openssl.x509.store object but found table", s.set_tls_verify_store, {} },
                { 'unknown client verify value: x accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"', c.set_client_verify, "x" },
                { "function cannot be called in access phase (only in: certificate)", c.disable_session_reuse },
            } do
                local ok, err = pcall(unpack(case, 2))
                if ok or err:sub(1, #case[1]) ~= case[1] then
                    ngx.say(tostring(err), " must begin with ", case[1])
                end
            end
            -- What is returned is Kong's.
            ngx.say((select(2, s.set_upstream("none"))))
            ngx.say((select(2, c.get_full_client_certificate_chain())))
        }
    }
--- request
GET /t
--- response_body
could not find an Upstream named 'none'
connection is not TLS or TLS support for Nginx not enabled
--- no_error_log
[error]



=== TEST 4: get_ssl_pointer returns the SSL object of a socket as long as it has one
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 plain;
    }
    sockets;
--- config
    location /t {
        content_by_lua_block {
            local fresh = ngx.socket.tcp()
            ngx.say(name_of(fresh))
            ngx.say(name_of(connected()))
            local one, two = connected("one.test"), connected("two.test")
            ngx.say(name_of(one), " ", name_of(two))
            one:close()
            ngx.say(name_of(one), " ", name_of(two))
            assert(two:send("GET /sni HTTP/1.1\r\nHost: two.test\r\n\r\n"))
            local length
            repeat
                local line = assert(two:receive())
                length = line:match("^Content%-Length: (%d+)") or length
            until line == ""
            assert(two:receive(tonumber(length)))
            assert(two:setkeepalive(10000, 2))
            ngx.say(name_of(two))
            assert(two:connect("unix:$TEST_NGINX_HTML_DIR/service.sock"))
            ngx.say(two:getreusedtimes(), " ", name_of(two))
            local found
            ngx.timer.at(0, function() found = name_of(connected("timer.test")) end)
            repeat ngx.sleep(0.01) until found
            ngx.say(found)
        }
    }
--- request
GET /t
--- response_body
no ssl object
no ssl object
one.test two.test
no ssl object two.test
no ssl object
1 two.test
timer.test
--- no_error_log
[error]



=== TEST 5: get_ssl_pointer takes nothing but a socket
--- config
    location /t {
        content_by_lua_block {
    define_try;
            local udp = ngx.socket.udp()
            assert(udp:setpeername("127.0.0.1", 9))
            for _, wrong in ipairs { 1, "sock", {}, { io.stdout }, setmetatable({ io.stdout }, { __metatable = "locked" }),
                                     udp, ngx.null, io.stdout } do
                try(tls.get_ssl_pointer, wrong)
            end
            try(tls.get_ssl_pointer)
            try(tls.get_ssl_pointer, tls)
            -- Only says that it is one.
            try(tls.get_ssl_pointer, setmetatable({ io.stdout }, { __metatable = getmetatable(ngx.socket.tcp()) }))
        }
    }
--- request
GET /t
--- response_body
throws sock must be a TCP socket of ngx.socket: given 1: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given the string "sock": resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given an empty table: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given a table: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given a table: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given a table: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given ngx.null: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given a userdata: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: given nil: resty.kong.tls.get_ssl_pointer
throws sock must be a TCP socket of ngx.socket: called with ":" in place of ".": use resty.kong.tls.get_ssl_pointer(...)
throws sock must be a TCP socket of ngx.socket: given a table: resty.kong.tls.get_ssl_pointer
--- no_error_log
[error]



=== TEST 6: get_ssl_pointer returns that of a socket in a handshake, and not the client's
--- skip_eval: 3: $ENV{TEST_NGINX_NO_WAIT_IN_HANDSHAKE}
--- http_config
    sockets;
    gateway {
        ssl_certificate_by_lua_block {
            ngx.log(ngx.WARN, "handshake: ", name_of(connected("handshake.test")), ";")
        }
    }
--- config
    location /t {
        content_by_lua_block {
            require("client").s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock" }
            ngx.say("done")
        }
    }
--- request
GET /t
--- response_body
done
--- grep_error_log eval
qr/handshake: [^;]*;/
--- grep_error_log_out
handshake: handshake.test;
--- no_error_log
[error]
