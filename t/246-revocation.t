# SPDX-License-Identifier: Apache-2.0

# Lua code that requests certificates weakens no verdict of nginx: with the same CAs, by its own CRLs, and by OCSP.
# And CRLs work together with partial_chain.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use Test::More;

require_program('curl', 'nginx', 'openssl');

my $folder = test_folder();
my $tests  = $ENV{TEST_NGINX_PKI};

# ---- certificates --------------------------------------------------------------------------------

my $pki = $ENV{TEST_NGINX_CERTIFICATES};
sub self_signed {
    my ($name, @extensions) = @_;
    my @more = map { ('-addext', "'$_'") } @extensions;
    my $said = `openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $pki/$name.key \\
        -days 4000 -subj /O=Test/CN=$name -addext keyUsage=critical,keyCertSign,cRLSign @more -out $pki/$name.crt 2>&1`;
    die $said if $?;
    return;
}
my $number = 20_000;
sub client {
    my ($name, $issuer, @extensions) = @_;
    return issue($name, subject => "/O=Test/CN=$name", issuer => $issuer, serial => ++$number,
        extensions => ['extendedKeyUsage=clientAuth', @extensions]);
}
sub authority {
    my ($name, $issuer) = @_;
    return issue($name, subject => "/O=Test/CN=$name", issuer => $issuer, authority => 1, serial => ++$number);
}
sub join_files {
    my ($to, @names) = @_;
    return write_certificate_file($to, join '', map { slurp("$pki/$_") } @names);
}

self_signed('root');
self_signed('constrained', 'nameConstraints=critical,permitted;DNS:ok.test');
self_signed('for-servers', 'extendedKeyUsage=serverAuth');
for my $root (qw(root constrained for-servers)) {
    authority("$root-ca", $root);
    client("$root-client", "$root-ca", 'subjectAltName=DNS:a.bad.test');
    join_files("$root-bundle.pem", "$root.crt", "$root-ca.crt");
    join_files("$root-alone.pem", "$root-ca.crt");
}
client('good', 'root-ca');
client('bad',  'root-ca');
client('unknown', 'root-ca');
authority('revoked-ca', 'root-ca');
client('below-revoked', 'revoked-ca');
authority('fine-ca', 'root-ca');
client('below-fine', 'fine-ca');
join_files('below-revoked.pem', 'below-revoked.crt', 'revoked-ca.crt');
join_files('below-fine.pem', 'below-fine.crt', 'fine-ca.crt');
revocation_list('root', 'root');
revocation_list('root-revokes', 'root', 'root-ca');
revocation_list('root-ca', 'root-ca', 'bad', 'revoked-ca');
revocation_list('fine-ca', 'fine-ca');
revocation_list('revoked-ca', 'revoked-ca');
join_files('all.crl', map {"$_.crl"} qw(root root-ca fine-ca revoked-ca));
join_files('below.crl', map {"$_.crl"} qw(root-ca fine-ca revoked-ca));
join_files('anchor.crl', map {"$_.crl"} qw(root-revokes root-ca));
issue('service', subject => '/O=Test/CN=service.test', issuer => 'root-ca', serial => ++$number,
    extensions => ['extendedKeyUsage=serverAuth', 'subjectAltName=DNS:service.test']);
issue('bad-service', subject => '/O=Test/CN=service.test', issuer => 'root-ca', serial => ++$number,
    extensions => ['extendedKeyUsage=serverAuth', 'subjectAltName=DNS:service.test']);
revocation_list('of-service', 'root-ca', 'bad-service');

# ---- an OCSP responder ---------------------------------------------------------------------------

# The certificates that it knows, in the format of "openssl ca".
my $index = write_certificate_file('ocsp-index', '');
sub knows {
    my ($name, $is_revoked) = @_;
    my ($serial) = `openssl x509 -in $pki/$name.crt -noout -serial` =~ /=(\w+)/;
    open my $file, '>>', $index or die "$index: $!\n";
    print $file join("\t", $is_revoked ? ('R', '490101000000Z', '260101000000Z') : ('V', '490101000000Z', ''),
        $serial, 'unknown', "/O=Test/CN=$name"), "\n";
    close $file;
    return;
}
knows($_) for qw(good root-client root-ca);
knows('bad', 1);
my ($ocsp_port) = free_ports(1);
my $responder;
sub start_responder {
    $responder = fork // die $!;
    return if $responder;
    open STDOUT, '>', "$folder/responder.log";
    open STDERR, '>&', \*STDOUT;
    exec 'openssl', 'ocsp', '-index', $index, '-port', $ocsp_port, '-rsigner', "$pki/root-ca.crt", '-rkey', "$pki/root-ca.key",
        '-CA', "$pki/root-ca.crt", '-ignore_err';
}
sub stop_responder {
    kill 'KILL', $responder;
    waitpid $responder, 0;
    return;
}
my $parent = $$;
END { kill 'KILL', $responder if $responder && $$ == $parent }
start_responder();
# Reads its log: a connection without a request would block it.
wait_until('the responder', sub { -e "$folder/responder.log" && slurp("$folder/responder.log") =~ /waiting for OCSP client/ });

