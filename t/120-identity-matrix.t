# SPDX-License-Identifier: Apache-2.0

# No two TLS identities share a TLS session or a connection.
#
# For every two sets of settings that differ in one setting, in both orders, with both versions of TLS and every
# transport to the service, requests of the two identities alternate. The service must see each identity with its own
# certificate and name, or not at all where its verification fails. The first request of the second identity must use
# nothing of the first identity. After that, each identity must resume its own session, or use its own connection.
#
# The program below creates the pairs. Each pair has its own address of the service, so that no pair meets sessions or
# connections of another. In the last blocks, all identities meet at one address, several at a time and in a mixed
# order.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

use File::Path qw(make_path);
use List::Util qw(shuffle uniq);

require_program('openssl');
repeat_each(1);
log_level('info');
worker_connections(4096);

# ---- identities ----------------------------------------------------------------------------------

# The values of each setting. `undef` leaves the setting to the location.
my %VALUES = (
    cert     => [undef, qw(client1 client1-again client1-renewed client2 chain chain-leaf)],
    verify   => [undef, qw(on off)],
    depth    => [undef, 0 .. 3],
    store    => [undef, qw(root root-again other both both-turned list list-checked
        revoked-checked purpose directory:ca directory:other-ca)],
    dns      => [undef, 'service.test', 'other.test,service.test', 'other.test'],
    uri      => [undef, 'spiffe://test/service', 'spiffe://other,spiffe://test/service',
        'spiffe://other', 'spiffe://test/*'],
    ip       => [undef, '127.0.0.1', '127.0.0.2'],
    email    => [undef, 'a@service.test'],
    host     => [undef, 'service.test', 'other.test'],
    pins     => [undef, qw(right more wrong)],
    spiffe   => [undef, qw(id id-again below domains store-both store-other id-other)],
    options  => [undef, qw(group group-other version ciphers)],
    sent     => [undef, 'none', 'a.test', 'b.test'],
    name     => [qw(service.test a.wild.test other.test)],
    location => [qw(one two strict static fresh silent otherwise)],
);

# The values for all transports but the first of each kind. A transport changes where an identity is used, not what
# belongs to the identity.
my %FEWER = (
    %VALUES,
    cert     => [undef, qw(client1 client1-again client2 chain-leaf)],
    depth    => [undef, 1, 2],
    store    => [undef, qw(root other both)],
    dns      => [undef, 'service.test', 'other.test'],
    uri      => [undef, 'spiffe://test/service', 'spiffe://other'],
    ip       => [],
    email    => [],
    pins     => [undef, qw(right wrong)],
    spiffe   => [undef, qw(id store-both id-other)],
    options  => [undef, qw(group version)],
    sent     => [undef, 'none', 'a.test'],
    location => [qw(one two strict otherwise)],
);

# Stores that grow while they are in use, in the order of the requests. The stores of the last row have the same size,
# and began with the same contents.
my @GROWING = (
    [('ca:') x 2, ('ca:other-ca') x 2],
    [('ca:') x 2, ('ca:intermediate') x 2],
    [('other-ca:') x 2, ('other-ca:ca') x 2],
    ['other-ca/1:', 'other-ca/2:', ('other-ca/1:ca', 'other-ca/2:intermediate') x 2],
);

