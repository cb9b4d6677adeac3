# SPDX-License-Identifier: Apache-2.0

# A service that fails verification never gets the client's certificate, whether it requests or requires one. The
# services are `openssl s_server`, which prints what it was sent.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

use File::Temp ();
use IO::Socket::UNIX;
use POSIX ();

require_program('openssl', 'timeout');
repeat_each(1);
log_level('info');

# ---- services ------------------------------------------------------------------------------------

my $folder = File::Temp::tempdir('observers-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
$ENV{TEST_NGINX_OBSERVERS} = $folder;
env_to_nginx('TEST_NGINX_OBSERVERS');

my @started;
add_cleanup_handler(sub {
    local $?;
    kill TERM => @started;
    waitpid $_, 0 for @started;
});

# Starts a service that listens on $folder/$name.sock.
sub start_service {
    my ($name, $certificate, @options) = @_;
    my $path  = "$ENV{TEST_NGINX_PKI}/$certificate";
    my @chain = -e "$path-chain.crt" ? ('-cert_chain', "$path-chain.crt") : ();
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__);
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>>', "$folder/$name.out";
        open STDERR, '>', "$folder/$name.err";
        # Passes the name without the folder: s_server does not take longer names as addresses.
        chdir $folder;
        # `timeout` ends the service, whatever happens to this process.
        exec 'timeout', 300, 'openssl', 's_server', '-unix', "$name.sock", '-msg', '-www', '-cert',
            "$path.crt", '-key', "$path.key", '-no-CAfile', '-no-CApath', @chain, @options
            or POSIX::_exit(127);
    }
    push @started, $pid;
    return;
}

# Two services for each certificate: one requests a client's certificate, the other requires it.
my %CERTIFICATE = (
    good    => 'service',
    other   => 'service-other',
    deep    => 'service-deep',
    expired => 'service-expired',
    self    => 'service-self',
    svid    => 'service-uri',
    forged  => 'svid-forged',
    foreign => 'svid-foreign',
    urls    => 'service-two-uris',
    signer  => 'svid-signer',
);
my %ASKS = (optional => '-verify', required => '-Verify');
my @services;
for my $name (sort keys %CERTIFICATE) {
    for my $how (sort keys %ASKS) {
        push @services, "$name-$how";
        start_service("$name-$how", $CERTIFICATE{$name}, $ASKS{$how}, 2);
    }
}
push @services, 'other-grpc';
start_service('other-grpc', 'service-other', '-Verify', 2, '-alpn', 'h2');

for my $name (@services) {
    my $deadline = time + 10;
    until (IO::Socket::UNIX->new(Peer => "$folder/$name.sock")) {
        die "$name does not listen\n" if time > $deadline;
        select undef, undef, undef, 0.01;
    }
}

# Empties the records of the services, which outlive a block.
sub forget { truncate "$folder/$_.out", 0 for @services; return }

# ---- blocks --------------------------------------------------------------------------------------

# Returns the pin of the key in a certificate.
sub pin_of {
    my ($certificate) = @_;
    chomp(my $pin = `openssl x509 -in $ENV{TEST_NGINX_PKI}/$certificate.crt -noout -pubkey |
        openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64`);
    return $pin;
}

# What the gateway must log for each refusal, and nothing else.
my %ERROR = (
    issuer  => 'verify error: (20:unable to get local issuer certificate)',
    depth   => 'verify error: (22:certificate chain too long)',
    revoked => 'verify error: (23:certificate revoked)',
    expired => 'verify error: (10:certificate has expired)',
    unknown => 'verify error: (18:self-signed certificate)',
    name    => 'does not match "wrong.test"',
    dns     => 'carries none of the accepted names: DNS name "wrong.test"',
    uri     => 'carries none of the accepted names: URI "spiffe://wrong"',
    id      => 'has a SPIFFE ID that is not accepted: "spiffe://test/ns/one"',
    domain  => 'is of a trust domain that is not accepted: "spiffe://other.test/ns/one"',
    uris    => 'is no X.509-SVID: it carries 2 URIs, and not one',
    signs   => 'is no X.509-SVID of a service: it may sign others ("spiffe://test/ns/one")',
    pin     => 'has none of the pinned keys: its key is "' . pin_of('service-other') . '"',
);
# Where the location verifies, nginx continues after the first error, and reports the last one.
my %ERROR_OF_LOCATION = (
    %ERROR,
    issuer => 'verify error: (21:unable to verify the first certificate)',
    depth  => 'verify error: (20:unable to get local issuer certificate)',
);