# ---- servers -------------------------------------------------------------------------------------

sub server {
    my ($name, $settings, $certificate, $access) = @_;
    $access = $access ? "access_by_lua_block { $access }" : '';
    $certificate = $certificate ? "ssl_certificate_by_lua_block { $certificate }" : '';
    return <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl;
        ssl_certificate $tests/gateway.crt;
        ssl_certificate_key $tests/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        $settings
        $certificate
        error_page 495 496 =200 /refused;
        location / {
            $access
            content_by_lua_block {
                ngx.say(ngx.req.get_headers()["X-Consumer-Username"] or "-", " ", ngx.var.ssl_client_verify, " ", ngx.var.kong_client_verify)
            }
        }
        location = /refused {
            return 200 "\$ssl_client_verify\\n";
        }
    }
_EOC_
}

my $ask     = 'assert(kong.client.tls.request_client_certificate(%s))';
my $trust   = 'kong.client.tls.set_client_verify("SUCCESS")';
my $list    = "ssl_crl $pki/below.crl;";
my $ocsp    = "ssl_ocsp leaf; ssl_ocsp_responder http://127.0.0.1:$ocsp_port/;";
my $servers = '';
for my $name (qw(root-bundle root-alone constrained-bundle for-servers-bundle)) {
    $servers .= server("nginx-$name", "ssl_verify_client optional; ssl_verify_depth 5; ssl_client_certificate $pki/$name.pem;");
    $servers .= server("lua-$name", 'ssl_verify_depth 5;', sprintf $ask, "chains['$name']");
}
$servers .= server('asks-partial', 'ssl_verify_depth 5;', sprintf $ask, "chains['root-alone'], { partial_chain = true }");
$servers .= server('asks-partial-list', "ssl_verify_depth 5; $list", sprintf $ask, "chains['root-alone'], { partial_chain = true }");
$servers .= server('whole-list', "ssl_verify_depth 5; ssl_crl $pki/all.crl;", sprintf $ask, "chains['root-bundle']");
# Servers whose Lua code overrules nginx.
$servers .= server('trusting-list', "ssl_verify_depth 5; $list",
    sprintf($ask, "chains['root-alone'], { partial_chain = true }"), $trust);
$servers .= server('trusting', '', sprintf($ask, 'nil'), $trust);
$servers .= server('trusting-ocsp', "ssl_verify_depth 5; $ocsp", sprintf($ask, "chains['root-bundle']"), $trust);
for my $plugin (qw(policy anonymous with_lists partial folder)) {
    $servers .= server("$plugin", '', "$plugin:certificate()", "$plugin:access()");
    $servers .= server("$plugin-list", "ssl_crl $pki/all.crl;", "$plugin:certificate()", "$plugin:access()");
    $servers .= server("$plugin-ocsp", $ocsp, "$plugin:certificate()", "$plugin:access()");
}
$servers .= server('shallow', 'ssl_verify_depth 9;', 'shallow:certificate()', 'shallow:access()');
$servers .= server('retry', 'ssl_ecdh_curve secp384r1;', 'policy:certificate()', 'policy:access()');
for my $name ('service', 'bad-service') {
    $servers .= <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl;
        ssl_certificate $pki/$name.crt;
        ssl_certificate_key $pki/$name.key;
        return 200 "served\\n";
    }
    server {
        listen unix:$folder/to-$name.sock;
        location / {
            access_by_lua_block {
                assert(kong.service.set_tls_verify(true))
                assert(kong.service.set_tls_verify_store(of_service[ngx.var.arg_store]))
            }
            proxy_ssl_name service.test;
            proxy_pass https://unix:$folder/$name.sock:/;
        }
    }
_EOC_
}

# A folder as "openssl rehash" makes it.
mkdir "$folder/dir" or die $!;
write_to("$folder/dir/root.pem", slurp("$pki/root.crt"));
system('openssl', 'rehash', "$folder/dir") == 0 or die "openssl rehash\n";

