# SPDX-License-Identifier: Apache-2.0

# One test for each known vulnerability of this kind, named after the advisory. What nginx itself does is reported,
# not hidden.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestCertificates;
use TestHarness 'no_plan';

use IO::Socket::INET ();

repeat_each(1);
log_level('info');

# ---- certificates --------------------------------------------------------------------------------

issue('nul', subject => '/O=Test/CN=nobody', extensions => [names(dns => "service.test\0.evil.test")]);
issue('email', subject => '/O=Test/CN=nobody',
    extensions => [names(email => 'service.test', uri => 'service.test', ip => 'service.test123')]);
issue('common', subject => '/O=Test/CN=service.test', extensions => [names(dns => 'evil.test')]);
# The same names and the same serial number, and another key.
issue("rekeyed-$_", subject => '/O=Test/CN=client-1', extensions => ['extendedKeyUsage=clientAuth'], serial => 1000)
    for qw(one two);

# ---- a service that sends a response before the handshake ----------------------------------------

my $INJECTED = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\ninjected";
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 16, ReuseAddr => 1)
    or die "listen: $@\n";
$ENV{TEST_NGINX_EARLY_PORT} = $listener->sockport;
my $parent = $$;
defined(my $early = fork) or die "fork: $!\n";
if (!$early) {
    $SIG{ALRM} = sub { exit(kill(0, $parent) ? 0 : 1) };
    # Never holds on to what prove waits for.
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    alarm 120;
    while (my $client = $listener->accept) {
        syswrite $client, $INJECTED;
        sysread $client, my $hello, 16384;
        close $client;
    }
    require POSIX;
    POSIX::_exit(0);
}
close $listener;
END { local $?; kill 'KILL', $early if $early && $$ == $parent }

# ---- blocks --------------------------------------------------------------------------------------

add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config // return;
    # "evil NAME;" is a service with a certificate from above.
    $config =~ s{^    evil (\S+);\n}{<<"_EOC_"}mge;
    upstream $1 { server unix:\$TEST_NGINX_HTML_DIR/$1.sock; }
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$1.sock ssl;
        ssl_certificate \$TEST_NGINX_CERTIFICATES/$1.crt;
        ssl_certificate_key \$TEST_NGINX_CERTIFICATES/$1.key;
        return 200 "accepted\\n";
    }
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: CVE-2025-23419, CVE-2014-3616: a session of a virtual host gives no access to a stricter one
A client without a certificate request that resumes under a name with one is as a client without a certificate (where
nginx itself requests certificates, 1.26.3 and 1.27.4 refuse the handshake). Sessions with a certificate request of
Lua code, or of nginx, do not resume under a name where Lua code requests certificates. What nginx accepts where it
requests certificates itself is logged only.
--- http_config
    ssl_session_cache shared:sessions:1m;
    ssl_protocols TLSv1.2 TLSv1.3;
    certificate gateway;
    ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/hosts.sock ssl;
        server_name open.test;
        return 200 "open\n";
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/hosts.sock ssl;
        server_name strict.test;
        ssl_verify_client on;
        return 200 "strict $ssl_client_verify\n";
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/hosts.sock ssl;
        server_name asked.test;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root)) }
        location / {
            content_by_lua_block { ngx.say("asked ", ngx.var.ssl_client_verify) }
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/hosts.sock ssl;
        server_name other.test;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.other)) }
        location / {
            content_by_lua_block { ngx.say("other ", (ngx.var.ssl_client_verify:match("^%u+"))) }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local function connect(version, name, cert, direction)
                return client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/hosts.sock", servername = name, tls = version, cert = cert,
                    [direction] = "$TEST_NGINX_HTML_DIR/session",
                }
            end
            for _, version in ipairs { "1.2", "1.3" } do
                for _, hosts in ipairs { { "open.test", "asked.test" }, { "open.test", "strict.test" },
                                         { "other.test", "asked.test" }, { "asked.test", "other.test" },
                                         { "strict.test", "asked.test" }, { "strict.test", "other.test" } } do
                    -- Without a certificate, strict.test leaves no session.
                    for _, cert in ipairs(hosts[1] == "strict.test" and { "client1" } or { "none", "client1" }) do
                        cert = cert ~= "none" and cert
                        os.remove("$TEST_NGINX_HTML_DIR/session")
                        local first = connect(version, hosts[1], cert or nil, "sess_out")
                        local second = connect(version, hosts[2], cert or nil, "sess_in")
                        if hosts[2] == "strict.test" then
                            ngx.log(ngx.WARN, "nginx itself, TLS ", version, ", ", cert or "no certificate", ": ",
                                    second.reused and "resumed" or "not resumed", ", status ", second.status)
                            assert(cert or second.status ~= 200, "nginx is vulnerable: " .. second.body)
                        elseif hosts[1] == "open.test" then
                            local right = second.reused and "asked NONE\n" or "asked " .. (cert and "SUCCESS" or "NONE") .. "\n"
                            ngx.say(version, " ", hosts[1], " ", hosts[2], " ", cert or "none", ": ",
                                    second.body == right and "as one without a certificate, or anew" or second.body)
                        else
                            ngx.print(version, " ", hosts[1], " ", hosts[2], " ", cert or "none", ": ",
                                    second.reused and "resumed" or "not resumed", ", ", second.body)
                        end
                    end
                end
            end
        }
    }
