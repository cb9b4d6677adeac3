# SPDX-License-Identifier: Apache-2.0

# What the TLS identity says of a location's TLS context: everything that decides it, and nothing else. So it is the
# same in all workers and after a reload, until a directive or the content of one of its files changes.
#
# The gateway has a location for each directive. Lua code asks all of them, and prints the identity of each. The
# configuration and the files change step by step, with a reload of the same master process in between.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use IO::Socket::INET ();
use Test::More;

require_program('nginx', 'openssl');

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
my $made = $ENV{TEST_NGINX_CERTIFICATES};
my ($port) = free_ports(1);

# ---- files ---------------------------------------------------------------------------------------

# Replaces files of the configuration: their names, and what is in them. nginx 1.27.4 and later does not read a file
# again that was written to in the same second.
sub fill {
    my %with = @_;
    for my $name (sort keys %with) {
        write_to("$folder/new", join '', map { slurp($_) } ref $with{$name} ? @{ $with{$name} } : $with{$name});
        rename "$folder/new", "$folder/$name" or die "$name: $!\n";
    }
    return;
}

revocation_list('first', 'ca');
revocation_list('second', 'ca', 'client2');
# The same authority, and the purpose that it is trusted for: OpenSSL's own form of a certificate.
system("openssl x509 -in $pki/ca.crt -addtrust serverAuth -trustout -out $made/for-servers.crt 2>$folder/said") == 0
    or die slurp("$folder/said");
system("openssl x509 -in $pki/ca.crt -addtrust anyExtendedKeyUsage -trustout -out $made/for-all.crt 2>$folder/said") == 0
    or die slurp("$folder/said");

# Each has a name of its own, so that its content changes for one location only.
sub fill_before {
    fill(
        'leaf.crt'     => "$pki/client1.crt",
        'leaf.key'     => "$pki/client1.key",
        'chain.crt'    => "$pki/client-intermediate.crt",
        'trusted.crt'  => "$pki/ca.crt",
        'later.crt'    => "$pki/ca.crt",
        'purpose.crt'  => "$made/for-servers.crt",
        'listed.crl'   => "$made/first.crl",
        'later.crl'    => "$made/first.crl",
        'grpc.crt'     => "$pki/ca.crt",
        'password'     => "$folder/words",
    );
    return;
}

sub fill_after {
    fill(
        'leaf.crt'    => "$pki/client1-renewed.crt",
        'leaf.key'    => "$pki/client1-renewed.key",
        'chain.crt'   => ["$pki/client-intermediate.crt", "$pki/ca.crt"],
        'trusted.crt' => "$pki/bundle.crt",
        'later.crt'   => "$pki/bundle.crt",
        'purpose.crt' => "$made/for-all.crt",
        'listed.crl'  => "$made/second.crl",
        'later.crl'   => "$made/second.crl",
        'grpc.crt'    => "$pki/bundle.crt",
        'missing.crt' => "$pki/ca.crt",
    );
    return;
}

write_to("$folder/words", "word\n");
fill(
    'also-ca.crt'      => "$pki/ca.crt",
    'also.crl'         => "$made/first.crl",
    'also-client1.key' => "$pki/client1.key",
    'pair.crt'         => [map {"$pki/client1.$_"} qw(crt key)],
    'other-pair.crt'   => [map {"$pki/client2.$_"} qw(crt key)],
);
fill_before();

# ---- the configuration ---------------------------------------------------------------------------

