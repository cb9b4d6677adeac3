# SPDX-License-Identifier: Apache-2.0

# resty.kong.plugins.header_cert_auth with the option format: the certificates that HAProxy, Apache, Caddy and nginx
# send in headers, and those of proxies that are not here, in the form that these document.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestPrograms;
use TestProcesses;
use TestService;
use TestHarness 'no_plan';

use IO::Socket::INET;
use NginxTest::Port ();

require_program('apache2', 'caddy', 'haproxy', 'timeout');
repeat_each(1);

issue('injecting', subject => '/CN=eve', extensions => ['subjectAltName=URI:urn:x']);

# ---- the proxies ---------------------------------------------------------------------------------

# Each asks clients for a certificate, verifies nothing, and sends it to the gateway's socket, in its own way.

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
my $gateway = "$folder/gateway.sock";
$ENV{TEST_NGINX_GATEWAY} = $gateway;
$ENV{"TEST_NGINX_$_"} = NginxTest::Port::free_port() for qw(HAPROXY APACHE CADDY FRONT);

sub connects {
    my ($port) = @_;
    return sub { IO::Socket::INET->new("127.0.0.1:$port") };
}

my $pem = join '', map { slurp("$pki/gateway.$_") } qw(crt key);
start_program(
    'haproxy', connects($ENV{TEST_NGINX_HAPROXY}),
    'haproxy', '-db', '-f', write_to("$folder/haproxy.conf", join "\n",
        'global', 'defaults', ' mode http', map({" timeout $_ 30s"} qw(connect client server)),
        'frontend clients',
        " bind 127.0.0.1:$ENV{TEST_NGINX_HAPROXY} ssl crt " . write_to("$folder/haproxy.pem", $pem)
            . " ca-file $pki/ca.crt verify optional ca-ignore-err all crt-ignore-err all alpn h2,http/1.1",
        ' http-request set-header X-SSL-Client-DER %[ssl_c_der,base64] if { path /haproxy }',
        ' http-request set-header X-SSL-Client-Chain-DER %[ssl_c_chain_der,base64] if { path /haproxy }',
        # As OpenShift's router.
        ' http-request set-header X-Quoted-DER %{+Q}[ssl_c_der,base64] if { path /quoted }',
        ' http-request del-header Client-Cert', ' http-request del-header Client-Cert-Chain',
        ' http-request set-header Client-Cert :%[ssl_c_der,base64]: if { path /rfc9440 } { ssl_c_used }',
        ' default_backend gateway', 'backend gateway', " server gateway unix\@$gateway", '')
);

start_program(
    'apache', connects($ENV{TEST_NGINX_APACHE}),
    'apache2', '-D', 'FOREGROUND', '-f', write_to("$folder/apache.conf", join "\n",
        "ServerRoot $folder", "PidFile $folder/apache.pid", 'ServerName gateway.test',
        "ErrorLog $folder/apache.log", "Listen 127.0.0.1:$ENV{TEST_NGINX_APACHE}",
        (map {"LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so"}
            qw(mpm_event authz_core headers http2 proxy proxy_http socache_shmcb ssl)),
        $> ? () : ('User www-data', 'Group www-data'), 'Protocols h2 http/1.1',
        'StartServers 1', "DocumentRoot $folder", "DefaultRuntimeDir $folder",
        'SSLEngine on', "SSLCertificateFile $pki/gateway.crt", "SSLCertificateKeyFile $pki/gateway.key",
        'SSLVerifyClient optional_no_ca', 'SSLVerifyDepth 5',
        'RequestHeader set SSL-Client-Cert "%{SSL_CLIENT_CERT}s"',
        (map {qq(RequestHeader set SSL-Client-Cert-Chain-$_ "%{SSL_CLIENT_CERT_CHAIN_$_}s")} 0 .. 2),
        "ProxyPass / unix:$gateway|http://gateway/", '')
);

local @ENV{qw(XDG_DATA_HOME XDG_CONFIG_HOME)} = ($folder) x 2;
local $ENV{HOME} = $folder;
start_program(
    'caddy', connects($ENV{TEST_NGINX_CADDY}),
    'caddy', 'run', '--adapter', 'caddyfile', '--config', write_to("$folder/Caddyfile", <<"_EOC_"));
{
    admin off
    auto_https off
}
https://gateway.test:$ENV{TEST_NGINX_CADDY} {
    bind 127.0.0.1
    tls $pki/gateway.crt $pki/gateway.key {
        client_auth {
            mode request
        }
    }
    reverse_proxy unix/$gateway {
        header_up Client-Cert ":{http.request.tls.client.certificate_der_base64}:"
        header_up -Client-Cert-Chain
    }
}
_EOC_

