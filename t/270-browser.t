# SPDX-License-Identifier: Apache-2.0

# A real browser: Chromium with client certificates in its store.
#
# It has two certificates of two CAs, and a policy by which it presents the first that matches, without asking
# anybody. Policies are files in /etc: a mount namespace has them there for the browser alone.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

use Cwd ();
use File::Temp ();
use NginxTest::Port ();

# scripts/test sets this variable where Chromium can't be installed.
skip_file("no browser: $ENV{TEST_NGINX_NO_BROWSER}") if $ENV{TEST_NGINX_NO_BROWSER};
require_program('chromium', 'certutil', 'pk12util', 'openssl', 'unshare', 'mount', 'timeout');
my @unshare = $> ? qw(unshare --map-root-user --mount) : qw(unshare --mount);
skip_file('no browser: this machine allows for no mount namespace')
    if system("@unshare mount --bind /tmp /tmp 2>/dev/null") != 0;
skip_file('no browser: valgrind takes too long') if $ENV{TEST_NGINX_USE_VALGRIND};

repeat_each(1);

# ---- the browser ---------------------------------------------------------------------------------

my $folder = File::Temp::tempdir('browser-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $folder;

sub command {
    my $said = join ' ', @_;
    open my $output, '-|', "{ $said; } 2>&1" or die "$said: $!\n";
    my @lines = <$output>;
    close $output or die "$said failed:\n@lines";
    return;
}

my ($pki, $store) = ($ENV{TEST_NGINX_PKI}, "$folder/home/.pki/nssdb");
command("mkdir -p $store $folder/etc/policies/managed");
command("certutil -d sql:$store -N --empty-password");
command("certutil -d sql:$store -A -t CT,, -n ca -i $pki/ca.crt");
for my $name (qw(client1 client-other)) {
    command("openssl pkcs12 -export -in $pki/$name.crt -inkey $pki/$name.key -out $folder/$name.p12",
        "-passout pass:test -name $name");
    command("pk12util -d sql:$store -i $folder/$name.p12 -W test");
}
open my $policy, '>', "$folder/etc/policies/managed/policy.json" or die $!;
print {$policy} '{ "AutoSelectCertificateForUrls": ["{\"pattern\":\"*\",\"filter\":{}}"] }';
close $policy or die $!;

# browse URL [SCHEME]: prints the page when it has been loaded. All names resolve to this machine. The scheme of its
# colours is light or dark.
open my $browse, '>', "$folder/browse" or die $!;
print {$browse} <<"_EOC_";
set -e
mount --bind $folder/etc /etc/chromium
export HOME=$folder/home DBUS_SESSION_BUS_ADDRESS=disabled:
profile=\$(mktemp -d $folder/profile-XXXXXXXX)
timeout 50 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \\
    --blink-settings=preferredColorScheme=\$([ "\$2" = dark ] && echo 0 || echo 1) \\
    --user-data-dir="\$profile" --host-resolver-rules="MAP * 127.0.0.1" --dump-dom "\$1"
_EOC_
close $browse or die $!;

$ENV{TEST_NGINX_BROWSE} = "@unshare sh $folder/browse";
env_to_nginx('TEST_NGINX_BROWSE');
$ENV{TEST_NGINX_TLS_PORT} = NginxTest::Port::free_port();

# Expands "browser { ... }" to a TLS server with these settings.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{^    browser \{\n(.*?)^    \}\n}{<<"_EOC_"}mse;
    server {
        listen 127.0.0.1:\$TEST_NGINX_TLS_PORT ssl http2;
        server_name a.wild.test;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        default_type text/plain;
$1    }
    init_worker_by_lua_block {
        mtls_auth = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "a.wild.test" }, ca = { pem = require("pki").read("ca") },
              consumers = { { name = "alice", common_name = "client-1" } } },
        })
        function browse(name, scheme)
            local words = {}
            for word in os.getenv("TEST_NGINX_BROWSE"):gmatch("%S+") do
                words[#words + 1] = word
            end
            words[#words + 1] = "https://" .. name .. ":\$TEST_NGINX_TLS_PORT/"
            words[#words + 1] = scheme
            local run = require("client").run(words, { timeout = 55 })
            local text = run.out:match("<pre[^>]*>(.-)%s*</pre>") or run.out:match("<body>(.-)%s*</body>")
            return text or (run.out .. run.err)
        end
    }
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: the browser presents only a certificate that a listed CA has issued
--- http_config
    browser {
        ssl_certificate_by_lua_block {
            local name = require("ngx.ssl").server_name()
            local authorities = ({ ["a.wild.test"] = ca.root, ["b.wild.test"] = ca.other,
                                   ["c.wild.test"] = ca.intermediate, ["both.wild.test"] = ca.both })[name]
            if authorities then
                assert(kong.client.tls.request_client_certificate(authorities))
            end
        }
        return 200 "$ssl_server_name: [$ssl_client_s_dn] $ssl_client_verify";
    }
--- config
    location /t {
        content_by_lua_block {
            for _, name in ipairs { "a", "b", "c", "both", "none" } do
                ngx.say((browse(name .. ".wild.test"):gsub("%[CN=client%-[1o][^,]*,O=Test%]", name == "both" and "[one]" or "%0")))
            end
        }
    }
--- request
GET /t
--- timeout: 180
--- response_body
a.wild.test: [CN=client-1,O=Test] SUCCESS
b.wild.test: [CN=client-other,O=Test] SUCCESS
c.wild.test: [] NONE
both.wild.test: [one] SUCCESS
none.wild.test: [] NONE
--- no_error_log
[alert]



=== TEST 2: the browser speaks HTTP/2, and HTTP/1.1 with disable_http2_alpn
--- http_config
    browser {
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "old.wild.test" then
                assert(kong.client.tls.disable_http2_alpn())
            end
        }
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
        return 200 "$server_protocol $ssl_client_verify";
    }
--- config
    location /t {
        content_by_lua_block {
            ngx.say(browse("a.wild.test"))
            ngx.say(browse("old.wild.test"))
        }
    }
--- request
GET /t
--- response_body
HTTP/2.0 SUCCESS
HTTP/1.1 SUCCESS
--- no_error_log
[alert]



=== TEST 3: the browser opens another connection for a name with another policy
--- http_config
    browser {
        ssl_certificate_by_lua_block { mtls_auth:certificate() }
        access_by_lua_block { mtls_auth:access() }
        location / {
            default_type text/html;
            content_by_lua_block {
                ngx.print("<body><script src='https://a.wild.test:", ngx.var.server_port, "/who.js'></script></body>")
            }
        }
        location /who.js {
            default_type application/javascript;
            content_by_lua_block {
                ngx.print("document.write('", ngx.var.ssl_server_name, " ", ngx.var.server_protocol, " ",
                          ngx.var.http_x_consumer_username, "')")
            }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            ngx.say((browse("none.wild.test"):gsub("<script.-</script>", "")))
        }
    }
--- request
GET /t
--- response_body
a.wild.test HTTP/2.0 alice
--- error_log
mtls_auth: the connection is for "none.wild.test", which has another policy
--- no_error_log
[alert]



=== TEST 4: the browser resumes its session, and is still authenticated
--- http_config
    browser {
        # Makes each request open a connection.
        keepalive_timeout 0;
        ssl_client_hello_by_lua_block { assert(kong.client.tls.disable_http2_alpn()) }
        ssl_certificate_by_lua_block { mtls_auth:certificate() }
        access_by_lua_block { mtls_auth:access() }
        location / {
            default_type text/html;
            content_by_lua_block {
                ngx.print("<body><script>",
                          "for (let turn = 0; turn < 3; turn++) {",
                          "  const request = new XMLHttpRequest();",
                          "  request.open('GET', '/who?' + turn, false);",
                          "  request.send();",
                          "  document.write(request.responseText);",
                          "}</script></body>")
            }
        }
        location /who {
            content_by_lua_block {
                ngx.print(ngx.var.ssl_session_reused, " ", ngx.var.connection_requests, " ",
                          ngx.var.http_x_consumer_username, ";")
            }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            ngx.say((browse("a.wild.test"):gsub("<script.-</script>", "")))
        }
    }
--- request
GET /t
--- response_body
r 1 alice;r 1 alice;r 1 alice;
--- no_error_log
[alert]



=== TEST 5: the status page fits the narrowest telephone, in a light and a dark scheme; what failed is red, and marked
--- http_config
    browser {
        location / {
            default_type text/html;
            content_by_lua_block {
                ngx.print("<body><iframe width='320' height='10000' src='/status?format=html'></iframe><script>", [[
                    document.querySelector("iframe").onload = function () {
                        const page = this.contentDocument;
                        const color = (selector) => {
                            const [red, green, blue] =
                                page.defaultView.getComputedStyle(page.querySelector(selector)).color.match(/\d+/g);
                            return red - green > 60 && red - blue > 60 ? "red" : "not red";
                        };
                        document.body.textContent = [
                            page.documentElement.clientWidth, page.documentElement.scrollWidth,
                            page.defaultView.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
                            color("tr.failed th"), page.querySelector("tr.failed th").textContent,
                            color("p.failed"), page.querySelector("p.failed").textContent,
                            color("tr.none th"), color("tr.some th"),
                        ].join(", ");
                    };
                ]], "</script></body>")
            }
        }
        location /status {
            kong_tls_status;
        }
    }
--- config
    location /target {
        proxy_pass https://$kong_upstream_target;
    }
    location /service {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name service.test;
        proxy_pass https://other;
    }
    location /plain {
        proxy_pass https://service;
    }
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, path in ipairs { "target", "service", "plain" } do
                client.curl { "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/" .. path }
            end
            for _, scheme in ipairs { "light", "dark" } do
                ngx.say(browse("a.wild.test", scheme))
            end
        }
    }
--- request
GET /t
--- timeout: 120
--- response_body
320, 320, light, red, ! unable to get local issuer certificate, red, ! upstream verification failures: 1, not red, not red
320, 320, dark, red, ! unable to get local issuer certificate, red, ! upstream verification failures: 1, not red, not red
--- no_error_log
[alert]