# The settings around the one that differs. `values` replace those above; with `only`, there are no others.
my @BASES = (
    {
        name     => 'nothing else set',
        service  => 'grpc',
        settings => {name => 'service.test', location => 'one'},
        values   => {store => [undef, qw(root root-again other)]},
    },
    {
        name     => 'with a certificate',
        service  => 'grpc',
        settings => {
            cert => 'client1', store => 'other', name => 'service.test', location => 'one',
        },
        values => {
            cert => [undef, qw(client1 client2)], depth => [undef, 1],
            store => [qw(root root-again other)], dns => [], uri => [], spiffe => [],
        },
    },
    {
        name     => 'with a verified service',
        service  => 'grpc',
        settings => {
            cert => 'client1', verify => 'on', name => 'service.test', location => 'one',
        },
    },
    {
        name     => 'with every setting',
        service  => 'grpc-deep',
        settings => {
            cert => 'client2', verify => 'on', depth => 2, store => 'both', dns => 'service.test',
            uri => 'spiffe://test/service', name => 'service.test', location => 'one',
        },
        values => {
            cert => [undef, qw(client1 client1-renewed client2)],
            store => [qw(root other both both-turned list list-checked)],
            spiffe => [],
        },
    },
    {
        name     => 'with a SPIFFE ID and options',
        service  => 'grpc-deep',
        settings => {
            cert => 'client1', depth => 2, spiffe => 'id', options => 'group', name => 'other.test', location => 'one',
        },
        only     => 1,
        values   => {
            cert => [undef, qw(client1 client2)], verify => [undef, 'on', 'off'], depth => [1, 2],
            dns => [undef, 'service.test', 'other.test'], pins => [undef, qw(right wrong)], name => $VALUES{name},
            spiffe => $VALUES{spiffe}, options => $VALUES{options}, location => [qw(one two strict)],
        },
    },
    {
        name     => 'with a verified service and no SNI',
        service  => 'grpc',
        settings => {cert => 'client1', verify => 'on', location => 'silent'},
        only     => 1,
        values   => {name => $VALUES{name}},
    },
    {
        name     => 'nothing else set, the location verifies',
        service  => 'grpc',
        settings => {name => 'service.test', location => 'strict'},
        only     => 1,
        values   => {name => $VALUES{name}, verify => $VALUES{verify}},
    },
    {
        name     => 'with a certificate from a variable',
        service  => 'grpc',
        settings => {file => 'client1', depth => 1, name => 'service.test', location => 'variable'},
        only     => 1,
        values   => {
            file => [qw(client1 client2)], cert => [undef, 'client1'], verify => [undef, 'on'],
            depth => [undef, 1], location => [qw(variable one)],
        },
    },
);

# What the locations of the gateway set. "one" and "two" set nothing; "otherwise" is for gRPC among locations for
# HTTP, and the reverse. The argument "file" names the certificate of "variable".
my %LOCATION = (
    one       => {},
    two       => {},
    strict    => {verify => 'on'},
    static    => {cert => 'client2'},
    fresh     => {no_sessions => 1},
    silent    => {no_sni => 1},
    otherwise => {},
    variable  => {variable => 1},
);

# What the service sees of a certificate: its subject, and whether the service can build a chain.
my %SEEN = (
    ''                => ['', 'NONE'],
    'client1'         => ['CN=client-1,O=Test', 'SUCCESS'],
    'client1-renewed' => ['CN=client-1,O=Test', 'SUCCESS'],
    'client2'         => ['CN=client-2,O=Test', 'SUCCESS'],
    'chain'           => ['CN=client-intermediate,O=Test', 'SUCCESS'],
    'chain-leaf'      =>
        ['CN=client-intermediate,O=Test', 'FAILED:unable to verify the first certificate'],
);
my %FILE = ('chain' => 'client-intermediate', 'chain-leaf' => 'client-intermediate');
push @{ $SEEN{$_} }, openssl_says($FILE{$_} || $_, '-serial') for grep {length} keys %SEEN;

sub openssl_says {
    my ($name, $what) = @_;
    my ($value) = `openssl x509 -in '$ENV{TEST_NGINX_PKI}/$name.crt' -noout $what` =~ /(\w+)$/
        or die "openssl x509 $what fails for $name\n";
    return $value;
}

# The services whose chain each store accepts. There are no CRLs of the intermediates.
my %TRUSTS = (
    (map { $_ => qr/\A/ } qw(root both list ca: ca:other-ca ca:intermediate other-ca:ca)),
    'list-checked' => qr/\Agrpc\z/,
);
my %INTERMEDIATES = ('grpc' => 0, 'grpc-deep' => 2);