start_nginx('gateway', modules => 1, log => 'info', http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        x509 = require "resty.kong.x509"
        function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        chains = {}
        for _, name in ipairs { "root-bundle", "root-alone", "constrained-bundle", "for-servers-bundle" } do
            chains[name] = assert(x509.chain(read(name .. ".pem")))
        end
        local function new(ca, more)
            local policy = { names = { "default" }, ca = ca, depth = 5, consumers = {} }
            for _, name in ipairs { "good", "bad", "unknown", "below-fine", "below-revoked", "root-client" } do
                table.insert(policy.consumers, { name = name, common_name = name })
            end
            for name, value in pairs(more or {}) do
                policy[name] = value
            end
            return assert(require("resty.kong.plugins.mtls_auth").new { policy })
        end
        policy = new { file = "$pki/root-bundle.pem" }
        anonymous = new({ file = "$pki/root-bundle.pem" }, { anonymous = "guest" })
        with_lists = new { pem = read("root-bundle.pem"), crl = read("all.crl") }
        partial = new { pem = read("root-alone.pem"), partial_chain = true, crl = read("below.crl") }
        folder = new({ dir = "$folder/dir", pem = read("root-ca.crt") })
        shallow = new({ file = "$pki/root.crt" }, { depth = 0 })
        local alone = read("root-alone.pem")
        of_service = {
            plain = assert(x509.store { pem = alone, partial_chain = true }),
            lists = assert(x509.store { pem = alone, partial_chain = true, crl = read("of-service.crl") }),
            none = assert(x509.store { pem = alone, partial_chain = true, crl = read("fine-ca.crl") }),
            unasked = assert(x509.store { pem = alone, crl = read("of-service.crl") }),
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
$servers
_EOC_

sub curl {
    my (@words) = @_;
    open my $out, '-|', 'curl', '-sk', '-m', 20, '-w', '%{http_code}', @words or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said =~ s/<html>.*<\/html>\s*//sr =~ s/\n/ /r;
}

sub visit {
    my ($server, $name, @words) = @_;
    my $file = -e "$pki/$name.pem" ? "$name.pem" : "$name.crt";
    return curl('--unix-socket', "$folder/$server.sock", '--cert', "$pki/$file", '--key', "$pki/$name.key", @words, 'https://a.test/');
}

sub lua {
    my ($code) = @_;
    return curl('--unix-socket', "$folder/run.sock", '--data-binary', $code, 'http://a/') =~ s/200\z//r;
}

# ---- the same verdict as nginx's -----------------------------------------------------------------

for my $case (['root-bundle', 'root-client'], ['root-alone', 'root-client'], ['constrained-bundle', 'constrained-client'],
    ['for-servers-bundle', 'for-servers-client'], ['root-bundle', 'constrained-client'], ['root-alone', 'good']) {
    my ($bundle, $client) = @$case;
    for my $version ('1.2', '1.3') {
        my @tls = ('--tls-max', $version);
        my $nginx = visit("nginx-$bundle", $client, @tls);
        my ($verdict) = $nginx =~ /(SUCCESS|FAILED:[\w ]+?)(?: SUCCESS| FAILED.*)? \d+\z/ or die $nginx;
        is visit("lua-$bundle", $client, @tls), "- $verdict $verdict 200",
            "$client with $bundle, TLS $version: $verdict, as from nginx";
    }
}
like visit('nginx-root-bundle', 'root-client'), qr/SUCCESS/, 'nginx accepts one of the clients';
is visit('asks-partial', 'root-client'), '- SUCCESS SUCCESS 200',
    'partial_chain accepts an intermediate as trust anchor';
like visit('asks-partial', 'constrained-client'), qr/FAILED/, 'partial_chain accepts no client of another CA';

# ---- CRLs with partial_chain ---------------------------------------------------------------------

my $revoked = 'FAILED:certificate revoked';
is visit('asks-partial-list', 'good'),          '- SUCCESS SUCCESS 200',
    'partial_chain and CRLs: a good certificate is accepted';
is visit('asks-partial-list', 'bad'),           "- $revoked $revoked 200",
    'partial_chain and CRLs: a revoked certificate is refused';
is visit('asks-partial-list', 'below-fine'),    '- SUCCESS SUCCESS 200',
    'partial_chain and CRLs: a good certificate below another CA is accepted';
is visit('asks-partial-list', 'below-revoked'), "- $revoked $revoked 200",
    'partial_chain and CRLs: a certificate below a revoked CA is refused';
like visit('asks-partial-list', 'constrained-client'), qr/FAILED/,
    'partial_chain and CRLs: a certificate of an unknown CA is refused';
is visit('whole-list', 'below-revoked'),   "- $revoked $revoked 200",
    'the whole chain and CRLs: a certificate below a revoked CA is refused';

sub verify {
    my ($name, $ca, $crl, $options) = @_;
    my $chain = -e "$pki/$name.pem" ? "$name.pem" : "$name.crt";
    return lua("local ok, err = assert(x509.store { pem = read('$ca'), crl = read('$crl') $options }):verify(read('$chain')) return ok or err");
}
my $partial = ', partial_chain = true';
is verify('good', 'root-alone.pem',  'below.crl', $partial), 'true', 'store: a good certificate is accepted';
is verify('good', 'root-bundle.pem', 'all.crl',   $partial), 'true',
    'store: a good certificate is accepted with the root';
is verify('below-fine', 'root-alone.pem', 'below.crl', $partial), 'true',
    'store: a good certificate below another CA is accepted';
like verify('bad', 'root-alone.pem', 'below.crl', $partial), qr/certificate revoked \(certificate 1:/,
    'store: a revoked certificate is refused';
like verify('below-revoked', 'root-alone.pem', 'below.crl', $partial), qr/certificate revoked \(certificate 2:/,
    'store: a certificate below a revoked CA is refused';
like verify('good', 'root-alone.pem', 'fine-ca.crl', $partial), qr/unable to get certificate CRL \(certificate 1:/,
    'store: a certificate without a CRL of its issuer is refused';
like verify('good', 'root-alone.pem', 'anchor.crl', $partial), qr/certificate revoked \(certificate 2:/,
    'store: a certificate of a revoked trust anchor is refused';
like verify('good', 'root-alone.pem', 'below.crl', ''), qr/unable to get issuer certificate/,
    'store: an incomplete chain is refused without partial_chain';
like verify('good', 'root-bundle.pem', 'below.crl', ''), qr/unable to get certificate CRL \(certificate 2:/,
    'store: the whole chain needs the CRL of the root';
like verify('constrained-client', 'root-alone.pem', 'below.crl', $partial), qr/unable to get local issuer/,
    'store: a certificate of an unknown CA is refused';

sub served {
    my ($service, $store) = @_;
    return curl('--unix-socket', "$folder/to-$service.sock", "http://a/?store=$store");
}
is served('service',     'plain'),   'served 200', 'service: a good certificate is accepted';
is served('service',     'lists'),   'served 200',
    'service: a good certificate is accepted with partial_chain and CRLs';
is served('bad-service', 'plain'),   'served 200', 'service: a revoked certificate is accepted without CRLs';
is served('bad-service', 'lists'),   '502',        'service: a revoked certificate is refused';
is served('service',     'none'),    '502',        'service: a certificate without a CRL of its issuer is refused';
is served('service',     'unasked'), '502',        'service: an incomplete chain is refused without partial_chain';

# ---- CRLs of the server --------------------------------------------------------------------------

for my $plugin (qw(policy with_lists partial folder)) {
    my $has_list = $plugin eq 'with_lists' || $plugin eq 'partial';
    my $refused  = $has_list ? '401' : 'bad SUCCESS SUCCESS 200';
    is visit($plugin, 'good'), 'good SUCCESS SUCCESS 200', "$plugin: a good certificate is accepted";
    is visit($plugin, 'bad'),  $refused,
        "$plugin: a revoked certificate is refused if the policy has CRLs";
    is visit($plugin, 'below-fine'), 'below-fine SUCCESS SUCCESS 200',
        "$plugin: the depth of the policy may exceed that of the server";
    is visit("$plugin-list", 'good'),          'good SUCCESS SUCCESS 200',
        "$plugin: a good certificate is accepted with ssl_crl";
    is visit("$plugin-list", 'bad'),           '401',
        "$plugin: ssl_crl refuses a revoked certificate";
    is visit("$plugin-list", 'below-revoked'), '401',
        "$plugin: ssl_crl refuses a certificate below a revoked CA";
    is visit("$plugin-list", 'bad', '--tls-max', '1.2'), '401',
        "$plugin: ssl_crl refuses a revoked certificate with TLS 1.2";
}
is visit('anonymous-list', 'good'), 'good SUCCESS SUCCESS 200',
    'anonymous: a good certificate is accepted with ssl_crl';
is visit('anonymous-list', 'bad'), "guest $revoked $revoked 200",
    'anonymous: a client with a revoked certificate is anonymous';
is visit('shallow', 'good'), '401', 'the depth of a policy may be less than that of the server';
# The server has neither that CA, nor its CRLs.
is visit('policy-list', 'constrained-client'), '401', 'policy: a certificate of another CA is refused with ssl_crl';

# After a HelloRetryRequest, nginx applies the settings of its server once more.
{
    my $request = "GET / HTTP/1.0\r\n\r\n";
    my $said = `printf '$request' | openssl s_client -unix $folder/retry.sock -tls1_3 -groups X25519:P-384 -ign_eof -msg \\
        -cert $pki/below-fine.crt -key $pki/below-fine.key -cert_chain $pki/fine-ca.crt 2>&1`;
    is scalar(() = $said =~ /ClientHello/g), 2, 'the client sends a second ClientHello';
    like $said, qr/^below-fine SUCCESS SUCCESS$/m, 'the depth of the policy applies after the second ClientHello';
}

# ---- set_client_verify("SUCCESS") ----------------------------------------------------------------

is visit('trusting', 'good'), '- FAILED:unable to verify the first certificate SUCCESS 200',
    'set_client_verify overrules that no CA is known';
is visit('trusting-list', 'good'), '- SUCCESS SUCCESS 200', 'set_client_verify agrees about a good certificate';
is visit('trusting-list', 'bad'), "- $revoked $revoked 200",
    'set_client_verify does not overrule that a certificate is revoked';
like visit('trusting-list', 'constrained-client'), qr/^- (FAILED:\S.*) \1 200/,
    'set_client_verify does not overrule an unknown CA with ssl_crl';

# ---- OCSP ----------------------------------------------------------------------------------------

for my $plugin (qw(policy anonymous with_lists partial folder)) {
    my $refused = $plugin eq 'anonymous' ? qr/^guest (FAILED:\S.*) \1 200/ : qr/^401$/;
    is visit("$plugin-ocsp", 'good'), 'good SUCCESS SUCCESS 200', "$plugin: OCSP accepts a good certificate";
    is visit("$plugin-ocsp", 'good', '--tls-max', '1.2'), 'good SUCCESS SUCCESS 200',
        "$plugin: OCSP accepts a good certificate with TLS 1.2";
    like visit("$plugin-ocsp", 'bad'),     $refused, "$plugin: OCSP refuses a revoked certificate";
    like visit("$plugin-ocsp", 'unknown'), $refused,
        "$plugin: OCSP refuses a certificate that the responder does not know";
}
is visit('trusting-ocsp', 'good'), '- SUCCESS SUCCESS 200', 'OCSP accepts a good certificate that Lua code requested';
is visit('trusting-ocsp', 'bad'), "- $revoked $revoked 200", 'set_client_verify does not overrule OCSP';
like visit('trusting-ocsp', 'constrained-client'), qr/^- (FAILED:\S.*) \1 200/,
    'set_client_verify does not overrule an unknown CA with OCSP';
# Sessions are not kept where nginx could not find the chain again.
for my $version ('1_2', '1_3') {
    unlink "$folder/session";
    my $connect = sub {
        return scalar `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -unix $folder/policy-ocsp.sock -tls$version -ign_eof \\
            -cert $pki/good.crt -key $pki/good.key @_ 2>&1`;
    };
    like $connect->('-sess_out', "$folder/session"), qr/^good SUCCESS SUCCESS$/m,
        "TLS $version: the first connection is accepted";
    like $connect->(-e "$folder/session" ? ('-sess_in', "$folder/session") : ()), qr/^New, .*^good SUCCESS SUCCESS$/ms,
        "TLS $version: the second connection makes a full handshake";
}
stop_responder();
like visit('policy-ocsp', 'good'), qr/^401$/, 'a client is refused while the responder is down';
like visit('anonymous-ocsp', 'good'), qr/^guest (FAILED:certificate status request failed) \1 200/,
    'anonymous: a client is anonymous while the responder is down';
like visit('trusting-ocsp', 'good'), qr/^- (FAILED:certificate status request failed) \1 200/,
    'set_client_verify does not overrule a responder that is down';

my $log = slurp("$folder/gateway.log");
unlike $log, qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged';
like $log, qr/mtls_auth: certificate revoked, client/, 'the log says that a certificate was revoked';
like $log, qr/mtls_auth: certificate status request failed, client/, 'the log says that an OCSP request failed';

done_testing();