# ---- the gateway ---------------------------------------------------------------------------------

# /<plugin> is answered with the consumer, and with the names of all headers that the service gets and that may have a
# certificate.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        local new = require("resty.kong.plugins.header_cert_auth").new
        function plugin(changed)
            local options = {
                ca = { pem = require("pki").read("ca") }, trusted = { "unix:" },
                consumers = { { name = "alice", common_name = "client-1" }, { name = "bob", common_name = "client-2" },
                              { name = "carol", common_name = "client-intermediate" },
                              { name = "dave", common_name = "client-deep" },
                              { name = "eve", uri = "urn:x" } },
            }
            for name, value in pairs(changed) do
                options[name] = value
            end
            return assert(new(options))
        end
        plugins = {}
        for _, format in ipairs { "rfc9440", "xfcc", "haproxy", "aws-alb", "traefik", "apache", "azure", "nginx" } do
            plugins[format] = plugin { format = format }
        end
        plugins.quoted = plugin { format = "haproxy", header = "X-Quoted-DER" }
        plugins.passthrough = plugin { format = "aws-alb", header = "X-Amzn-Mtls-Clientcert" }
        plugins.first = plugin { format = "xfcc", element = "first" }
        plugins.last = plugin { format = "xfcc", element = "last" }
        plugins.anonymous = plugin { format = "rfc9440", anonymous = "guest" }

        port = { haproxy = "$TEST_NGINX_HAPROXY", apache = "$TEST_NGINX_APACHE", caddy = "$TEST_NGINX_CADDY",
                 nginx = "$TEST_NGINX_FRONT" }

        -- Each certificate of a file, in order.
        function certificates(name)
            local list = {}
            for one in pki.read(name):gmatch("%-%-%-%-%-BEGIN CERTIFICATE.-END CERTIFICATE%-%-%-%-%-\n") do
                list[#list + 1] = one
            end
            return list
        end
        function url(text)
            return (text:gsub("[^%w%-_.~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
        end
        function base64(pem)
            return (pem:gsub("%-%-%-%-%-[^\n]*\n", ""):gsub("\n", ""))
        end
        function hash(pem)
            return require("resty.kong.x509").chain(pem)[1]:fingerprint()
        end
        function in_one_line(pem)
            return (pem:gsub("\n", " "):gsub(" $", ""))
        end
        -- The element of Envoy for a certificate.
        function element(pem, rest)
            return "Hash=" .. hash(pem) .. ";Cert=\"" .. url(pem) .. "\"" .. (rest or "")
        end

        function answer(run)
            local out = run.out:gsub("<html>.*</html>%s*", ""):gsub("\n$", "")
            return run.code == 0 and out or run.err .. run.out
        end
        -- Sends a request to a proxy, with the certificate with this name.
        function through(proxy, path, name, ...)
            local args = { "-k", "-w", "%{http_code}\n", "--connect-to", "::127.0.0.1:",
                           "https://gateway.test:" .. port[proxy] .. path, ... }
            if name then
                local file = name:find("/") and name or pki.path(name)
                for _, arg in ipairs { "--cert", file, "--key", (file:gsub("%.crt$", ".key")) } do
                    args[#args + 1] = arg
                end
            end
            return answer(require("client").curl(args))
        end
        -- Sends a request to the gateway, as a proxy does: each header is a line.
        function ask(path, ...)
            return ask_by({ "--unix-socket", "$TEST_NGINX_GATEWAY" }, path, ...)
        end
        function ask_http2(path, ...)
            return ask_by({ "--unix-socket", "$TEST_NGINX_GATEWAY.http2", "--http2-prior-knowledge" }, path, ...)
        end
        function ask_by(args, path, ...)
            for _, arg in ipairs { "-w", "%{http_code}\n", "http://gateway.test" .. path } do
                args[#args + 1] = arg
            end
            for _, header in ipairs { ... } do
                args[#args + 1] = "-H"
                args[#args + 1] = header
            end
            return answer(require("client").curl(args))
        end
_EOC_
    $block->set_value('http_config', $config . <<'_EOC_');
    underscores_in_headers on;
    ignore_invalid_headers off;
    large_client_header_buffers 8 64k;
    server {
        listen unix:$TEST_NGINX_GATEWAY;
        location / {
            access_by_lua_block { plugins[ngx.var.uri:sub(2)]:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /twice {
            access_by_lua_block { plugins.rfc9440:access() }
            content_by_lua_block { return ngx.exec("/rfc9440") }
        }
    }
    server {
        listen unix:$TEST_NGINX_GATEWAY.http2HTTP2_LISTEN;
        HTTP2_DIRECTIVE
        location / {
            access_by_lua_block { plugins[ngx.var.uri:sub(2)]:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/headers.sock;
        location / {
            content_by_lua_block {
                local found = {}
                for name in pairs(ngx.req.get_headers(0)) do
                    local is_ours = name == "x-client-cert-dn" or name == "x-client-cert-san"
                    if not is_ours and name:gsub("[-_.]", ""):find("cert") or name:find("der") then
                        found[#found + 1] = name
                    end
                end
                table.sort(found)
                ngx.print(ngx.var.http_x_consumer_username, " [", table.concat(found, " "), "] ")
            }
        }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_FRONT ssl;
        certificate gateway;
        ssl_verify_client optional_no_ca;
        location / {
            proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
            proxy_pass http://unix:$TEST_NGINX_GATEWAY;
        }
    }
_EOC_
    $block->set_value('http_config', $block->http_config =~ s{^( *)certificate ([\w-]+);\n}{join '', map {"$1$_\n"}
        "ssl_certificate \$TEST_NGINX_PKI/$2.crt;", "ssl_certificate_key \$TEST_NGINX_PKI/$2.key;"}mger);
    my ($listen, $directive) = http2_server();
    $block->set_value('http_config', $block->http_config =~ s/HTTP2_LISTEN/$listen/r =~ s/HTTP2_DIRECTIVE/$directive/r);
    $block->set_value('timeout', 60);
    my $body = $block->config;
    $block->set_value('config', "    location /t {\n        content_by_lua_block {\n$body        }\n    }\n");
});

run_tests();

__DATA__

=== TEST 1: HAProxy sends the certificate, and the chain of a full handshake
--- config
            for _, path in ipairs { "/haproxy", "/quoted" } do
                for _, version in ipairs { "--http1.1", "--http2" } do
                    ngx.say(through("haproxy", path, "client1", version))
                    ngx.say(through("haproxy", path, "client2", version))
                    ngx.say(through("haproxy", path, nil, version))
                end
            end
            ngx.say(through("haproxy", "/rfc9440", "client1"))
            ngx.say(through("haproxy", "/rfc9440"))
            -- The gateway trusts the root alone.
            ngx.say(through("haproxy", "/haproxy", "client-intermediate"))
            ngx.say(through("haproxy", "/quoted", "client-other"))
--- request
GET /t
--- response_body eval
"alice [] 200\nbob [] 200\n401\n" x 4 . <<'_EOC_'
alice [] 200
401
carol [] 200
401
_EOC_
--- no_error_log
[error]



=== TEST 2: Apache sends PEM in one line, and each certificate of the chain in a header of its own
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                ngx.say(through("apache", "/apache", "client1", version))
                ngx.say(through("apache", "/apache", "client-intermediate", version))
                ngx.say(through("apache", "/apache", "client-deep", version))
                ngx.say(through("apache", "/apache", "client-other", version))
                ngx.say(through("apache", "/apache", nil, version))
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
alice [] 200
carol [] 200
dave [] 200
401
401
_EOC_
--- grep_error_log eval
qr/header_cert_auth: .*?(?=, client:)/
--- grep_error_log_out eval
<<'_EOC_' x 2
header_cert_auth: unable to get local issuer certificate (certificate 1: CN=client-other,O=Test)
header_cert_auth: there is no certificate
_EOC_



=== TEST 3: Caddy sends DER in base64
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                ngx.say(through("caddy", "/rfc9440", "client1", version))
                ngx.say(through("caddy", "/rfc9440", "client2", version))
                ngx.say(through("caddy", "/rfc9440", nil, version))
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
alice [] 200
bob [] 200
401
_EOC_
--- no_error_log
[error]



=== TEST 4: nginx sends URL-encoded PEM
--- config
            for _, name in ipairs { "client1", "client2", "client-other", "client-intermediate" } do
                ngx.say(through("nginx", "/nginx", name))
            end
            ngx.say(through("nginx", "/nginx"))
            -- $ssl_client_cert, after a proxy that unfolds headers.
            ngx.say(ask("/nginx", "X-Client-Cert: " .. pki.read("client1"):gsub("\n$", ""):gsub("\n", " \t")))
--- request
GET /t
--- response_body
alice [] 200
bob [] 200
401
401
401
alice [] 200
--- no_error_log
[error]



=== TEST 5: what a hostile client sends through each proxy changes nothing, and goes no further
--- config
            local victim = pki.read("client2")
            local values = {
                ["X-SSL-Client-DER"] = base64(victim), ["X-SSL-Client-Chain-DER"] = base64(victim),
                ["SSL-Client-Cert"] = in_one_line(victim), ["SSL-Client-Cert-Chain-0"] = in_one_line(victim),
                ["SSL-Client-Cert-Chain-1"] = in_one_line(victim), ["X-Client-Cert"] = url(victim),
                ["Client-Cert"] = ":" .. base64(victim) .. ":", ["Client-Cert-Chain"] = ":" .. base64(victim) .. ":",
            }
            local of = {
                haproxy = { "X-SSL-Client-DER", "X-SSL-Client-Chain-DER" },
                apache = { "SSL-Client-Cert", "SSL-Client-Cert-Chain-0", "SSL-Client-Cert-Chain-1" },
                caddy = { "Client-Cert", "Client-Cert-Chain" },
                nginx = { "X-Client-Cert" },
            }
            local spellings = {
                function(name) return name end,
                string.lower,
                string.upper,
                function(name) return (name:gsub("-", "_")) end,
                function(name) return (name:gsub("-", ".", 1)) end,
                function(name) return (name:gsub("%-(%w+)$", "_%1")) end,
            }
            for _, proxy in ipairs { "haproxy", "apache", "caddy", "nginx" } do
                local path = proxy == "caddy" and "/rfc9440" or "/" .. proxy
                for _, version in ipairs { "--http1.1", proxy ~= "nginx" and "--http2" or nil } do
                    for _, cert in ipairs { "client1", false } do
                        local seen = {}
                        for number, spell in ipairs(spellings) do
                            for twice = 1, 2 do
                                local args = { version }
                                for _, name in ipairs(of[proxy]) do
                                    for _ = 1, twice do
                                        args[#args + 1] = "-H"
                                        args[#args + 1] = spell(name) .. ": " .. values[name]
                                    end
                                end
                                local said = through(proxy, path, cert, unpack(args))
                                if not seen[said] then
                                    seen[said] = true
                                    ngx.say(proxy, version, " ", cert, ": ", said)
                                end
                            end
                        end
                    end
                end
            end
--- request
GET /t
--- response_body
haproxy--http1.1 client1: alice [] 200
haproxy--http1.1 false: 401
haproxy--http2 client1: alice [] 200
haproxy--http2 false: 401
apache--http1.1 client1: alice [] 200
apache--http1.1 false: 401
apache--http2 client1: alice [] 200
apache--http2 false: 401
caddy--http1.1 client1: alice [] 200
caddy--http1.1 false: 401
caddy--http2 client1: alice [] 200
caddy--http2 false: 401
nginx--http1.1 client1: alice [] 200
nginx--http1.1 false: 401
--- no_error_log
[error]
[alert]



=== TEST 6: the formats of proxies that are not here
--- config
            local one, chain = pki.read("client1"), certificates("client-intermediate")
            local leaf, authority = chain[1], chain[2]
            local function sequence(pem) return ":" .. base64(pem) .. ":" end
            ngx.say(ask("/rfc9440", "Client-Cert: " .. sequence(one)))
            ngx.say(ask("/rfc9440", "client-cert: " .. sequence(leaf), "CLIENT-CERT-CHAIN: " .. sequence(authority)))
            ngx.say(ask("/rfc9440", "Client-Cert: " .. sequence(leaf),
                        "Client-Cert-Chain: " .. sequence(one) .. " , " .. sequence(authority)))
            ngx.say(ask("/rfc9440", "Client-Cert: " .. sequence(leaf), "Client-Cert-Chain: " .. sequence(one),
                        "Client-Cert-Chain: " .. sequence(one) .. ", " .. sequence(authority)))
            ngx.say("AWS")
            local safe = url(one):gsub("%%2B", "+"):gsub("%%2F", "/"):gsub("%%3D", "=")
            ngx.say(ask("/aws-alb", "X-Amzn-Mtls-Clientcert-Leaf: " .. safe, "X-Amzn-Mtls-Clientcert: forged"))
            ngx.say(ask("/aws-alb", "X-Amzn-Mtls-Clientcert: " .. safe))
            ngx.say(ask("/passthrough", "X-Amzn-Mtls-Clientcert: " .. url(leaf .. authority)))
            ngx.say(ask("/passthrough", "X-Amzn-Mtls-Clientcert-Leaf: " .. safe))
            ngx.say("Traefik")
            ngx.say(ask("/traefik", "X-Forwarded-Tls-Client-Cert: " .. base64(leaf) .. "," .. base64(authority)))
            ngx.say(ask("/traefik", "X-Forwarded-Tls-Client-Cert: " .. url(base64(leaf)) .. "," .. url(base64(authority))))
            ngx.say(ask("/traefik", "X-Forwarded-Tls-Client-Cert: " .. url(base64(leaf))))
            ngx.say("Azure")
            ngx.say(ask("/azure", "X-ARR-ClientCert: " .. base64(one)))
            ngx.say(ask("/azure", "X-ARR-ClientCert: " .. url(one)))
            ngx.say("Envoy")
            ngx.say(ask("/xfcc", "x-forwarded-client-cert: By=spiffe://gateway;" .. element(one, ";Subject=\"CN=a\\,b\"")))
            ngx.say(ask("/xfcc", "X-Forwarded-Client-Cert: " .. element(leaf, ";Chain=\"" .. url(leaf .. authority) .. "\"")))
            ngx.say(ask("/xfcc", "X-Forwarded-Client-Cert: Hash=" .. hash(leaf) .. ";Chain=\"" .. url(leaf .. authority) .. "\""))
--- request
GET /t
--- response_body
alice [] 200
carol [] 200
carol [] 200
carol [] 200
AWS
alice [] 200
401
carol [] 200
401
Traefik
carol [] 200
carol [] 200
401
Azure
alice [] 200
alice [] 200
Envoy
alice [] 200
carol [] 200
carol [] 200
--- no_error_log
[error]



=== TEST 7: each refusal is a 401, and its reason is logged
--- config
            local one, two = pki.read("client1"), pki.read("client2")
            local function sequence(pem) return ":" .. base64(pem) .. ":" end
            local not_der = ngx.encode_base64("0\001\001")
            for _, case in ipairs {
                { "/rfc9440", "Client-Cert: " .. base64(one) },
                { "/rfc9440", "Client-Cert: " .. sequence(one), "Client-Cert: " .. sequence(two) },
                { "/rfc9440", "Client-Cert: " .. sequence(one), "CLIENT-CERT;" },
                { "/rfc9440", "Client-Cert: " .. sequence(one) .. ", " .. sequence(two) },
                { "/rfc9440", "Client-Cert: :" .. not_der .. ":" },
                { "/rfc9440", "Client-Cert: " .. sequence(one), "Client-Cert-Chain: :" .. not_der .. ":" },
                { "/rfc9440", "Client-Cert: " .. sequence(one), "Client-Cert-Chain: junk" },
                { "/rfc9440", "Client-Cert-Chain: " .. sequence(one) },
                { "/rfc9440", "Client-Cert: " .. sequence(one),
                  "Client-Cert-Chain: " .. (sequence(two) .. ", "):rep(60) .. sequence(two) },
                { "/rfc9440", "Client-Cert: " .. sequence(one),
                  "Client-Cert-Chain: " .. (sequence(two) .. ", "):rep(20) .. sequence(two) },
                { "/haproxy", "X-SSL-Client-DER: " .. base64(one), "X-SSL-Client-Chain-DER: " .. base64(one),
                  "X-SSL-Client-Chain-DER: " .. base64(two) },
                { "/haproxy", "X-SSL-Client-DER: " .. ngx.encode_base64(ngx.decode_base64(base64(one)) .. "x") },
                { "/apache", "SSL-Client-Cert: " .. in_one_line(one) .. " " .. in_one_line(two) },
                { "/apache", "SSL-Client-Cert: " .. in_one_line(one), "SSL-Client-Cert-Chain-0: " .. in_one_line(two),
                  "SSL-Client-Cert-Chain-0: " .. in_one_line(two) },
                { "/apache", "SSL-Client-Cert: " .. in_one_line(one), "SSL-Client-Cert-Chain-0: junk" },
                { "/aws-alb", "X-Amzn-Mtls-Clientcert-Leaf: " .. url(one) .. "," .. url(two) },
                { "/traefik", "X-Forwarded-Tls-Client-Cert: " .. base64(one), "X-Forwarded-Tls-Client-Cert: " .. base64(two) },
                { "/traefik", "X-Forwarded-Tls-Client-Cert: " .. base64(one) .. ", " .. base64(two) },
                { "/azure", "X-ARR-ClientCert: " .. sequence(one) },
                { "/xfcc", "X-Forwarded-Client-Cert: " .. element(one) .. "," .. element(two) },
                { "/xfcc", "X-Forwarded-Client-Cert: " .. element(one), "X-Forwarded-Client-Cert: " .. element(two) },
                { "/xfcc", "X-Forwarded-Client-Cert: " .. element(one) .. ";" .. element(two) },
                { "/xfcc", "X-Forwarded-Client-Cert: Hash=" .. hash(two) .. ";Cert=\"" .. url(one) .. "\"" },
                { "/xfcc", "X-Forwarded-Client-Cert: Cert=\"" .. url(one) .. "\"" },
                { "/xfcc", "X-Forwarded-Client-Cert: " .. element(one) .. ";Subject=\"" },
            } do
                local said = ask(unpack(case))
                if said ~= "401" then
                    ngx.say(case[1], ": ", said)
                end
            end
            ngx.say("done")
--- request
GET /t
--- response_body
done
--- grep_error_log eval
qr/header_cert_auth: .*?(?=, client:| at \d+ | \(header too long)/
--- grep_error_log_out
header_cert_auth: header Client-Cert: it is not a byte sequence, which has a colon at both ends
header_cert_auth: there are several headers Client-Cert
header_cert_auth: there are several headers Client-Cert
header_cert_auth: header Client-Cert: it is not base64
header_cert_auth: header Client-Cert: certificate 1: d2i_X509() failed
header_cert_auth: headers Client-Cert and Client-Cert-Chain: certificate 2: d2i_X509() failed
header_cert_auth: headers Client-Cert and Client-Cert-Chain: it is not a byte sequence, which has a colon at both ends
header_cert_auth: there is no certificate
header_cert_auth: headers Client-Cert and Client-Cert-Chain are longer than 32768 bytes
header_cert_auth: headers Client-Cert and Client-Cert-Chain: it has more than 10 certificates
header_cert_auth: there are several headers X-SSL-Client-Chain-DER
header_cert_auth: header X-SSL-Client-DER: it is not one certificate in DER, and nothing else
header_cert_auth: header SSL-Client-Cert: it is not one certificate in PEM format, and nothing else
header_cert_auth: there are several headers SSL-Client-Cert-Chain-0
header_cert_auth: headers SSL-Client-Cert and SSL-Client-Cert-Chain: it is not certificates in PEM format, and nothing else
header_cert_auth: header X-Amzn-Mtls-Clientcert-Leaf: it is not URL-encoded: ","
header_cert_auth: there are several headers X-Forwarded-Tls-Client-Cert
header_cert_auth: header X-Forwarded-Tls-Client-Cert: it is not URL-encoded: " "
header_cert_auth: header X-ARR-ClientCert: it is not base64
header_cert_auth: header X-Forwarded-Client-Cert: it has 2 elements, and the option element does not say which counts
header_cert_auth: there are several headers X-Forwarded-Client-Cert
header_cert_auth: header X-Forwarded-Client-Cert: an element has Hash twice
header_cert_auth: header X-Forwarded-Client-Cert: Hash is not that of the certificate
header_cert_auth: header X-Forwarded-Client-Cert: the element has no Hash
header_cert_auth: header X-Forwarded-Client-Cert: the value
--- no_error_log
[error]



=== TEST 8: which element of several is the client's
--- config
            local one, two = pki.read("client1"), pki.read("client2")
            local plain = element(one) .. "," .. element(two)
            local function try(text)
                for _, path in ipairs { "/xfcc", "/first", "/last" } do
                    ngx.say(path, " ", ask(path, "X-Forwarded-Client-Cert: " .. text))
                end
            end
            try(element(one))
            try(plain)
            -- A name of eve's certificate with an element in it, as Envoy would write it.
            local eve = assert(io.open("$TEST_NGINX_CERTIFICATES/injecting.crt")):read("*a")
            try(element(eve, ";URI=urn:x"))
            try(element(eve, ";URI=urn:x," .. element(one)))
            try(element(eve, ";URI=urn:x;" .. element(one)))
            try(element(eve, ";URI=urn:x;Cert=\"" .. url(one) .. "\""))
            try("Hash=" .. hash(eve) .. ";URI=urn:x;Cert=\"" .. url(one) .. "\"")
            -- What a client of an Envoy with APPEND_FORWARD sends, to hide what Envoy appends.
            for _, rest in ipairs { ";Subject=\"", ";Subject=\"\\", "\"", "\\", ";URI=\"", ";By=" } do
                local said = ask("/last", "X-Forwarded-Client-Cert: " .. element(one, rest) .. "," .. element(two))
                if said:find("alice") then
                    ngx.say(rest, " ", said)
                end
            end
--- request
GET /t
--- response_body
/xfcc alice [] 200
/first alice [] 200
/last alice [] 200
/xfcc 401
/first alice [] 200
/last bob [] 200
/xfcc eve [] 200
/first eve [] 200
/last eve [] 200
/xfcc 401
/first eve [] 200
/last 401
/xfcc 401
/first 401
/last 401
/xfcc 401
/first 401
/last 401
/xfcc 401
/first 401
/last 401
--- no_error_log
[error]



=== TEST 9: the headers never reach the service, whatever their spelling and the result
--- config
            local one = pki.read("client1")
            local names = {
                rfc9440 = { "Client-Cert", "Client-Cert-Chain" }, xfcc = { "X-Forwarded-Client-Cert" },
                haproxy = { "X-SSL-Client-DER", "X-SSL-Client-Chain-DER" },
                ["aws-alb"] = { "X-Amzn-Mtls-Clientcert-Leaf", "X-Amzn-Mtls-Clientcert" },
                passthrough = { "X-Amzn-Mtls-Clientcert-Leaf", "X-Amzn-Mtls-Clientcert" },
                traefik = { "X-Forwarded-Tls-Client-Cert" },
                apache = { "SSL-Client-Cert", "SSL-Client-Cert-Chain-0", "SSL-Client-Cert-Chain-9" },
                azure = { "X-ARR-ClientCert" }, nginx = { "X-Client-Cert" }, anonymous = { "Client-Cert", "Client-Cert-Chain" },
            }
            for name, of in pairs(names) do
                local all = {}
                for _, header in ipairs(of) do
                    for _, spelling in ipairs { header:gsub("-", "_"), header:gsub("-", "."), header:gsub("-", "_", 1):upper(),
                                                header:gsub("-", "!"), header:gsub("-", "~", 1) } do
                        all[#all + 1] = spelling .. ": " .. base64(one)
                        all[#all + 1] = spelling .. ": " .. base64(one)
                    end
                end
                plugins[name].common.anonymous = "guest"
                for _, by in ipairs { ask, ask_http2 } do
                    local said = by("/" .. name, unpack(all))
                    for _, header in ipairs(of) do
                        all[#all + 1] = header .. ": junk"
                        all[#all + 1] = header .. ": junk"
                    end
                    said = said .. "; " .. by("/" .. name, unpack(all))
                    if said ~= "guest [] 200; guest [] 200" then
                        ngx.say(name, ": ", said)
                    end
                end
                plugins[name].common.anonymous = nil
            end
            ngx.say("done")
--- request
GET /t
--- response_body
done
--- no_error_log
[error]



=== TEST 10: a chain is known by both headers, and after an internal redirect
--- config
            local chain = certificates("client-intermediate")
            local function sequence(pem) return ":" .. base64(pem) .. ":" end
            local leaf, rest = "Client-Cert: " .. sequence(chain[1]), "Client-Cert-Chain: " .. sequence(chain[2])
            for _ = 1, 2 do
                ngx.say(ask("/rfc9440", leaf, rest))
                ngx.say(ask("/rfc9440", leaf))
                ngx.say(ask("/rfc9440", leaf, "Client-Cert-Chain: " .. sequence(chain[1])))
                ngx.say(ask("/twice", leaf, rest))
                ngx.say(ask("/twice", leaf))
                ngx.say(ask("/twice", rest))
            end
            -- The same text in two formats.
            local text = base64(pki.read("client1"))
            ngx.say(ask("/azure", "X-ARR-ClientCert: " .. text))
            ngx.say(ask("/traefik", "X-Forwarded-Tls-Client-Cert: " .. text .. "," .. text))
            ngx.say(ask("/azure", "X-ARR-ClientCert: " .. text .. "," .. text))
--- request
GET /t
--- response_body
carol [] 200
401
401
carol [] 200
401
401
carol [] 200
401
401
carol [] 200
401
401
alice [] 200
alice [] 200
401
--- no_error_log
[error]



=== TEST 11: folded lines are not read
--- config
            local text = base64(pki.read("client1"))
            local function raw(lines)
                local sock = ngx.socket.tcp()
                assert(sock:connect("unix:$TEST_NGINX_GATEWAY"))
                assert(sock:send("GET /rfc9440 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" .. lines .. "\r\n\r\n"))
                local said = sock:receive("*a")
                ngx.say(said:match("^HTTP/1.1 (%d+)"), " ", said:match("alice") or "")
            end
            raw("Client-Cert: :" .. text .. ":")
            raw("Client-Cert: :" .. text:sub(1, 64) .. "\r\n " .. text:sub(65) .. ":")
            raw("Client-Cert: :" .. text:sub(1, 64) .. "\r\n\t" .. text:sub(65) .. ":")
            raw("Client-Cert:\r\n :" .. text .. ":")
            raw("X: a\r\n Client-Cert: :" .. text .. ":")
            raw("Client-Cert : :" .. text .. ":")
--- request
GET /t
--- response_body_like
^200 alice
(40[01] 
){5}$
--- no_error_log
[alert]



=== TEST 12: wrong options are refused
--- config
            local new = require("resty.kong.plugins.header_cert_auth").new
            local function say(changed)
                local options = { ca = { pem = pki.read("ca") }, consumers = {}, trusted = {} }
                for name, value in pairs(changed) do
                    options[name] = value
                end
                local _, err = pcall(new, options)
                ngx.say((tostring(err):gsub("^.*block_by_lua:%d+: ", ""):gsub("^[^ ]*%(nginx.conf:%d+%):%d+: ", "")))
            end
            say { format = "envoy" }
            say { format = true }
            say { format = "xfcc", encoding = "url" }
            say { format = "xfcc", element = "second" }
            say { format = "xfcc", header = "X Y" }
            say { format = "xfcc", chain_header = "X-Chain" }
            say { format = "rfc9440", chain_header = "" }
            say { format = "rfc9440", chain_header = "client-cert" }
            say { format = "rfc9440", element = "first" }
            say { header = "X-A", encoding = "url", chain_header = "X-B" }
            say { header = "X-A", encoding = "url", element = "first" }
            say { format = "haproxy", forward = "haproxy" }
            say { format = "haproxy", forward = 1 }
--- request
GET /t
--- response_body
format must be one of "apache", "aws-alb", "azure", "haproxy", "nginx", "rfc9440", "traefik", "xfcc": given the string "envoy": header_cert_auth.new
format must be one of "apache", "aws-alb", "azure", "haproxy", "nginx", "rfc9440", "traefik", "xfcc": given true: header_cert_auth.new
encoding is in place of format: given the string "url": header_cert_auth.new
element must be "only", "first" or "last": given the string "second": header_cert_auth.new
header must be the name of a header: given the string "X Y": header_cert_auth.new
chain_header is for formats with a header of the chain: given the string "X-Chain": header_cert_auth.new
chain_header must be the name of a header: given the string "": header_cert_auth.new
chain_header must not be header: given the string "client-cert": header_cert_auth.new
element is for format = "xfcc": given the string "first": header_cert_auth.new
chain_header needs format: given the string "X-B": header_cert_auth.new
element is for format = "xfcc": given the string "first": header_cert_auth.new
forward must be "rfc9440", "xfcc" or "x-client-cert": given the string "haproxy": header_cert_auth.new
forward must be "rfc9440", "xfcc" or "x-client-cert": given 1: header_cert_auth.new
--- no_error_log
[error]