# Directives before and after a change. A tilde stands for the beginning of their names: "proxy_ssl_", "grpc_ssl_".
my %CHANGED = (
    protocols           => ['~protocols TLSv1.2;', '~protocols TLSv1.2 TLSv1.3;'],
    ciphers             => ['~ciphers HIGH;', '~ciphers HIGH:!AES128;'],
    name                => ['~name service.test;', '~name "service.test:1";'],
    server_name         => ['~server_name off;', '~server_name on;'],
    verify              => ['~verify off;', '~verify on;'],
    verify_depth        => ['~verify on; ~verify_depth 2;', '~verify on; ~verify_depth 3;'],
    'verify_depth-off'  => ['~verify_depth 2;', '~verify_depth 3;'],
    session_reuse       => ['~session_reuse on;', '~session_reuse off;'],
    trusted_certificate => ["~trusted_certificate $folder/also-ca.crt;", "~trusted_certificate $pki/bundle.crt;"],
    crl                 => ["~crl $folder/also.crl;", "~crl $made/second.crl;"],
    certificate         => [map {"~certificate $_; ~certificate_key $_;"} "$folder/pair.crt", "$folder/other-pair.crt"],
    certificate_key     => [map {"~certificate $pki/client1.crt; ~certificate_key $_;"}
        "$pki/client1.key", "$folder/also-client1.key"],
    password_file       => ["~password_file $folder/password;", "~password_file $folder/words;"],
    added               => ['', '~session_reuse on;'],
    removed             => ['~verify_depth 1;', ''],
);
$CHANGED{certificate_cache} = ['~certificate_cache off;', '~certificate_cache max=10;'] if nginx_version() >= 1_027_004;
# A directive that a later nginx has needs a line above, and one in src/written_directives.rs. Until then, its
# locations have another identity after each reload.
my %written = map { $_ => 1 } join(' ', map {"@$_"} values %CHANGED) =~ /~(\w+)/g, 'conf_command';

my %COMMANDS = (
    Ciphersuites               => [qw(TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256)],
    CipherString               => [qw(ECDHE ECDHE+AESGCM)],
    Options                    => [qw(-SessionTicket SessionTicket)],
    MinProtocol                => [qw(TLSv1.2 TLSv1.3)],
    maxprotocol                => [qw(TLSv1.3 TLSv1.2)],
    Protocol                   => [qw(-TLSv1.2 -TLSv1.3)],
    Curves                     => [qw(P-256 P-256:P-384)],
    Groups                     => [qw(X25519 P-256)],
    SignatureAlgorithms        => [qw(ECDSA+SHA256 ECDSA+SHA256:RSA+SHA256)],
    ClientSignatureAlgorithms  => [qw(ECDSA+SHA256 RSA+SHA256)],
    RecordPadding              => [512, 1024],
    NumTickets                 => [1, 2],
    VerifyMode                 => ['Peer', 'Peer,Once'],
);
for my $command (keys %COMMANDS) {
    $CHANGED{"command-$command"} = [map {"~conf_command $command $_;"} @{ $COMMANDS{$command} }];
}
# In another order, the commands mean something else.
$CHANGED{'command-order'} = [
    '~conf_command Options -SessionTicket; ~conf_command Options SessionTicket;',
    '~conf_command Options SessionTicket; ~conf_command Options -SessionTicket;',
];

# Directives with files whose content changes.
my %FILES = (
    'leaf'                 => "~certificate $folder/leaf.crt; ~certificate_key $folder/leaf.key;",
    'chain'                => "~certificate $folder/chain.crt; ~certificate_key $pki/client-intermediate.key;",
    'trusted'              => "~verify on; ~trusted_certificate $folder/trusted.crt;",
    'trusted-later'        => "~trusted_certificate $folder/later.crt;",
    'trusted-purpose'      => "~verify on; ~trusted_certificate $folder/purpose.crt;",
    'trusted-missing'      => "~trusted_certificate $folder/missing.crt;",
    'listed'               => "~verify on; ~crl $folder/listed.crl;",
    'listed-later'         => "~crl $folder/later.crl;",
);

# Directives that refer to what can't be read back: an identity of its own in each configuration.
my %UNIQUE = (
    'file-command'   => "~conf_command VerifyCAFile $pki/ca.crt;",
    'own-command'    => "~conf_command Certificate $pki/client1.crt; ~conf_command PrivateKey $pki/client1.key;",
    'second-command' => "~conf_command Groups P-256; ~conf_command ChainCAFile $pki/ca.crt;",
);

my %STABLE = (
    'plain'           => '',
    'equal-1'         => '~session_reuse on; ~protocols TLSv1.2; ~ciphers HIGH:!AES256;',
    'equal-2'         => '~ciphers HIGH:!AES256; ~session_reuse on; ~protocols TLSv1.2;',
    'variable'        => '~name $host;',
    'many'            => "~verify on; ~verify_depth 7; ~certificate $pki/client-intermediate.crt;"
        . " ~certificate_key $pki/client-intermediate.key; ~crl $made/first.crl;",
);