# Returns an identity: its settings, and what follows from them.
#
# `is` has the effective settings, with those of the location. Identities with equal `same` must share sessions and
# connections: their certificates have the same contents, and their locations the same directives. Identities with equal `alike` may share them: their stores
# have the same contents, or their settings repeat those of the location.
sub identity {
    my ($service, %set) = @_;
    delete @set{ grep { !defined $set{$_} } keys %set };
    my %is = (%{ $LOCATION{ $set{location} } }, %set);
    my $overridden = grep { defined $set{$_} } qw(cert verify depth store dns uri ip email host pins spiffe options sent);

    $is{cert} //= $is{file} if $is{variable};
    $is{cert} =~ s/-again\z// if defined $is{cert};
    $is{verify} //= 'off';
    $is{verify} = 'on' if $is{spiffe};
    $is{depth}  //= 1;
    $is{store}  //= 'root';
    $is{spiffe} =~ s/-again\z// if defined $is{spiffe};
    # The same store as another object, in another order, or from a directory.
    $is{store} =~ s{-(?:again|turned)\z|/\d}{};
    $is{store} = $is{store} eq 'directory:ca' ? 'root' : 'other' if $is{store} =~ /\Adirectory/;

    # These two have the same directives.
    my %location = (location => $set{location} eq 'two' ? 'one' : $set{location});

    return {
        set        => \%set,
        is         => \%is,
        overridden => $overridden,
        text       => text_of(\%set),
        same       => text_of({%set, %location, cert => ($set{cert} // '') =~ s/-again\z//r}),
        alike      => ($overridden ? 'overridden ' : '') . text_of({%is, %location}),
        refusal    => refusal($service, \%is),
    };
}

sub text_of {
    my ($hash) = @_;
    return join ' ', map {"$_=$hash->{$_}"} sort keys %$hash;
}

# What must be among the names of each kind, for the services to have one.
my %NAMES_OF_SERVICE = (
    host => qr/\Aservice\.test\z/, dns => qr/\bservice\.test\b/, uri => qr{\btest/(?:service\b|[*])},
    ip => qr/\A127[.]0[.]0[.]1\z/, email => qr/(?!)/,
);

# Returns the part of the error line that says why the gateway must refuse the service, or nothing.
sub refusal {
    my ($service, $is) = @_;
    my $spiffe = $is->{spiffe} // '';
    my $wrong_key = ($is->{pins} // '') eq 'wrong' ? 'SSL certificate has none of the pinned keys' : '';
    if ($spiffe) {
        return 'SSL certificate verify error' if $spiffe eq 'store-other' || $is->{depth} < $INTERMEDIATES{$service};
        return 'SSL certificate has a SPIFFE ID that is not accepted' if $spiffe eq 'id-other';
    }
    elsif ($is->{verify} eq 'on') {
        return 'SSL certificate verify error'
            if $is->{depth} < $INTERMEDIATES{$service}
            || $service !~ ($TRUSTS{ $is->{store} } || qr/(?!)/);
        return $wrong_key if $wrong_key;
        return 'SSL certificate does not match' if $is->{name} eq 'other.test' && !has_names($is);
    }
    return $wrong_key if $wrong_key;
    return 'SSL certificate carries none of the accepted names'
        if has_names($is) && !grep { ($is->{$_} // '') =~ $NAMES_OF_SERVICE{$_} } keys %NAMES_OF_SERVICE;
    return '';
}

sub has_names {
    my ($is) = @_;
    return grep { defined $is->{$_} } keys %NAMES_OF_SERVICE;
}

# ---- pairs ---------------------------------------------------------------------------------------

# Returns all pairs of one base, as {name, service, identities}, with the identities in the order of the requests.
sub pairs_of {
    my ($base, $values) = @_;
    my %values = ($base->{only} ? () : %$values, %{ $base->{values} || {} });
    my @pairs;
    my $add = sub {
        my ($attribute, @values) = @_;
        my @different = uniq(map { $_ // 'not set' } @values);
        my @settings = map { {%{ $base->{settings} }, $attribute => $_} } @values;
        push @pairs, {
            name       => "$attribute " . join(' then ', @different) . ", $base->{name}",
            service    => $base->{service},
            identities => [map { identity($base->{service}, %$_) } @settings],
        };
    };
    for my $attribute (sort keys %values) {
        for my $first (@{ $values{$attribute} }) {
            for my $second (@{ $values{$attribute} }) {
                next if ($first // '') eq ($second // '');
                $add->($attribute, ($first, $second) x 2);
            }
        }
    }
    for my $stores ($values{store} ? @GROWING : ()) {
        $add->('store', @$stores);
    }
    return @pairs;
}

my @ALL_PAIRS   = map { pairs_of($_, \%VALUES) } @BASES;
my @FEWER_PAIRS = map { pairs_of($_, \%FEWER) } @BASES;
my @PROTOCOLS = qw(TLSv1.2 TLSv1.3);

# Returns what the service must see of an identity.
sub seen {
    my ($is) = @_;
    my ($client, $chain, $serial) = @{ $SEEN{ $is->{cert} // '' } };
    $serial //= '';
    my $sent = $is->{sent} && $is->{sent} eq 'none' ? '' : $is->{sent};
    my $sni = $sent // ($is->{no_sni} ? '' : $is->{name});
    return "client=$client serial=$serial chain=$chain sni=$sni";
}

# Returns one line for each request of a pair: what must come of it. Returns nothing if nginx alone decides: it keeps
# one session for each peer, and its connections, whoever made them. A question mark stands for a value that may vary.
sub expected {
    my ($pair, $transport) = @_;
    my @identities = @{ $pair->{identities} };
    return unless $transport->{own_sessions} || grep { $_->{overridden} } @identities;

    my (%uses, %alike, @lines);
    $alike{ $_->{alike} }{ $_->{same} } = 1 for @identities;
    for my $identity (@identities) {
        my ($set, $is, $overridden) = @$identity{qw(set is overridden)};
        if ($identity->{refusal}) {
            # nginx itself verifies after the handshake.
            my $is_ours = $overridden && ($is->{verify} eq 'on' || has_names($is) || $is->{pins} || $is->{spiffe});
            my $service = $is_ours ? 'was left in the handshake' : '?';
            push @lines, "502 [error] upstream $identity->{refusal}, the service $service";
            next;
        }
        my $used = $uses{ $identity->{same} }++;
        my $kept = $transport->{kong} || $transport->{keepalive} && !$overridden;
        # nginx keeps no session for an address that comes with the request.
        my $resumed = !$is->{no_sessions} && ($overridden || !$transport->{none});
        # What is set up with a variable certificate serves no other request, unless nginx itself keeps it.
        my $varies = $is->{variable} && !defined $set->{cert};
        $kept = $resumed = 0 if $varies && ($overridden || $transport->{lua} || $transport->{kong});

        my $reused = $used && $resumed && !$kept ? 'r' : '.';
        my $requests = $kept ? $used + 1 : 1;
        # The connection may have been closed to make room for a request with settings.
        ($reused, $requests) = ('own', 'own')
            if $used && $transport->{keepalive} && !$overridden;
        # A directory store becomes another store when it loads certificates.
        ($reused, $requests) = ('?', '?')
            if keys %{ $alike{ $identity->{alike} } } > 1
            || ($set->{store} // '') =~ /\Adirectory/
            || $varies && $transport->{keepalive} && !$overridden;

        push @lines, seen($is) . " reused=$reused requests=$requests";
    }
    return join '', map {"$_\n"} @lines;
}

# Returns what came of the requests, with the same question marks.
sub got {
    my ($lines, $expected) = @_;
    my @expected = split /\n/, $expected;
    my $text = '';
    for my $line (@$lines) {
        my $like = shift @expected // '';
        if ($line eq $like) {
            $text .= "$line\n";
            next;
        }
        # Other test files check which verification error it is, and which name does not match.
        $line =~ s{
            (upstream\ SSL\ certificate\ 
                (?:verify\ error|does\ not\ match
                |carries\ none\ of\ the\ accepted\ names|has\ none\ of\ the\ pinned\ keys
                |has\ a\ SPIFFE\ ID\ that\ is\ not\ accepted))
            [^;,]*\ while\ SSL\ handshaking\ to\ upstream
        }{$1}x;
        $line =~ s/, the service .*/, the service ?/ if $like =~ /, the service \?\z/;
        $line =~ s/reused=(?:r requests=1|\. requests=[2-4])\z/reused=own requests=own/
            if $like =~ /=own\z/;
        for my $field ($like =~ /(\w+)=\?/g) {
            # A subject has blanks. The value ends before the next field, or with the line.
            $line =~ s/\b$field=.*?(?= \w+=|\z)/$field=?/;
        }
        $text .= "$line\n";
    }
    return $text;
}

# ---- the gateway ---------------------------------------------------------------------------------

# Returns one server for each version and location, which the driver reaches on its own socket.
sub gateways {
    my ($pass, $grpc) = @_;
    my %directives = (
        strict => "proxy_ssl_verify on;\n",
        static => "proxy_ssl_certificate \$TEST_NGINX_PKI/client2.crt;\n"
            . "proxy_ssl_certificate_key \$TEST_NGINX_PKI/client2.key;\n",
        fresh => "proxy_ssl_session_reuse off;\n",
        variable => "proxy_ssl_certificate \$TEST_NGINX_PKI/\$arg_file.crt;\n"
            . "proxy_ssl_certificate_key \$TEST_NGINX_PKI/\$arg_file.key;\n",
    );
    my $text = '';
    for my $protocol (@PROTOCOLS) {
        for my $location (sort keys %LOCATION) {
            my $sni = $LOCATION{$location}{no_sni} ? 'off' : 'on';
            my $server = <<"END";
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$protocol-$location.sock;
        access_by_lua_block { require("matrix").apply("access") }
        location / {
            # A wrong kind of connection, such as HTTP/2 for HTTP/1.1, gets no answer.
            proxy_read_timeout 3s;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$arg_name;
            proxy_ssl_protocols $protocol;
            proxy_ssl_server_name $sni;
            proxy_ssl_name \$arg_name;
            proxy_ssl_trusted_certificate \$TEST_NGINX_PKI/ca.crt;
            @{[ $directives{$location} // '' ]}
            proxy_pass https://$pass@{[ $pass =~ /\.sock/ ? ':' : '' ]};
        }
    }
END
            if ($grpc xor $location eq 'otherwise') {
                $server =~ s/proxy_pass https(.*?):?;/grpc_pass grpcs$1;/;
                $server =~ s/proxy_http_version.*?;|proxy_set_header Connection.*?;//g;
                $server =~ s/proxy_/grpc_/g;
            }
            $text .= $server;
        }
    }
    return $text;
}

# Returns a line for the driver: the gateway's socket, and the request.
sub request {
    my ($identity, $protocol, $path, %argument) = @_;
    my %set = %{ $identity->{set} };
    my $location = delete $set{location};
    return "$protocol-$location $path?" . text_of({%set, %argument}) =~ tr/ /&/r . "\n";
}

# Links to the sockets of services under a name for each pair, and to CAs under the names that OpenSSL looks for.
my %link;
my %HASH = map { $_ => openssl_says($_, '-subject_hash') } qw(ca other-ca);

sub make_links {
    my $root = html_dir();
    make_path(map {"$root/$_"} 'peer', map {"authorities/$_"} sort keys %HASH);
    symlink "../$link{$_}.sock", "$root/peer/$_.sock" or die "symlink: $!\n" for keys %link;
    for my $name (sort keys %HASH) {
        symlink "$ENV{TEST_NGINX_PKI}/$name.crt", "$root/authorities/$name/$HASH{$name}.0"
            or die "symlink: $!\n";
    }
    return;
}

my %expected;

# Returns requests of all identities to one address, in an order that is the same each time.
sub requests_at_once {
    my ($block, $transport) = @_;
    my $plain = 'location=one name=service.test';
    my %identity;
    for my $pair (grep { $_->{service} eq 'grpc' } @ALL_PAIRS) {
        for my $identity (@{ $pair->{identities} }) {
            # What growing stores accept would depend on the order.
            next if ($identity->{set}{store} // '') =~ /:/;
            # nginx does not tell apart identities that override nothing: one of them is enough.
            next if !$identity->{overridden} && $identity->{text} ne $plain
                && !$transport->{own_sessions};
            $identity{ $identity->{text} } = $identity;
        }
    }
    srand 1;
    my $requests = '';
    for my $identity (shuffle map { ($identity{$_}) x 10 } sort keys %identity) {
        my $protocol = $PROTOCOLS[rand @PROTOCOLS];
        my $path = rand() < 0.2 ? '/seen/last' : '/seen';
        $requests .= request($identity, $protocol, $path, pair => 'p0');
        push @{ $expected{$block} }, {
            name     => "$protocol $identity->{text}",
            expected => $identity->{refusal} ? '502' : seen($identity->{is}),
        };
    }
    return $requests;
}

sub check_at_once {
    my ($block, $lines) = @_;
    my (%wrong, $reused);
    for my $request (@{ $expected{$block} }) {
        my $line = shift @$lines // 'nothing';
        my ($seen, $resumed, $requests) = $line =~ /\A(.*?)(?: reused=(.) requests=(\d+))?\z/;
        $wrong{ $request->{name} } .= "$seen\n" if $seen ne $request->{expected};
        $wrong{ $request->{name} } //= '';
        $reused++ if ($resumed // '') eq 'r' || ($requests // 0) > 1;
    }
    is($wrong{$_}, '', "$block: $_") for sort keys %wrong;
    ok($reused > @{ $expected{$block} } / 4,
        "$block: more than a quarter of the requests reuse a session or a connection");
    return;
}

# Each block is a transport to the service: an `upstream {}` that is repeated for each pair, one with a Lua balancer
# for all pairs, or none.
add_block_preprocessor(sub {
    my ($block) = @_;
    my ($rest, $upstream) = ($block->http_config, '');
    $rest =~ s/^(    upstream (?:\$pair|lua) .*?^    \}\n)//ms and $upstream = $1;
    my $transport = {
        all       => scalar($block->name =~ /every value/),
        lua       => scalar($upstream =~ /balancer_by_lua/),
        # TestService adds `keepalive 0` to blocks that don't mention keepalive.
        keepalive => scalar($upstream =~ /^\s+keepalive (?!0;)/m),
        kong      => scalar($upstream =~ /^\s+kong_tls_keepalive /m),
        none      => !$upstream,
    };
    # Sessions are kept by identity for requests that override nothing, too.
    $transport->{own_sessions} =
        ($transport->{lua} || $transport->{kong}) && !$transport->{keepalive};
    my $name = $block->name =~ s/\A(?:TEST )?\d*: *|, every value//gr;
    my $phase = $name =~ /balancer phase/ ? 'balancer' : 'access';

    my $pass = $transport->{lua} ? 'lua'
        : $upstream ? '$arg_pair' : 'unix:$TEST_NGINX_HTML_DIR/peer/$arg_pair.sock';
    $block->set_value('init', 'main::make_links()');
    %link = ();
    $expected{ $block->name } = [];
    if ($block->name =~ /at once/) {
        $link{p0} = 'grpc';
        $block->set_value('http_config', $upstream =~ s/\$pair/p0/gr . gateways($pass, 0) . $rest);
        $block->set_value('request',
            "POST /drive?threads=8\n" . requests_at_once($block->name, $transport));
        return;
    }

    my ($upstreams, $requests) = ('', '');
    for my $pair ($transport->{all} ? @ALL_PAIRS : @FEWER_PAIRS) {
        my $expected = expected($pair, $transport) // next;
        my $lines = '';
        my @left = map { $_->{same} } @{ $pair->{identities} };
        for my $identity (@{ $pair->{identities} }) {
            my $own = shift @left;
            my $path = (grep { $_ eq $own } @left) ? '/seen' : '/seen/last';
            $lines .= request($identity, 'PROTOCOL', $path, pair => 'PAIR', phase => $phase);
        }
        for my $protocol (@PROTOCOLS) {
            my $id = 'p' . keys %link;
            $link{$id} = $pair->{service};
            $upstreams .= $upstream =~ s/\$pair/$id/gr unless $transport->{lua};
            $requests .= $lines =~ s/PROTOCOL/$protocol/gr =~ s/PAIR/$id/gr;
            push @{ $expected{ $block->name } },
                {name => "$protocol $name: $pair->{name}", expected => $expected};
        }
    }

    $block->set_value('http_config', ($transport->{lua} ? $upstream : $upstreams)
        . gateways($pass, scalar($name =~ /gRPC/)) . $rest);
    $block->set_value('request', "POST /drive\n$requests");
});

add_response_body_check(sub {
    my ($block, $body) = @_;
    my @lines = split /\n/, $body;
    return check_at_once($block->name, \@lines) if $block->name =~ /at once/;
    for my $pair (@{ $expected{ $block->name } }) {
        my $count = $pair->{expected} =~ tr/\n//;
        my $got = got([splice @lines, 0, $count], $pair->{expected});
        is($got, $pair->{expected}, $pair->{name});
    }
    is("@lines", '', $block->name . ': there are no other answers');
});

run_tests();

__DATA__

=== TEST 1: identities stay apart without keepalive, every value
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 2: identities stay apart with keepalive
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
        keepalive 4;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 3: identities stay apart with kong_tls_keepalive, every value
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
        kong_tls_keepalive 4;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 4: identities stay apart with kong_tls_keepalive and keepalive
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
        keepalive 4;
        kong_tls_keepalive 4;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 5: identities stay apart with kong_tls_keepalive and a zone
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
        zone $pair 32k;
        least_conn;
        kong_tls_keepalive 4;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 6: identities stay apart with balancer_by_lua
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block { require("matrix").balance() }
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 7: identities stay apart with balancer_by_lua, settings of the balancer phase and kong_tls_keepalive
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block { require("matrix").balance() }
        kong_tls_keepalive 8;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 8: identities stay apart with balancer_by_lua, kong_tls_keepalive and keepalive
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block { require("matrix").balance() }
        keepalive 8;
        kong_tls_keepalive 8;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 9: identities stay apart with gRPC, balancer_by_lua and kong_tls_keepalive
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block { require("matrix").balance() }
        kong_tls_keepalive 8;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 10: identities stay apart with an address in a variable
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 11: all identities at once stay apart without keepalive
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 12: all identities at once stay apart with kong_tls_keepalive and keepalive
--- http_config
    upstream $pair {
        server unix:$TEST_NGINX_HTML_DIR/peer/$pair.sock;
        keepalive 8;
        kong_tls_keepalive 64;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]



=== TEST 13: all identities at once stay apart with balancer_by_lua and kong_tls_keepalive
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block { require("matrix").balance() }
        kong_tls_keepalive 64;
    }
--- config
    client_body_buffer_size 8m;
    location /drive { content_by_lua_block { require("matrix").drive() } }
--- no_error_log
[crit]
