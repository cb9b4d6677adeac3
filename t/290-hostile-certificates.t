# SPDX-License-Identifier: Apache-2.0

# Certificates as a hostile peer may present them: each is refused for the right reason where it is verified, and none
# breaks anything.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestCertificates;
use TestHarness 'no_plan';

repeat_each(1);
log_level('info');

my @NAMES = ('subjectAltName=DNS:service.test');

# Each certificate with its result as a service's certificate, as a client's certificate in Lua, and as the
# certificate of a client in a handshake: "accepted", or the reason of the refusal. A result that is left out equals
# the one before.
our @CASES_OF_TESTS = my @CASES = (
    ['good', { extensions => \@NAMES }, 'accepted'],
    ['ed25519', { algorithm => [qw(-algorithm ED25519)], extensions => \@NAMES }, 'accepted'],
    ['p521', { algorithm => [qw(-algorithm EC -pkeyopt ec_paramgen_curve:P-521)], extensions => \@NAMES }, 'accepted'],
    ['rsa-1024', { algorithm => [qw(-algorithm RSA -pkeyopt rsa_keygen_bits:1024)], extensions => \@NAMES },
        'EE certificate key too weak'],
    ['expired', { valid => [2020, 2021], extensions => \@NAMES }, 'certificate has expired'],
    ['early', { valid => [2040, 2049], extensions => \@NAMES }, 'certificate is not yet valid'],
    ['client-only', { extensions => [@NAMES, 'extendedKeyUsage=clientAuth'] },
        'unsuitable certificate purpose', 'accepted'],
    ['server-only', { extensions => [@NAMES, 'extendedKeyUsage=serverAuth'] },
        'accepted', 'unsuitable certificate purpose'],
    ['code-only', { extensions => [@NAMES, 'extendedKeyUsage=codeSigning'] }, 'unsuitable certificate purpose'],
    ['constrained', { issuer => 'narrow', extensions => \@NAMES }, 'permitted subtree violation'],
    ['within', { issuer => 'narrow', extensions => ['subjectAltName=DNS:a.good.test'] },
        'does not match', 'accepted'],
    ['no-authority', { issuer => 'leaf', extensions => \@NAMES }, 'invalid CA certificate',
        'invalid CA certificate', 'unsuitable certificate purpose'],
    ['wildcard', { extensions => ['subjectAltName=DNS:*.test'] }, 'does not match', 'accepted'],
    ['wild-middle', { extensions => ['subjectAltName=DNS:ser*.test'] }, 'does not match', 'accepted'],
    ['empty-name', { extensions => [names(dns => '')] }, 'does not match', 'accepted'],
    ['high-bytes', { extensions => [names(dns => "\xff\xfeservice.test", email => "\x80", uri => "\0")] }, 'does not match',
        'accepted'],
    ['many-names', { extensions => [names((map { (dns => "name-$_.test") } 1 .. 2500), dns => 'service.test')] }, 'accepted'],
    ['revoked', { extensions => \@NAMES }, 'accepted'],
    ['forged', { extensions => \@NAMES, forged => 1 }, 'certificate signature failure'],
);

issue('narrow', subject => '/O=Test/CN=Narrow', authority => 1,
    extensions => ['keyUsage=critical,keyCertSign,cRLSign', 'nameConstraints=critical,permitted;DNS:good.test']);
issue('leaf', subject => '/O=Test/CN=leaf', extensions => \@NAMES);
for my $case (@CASES) {
    my ($name, $of) = @$case;
    issue($name, subject => "/O=Test/CN=$name", %$of);
    issue_chain($name, $of->{issuer});
}

# Writes a certificate with its issuer, if that is not the root.
sub issue_chain {
    my ($name, $issuer) = @_;
    my $folder = $ENV{TEST_NGINX_CERTIFICATES};
    my $text = CORE::join '', map { slurp("$folder/$_.crt") } $name, grep {defined} $issuer;
    return write_certificate_file("$name.chain", $text);
}