sub error_line {
    my ($what, $of) = (@_, \%ERROR);
    return "upstream SSL certificate $of->{$what} while SSL handshaking to upstream\n";
}
sub error_line_of_location { return error_line($_[0], \%ERROR_OF_LOCATION) }

my %expected;

# Repeats each location of a block that mentions $version for each version of TLS, and for services that request and
# that require a certificate. The name of a location says which service it is for, and what to expect.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->config;
    return unless $config =~ m{\$version};
    my ($all, @requests, @status, @reports) = ('');
    my $errors = $config =~ /^    proxy_ssl_verify on;/m ? \%ERROR_OF_LOCATION : \%ERROR;
    my @names = $config =~ m{location /(\w+)}g;
    for my $version (qw(TLSv1.2 TLSv1.3)) {
        for my $how (sort keys %ASKS) {
            (my $copy = $config) =~ s{location /}{location /$version/$how/}g;
            $copy =~ s{\$version}{$version}g;
            $copy =~ s{\$how}{$how}g;
            $all .= "location /$version/$how/ {\n$copy}\n";
            for my $name (@names) {
                my ($service, $what) = $name =~ /\A([a-z]+)_([a-z]+)/ or die "location $name?\n";
                push @requests, "GET /$version/$how/$name", "GET /report/$service-$how";
                push @status, $ERROR{$what} ? 502 : 200, 200;
                $reports[$#requests] = {
                    name => "$version, $how: $name",
                    text => $ERROR{$what}
                    ? "asked, got no certificate\n" . error_line($what, $errors)
                    : "asked, got a certificate\n",
                };
            }
        }
    }
    $expected{ $block->name } = \@reports;
    $block->set_value('config', $all);
    $block->set_value('request', \@requests);
    $block->set_value('error_code', \@status);
});

add_response_body_check(sub {
    my ($block, $body, $index) = @_;
    my $report = $expected{ $block->name } && $expected{ $block->name }[$index] or return;
    is($body, $report->{text}, $block->name . " - $report->{name}");
});

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('init', 'main::forget()');
    $block->set_value('config', $block->config . <<'END');
    location ~ ^/report/(?<service>[\w-]+)$ {
        content_by_lua_block { ngx.say(require("observer").report(ngx.var.service)) }
    }
END
});

run_tests();

__DATA__