--- request
GET /t
--- response_body eval
CORE::join '', map { <<"_EOC_" } qw(1.2 1.3)
$_ open.test asked.test none: as one without a certificate, or anew
$_ open.test asked.test client1: as one without a certificate, or anew
$_ other.test asked.test none: not resumed, asked NONE
$_ other.test asked.test client1: not resumed, asked SUCCESS
$_ asked.test other.test none: not resumed, other NONE
$_ asked.test other.test client1: not resumed, other FAILED
$_ strict.test asked.test client1: not resumed, asked SUCCESS
$_ strict.test other.test client1: not resumed, other FAILED
_EOC_
--- error_log
nginx itself, TLS 1.3
--- no_error_log
[error]



=== TEST 2: CVE-2026-1642: plain text that a service sends before the handshake is no response
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /without {
        proxy_pass https://127.0.0.1:$TEST_NGINX_EARLY_PORT/;
    }
    location /with {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://127.0.0.1:$TEST_NGINX_EARLY_PORT/;
    }
--- request eval
[map { ("GET /without", "GET /with") } 1 .. 10]
--- error_code eval
[(502) x 20]
--- response_body_unlike eval
[("injected") x 20]
--- no_error_log
[alert]



=== TEST 3: CVE-2021-22890: a late ticket is kept for the identity of its handshake
The tickets of TLS 1.3 are read with the first response; after that, another request may use the connection.
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
    upstream anew {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    keeps_connections;
    proxy_ssl_protocols TLSv1.3;
    client_argument;
    location /to { proxy_pass https://$arg_to/; }
--- exchanges
GET /to?to=kept&client=client1 => client=CN=client-1,O=Test reused=. TLSv1.3
GET /to?to=kept&client=client2 => client=CN=client-2,O=Test reused=. TLSv1.3
GET /to?to=kept                => client= reused=. TLSv1.3
GET /to?to=kept&client=client1 => client=CN=client-1,O=Test reused=. TLSv1.3
GET /to?to=anew&client=client2 => client=CN=client-2,O=Test reused=r TLSv1.3
GET /to?to=anew&client=client1 => client=CN=client-1,O=Test reused=r TLSv1.3
GET /to?to=anew&client=rsa     => client=CN=client-rsa,O=Test reused=. TLSv1.3
GET /to?to=anew                => client= reused=. TLSv1.3
--- no_error_log
[error]



=== TEST 4: CVE-2026-8932: certificates with equal names and different keys are different identities
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    keeps_connections;
    location /connection {
        access_by_lua_block {
            local function read(name)
                local file = assert(io.open("$TEST_NGINX_CERTIFICATES/" .. name))
                local text = file:read("*a")
                file:close()
                return text
            end
            local x509 = require "resty.kong.x509"
            local name = "rekeyed-" .. ngx.var.arg_number
            assert(kong.service.set_tls_cert_key(x509.chain(read(name .. ".crt")), x509.key(read(name .. ".key"))))
        }
        add_header X-Identity $kong_upstream_ssl_identity;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection?number=one => client=CN=client-1,O=Test connection=1
GET /connection?number=two => client=CN=client-1,O=Test connection=1
GET /connection?number=one => client=CN=client-1,O=Test connection=2
GET /connection?number=two => client=CN=client-1,O=Test connection=2
--- no_error_log
[error]



=== TEST 5: CVE-2022-21656, CVE-2026-47778: a name of another type, or with a NUL, does not match
--- http_config
    evil nul;
    evil email;
    evil common;
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    location /name {
        proxy_ssl_name $arg_name;
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://$arg_to;
    }
    location /sans {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_dnsnames { ngx.var.arg_name }) }
        proxy_pass https://$arg_to;
    }
    location /uris {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_uris { ngx.var.arg_name }) }
        proxy_pass https://$arg_to;
    }
--- exchanges
GET /name?to=nul&name=service.test    => 502
GET /sans?to=nul&name=service.test    => 502
GET /name?to=email&name=service.test  => 502
GET /sans?to=email&name=service.test  => 502
GET /sans?to=common&name=service.test => 502
GET /uris?to=common&name=evil.test    => 502
GET /uris?to=nul&name=service.test    => 502
# These match.
GET /uris?to=email&name=service.test  => 200
GET /sans?to=common&name=evil.test    => 200
GET /name?to=common&name=evil.test    => 200
--- no_error_log
[alert]



=== TEST 6: CVE-2021-3618: a client that offers only other protocols in its ALPN is refused
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/alpn.sock ssl;
        certificate gateway;
        ssl_client_hello_by_lua_block { assert(kong.client.tls.disable_http2_alpn()) }
        return 204;
    }
--- config
    location /t {
        content_by_lua_block {
            for _, offered in ipairs { "ftp", "smtp,imap", "h2", "http/1.1", "ftp,http/1.1" } do
                local seen = require("client").s_client {
                    unix = "$TEST_NGINX_HTML_DIR/alpn.sock", alpn = offered, request = false,
                }
                ngx.say(offered, ": ", seen.alpn or seen.alert_name or "none")
            end
        }
    }
--- request
GET /t
--- response_body
ftp: no application protocol
smtp,imap: no application protocol
h2: no application protocol
http/1.1: http/1.1
ftp,http/1.1: http/1.1
--- no_error_log
[alert]