# A hundred CAs, each issued by the one before. They share a key.
{
    my $issuer = 'ca';
    my @chain;
    for my $depth (1 .. 100) {
        issue("deep-$depth", subject => "/CN=Deep $depth", authority => $depth < 100, issuer => $issuer,
            $depth == 1 ? () : (key => 'deep-1'), $depth == 100 ? (extensions => \@NAMES) : ());
        $issuer = "deep-$depth";
        unshift @chain, slurp("$ENV{TEST_NGINX_CERTIFICATES}/deep-$depth.crt");
    }
    write_certificate_file('hundred.chain', CORE::join '', @chain);
    symlink 'deep-1.key', "$ENV{TEST_NGINX_CERTIFICATES}/hundred.key" or die $!;
    write_certificate_file('short.chain', CORE::join '', @chain[$#chain - 1, $#chain]);
}

# CRLs that revoke a CA, and a certificate that this CA has issued.
issue('branch', subject => '/O=Test/CN=Branch', authority => 1, extensions => ['keyUsage=critical,keyCertSign,cRLSign']);
issue('of-branch', subject => '/O=Test/CN=of-branch', issuer => 'branch', extensions => \@NAMES);
issue_chain('of-branch', 'branch');
revocation_list('none', 'ca');
revocation_list('leaf-revoked', 'ca', 'revoked');
revocation_list('branch-revoked', 'ca', 'branch');
revocation_list('branch-none', 'branch');
revocation_list('of-branch-revoked', 'branch', 'of-branch');

my @SERVICES = ((map { $_->[0] } @CASES), 'hundred', 'of-branch');
my $servers = CORE::join '', map { <<"_EOC_" } @SERVICES;
    upstream $_ { server unix:\$TEST_NGINX_HTML_DIR/$_.sock; }
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$_.sock ssl;
        ssl_ciphers DEFAULT:\@SECLEVEL=0;
        ssl_certificate \$TEST_NGINX_CERTIFICATES/$_.chain;
        ssl_certificate_key \$TEST_NGINX_CERTIFICATES/$_.key;
        return 200 accepted;
    }
_EOC_

add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config // '';
    $config =~ s/^    services;\n/$servers/m;
    $block->set_value('http_config', $config . <<'_EOC_');
    lua_max_running_timers 1;
_EOC_
});


run_tests();

__DATA__

=== TEST 1: a service's certificate is accepted, or refused for the right reason
--- http_config
    services;
--- config
    location /service {
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_depth(tonumber(ngx.var.arg_depth or 5)))
        }
        proxy_pass https://$arg_to;
    }
--- request eval
[map {"GET /service?to=$_->[0]"} @main::CASES_OF_TESTS]
--- error_code eval
[map { $_->[2] eq 'accepted' ? 200 : 502 } @main::CASES_OF_TESTS]
--- error_log eval
[map { $_->[2] eq 'accepted' ? () : $_->[2] } @main::CASES_OF_TESTS]
--- no_error_log
[alert]



=== TEST 2: store:verify accepts a client's certificate, or refuses it for the right reason
--- config
    location /t {
        content_by_lua_block {
            local x509 = require "resty.kong.x509"
            local folder = os.getenv("TEST_NGINX_CERTIFICATES") .. "/"
            local function read(name)
                local file = assert(io.open(folder .. name))
                local text = file:read("*a")
                file:close()
                return text
            end
            local store = assert(x509.store { pem = pki.read("ca") })
            for name in ngx.unescape_uri(ngx.var.arg_names):gmatch("%S+") do
                local list = assert(x509.chain(read(name .. ".chain")))
                local ok, err = store:verify(list, { purpose = "clientAuth", depth = 5 })
                local leaf = list[1]
                -- All fields can be read, whatever is in the certificate.
                assert(leaf.subject and leaf.serial and leaf.not_after and leaf.sans and leaf:to_pem())
                ngx.say(name, ": ", ok and "accepted" or (err:gsub(" %(.*", ""):gsub(" or the system clock is incorrect", "")))
            end
        }
    }
--- request eval
'GET /t?names=' . CORE::join '%20', map { $_->[0] } @main::CASES_OF_TESTS
--- response_body eval
CORE::join '', map { my $expected = $_->[3] // $_->[2]; "$_->[0]: $expected\n" } @main::CASES_OF_TESTS
--- no_error_log
[error]



=== TEST 3: a chain of a hundred certificates is accepted only with enough depth
--- http_config
    services;
--- config
    location /service {
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_depth(tonumber(ngx.var.arg_depth)))
        }
        proxy_pass https://hundred;
    }
--- exchanges
GET /service?depth=100 => 200
GET /service?depth=98  => 502
GET /service?depth=1   => 502
--- error_log
certificate chain too long
--- no_error_log
[alert]



=== TEST 4: CRLs refuse a revoked certificate, a revoked CA, and a revoked certificate of a CA
--- http_config
    services;