=== TEST 1: a certificate of set_tls_cert_key is withheld from a service that fails set_tls_verify(true)
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    access_by_lua_block {
        assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        assert(kong.service.set_tls_verify(true))
    }
    location /good_accepted {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_issuer {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    location /good_issuer_of_store {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_name {
        proxy_ssl_name wrong.test;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /deep_depth {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_accepted {
        proxy_ssl_verify_depth 2;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_depth_of_plugin {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_depth(1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_verify_depth 5;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /good_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_not_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /expired_expired {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/expired-$how.sock:/;
    }
    location /good_dns {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_names { host = false, dns = { "wrong.test" } })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_uri {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_names { host = false, uris = { "spiffe://wrong" } })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_names {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/service" })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_accepted_unverified {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    # What is required of the certificate itself, counts without verification too.
    location /other_dns_unverified {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(false))
            assert(kong.service.set_tls_verify_names { host = false, dns = { "wrong.test" } })
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    location /other_pin_unverified {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(false))
            assert(kong.service.set_tls_pins { spki = { ngx.encode_base64(("x"):rep(32)) } })
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    location /self_unknown {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/self-$how.sock:/;
    }
    # A certificate that is trusted itself, self-signed or issued by a CA.
    location /self_accepted {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/service-self.crt;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/self-$how.sock:/;
    }
    location /self_name {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/service-self.crt;
        proxy_ssl_name wrong.test;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/self-$how.sock:/;
    }
    location /good_accepted_alone {
        access_by_lua_block {
            local store = pki.set_flags(pki.store("service"), pki.PARTIAL_CHAIN)
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_store(store))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_dns_alone {
        access_by_lua_block {
            local store = pki.set_flags(pki.store("service"), pki.PARTIAL_CHAIN)
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_store(store))
            assert(kong.service.set_tls_verify_names { host = false, dns = { "wrong.test" } })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }



=== TEST 2: a certificate of set_tls_cert_key is withheld from a service that fails proxy_ssl_verify on
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_verify on;
    access_by_lua_block {
        assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
    }
    location /good_accepted {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_issuer {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    location /good_issuer_of_store {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_name {
        proxy_ssl_name wrong.test;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /deep_depth {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_accepted {
        proxy_ssl_verify_depth 2;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_depth_of_plugin {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_depth(1))
        }
        proxy_ssl_verify_depth 5;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /good_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_not_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /expired_expired {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/expired-$how.sock:/;
    }
    location /good_dns {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_names { host = false, dns = { "wrong.test" } })
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_uri {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_names { host = false, uris = { "spiffe://wrong" } })
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_names {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/service" })
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_accepted_unverified {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(false))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }



=== TEST 3: proxy_ssl_certificate is withheld from a service that fails set_tls_verify(true)
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
    proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
    access_by_lua_block {
        assert(kong.service.set_tls_verify(true))
    }
    location /good_accepted {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_issuer {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }
    location /good_issuer_of_store {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_name {
        proxy_ssl_name wrong.test;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /deep_depth {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_accepted {
        proxy_ssl_verify_depth 2;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /deep_depth_of_plugin {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_depth(1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_verify_depth 5;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/deep-$how.sock:/;
    }
    location /good_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_not_revoked {
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /expired_expired {
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/expired-$how.sock:/;
    }
    location /good_dns {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_names { host = false, dns = { "wrong.test" } })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_uri {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_names { host = false, uris = { "spiffe://wrong" } })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /good_accepted_names {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/service" })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_accepted_unverified {
        access_by_lua_block { return }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }



=== TEST 4: a certificate is withheld from a service that has no accepted SPIFFE ID
--- http_config
    init_worker_by_lua_block {
        local store, other = pki.store("ca"), pki.store("other-ca")
        IDS = {
            one = { trust_domains = { test = store }, ids = { "spiffe://test/ns/one" } },
            two = { trust_domains = { test = store }, ids = { "spiffe://test/ns/two" } },
            turned = { trust_domains = { test = other }, ids = { "spiffe://test/ns/one" } },
        }
        OPTIONS = { min_version = "TLSv1.2", max_version = "TLSv1.3", groups = "P-256", ciphers = "ECDHE+AESGCM",
                    signature_algorithms = "ECDSA+SHA256" }
        function spiffe(ids, options)
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify_spiffe(IDS[ids]))
            if options then
                assert(kong.service.set_tls_options(options))
            end
        end
    }
--- config
    proxy_ssl_protocols $version;
    location /svid_accepted {
        access_by_lua_block { spiffe("one") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /svid_id {
        access_by_lua_block { spiffe("two") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /svid_issuer {
        access_by_lua_block { spiffe("turned") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /forged_issuer {
        access_by_lua_block { spiffe("one") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/forged-$how.sock:/;
    }
    location /foreign_domain {
        access_by_lua_block { spiffe("one") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/foreign-$how.sock:/;
    }
    location /urls_uris {
        access_by_lua_block { spiffe("one") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/urls-$how.sock:/;
    }
    location /signer_signs {
        access_by_lua_block { spiffe("one") }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/signer-$how.sock:/;
    }
    # The same with options: any version, and with the version of the location.
    location /svid_accepted_with_options {
        access_by_lua_block { spiffe("one", OPTIONS) }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /svid_id_with_options {
        access_by_lua_block { spiffe("two", OPTIONS) }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /forged_issuer_with_options {
        access_by_lua_block { spiffe("one", OPTIONS) }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/forged-$how.sock:/;
    }
    location /svid_accepted_with_version {
        access_by_lua_block { spiffe("one", { max_version = "$version" }) }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    location /svid_id_with_version {
        access_by_lua_block { spiffe("two", { max_version = "$version" }) }
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/svid-$how.sock:/;
    }
    # What else is verified, with options.
    location /good_name_with_options {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_options(OPTIONS))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name wrong.test;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/good-$how.sock:/;
    }
    location /other_issuer_with_options {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_options(OPTIONS))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-$how.sock:/;
    }



=== TEST 5: the next peer is tried after one fails verification, and the failed peer still serves other requests
--- http_config
    upstream two {
        server unix:$TEST_NGINX_OBSERVERS/other-required.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_OBSERVERS/good-required.sock max_fails=1 fail_timeout=60s backup;
    }
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    # A service requests no certificate on a resumed session.
    proxy_ssl_session_reuse off;
    location /plugin {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://two/;
    }
    location /location {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_ssl_verify on;
        proxy_pass https://two/;
    }
    location /others {
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass https://two/;
    }
--- request eval
[map { ("GET /$_", "GET /report/other-required", "GET /report/good-required",
        "GET /others", "GET /report/other-required", "GET /report/good-required") }
 qw(plugin location plugin location)]
--- response_body_like eval
[map { ("", "^asked, got no certificate\n" . quotemeta($_->("issuer")) . "\$",
        "^asked, got a certificate\n\$",
        "", "^asked, got a certificate\n\$", "^no connection\n\$") }
 (\&main::error_line, \&main::error_line_of_location) x 2]
--- error_code eval
[(200) x 24]
--- no_error_log
temporarily disabled
[crit]



=== TEST 6: a request fails when no peer passes verification, and the peers still serve other requests
--- http_config
    upstream two {
        server unix:$TEST_NGINX_OBSERVERS/other-required.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_OBSERVERS/other-optional.sock max_fails=1 fail_timeout=60s;
    }
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    # A service requests no certificate on a resumed session.
    proxy_ssl_session_reuse off;
    location /refused {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://two/;
    }
    location /others {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://two/;
    }
--- request eval
[("GET /refused", "GET /report/other-required", "GET /report/other-optional", "GET /others",
  "GET /others", "GET /report/other-required", "GET /report/other-optional") x 2]
--- response_body_like eval
[("502", "^asked, got no certificate\n" . quotemeta(main::error_line("issuer")) x 2 . "\$",
  "^asked, got no certificate\n\$", "", "",
  ("^asked, got a certificate\n\$") x 2) x 2]
--- error_code eval
[(502, (200) x 6) x 2]
--- no_error_log
temporarily disabled
no live upstreams
[crit]



=== TEST 7: the certificate is withheld with every form of proxy_pass
--- http_config
    # A service requests no certificate on a resumed session.
    kong_tls_session_cache off;
    upstream kept {
        server unix:$TEST_NGINX_OBSERVERS/other-required.sock;
        keepalive 4;
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
            assert(require("ngx.balancer").set_current_peer(
                "unix:$TEST_NGINX_OBSERVERS/other-required.sock"))
        }
    }
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    keeps_connections;
    access_by_lua_block {
        assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        if ngx.var.arg_verify then
            assert(kong.service.set_tls_verify(true))
        end
    }
    location /keepalive {
        proxy_pass https://kept/;
    }
    location /balancer {
        access_by_lua_block { return }
        proxy_pass https://lua/;
    }
    location /variable {
        set $name unix:$TEST_NGINX_OBSERVERS/other-required.sock;
        proxy_pass https://$name:/;
    }
    location /no_session {
        proxy_ssl_session_reuse off;
        proxy_pass https://unix:$TEST_NGINX_OBSERVERS/other-required.sock:/;
    }
    location /redirected {
        content_by_lua_block { ngx.exec("@redirected") }
    }
    location @redirected {
        access_by_lua_block { return }
        proxy_pass https://kept;
    }
--- request eval
# First without verification, which may leave a connection.
[map { ("GET /$_", "GET /report/other-required", "GET /$_?verify=1", "GET /report/other-required") }
 qw(keepalive balancer variable no_session redirected)]
--- response_body_like eval
[("", "^asked, got a certificate\n",
  "502", "^asked, got no certificate\n" . quotemeta(main::error_line("issuer")) . "\$") x 5]
--- error_code eval
[(200, 200, 502, 200) x 5]



=== TEST 8: the certificate is withheld from a gRPC service that fails verification
--- config
    location /grpc {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        grpc_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        grpc_ssl_name service.test;
        grpc_pass grpcs://unix:$TEST_NGINX_OBSERVERS/other-grpc.sock;
    }
--- request eval
["GET /grpc", "GET /report/other-grpc"]
--- response_body_like eval
["502", "^asked, got no certificate\n" . quotemeta(main::error_line("issuer")) . "\$"]
--- error_code eval
[502, 200]
