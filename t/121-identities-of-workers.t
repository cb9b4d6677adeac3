# SPDX-License-Identifier: Apache-2.0

# No two TLS identities share a session, whichever worker made it, before a reload or after it; and each identity
# resumes its own in every worker.
#
# All identities meet at one address, with each version of TLS, in a mixed order: so the first request of each could
# resume a session of any other. t/120-identity-matrix.t has more settings and transports, with one worker.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use List::Util qw(shuffle);
use Test::More;

require_program('nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

# ---- identities ----------------------------------------------------------------------------------

# The values of each setting. Those with "=" mean the same as what follows it.
my %VALUES = (
    cert     => [undef, qw(client1 client1-again=client1 client1-renewed client2 chain leaf)],
    verify   => [undef, qw(on off)],
    depth    => [undef, 1 .. 3],
    store    => [undef, qw(root root-again=root both list partial)],
    dns      => [undef, 'service.test', 'service.test,other.test'],
    uri      => [undef, 'spiffe://test/service', 'spiffe://test/service,spiffe://other'],
    name     => [qw(service.test a.wild.test)],
    location => [qw(one two=one strict static ciphers)],
);
my @BASES = (
    {name => 'service.test', location => 'one'},
    {name => 'service.test', location => 'one', cert => 'client1', verify => 'on', store => 'root'},
    {name => 'service.test', location => 'strict', cert => 'client2', depth => 3, dns => 'service.test',
     uri => 'spiffe://test/service', store => 'both'},
);

# The subject and serial that the service sees of each certificate.
my %FILES = (client1 => 'client1', 'client1-renewed' => 'client1-renewed', client2 => 'client2',
             chain => 'client-intermediate', leaf => 'client-intermediate');
my %SEEN = ('' => '-');
for my $name (keys %FILES) {
    my $said = `openssl x509 -in $pki/$FILES{$name}.crt -noout -serial`;
    ($SEEN{$name}) = $said =~ /=(\w+)/ or die $said;
}

# Returns an identity: its request, what the service sees of it, and a text that is the same if it is the same identity.
sub identity {
    my (%set) = @_;
    delete @set{ grep { !defined $set{$_} } keys %set };
    my (%same, %given);
    for my $setting (keys %set) {
        my ($value, $like) = split /=/, $set{$setting};
        ($given{$setting}, $same{$setting}) = ($value, $like // $value);
    }
    my $location = delete $given{location};
    # Beside another setting, one that repeats the location's changes nothing.
    my $verify = $location eq 'strict' ? 'on' : 'off';
    delete $same{verify} if ($same{verify} // '') eq $verify && grep { defined $same{$_} } qw(cert depth store dns uri);
    my $cert = $same{cert} // ($location eq 'static' ? 'client2' : '');
    return {
        uri  => "/$location?" . join('&', map {"$_=$given{$_}"} sort keys %given),
        seen => "$SEEN{$cert} $same{name}",
        same => join(' ', map {"$_=$same{$_}"} sort keys %same),
    };
}

my %identities;
for my $base (@BASES) {
    for my $setting (sort keys %VALUES) {
        for my $value (@{ $VALUES{$setting} }) {
            my $identity = identity(%$base, $setting => $value);
            $identities{ $identity->{uri} } = $identity;
        }
    }
}

# ---- the gateway ---------------------------------------------------------------------------------

my @PROTOCOLS = qw(TLSv1.2 TLSv1.3);

start_nginx('services', http => join '', map {<<"_EOC_"} @PROTOCOLS);
    server {
        listen unix:$folder/service-$_.sock ssl;
        ssl_protocols $_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $pki/ca.crt;
        keepalive_timeout 0;
        set \$serial \$ssl_client_serial;
        if (\$serial = '') { set \$serial -; }
        return 200 "\$serial \$ssl_server_name";
    }
_EOC_

# `static` is the certificate of the location of that name.
sub gateway {
    my ($static) = @_;
    my %directives = (
        one => '', two => '', strict => 'proxy_ssl_verify on;', ciphers => 'proxy_ssl_ciphers ECDHE+AESGCM;',
        static => "proxy_ssl_certificate $pki/$static.crt; proxy_ssl_certificate_key $pki/$static.key;",
    );
    my $servers = '';
    for my $protocol (@PROTOCOLS) {
        $servers .= "    server {\n        listen unix:$folder/gateway-$protocol.sock;\n";
        for my $location (sort keys %directives) {
            $servers .= <<"_EOC_";
        location /$location {
            access_by_lua_block { apply() }
            set \$to unix:$folder/service-$protocol.sock;
            proxy_set_header Host \$arg_name;
            proxy_ssl_protocols $protocol;
            proxy_ssl_server_name on;
            proxy_ssl_name \$arg_name;
            proxy_ssl_trusted_certificate $pki/ca.crt;
            proxy_ssl_verify_depth 2;
            $directives{$location}
            proxy_pass https://balanced/;
            add_header X-Reused \$kong_upstream_ssl_session_reused;
        }
_EOC_
        }
        $servers .= "    }\n";
    }
    return <<"_EOC_";
    init_by_lua_block {
        kong, tls = require "resty.kong.pdk", require "resty.kong.tls"
        local x509 = require "resty.kong.x509"
        local pki = require "pki"
        local function certificate(name, pattern)
            local text = pki.read(name)
            return { assert(x509.chain(pattern and text:match(pattern) or text)), assert(x509.key(pki.read(name, ".key"))) }
        end
        local certificates = {
            ["client1"] = certificate("client1"), ["client1-again"] = certificate("client1"),
            ["client1-renewed"] = certificate("client1-renewed"), ["client2"] = certificate("client2"),
            ["chain"] = certificate("client-intermediate"),
            ["leaf"] = certificate("client-intermediate", "^.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-\\n"),
        }
        local ca = pki.read("ca")
        local stores = {
            ["root"] = assert(x509.store { pem = ca }), ["root-again"] = assert(x509.store { file = "$pki/ca.crt" }),
            ["both"] = assert(x509.store { pem = ca .. pki.read("other-ca") }),
            ["list"] = assert(x509.store { pem = ca, crl = pki.read("empty", ".crl") }),
            ["partial"] = assert(x509.store { pem = ca, partial_chain = true }),
        }
        local function list(text)
            local names = {}
            for name in text:gmatch("[^,]+") do
                names[#names + 1] = name
            end
            return names
        end
        function apply()
            local args, service = ngx.req.get_uri_args(), kong.service
            local certificate = args.cert and certificates[args.cert]
            assert(not certificate or service.set_tls_cert_key(certificate[1], certificate[2]))
            assert(not args.verify or service.set_tls_verify(args.verify == "on"))
            assert(not args.depth or service.set_tls_verify_depth(tonumber(args.depth)))
            assert(not args.store or service.set_tls_verify_store(stores[args.store]))
            assert(not args.dns or tls.set_upstream_ssl_sans_dnsnames(list(args.dns)))
            assert(not args.uri or tls.set_upstream_ssl_sans_uris(list(args.uri)))
        end
    }
    # With a Lua balancer, sessions are kept by identity also for requests that set nothing.
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block { assert(require("ngx.balancer").set_current_peer(ngx.var.to)) }
    }
$servers
_EOC_
}

# Requests all identities in a mixed order, of one worker. Returns a line for each that is wrong: an identity in `new`, by
# the text that is the same, must not resume at first; all others must.
sub wrong {
    my ($worker, $protocol, %new) = @_;
    my @wrong;
    alone('gateway', $worker, sub {
        for my $identity (shuffle map { $identities{$_} } sort keys %identities) {
            my $reused = delete $new{ $identity->{same} } ? '.' : 'r';
            my ($status, $headers, $body) = http_get("$folder/gateway-$protocol.sock", $identity->{uri});
            my $got = $status eq '200' ? join ' ', $headers =~ /^X-Reused: (.)/m, $body : $status;
            push @wrong, "$identity->{uri}: $got, not $reused $identity->{seen}" if $got ne "$reused $identity->{seen}";
        }
    });
    return @wrong;
}

srand 1;
my %all = map { $_->{same} => 1 } values %identities;
cmp_ok scalar(keys %all), '>=', 40, scalar(keys %all) . ' identities';
start_nginx('gateway', modules => 1, workers => 2, http => gateway('client2'));
my ($first, $second) = workers('gateway');
for my $protocol (@PROTOCOLS) {
    is_deeply [wrong($first,  $protocol, %all)], [], "$protocol: each identity makes a session of its own";
    is_deeply [wrong($second, $protocol)],       [], "$protocol: and resumes it in the other worker";
    is_deeply [wrong($first,  $protocol)],       [], "$protocol: and again in the first";
}
reload('gateway');
($first, $second) = workers('gateway');
for my $protocol (@PROTOCOLS) {
    is_deeply [wrong($second, $protocol)], [], "$protocol: and after a reload";
    is_deeply [wrong($first,  $protocol)], [], "$protocol: in each worker";
}

# Another certificate in one location.
$identities{$_}{seen} =~ s/^$SEEN{client2} /$SEEN{client1} / for grep { m{^/static\?(?!.*cert=)} } keys %identities;
my %static = map { $_ => 1 } grep {/location=static/} keys %all;
configure_nginx('gateway', modules => 1, workers => 2, http => gateway('client1'));
reload('gateway');
($first, $second) = workers('gateway');
for my $protocol (@PROTOCOLS) {
    is_deeply [wrong($first,  $protocol, %static)], [], "$protocol: those of a location with another certificate do not";
    is_deeply [wrong($second, $protocol)],          [], "$protocol: all others do";
}
done_testing();