--- config
    proxy_ssl_name service.test;
    location /service {
        access_by_lua_block {
            local folder = os.getenv("TEST_NGINX_CERTIFICATES") .. "/"
            local lists = {}
            for name in ngx.var.arg_lists:gmatch("[^,]+") do
                local file = assert(io.open(folder .. name .. ".crl"))
                lists[#lists + 1] = file:read("*a")
                file:close()
            end
            local store = assert(require("resty.kong.x509").store { pem = pki.read("ca"), crl = table.concat(lists) })
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_depth(5))
            assert(kong.service.set_tls_verify_store(store))
        }
        proxy_pass https://$arg_to;
    }
--- exchanges
GET /service?to=revoked&lists=none                         => 200
GET /service?to=revoked&lists=leaf-revoked                 => 502
GET /service?to=good&lists=leaf-revoked                    => 200
GET /service?to=of-branch&lists=none,branch-none           => 200
GET /service?to=of-branch&lists=branch-revoked,branch-none => 502
GET /service?to=of-branch&lists=none,of-branch-revoked     => 502
# Without a CRL of each CA, the status is unknown.
GET /service?to=of-branch&lists=none                       => 502
--- error_log
certificate revoked
unable to get certificate CRL
--- no_error_log
[alert]



=== TEST 5: a certificate with more names than TLS accepts fails the handshake, and Lua code can read all its names
--- init
main::issue('ten-thousand', subject => '/CN=many', extensions => [main::names(map { (dns => "name-$_.test") } 1 .. 10_000)])
    if !-e "$ENV{TEST_NGINX_CERTIFICATES}/ten-thousand.crt";
--- http_config
    upstream ten-thousand { server unix:$TEST_NGINX_HTML_DIR/ten-thousand.sock; }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/ten-thousand.sock ssl;
        ssl_certificate $TEST_NGINX_CERTIFICATES/ten-thousand.crt;
        ssl_certificate_key $TEST_NGINX_CERTIFICATES/ten-thousand.key;
        return 200 accepted;
    }
--- config
    location /service {
        proxy_ssl_name name-7.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://ten-thousand;
    }
    location /t {
        content_by_lua_block {
            local file = assert(io.open(os.getenv("TEST_NGINX_CERTIFICATES") .. "/ten-thousand.crt"))
            local leaf = assert(require("resty.kong.x509").chain(file:read("*a")))[1]
            file:close()
            ngx.update_time()
            local started = ngx.now()
            local names = leaf.sans.dns
            ngx.update_time()
            ngx.say(#names, " ", names[10000], " ", ngx.now() - started < 1)
        }
    }
--- exchanges
GET /service => 502 /502 Bad Gateway/
GET /t       => /10000 name-10000.test true/
--- error_log
excessive message size
--- no_error_log
[alert]



=== TEST 6: a certificate that Lua code requests is accepted, or refused for the right reason
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        certificate gateway;
        ssl_verify_depth 5;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(pki.chain("ca"))) }
        location / {
            return 200 $ssl_client_verify;
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local folder = os.getenv("TEST_NGINX_CERTIFICATES") .. "/"
            for name in ngx.unescape_uri(ngx.var.arg_names):gmatch("%S+") do
                for _, version in ipairs { "1.2", "1.3" } do
                    local seen = client.curl { "--insecure", "--unix-socket", "$TEST_NGINX_HTML_DIR/gateway.sock",
                        "--tlsv" .. version, "--tls-max", version,
                        "--cert", folder .. name .. ".chain", "--key", folder .. name .. ".key", "https://gateway.test/" }
                    -- OpenSSL 3.6 adds this to the reason.
                    local said = seen.out:gsub(" or the system clock is incorrect", "")
                    ngx.say(name, ", TLS ", version, ": ", said, seen.err)
                end
            end
        }
    }
--- request eval
# curl does not send a certificate with a key that is too weak.
@main::CASES_SENT = grep { $_->[0] ne 'rsa-1024' } @main::CASES_OF_TESTS;
'GET /t?names=' . CORE::join '%20', map { $_->[0] } @main::CASES_SENT
--- response_body eval
CORE::join '', map {
    my ($name, undef, @expected) = @$_;
    my ($expected) = grep {defined} CORE::reverse @expected;
    map {"$name, TLS $_: " . ($expected eq 'accepted' ? 'SUCCESS' : "FAILED:$expected") . "\n"} qw(1.2 1.3)
} @main::CASES_SENT
--- no_error_log
[alert]
