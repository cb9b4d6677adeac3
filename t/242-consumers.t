# SPDX-License-Identifier: Apache-2.0

# Whose a verified certificate is, and what the service and other plugins are told of it: with mtls_auth and
# header_cert_auth.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use IO::Socket::UNIX ();
use Test::More;

require_program('curl', 'nginx', 'openssl');

my $folder = test_folder();
my ($pki, $own) = @ENV{qw(TEST_NGINX_PKI TEST_NGINX_CERTIFICATES)};

# ---- certificates --------------------------------------------------------------------------------

my @client = ('extendedKeyUsage=clientAuth');
sub client {
    my ($name, $subject, $issuer, @names) = @_;
    return issue($name, subject => $subject, issuer => $issuer // 'ca', extensions => [@client, @names]);
}
# The same name by three authorities: one of them is below another.
issue('below', subject => '/O=Test/CN=below', issuer => 'ca', authority => 1);
client('same',       '/O=Test/CN=client-1', 'other-ca');
client('same-below', '/O=Test/CN=client-1', 'below');
client('dns',   '/O=Test/CN=client-1', 'ca', 'subjectAltName=DNS:Alice.test,URI:spiffe://test/a%2Cb,IP:192.0.2.1');
client('mail',  '/O=Test/CN=client-1', 'ca', 'subjectAltName=email:Al@Mail.test');
client('units', '/O=Test/OU=staff/OU=staff,admin/OU= root/CN=units', 'ca');
client('evil',  "/O=Test/CN=a\r\nX-Consumer-ID: root,admin", 'ca',
    names(uri => "spiffe://test/x\r\nX-Consumer-ID: root", dns => "a,DNS:b", dns => "\xC2\xA0z%41 ", email => "\0"));
write_to("$own/cas.pem", join '', map { slurp($_) } "$pki/ca.crt", "$pki/other-ca.crt", "$own/below.crt");

sub certificate {
    my ($name) = @_;
    return -e "$own/$name.crt" ? "$own/$name" : "$pki/$name";
}
sub fingerprint {
    my ($name) = @_;
    my $path = certificate($name);
    my ($digits) = `openssl x509 -in $path.crt -noout -fingerprint -sha256` =~ /=(\S+)/;
    return lc $digits =~ s/://gr;
}
sub thumbprint {
    my ($name) = @_;
    my $path = certificate($name);
    my $text = `openssl x509 -in $path.crt -outform DER | openssl dgst -sha256 -binary | openssl base64`;
    return $text =~ tr{+/}{-_}r =~ s/=*\n//r;
}

# ---- a gateway -----------------------------------------------------------------------------------

# Each policy has its name as the server name, "NAME.test", and as an argument of a request with a header.
my %policies = (
    plain     => 'consumers = { { name = "alice", common_name = "client-1" } }',
    skip      => 'skip_consumer_lookup = true',
    unskipped => 'skip_consumer_lookup = false, consumers = { { name = "alice", common_name = "client-1" } }',
    default   => 'consumers = { { name = "alice", common_name = "client-1" } }, default_consumer = "visitor"',
    described => 'consumers = {}, anonymous = "guest",
                  default_consumer = { username = "visitor", id = "7", custom_id = "c7", groups = { "new", "some" } }',
    pinned    => qq{consumers = {
                      { name = "alice", common_name = "client-1", ca_certificate = "@{[fingerprint('ca')]}" },
                      { name = "other", common_name = "client-1", ca_certificate = read("$pki/other-ca.crt") },
                      { name = "below", common_name = "client-1", ca_certificate = read("$own/below.crt") } }},
    one       => qq{consumers = { { name = "alice", common_name = "client-1", ca_certificate = "@{[uc fingerprint('ca')]}" } }},
    byname    => 'consumer_by = { "username", "custom_id" },
                  consumers = { { name = "CLIENT-2" }, { name = "client-1", groups = { "a" } }, { username = "x", custom_id = "client-2" },
                                { name = "y", custom_id = "alice.TEST" }, { name = "Al@mail.test" }, { name = "z", common_name = "units" } }',
    cn        => 'skip_consumer_lookup = true, authenticated_group_by = "CN"',
    dn        => 'skip_consumer_lookup = true, authenticated_group_by = "DN"',
    ou        => 'consumers = { { name = "alice", common_name = "units", groups = { "staff", "M\xC3\xBCller" } } },
                  authenticated_group_by = "OU"',
    uri       => 'skip_consumer_lookup = true, authenticated_group_by = "URI"',
    dns       => 'skip_consumer_lookup = true, authenticated_group_by = "DNS"',
    full      => 'consumers = { { name = "alice", id = "1", custom_id = "c1", groups = { "a", "b" }, common_name = "client-1" } }',
);
my $made = join '', map {"            $_ = { $policies{$_} },\n"} sort keys %policies;

my ($http2, $http2_server) = http2_server();
my $SHOWN = <<'_EOC_';
                local all = {}
                for name, value in pairs(ngx.req.get_headers(0, true)) do
                    if name:lower():find("^x") then
                        all[#all + 1] = name .. "=" .. (type(value) == "table" and table.concat(value, "|") or value)
                    end
                end
                table.sort(all)
                ngx.print(table.concat(all, "; "))
_EOC_
# What other plugins see of the consumer.
my $CONSUMER = <<'_EOC_';
                local function shown(consumer)
                    if not consumer then
                        return "nobody"
                    end
                    local all = {}
                    for name, value in pairs(consumer) do
                        all[#all + 1] = name .. "=" .. (name == "groups" and table.concat(value, "+") or tostring(value):sub(1, 16))
                    end
                    table.sort(all)
                    return table.concat(all, " ")
                end
_EOC_

start_nginx('gateway', modules => 1, log => 'info', http => <<"_EOC_");
    underscores_in_headers on;
    ignore_invalid_headers off;
    large_client_header_buffers 4 64k;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        x509 = require "resty.kong.x509"
        mtls_auth, header_cert_auth = require "resty.kong.plugins.mtls_auth", require "resty.kong.plugins.header_cert_auth"
        function read(path)
            local file = assert(io.open(path))
            local text = file:read("*a")
            file:close()
            return text
        end
        local policies = {
$made
        }
        by_header, list = {}, {}
        for name, policy in pairs(policies) do
            policy.ca = { file = "$own/cas.pem" }
            policy.names = { name .. ".test", "also-" .. name .. ".test" }
            policy.name = name
            list[#list + 1] = policy
        end
        table.sort(list, function(one, other) return one.name < other.name end)
        by_handshake = assert(mtls_auth.new(list))
        for name, policy in pairs(policies) do
            policy.names, policy.name = nil, nil
            policy.header, policy.encoding, policy.trusted = "X-Client-Cert", "url", { "unix:" }
            by_header[name] = assert(header_cert_auth.new(policy))
        end
    }
    server {
        listen unix:$folder/header.sock;
        location / {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            proxy_pass http://unix:$folder/service.sock;
        }
        location /consumer {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            content_by_lua_block {
$CONSUMER
                ngx.print(shown(header_cert_auth.consumer()), ", ", shown(mtls_auth.consumer()), ", ",
                          shown(by_header.plain.consumer()), ", ", shown(by_header.plain:consumer()))
            }
        }
        location /exec {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            content_by_lua_block { ngx.exec("/after") }
        }
        location /after {
            internal;
            content_by_lua_block {
$CONSUMER
                ngx.print(shown(header_cert_auth.consumer()))
            }
        }
        location /to-service {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            content_by_lua_block { ngx.exec("/service") }
        }
        location /service {
            internal;
            proxy_pass http://unix:$folder/service.sock;
        }
        location /page {
            error_page 401 =200 /own-page;
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            content_by_lua_block { ngx.print("let in") }
        }
        location = /own-page {
            return 200 "own page";
        }
        location /twice {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access() }
            content_by_lua_block { ngx.exec("/refused") }
        }
        location /refused {
            internal;
            error_page 401 = /after;
            access_by_lua_block { by_header.one:access() }
            content_by_lua_block {
$CONSUMER
                ngx.print(shown(header_cert_auth.consumer()))
            }
        }
        location /optional {
            access_by_lua_block { by_header[ngx.var.arg_policy]:access { optional = true } }
            proxy_set_header X-Verify \$kong_client_verify;
            proxy_pass http://unix:$folder/service.sock;
        }
        location /none {
            content_by_lua_block {
$CONSUMER
                ngx.print(shown(header_cert_auth.consumer()))
            }
        }
    }
    server {
        listen unix:$folder/tls.sock ssl$http2;
        $http2_server
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_certificate_by_lua_block { by_handshake:certificate() }
        location / {
            access_by_lua_block { by_handshake:access() }
            proxy_pass http://unix:$folder/service.sock;
        }
        location /optional {
            access_by_lua_block { by_handshake:access { optional = true } }
            proxy_set_header X-Verify \$kong_client_verify;
            proxy_pass http://unix:$folder/service.sock;
        }
        location /skip {
            access_by_lua_block { by_handshake:access { policy = "skip" } }
            proxy_pass http://unix:$folder/service.sock;
        }
        location /unknown {
            access_by_lua_block { by_handshake:access { policy = "nowhere" } }
            proxy_pass http://unix:$folder/service.sock;
        }
        location /wrong {
            access_by_lua_block { by_handshake:access { polcy = "skip" } }
            proxy_pass http://unix:$folder/service.sock;
        }
        location /token {
            access_by_lua_block { by_handshake:access() }
            content_by_lua_block {
                local certificate = x509.chain(kong.client.tls.get_full_client_certificate_chain())[1]
                local own = certificate:thumbprint()
                local answers = {}
                for _, cnf in ipairs {
                    own, { ["x5t#S256"] = own }, own .. "=", own:sub(1, -2), own .. "\\0", own:lower(), "", {},
                    { ["x5t#S256"] = { own } }, { own }, setmetatable({}, { __index = { ["x5t#S256"] = own } }), 1, true, ngx.null,
                    function() end
                } do
                    answers[#answers + 1] = tostring(certificate:confirms(cnf))
                end
                ngx.print(own, " ", table.concat(answers, " "), " ", tostring(certificate:confirms()))
            }
        }
    }
    server {
        listen unix:$folder/service.sock;
        location / {
            content_by_lua_block {
$SHOWN
            }
        }
    }
    server {
        listen unix:$folder/run.sock;
        location / {
            content_by_lua_block {
                ngx.req.read_body()
                ngx.print(tostring(assert(loadstring(ngx.req.get_body_data()))()))
            }
        }
    }
_EOC_

sub curl {
    my (@words) = @_;
    open my $out, '-|', 'curl', '-sk', '-m', 20, '-w', ' %{http_code}', @words or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said =~ s/<html>.*<\/html>\s*//sr =~ s/\A //r;
}

# Requests a path with a certificate in a header.
sub by_header {
    my ($policy, $name, $path, @words) = @_;
    my $pem = $name && slurp(certificate($name) . '.crt') =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
    my @header = $name ? ('-H', "X-Client-Cert: $pem") : ();
    return curl('--unix-socket', "$folder/header.sock", @header, @words, 'http://a' . ($path // '/') . "?policy=$policy");
}

# Requests a path with a certificate in the handshake, under the name of a policy.
sub by_handshake {
    my ($policy, $name, $path, @words) = @_;
    my $file = $name && certificate($name);
    my @client = $name ? ('--cert', "$file.crt", '--key', "$file.key") : ();
    return curl('--unix-socket', "$folder/tls.sock", @client, @words, "https://$policy.test" . ($path // '/'));
}

sub both {
    my ($policy, $name, $expected, $what) = @_;
    is by_header($policy, $name), $expected, "in a header: $what";
    is by_handshake($policy, $name), $expected, "in the handshake: $what";
    return;
}

sub credential { return 'X-Credential-Identifier=' . fingerprint(shift) }

# ---- no consumer, or a default one ---------------------------------------------------------------

my $DN = 'X-Client-Cert-DN=CN=client-1,O=Test';
my $ALICE = credential('client1');
both('plain', 'client1', "$DN; X-Consumer-Username=alice; $ALICE 200", 'the service is told who the client is');
both('plain', 'client2', '401', 'a certificate of nobody is refused');
both('skip', 'client1', "$DN 200", 'skip_consumer_lookup lets a certificate in');
both('skip', 'client2', 'X-Client-Cert-DN=CN=client-2,O=Test 200', 'and any other');
both('skip', 'dns', "$DN; X-Client-Cert-San=URI:spiffe://test/a%252Cb, DNS:Alice.test, IP:192.0.2.1 200", 'with its names');
both('skip', 'client-expired', '401', 'skip_consumer_lookup: not one that has expired');
both('skip', 'client-untrusted', '401', 'skip_consumer_lookup: not one of an unknown CA') if -e "$pki/client-untrusted.crt";
both('skip', undef, '401', 'skip_consumer_lookup: not without a certificate');
both('unskipped', 'client2', '401', 'skip_consumer_lookup = false is the default');
both('default', 'client1', "$DN; X-Consumer-Username=alice; " . credential('client1') . ' 200', 'default_consumer is not for consumers');
both('default', 'client2', 'X-Client-Cert-DN=CN=client-2,O=Test; X-Consumer-Username=visitor; ' . credential('client2') . ' 200',
    'default_consumer is for certificates of nobody');
both('default', $_, '401', "default_consumer is not for $_") for 'client-expired', 'service';
both('default', undef, '401', 'default_consumer is not for clients without a certificate');
both('described', 'client2', 'X-Authenticated-Groups=new, some; X-Client-Cert-DN=CN=client-2,O=Test; X-Consumer-Custom-ID=c7; '
    . 'X-Consumer-ID=7; X-Consumer-Username=visitor; ' . credential('client2') . ' 200', 'default_consumer as a table');
both('described', $_, 'X-Anonymous-Consumer=true; X-Consumer-Username=guest 200', 'anonymous is for ' . ($_ // 'no certificate'))
    for 'client-expired', undef;

# ---- the CA of a consumer ------------------------------------------------------------------------

my %credential = map { $_ => credential($_) } qw(client1 same same-below);
both('pinned', 'client1', "$DN; X-Consumer-Username=alice; $credential{client1} 200", 'alice is of the CA that she is pinned to');
both('pinned', 'same', "$DN; X-Consumer-Username=other; $credential{same} 200", 'the same name of the other CA is the other');
both('pinned', 'same-below', "$DN; X-Consumer-Username=below; $credential{'same-below'} 200",
    'the authority that is nearest to the certificate counts');
both('one', 'client1', "$DN; X-Consumer-Username=alice; $credential{client1} 200", 'alice');
both('one', 'same', '401', 'the same name of another CA is nobody');
both('one', 'same-below', "$DN; X-Consumer-Username=alice; $credential{'same-below'} 200",
    'an authority below that of the consumer is in its chain');
# What is sent beside the chain is not in the verified chain.
{
    write_to("$own/mixed.crt", slurp("$own/same.crt") . slurp("$pki/ca.crt"));
    symlink "$own/same.key", "$own/mixed.key";
    is by_handshake('one', 'mixed'), '401', 'a CA that the client only sends along does not count';
}

# ---- consumer_by ---------------------------------------------------------------------------------

both('byname', 'client1', "X-Authenticated-Groups=a; $DN; X-Consumer-Username=client-1; $credential{client1} 200",
    'the common name is a username, in its case');
both('byname', 'client2', 'X-Client-Cert-DN=CN=client-2,O=Test; X-Consumer-Custom-ID=client-2; X-Consumer-Username=x; '
    . credential('client2') . ' 200', 'the common name is a custom_id');
like by_header('byname', 'dns'), qr/X-Consumer-Custom-ID=alice.TEST; X-Consumer-Username=y; /, 'a DNS name, whatever its case';
like by_header('byname', 'mail'), qr/X-Consumer-Username=Al\@mail.test; /, 'the host of an address, whatever its case';
like by_header('byname', 'units'), qr/X-Consumer-Username=z; /, 'a field of the consumer counts too';

# ---- groups, and what certificates may say -------------------------------------------------------

both('cn', 'client1', "X-Authenticated-Groups=client-1; $DN 200", 'the common name as a group');
both('dn', 'client1', "X-Authenticated-Groups=CN=client-1%2CO=Test; $DN 200", 'the subject as a group: one');
both('ou', 'units', 'X-Authenticated-Groups=staff, M%C3%BCller, staff%2Cadmin, %20root; '
    . 'X-Client-Cert-DN=CN=units,OU=\\ root,OU=staff\\,admin,OU=staff,O=Test; X-Consumer-Username=alice; '
    . credential('units') . ' 200', 'groups of the consumer, and of the units');
both('uri', 'client1', "$DN 200", 'no name, no group');
for my $policy (qw(cn uri dns skip)) {
    my $said = by_header($policy, 'evil');
    unlike $said, qr/X-Consumer-ID=/, "$policy: no name makes another header";
    like $said, qr/ 200\z/, "$policy: the client is let in";
    my ($groups) = $said =~ /X-Authenticated-Groups=(.*?);/;
    is $groups, {
        cn  => 'a%0D%0AX-Consumer-ID: root%2Cadmin',
        uri => 'spiffe://test/x%0D%0AX-Consumer-ID: root',
        dns => 'a%2CDNS:b, %C2%A0z%2541%20',
    }->{$policy}, "$policy: groups are encoded";
    like $said, qr{X-Client-Cert-San=URI:spiffe://test/x%0D%0AX-Consumer-ID: root, DNS:a%2CDNS:b, DNS:%C2%A0z%2541%20, email:%00 },
        "$policy: names are encoded";
}

# ---- headers are the gateway's -------------------------------------------------------------------

my @guarded = qw(X-Consumer-ID X-Consumer-Custom-ID X-Consumer-Username X-Credential-Identifier X-Client-Cert-DN
    X-Client-Cert-San X-Anonymous-Consumer X-Authenticated-Groups);
my @forms = (
    sub { $_[0] }, sub { lc $_[0] }, sub { uc $_[0] }, sub { $_[0] =~ tr/-/_/r }, sub { $_[0] =~ s/-/_/r }, sub { $_[0] =~ tr/-/./r },
    sub { $_[0] },
);
my @forged = map {
    my $name = $_;
    map { ('-H', $_->($name) . ': forged') } @forms
} @guarded;
unlike by_header('plain', 'client1', '/', @forged), qr/forged/, 'in a header: no forged header gets through';
unlike by_handshake('plain', 'client1', '/', $_, @forged), qr/forged/, "in the handshake, $_: none gets through"
    for '--http1.1', '--http2';
is by_header('skip', 'client1', '/', @forged), "$DN 200", 'what is not set is removed';
is by_handshake('unasked', undef, '/', @forged), '200', 'a name without a policy: headers are removed';
is by_header('plain', undef, '/optional', @forged), 'X-Verify=NONE 200', 'optional: headers are removed';
is by_header('skip', 'client1', '/to-service', @forged), "$DN 200", 'nor is what was sent there after ngx.exec';
for my $path (qw(/exec /twice)) {
    is by_header('full', 'client1', $path, @forged), ($path eq '/exec'
            ? 'custom_id=c1 fingerprint=' . substr(fingerprint('client1'), 0, 16) . ' groups=a+b id=1 username=alice 200'
            : 'fingerprint=' . substr(fingerprint('client1'), 0, 16) . ' groups= username=alice 200'),
        "$path: the consumer is known after ngx.exec";
}
is by_header('skip', 'same', '/twice', @forged), 'nobody 401', 'a plugin that refuses makes others forget the consumer';

# ---- consumer() ----------------------------------------------------------------------------------

my $shown = 'fingerprint=' . substr(fingerprint('client1'), 0, 16);
my $full  = "custom_id=c1 $shown groups=a+b id=1 username=alice";
is by_header('full', 'client1', '/consumer'), "$full, $full, $full, $full 200", 'consumer() in each form';
like by_header('skip', 'client1', '/consumer'), qr/\A$shown groups=, /, 'consumer() has no username without consumers';
like by_header('described', undef, '/consumer'), qr/\Aanonymous=true groups= username=guest, /, 'consumer() of an anonymous client';
is by_header('plain', 'client1', '/none', @forged), 'nobody 200', 'consumer() without a plugin is nil, whatever the client sends';

# ---- by route ------------------------------------------------------------------------------------

is by_handshake('skip', 'client2', '/skip'), 'X-Client-Cert-DN=CN=client-2,O=Test 200', 'a location demands the policy of the name';
is by_handshake('also-skip', 'client2', '/skip'), 'X-Client-Cert-DN=CN=client-2,O=Test 200', 'or of another name of the policy';
is by_handshake('plain', 'client1', '/skip'), '421', 'not of a name with another policy';
is by_handshake('unasked', 'client1', '/skip'), '421', 'nor of one without a policy';
is by_handshake('plain', 'client1', '/skip', '-H', 'Host: skip.test'), '421', 'nor by the header Host';
is by_handshake('skip', 'client1', '/unknown'), '500', 'an unknown policy is an error';
is by_handshake('skip', 'client1', '/wrong'), '500', 'an unknown option is an error';
is by_handshake('plain', undef, '/optional'), 'X-Verify=NONE 200', 'optional: no certificate, nobody';
is by_handshake('plain', 'client1', '/optional'), "$DN; X-Consumer-Username=alice; $ALICE; X-Verify=SUCCESS 200", 'optional: a consumer';
is by_handshake('plain', 'client2', '/optional'), '401', 'optional: a certificate of nobody is refused';
is by_handshake('plain', 'client-expired', '/optional'), '401', 'optional: a bad certificate is refused';
is by_handshake('described', undef, '/optional'), 'X-Anonymous-Consumer=true; X-Consumer-Username=guest; X-Verify=NONE 200',
    'optional: anonymous stays';
is by_header('plain', 'client1', '/optional'), "$DN; X-Consumer-Username=alice; $ALICE; X-Verify=SUCCESS 200", 'optional: by header';
is by_header('plain', 'client-expired', '/optional'), '401', 'optional: a bad certificate in a header';

# ---- JSON ----------------------------------------------------------------------------------------

my @type = ('-w', '|%{content_type} %{http_code}');
my $verify = '{"message":"TLS certificate failed verification"}|application/json; charset=utf-8 401';
my $none   = '{"message":"No required TLS certificate was sent"}|application/json; charset=utf-8 401';
for my $accept ('application/json', 'text/html, Application/JSON;q=0.5', 'application/problem+json') {
    is by_header('plain', undef, '/', @type, '-H', "Accept: $accept"), $none, "no certificate, Accept: $accept";
    is by_handshake('plain', 'client-expired', '/', @type, '-H', "Accept: $accept"), $verify, "a bad one, Accept: $accept";
    is by_handshake('plain', 'client2', '/', @type, '-H', "Accept: $accept"), $verify, "nobody's, Accept: $accept";
}
for my $accept ('*/*', 'text/html', 'application/json;q=0', 'text/json-not, application/jsonx', '') {
    is by_header('plain', undef, '/', @type, '-H', "Accept:$accept"), '|text/html 401', "nginx's page, Accept: $accept";
}

is by_header('plain', undef, '/page', '-H', 'Accept: application/json'), 'own page 200', 'an error_page takes precedence over JSON';
like by_header('plain', undef, '/', '-I', '-H', 'Accept: application/json'), qr{\AHTTP/1.1 401 .*\r\n\r\n 401\z}s, 'HEAD: no body';

# The body of a refused request is not taken for another request.
for my $accept ('application/json', '*/*') {
    my $socket = IO::Socket::UNIX->new(Peer => "$folder/header.sock") or die $!;
    my $inner  = "GET /none HTTP/1.1\r\nHost: a\r\n\r\n";
    print $socket "POST /?policy=plain HTTP/1.1\r\nHost: a\r\nAccept: $accept\r\nContent-Length: " . length($inner)
        . "\r\n\r\n$inner", "GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    my $said = do { local $/; <$socket> };
    is scalar(() = $said =~ m{^HTTP/1.1 }mg), 2, "two requests have two answers, Accept: $accept";
}

# ---- tokens that are bound to a certificate ------------------------------------------------------

is by_handshake('plain', 'client1', '/token'), thumbprint('client1') . ' true true' . ' false' x 14 . ' 200', 'thumbprints';

# ---- wrong options -------------------------------------------------------------------------------

sub lua {
    my ($code) = @_;
    return curl('--unix-socket', "$folder/run.sock", '--data-binary', $code, 'http://a/') =~ s/ 200\z//r;
}
my $ca = fingerprint('ca');
for my $case (
    ['skip_consumer_lookup = 1', 'skip_consumer_lookup must be a boolean: given 1: header_cert_auth.new'],
    ['consumers = {}, skip_consumer_lookup = true', 'skip_consumer_lookup and consumers exclude each other: header_cert_auth.new'],
    ['skip_consumer_lookup = true, default_consumer = "a"',
        'skip_consumer_lookup and default_consumer exclude each other: header_cert_auth.new'],
    ['lookup = print, consumers = {}', 'lookup and consumers exclude each other: header_cert_auth.new'],
    ['lookup = print, consumer_by = { "username" }', 'lookup and consumer_by exclude each other: header_cert_auth.new'],
    ['lookup = 1', 'lookup must be a function: given 1: header_cert_auth.new'],
    ['lookup = print, cache_ttl = -1', 'cache_ttl must be a number of seconds: given -1: header_cert_auth.new'],
    ['lookup = print, negative_ttl = "1"', 'negative_ttl must be a number of seconds: given the string "1": header_cert_auth.new'],
    ['consumers = {}, cache_ttl = 1', 'cache_ttl is for lookup: given 1: header_cert_auth.new'],
    ['', 'consumers must be a list: given nil: header_cert_auth.new'],
    ['consumers = {}, consumer_by = { "name" }',
        'consumer_by must be a list of "username" and "custom_id": given a table: header_cert_auth.new'],
    ['consumers = {}, consumer_by = {}',
        'consumer_by must be a list of "username" and "custom_id": given an empty table: header_cert_auth.new'],
    ['consumers = {}, authenticated_group_by = "O"',
        'authenticated_group_by must be "CN", "DN", "OU", "DNS", "URI" or "EMAIL": given the string "O": header_cert_auth.new'],
    ['consumers = {}, default_consumer = 1', 'default_consumer: must be a string or a table'],
    ['consumers = {}, default_consumer = { id = "1" }', 'default_consumer: name must be a string'],
    ['consumers = {}, default_consumer = { name = "a", uri = "b" }',
        'default_consumer: unknown field "uri"; fields are custom_id, groups, id, name, username'],
    ['consumers = { { name = "a\nb", uri = "b" } }',
        'consumer 1: name has a control character, or begins or ends with a space'],
    ['consumers = { { name = "a", id = " b", uri = "b" } }',
        'consumer 1: id has a control character, or begins or ends with a space'],
    ['consumers = { { name = "a", id = 1, uri = "b" } }', 'consumer 1: id must be a string'],
    ['consumers = { { name = "a", username = "a", uri = "b" } }', 'consumer 1: name and username are one field: give one of both'],
    ['consumers = { { name = "a", groups = "a", uri = "b" } }', 'consumer 1: groups must be a list of strings'],
    ['consumers = { { name = "a", groups = { "a,b" }, uri = "b" } }', 'consumer 1: group 1 has a comma'],
    ['consumers = { { name = "a", groups = { "a", "" }, uri = "b" } }', 'consumer 1: group 2 is empty'],
    ['consumers = { { name = "a", groups = { "a\0" }, uri = "b" } }',
        'consumer 1: group 1 has a control character, or begins or ends with a space'],
    ['consumers = { { name = "a", ca_certificate = "00", uri = "b" } }',
        'consumer 1: ca_certificate: no certificate in PEM format found'],
    ["consumers = { { name = 'a', ca_certificate = read('$own/cas.pem'), uri = 'b' } }",
        'consumer 1: ca_certificate must be one certificate'],
    ["consumers = { { name = 'a', ca_certificate = '$ca' } }", 'consumer 1: it has nothing to be known by'],
    ["consumers = { { name = 'a', uri = 'b', ca_certificate = '$ca' }, { name = 'b', uri = 'b', ca_certificate = '$ca' } }",
        'consumer 2: uri is that of another consumer'],
    ["consumers = { { name = 'a', uri = 'b', ca_certificate = '$ca' }, { name = 'b', uri = 'b' } }",
        'consumer 2: uri is that of another consumer'],
    ['consumer_by = { "username" }, consumers = { { name = "a", id = "1" }, { name = "a", id = "2" } }',
        'consumer 2: username is that of another consumer'],
    ['consumer_by = { "custom_id" }, consumers = { { name = "a" } }', 'consumer 1: it has nothing to be known by'],
    ['consumer_by = { "username" }, consumers = { { name = "a", uri = "x" }, { name = "a", dns = "y" } }', 'made'],
) {
    my ($options, $expected) = @$case;
    my $said = lua(<<"_EOC_");
        local options = { ca = { file = "$own/cas.pem" }, header = "X-C", encoding = "url", trusted = {}, $options }
        local ok, made, err = pcall(header_cert_auth.new, options)
        return ok and (err or "made") or made
_EOC_
    is $said, $expected, "new { $options }";
}
is lua('local function policy(name) return { names = { name }, name = "a", ca = list[1].ca, consumers = {} } end
        return select(2, mtls_auth.new { policy("a.test"), policy("b.test") })'),
    'policy 2: name is that of another policy', 'each policy has a name of its own';

my $log = slurp("$folder/gateway.log");
unlike $log, qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged';
like $log, qr/there is no policy of the name "nowhere": mtls_auth:access/, 'the log says which policy is unknown';
like $log, qr/unknown option "polcy"; options are optional, policy: mtls_auth:access/, 'the log says which option is unknown';

done_testing();