# Returns a location, with the directives of this module.
sub location {
    my ($name, $directives, $module) = @_;
    $module //= 'proxy';
    my $pass = { proxy => 'proxy_pass https://service', grpc => 'grpc_pass grpcs://grpc', uwsgi => 'uwsgi_pass suwsgi://service' };
    $directives =~ s/~/${module}_ssl_/g;
    return "location = /$name { $directives $pass->{$module}; }\n";
}

my %grpc = map { $_ => $CHANGED{$_} } qw(protocols ciphers server_name verify certificate command-Groups);

sub locations {
    my ($now) = @_;
    return join '', map {"        $_"}
        (map { location($_, $CHANGED{$_}[$now]) } sort keys %CHANGED),
        (map { location("grpc-$_", $grpc{$_}[$now], 'grpc') } sort keys %grpc),
        location('uwsgi-protocols', $CHANGED{protocols}[$now], 'uwsgi'),
        (map { location($_, $FILES{$_}) } sort keys %FILES),
        location('grpc-trusted', "~verify on; ~trusted_certificate $folder/grpc.crt;", 'grpc'),
        (map { location($_, $UNIQUE{$_}) } sort keys %UNIQUE),
        location('grpc-file-command', $UNIQUE{'file-command'}, 'grpc'),
        (map { location($_, $STABLE{$_}) } sort keys %STABLE),
        location('grpc-plain', '', 'grpc'), location('uwsgi-plain', '', 'uwsgi'),
        (nginx_version() < 1_029_004 ? () : "location = /version { proxy_http_version @{[(1.1, 2)[$now]]}; proxy_pass https://grpc; }\n"),
        "location = /in-if { if (\$host) { set \$ignored 1; } proxy_pass https://service; }\n",
        "location /outer { proxy_ssl_ciphers @{[('HIGH', 'HIGH:!ARIA')[$now]]};\n",
        '    ' . location('outer/inherits', ''),
        '    ' . location('outer/overrides', '~ciphers HIGH:!CAMELLIA;'), "}\n";
}

my @changed = ((sort keys %CHANGED), (map {"grpc-$_"} sort keys %grpc), 'uwsgi-protocols', 'outer/inherits',
    nginx_version() < 1_029_004 ? () : 'version');
my @files = ((sort keys %FILES), 'grpc-trusted');
my @unique = ((sort keys %UNIQUE), 'grpc-file-command');
my @stable = ((sort keys %STABLE), qw(grpc-plain uwsgi-plain in-if outer/overrides));
my @all = (@changed, @files, @unique, @stable);

# Requests have a setting of their own, or the variable would have no value.
sub gateway {
    my ($now, %more) = @_;
    return <<"_EOC_";
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        identities = {}
        @{[$more{init} // '']}
    }
    upstream service { server unix:$folder/service.sock; }
    upstream grpc { server unix:$folder/grpc.sock; }
    proxy_ssl_trusted_certificate $pki/ca.crt;
    grpc_ssl_trusted_certificate $pki/ca.crt;
    @{[$more{http} // '']}
    server {
        listen 127.0.0.1:$port reuseport;
        proxy_ssl_name service.test;
        grpc_ssl_name service.test;
        @{[$more{server} // '']}
        rewrite_by_lua_block {
            if ngx.is_subrequest then
                assert(kong.service.set_tls_verify_depth(4))
            end
        }
        header_filter_by_lua_block { identities[ngx.var.uri] = ngx.var.kong_upstream_ssl_identity }
        location = /all {
            content_by_lua_block {
                ngx.say("worker=", ngx.worker.pid())
                for name in ("@all"):gmatch("%S+") do
                    identities["/" .. name] = nil
                    ngx.location.capture("/" .. name)
                    ngx.say(name, "=", identities["/" .. name])
                end
            }
        }
@{[locations($now)]}
    }
_EOC_
}

start_nginx('services', http => join '', map {
    my ($name, $listen, $directive) = @$_;
    <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl$listen;
        $directive
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional_no_ca;
        return 200 "";
    }
_EOC_
} ['service', '', ''], ['grpc', http2_server()]);

start_nginx('gateway', modules => 1, workers => 2, log => 'info', http => gateway(0));
my $binary = slurp('/proc/' . master('gateway') . '/exe');
for my $module (qw(proxy grpc uwsgi)) {
    my %known = map { $_ => 1 } $binary =~ /(?<![a-z_])${module}_ssl_([a-z_]+)\0/g;
    is(join(' ', grep { !$written{$_} } sort keys %known), '', "all directives ${module}_ssl_* of this nginx are tested");
    cmp_ok(scalar keys %known, '>=', 12, "${module}: they were found");
}

# ---- the identities ------------------------------------------------------------------------------

# Asks a worker, whichever the kernel chooses. Returns its process id, and the identities by their location.
sub ask {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "no connection: $@\n";
    print $socket "GET /all HTTP/1.0\r\n\r\n";
    my $answer = do { local $/; <$socket> };
    my ($worker, $rest) = $answer =~ /^worker=(\d+)\n(.*)/ms or die "no answer: $answer\n";
    return ($worker, { $rest =~ /^(\S+)=(.*)$/mg });
}

# Returns the identities in both workers, which must be the same.
sub identities {
    my ($when) = @_;
    my %of;
    wait_until("both workers $when", sub {
        my ($worker, $identities) = ask();
        $of{$worker} //= $identities;
        return keys %of == 2;
    });
    my ($one, $other) = values %of;
    is_deeply($one, $other, "$when: both workers have the same identities");
    return $one;
}

# Writes another configuration, and loads it.
sub load {
    my (%with) = @_;
    configure_nginx('gateway', modules => 1, workers => 2, log => 'info', %with);
    reload('gateway');
    return;
}

sub check {
    my ($what, $before, $after, $changed) = @_;
    my %is_changed = map { $_ => 1 } @$changed;
    for my $name (@all) {
        if   ($is_changed{$name}) { isnt($after->{$name}, $before->{$name}, "$what: $name has another identity") }
        else                      { is($after->{$name}, $before->{$name}, "$what: $name has the same identity") }
    }
    return;
}

my $first = identities('at the start');
like($first->{$_}, qr/\A[0-9a-f]{16}\z/, "$_ has an identity") for @all;
is($first->{'equal-1'}, $first->{'equal-2'}, 'two locations with the same directives have the same identity');

load(http => gateway(0));
my $again = identities('after a reload');
check('after a reload without changes', $first, $again, \@unique);

# The new configuration can't be used, after its locations were read.
TestProcesses::configure_nginx('gateway', modules => 1, workers => 2, log => 'info',
    http => gateway(1, init => 'error("not this one")'));
kill 'HUP', master('gateway');
wait_until('the error', sub { slurp("$folder/gateway.log") =~ /not this one/ });
check('after a reload that fails', $again, identities('after a reload that fails'), []);

load(http => gateway(1));
my $changed = identities('with other directives');
check('with other directives', $again, $changed, [@changed, @unique]);
my @different = grep { !/\A(?:equal-2|in-if|removed)\z/ } @all;
my %locations;
push @{ $locations{ $changed->{$_} } }, $_ for @different;
is(join("\n", map {"@$_"} grep { @$_ > 1 } values %locations), q{}, 'locations with different directives have different identities');
is($changed->{removed}, $changed->{plain}, 'a location without a directive is like any other without');

fill_after();
load(http => gateway(1));
my $filled = identities('with other files');
check('with other files', $changed, $filled, [@files, @unique]);

fill_before();
unlink "$folder/missing.crt";
load(http => gateway(1));
check('with the former files', $changed, identities('with the former files'), \@unique);

# What a server or "http" says counts where a location says nothing.
my %is_unique = map { $_ => 1 } @unique;
my @inherit = grep { $is_unique{$_} || !/\A(?:session_reuse|added|equal-\d)\z|\A(?:grpc|uwsgi)-/ } @all;
for my $place (qw(server http)) {
    load(http => gateway(1, $place => 'proxy_ssl_session_reuse off;'));
    my $what = "with a directive in $place {}";
    check($what, $changed, identities($what), \@inherit);
}

# In a configuration without the module, and then with it again.
load(modules => '', http => <<"_EOC_");
    upstream service { server unix:$folder/service.sock; }
    server {
        listen 127.0.0.1:$port reuseport;
        @{[location('plain', $STABLE{'equal-1'})]}
    }
_EOC_
load(http => gateway(1));
check('after a configuration without the module', $changed, identities('after a configuration without the module'), \@unique);

done_testing();
