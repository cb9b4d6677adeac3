# SPDX-License-Identifier: Apache-2.0

# Sessions of clients from which Lua code requested a certificate: each resumes in any worker, and after a reload if
# nothing has changed of what its client was asked with, with the whole chain of its first handshake.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('faketime', 'nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

my @VERSIONS = qw(1.2 1.3);

# What is different in some tests, by default:
my %DEFAULT = (
    http    => '',
    listen  => "unix:$folder/gateway.sock",
    init    => '',
    server  => '',
    ask     => 'assert(kong.client.tls.request_client_certificate(ca))',
    root    => "$pki/ca.crt",
    certificate => 'gateway',
    depth   => 3,
    before  => '',
    code    => undef,
);

sub gateway {
    my %with = (%DEFAULT, @_);
    my $code = $with{code} // "ssl_certificate_by_lua_block { $with{ask} }";
    return <<"_EOC_";
    $with{http}
    init_by_lua_block {
        $with{before}
        kong, x509 = require "resty.kong.pdk", require "resty.kong.x509"
        function read(path)
            local file = assert(io.open(path))
            local text = file:read("*a")
            file:close()
            return text
        end
        CA = "$with{root}"
        ca = assert(x509.chain(read(CA)))
        $with{init}
    }
    server {
        listen $with{listen} ssl;
        ssl_certificate $pki/$with{certificate}.crt;
        ssl_certificate_key $pki/$with{certificate}.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_depth $with{depth};
        $with{server}
        $code
        location / {
            content_by_lua_block {
                local pem = kong.client.tls.get_full_client_certificate_chain() or ""
                ngx.say("pid=", ngx.worker.pid(), " verify=", ngx.var.ssl_client_verify,
                        " chain=", ngx.md5(pem), "/", select(2, pem:gsub("BEGIN CERTIFICATE", "")))
            }
        }
    }
_EOC_
}

sub start {
    my (%with) = @_;
    start_nginx('gateway', modules => 1, workers => 2, %{ $with{start} // {} }, http => gateway(%with));
    return;
}

# Makes a connection, which offers the session in a file ("in"), or writes its own there ("out"). Returns whether it
# was resumed: "r" or ".", and what the gateway said.
sub connection {
    my (%with) = @_;
    my $worker = $with{worker};
    my @argv = ('openssl', 's_client', '-ign_eof', $with{to} ? ('-connect', $with{to}) : ('-unix', "$folder/gateway.sock"),
        '-servername', $with{name} // 'a.test', '-tls' . ($with{tls} // '1.3') =~ s/\./_/r);
    my $cert = $with{cert} // 'client-deep';
    push @argv, '-cert', "$pki/$cert.crt", '-key', "$pki/$cert.key" if $cert;
    push @argv, '-cert_chain', "$pki/$cert-chain.crt" if -e "$pki/$cert-chain.crt";
    push @argv, '-sess_out', "$folder/$with{out}" if $with{out};
    push @argv, '-sess_in',  "$folder/$with{in}"  if $with{in};
    my $client = sub {
        write_to("$folder/request", "GET @{[$with{uri} // '/']} HTTP/1.0\r\nHost: @{[$with{name} // 'a.test']}\r\n\r\n");
        return scalar qx{@argv <$folder/request 2>&1};
    };
    my $said = $worker ? alone('gateway', $worker, $client) : $client->();
    my ($new) = $said =~ /^(New|Reused), TLSv/m or return "no handshake: $said";
    my ($pid, $rest) = $said =~ /^pid=(\d+) (.*)$/m or return "no answer: $said";
    die "$pid is not $worker\n" if $worker && $pid != $worker;
    return ($new eq 'Reused' ? 'r' : '.') . " $rest";
}

start();
my ($first, $second) = workers('gateway');

# ---- in another worker ---------------------------------------------------------------------------

for my $tls (@VERSIONS) {
    my $made = connection(tls => $tls, worker => $first, out => $tls);
    like $made, qr{\A[.] verify=SUCCESS chain=\w+/3\z}, "$tls: a client is asked";
    is connection(tls => $tls, worker => $second, in => $tls), $made =~ s/\A[.]/r/r,
        "$tls: it resumes in another worker, with its whole chain";
}

stop_nginx('gateway');

# ---- after a reload ------------------------------------------------------------------------------

# Loads this configuration.
sub configure {
    my (%with) = @_;
    my $conf = slurp("$folder/gateway.conf");
    my ($paths) = $conf =~ /(lua_package_path.*)/;
    write_to("$folder/gateway.conf", $conf =~ s/^http \{.*//msr . "http {\naccess_log off;\n$paths\n" . gateway(%with) . "}\n");
    reload('gateway');
    return;
}

# Starts a gateway, and makes a session with each version of TLS.
my %made;
sub make_sessions {
    my (%with) = @_;
    stop_nginx('gateway') if -e "$folder/gateway.pid";
    start(%with);
    for my $tls (@VERSIONS) {
        $made{$tls} = connection(tls => $tls, out => "kept$tls", cert => $with{client});
        $made{$tls} =~ /\A[.] verify=SUCCESS / or die "$made{$tls}\n";
    }
    return;
}

# What is resumed of these sessions: "r" or "." and the answer, for each.
sub offered {
    my (%with) = @_;
    return join "\n", map { "$_ " . connection(tls => $_, in => "kept$_", %with) } @VERSIONS;
}

my $ALL_ASKED = qr{\A(?:1[.][23] [.] verify=SUCCESS chain=\w+/3\n?){2}\z};

my $ALL_ASKED_ANEW = qr{\A(?:1[.][23] [.] verify=.*\n?){2}\z};

sub all_resumed {
    return join "\n", map { "$_ " . $made{$_} =~ s/\A[.]/r/r } @VERSIONS;
}

make_sessions();
for my $turn (1 .. 2) {
    reload('gateway');
    is offered(worker => $_), all_resumed(), "after reload $turn: clients resume in $_, with their whole chains"
        for workers('gateway');
    like offered(name => 'b.test'), $ALL_ASKED, 'not under another name' if $turn == 1;
}


# ---- what changes the terms ----------------------------------------------------------------------

# Makes sessions, and loads another configuration, which has asked a client by the time that they are offered.
sub offered_after {
    my ($before, $after) = @_;
    make_sessions(%$before);
    $after->{prepare}->() if $after->{prepare};
    configure(%$before, %$after);
    connection(cert => 0, tls => $_) for @VERSIONS;
    return offered();
}

# Writes a file of the configuration. nginx 1.27.4 and later does not read a file again whose time has not changed, in
# seconds.
my $written_at = time - 100_000;
sub copy {
    my ($from, $to) = @_;
    my $path = write_to("$folder/$to", join '', map { slurp($_) } ref $from ? @$from : $from);
    $written_at++;
    utime $written_at, $written_at, $path or die "$path: $!\n";
    return $path;
}

copy("$pki/ca.crt", 'own.crt');
copy(["$pki/ca.crt", "$pki/other-ca.crt"], 'more.crt');
write_to("$folder/index", '');
write_to("$folder/ca.conf", "[ca]\ndefault_ca = own\n[own]\ndatabase = $folder/index\ndefault_md = sha256\n");
for my $days (30, 31) {
    my $said = qx{openssl ca -gencrl -config $folder/ca.conf -cert $pki/ca.crt -keyfile $pki/ca.key -crldays $days \\
        -out $folder/$days.crl 2>&1};
    die $said if $?;
}
copy("$folder/30.crl", 'list.crl');

sub asking { my ($arguments) = @_; return "assert(kong.client.tls.request_client_certificate($arguments))" }
sub ask { return (ask => asking(@_)) }

my $asks = asking('ca');

# As mtls_auth does it.
sub ask_with {
    my ($store, $depth) = @_;
    return (
        init => "store = assert(x509.store { $store })",
        ask  => asking('nil') . qq{ assert(require("resty.kong.tls.functions").verify_client_with(store, $depth))},
    );
}

mkdir "$folder/none" or die "$folder/none: $!\n";
my $STORE = 'pem = read(CA)';

# What the Lua module itself offers, in place of what the module has set.
my $VERIFY_BY_LUA = <<'_EOC_';

            local ssl = require "ngx.ssl"
            assert(ssl.verify_client(assert(ssl.parse_pem_cert(read(trusted or CA))), 3))
_EOC_

my %OF_SERVER = (ask(''), server => "ssl_trusted_certificate $folder/own.crt;");
my $IN_CACHE = 'ssl_session_tickets off; ssl_session_cache shared:sessions:1m;';

for my $case (
    ['nothing', {}, {}],
    ['nothing, and sessions are in the cache', { server => $IN_CACHE }, {}],
    ['nothing, and the server decides what verifies', \%OF_SERVER, {}],
    ['Lua code that asks on the same terms', {}, { init => 'local unused = 1' }],
    ['who has parsed the same authorities', {}, { init => 'ca = require("ngx.ssl").parse_pem_cert(read(CA))' }],
    ["nothing, with a plugin's store", { ask_with($STORE, 3) }, {}],
    ["which file a plugin's store is read from", { ask_with($STORE, 3) }, { ask_with('file = CA', 3) }],
    ['objects that are made for each client', {}, { ask('x509.chain(read(CA))') }],
) {
    my ($what, $before, $after) = @$case;
    my $offered = offered_after($before, $after);
    is $offered, all_resumed(), "resumed after a change of: $what";
}

for my $case (
    ['the file of ssl_trusted_certificate', \%OF_SERVER, { prepare => sub { copy("$folder/more.crt", 'own.crt') } }],
    ['the file of authorities that Lua code reads', {}, { root => "$folder/more.crt" }],
    ["the file of a plugin's store", { ask_with($STORE, 3) }, { root => "$folder/more.crt" }],
    ["the depth of a plugin's store", { ask_with($STORE, 3) }, { ask_with($STORE, 4) }],
    ["nothing, with a plugin's store that has a folder", { ask_with("$STORE, dir = '$folder/none'", 3) }, {}],
    ["a plugin's store in place of authorities", {}, { ask_with($STORE, 3) }],
    ['the trust in intermediates', {}, { ask('ca, { partial_chain = true }') }],
    ['names', { ask('ca, { names = { "a.test" } }') }, { ask('ca, { names = { "a.test", "b.test" } }') }],
    ['names, which are gone', { ask('ca, { names = { "a.test" } }') }, { ask('ca') }],
    ['ssl_verify_depth', {}, { depth => 4 }],
    ["the server's certificate", {}, { certificate => 'service' }],
    ['protocols', {}, { server => 'ssl_ciphers HIGH:!aNULL;' }],
    ['a command that may name a file', {}, { server => "ssl_conf_command VerifyCAFile $pki/ca.crt;" }],
    ['whether sessions are resumed', {}, { ask => 'kong.client.tls.disable_session_reuse() ' . asking('ca') }],
    ['ssl_crl', { server => "ssl_crl $folder/list.crl;", client => 'client1' }, { prepare => sub { copy("$folder/31.crl", 'list.crl') } }],
    ['nothing, where another function verifies', { ask => asking('ca') . $VERIFY_BY_LUA }, {}],
    ['what another function verifies with', { ask => asking('ca') . $VERIFY_BY_LUA },
        { init => qq{trusted = "$pki/other-ca.crt"} }],
    ['clients that are not asked alike', {}, { ask => <<'_EOC_' }],
        local unlike = require("ngx.ssl").get_tls1_version() == 0x0303
        assert(kong.client.tls.request_client_certificate(ca, unlike and { partial_chain = true } or nil))
_EOC_
) {
    my ($what, $before, $after) = @$case;
    like offered_after($before, $after), $ALL_ASKED_ANEW, "not resumed after a change of: $what";
}


# ---- the first client after a reload -------------------------------------------------------------

# Makes sessions, and loads another configuration before each of them is offered.
sub first_offered_after {
    my ($before, $after) = @_;
    make_sessions(%$before);
    $after->{prepare}->() if $after->{prepare};
    return join "\n", map { configure(%$before, %$after); "$_ " . connection(tls => $_, in => "kept$_") } @VERSIONS;
}

# A plugin whose policy is in a file, which no digest of code has.
sub policy {
    my (%with) = (names => '"a.test"', consumers => '{ name = "one", common_name = "one" }', ca => 'own.crt', depth => 3, @_);
    write_to("$folder/policy", "return { { names = { $with{names} }, consumers = { $with{consumers} }, depth = $with{depth},"
        . qq( ca = { pem = read("$folder/$with{ca}") } } }));
    return;
}

sub rules {
    my ($text) = @_;
    write_to("$folder/rules.lua", $text);
    write_to("$folder/late.lua", 'return 1');
    write_to("$folder/code.lua", $asks);
    copy("$pki/ca.crt", 'own.crt');
    copy("$folder/30.crl", 'list.crl');
    policy();
    return;
}

my %OF_PLUGIN = (
    init => qq{auth = assert(require("resty.kong.plugins.mtls_auth").new(assert(loadfile("$folder/policy"))()))},
    ask  => 'auth:certificate()',
);
my %OF_MODULE = (before => qq{package.path = "$folder/?.lua;" .. package.path}, init => 'rules = require "rules"');
my %OWN_CA = (root => "$folder/own.crt");
my %OF_CLIENTS = (ask(''), server => "ssl_verify_client optional; ssl_client_certificate $folder/own.crt;");
# A second server beside the default one, with code of its own.
sub two_servers {
    my ($code, $other) = @_;
    return (listen => "unix:$folder/gateway.sock default_server", ask => $code, http => <<"_EOC_");
    server {
        listen unix:$folder/gateway.sock ssl;
        server_name b.test;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_certificate_by_lua_block { $other }
    }
_EOC_
}
my %OF_LIST = (server => "ssl_crl $folder/list.crl;");

for my $case (
    ['nothing', {}, {}],
    ['nothing, and sessions are in the cache', { server => $IN_CACHE }, {}],
    ['nothing, and the server decides what verifies', \%OF_SERVER, {}],
    ['nothing, with a plugin', \%OF_PLUGIN, {}],
    ["nothing, with a plugin's store and no authorities", { ask_with($STORE, 3) }, {}],
    ['nothing, with a module', \%OF_MODULE, {}],
    ['nothing, with code in a file', { code => "ssl_certificate_by_lua_file $folder/code.lua;" }, {}],
    ['nothing, with code for all servers', { code => '', http => "ssl_certificate_by_lua_block { $asks }" }, {}],
    ['nothing, with memory that Lua code shares', { http => 'lua_shared_dict shared 100k;' }, {}],
    ['the code of another server', { two_servers($asks, $asks) }, { two_servers($asks, "$asks local unused = 1") }],
    ['what content is served by', {}, { server => 'location /more { content_by_lua_block { ngx.say("more") } }' }],
) {
    my ($what, $before, $after) = @$case;
    rules('return 1');
    is first_offered_after($before, $after), all_resumed(), "the first client resumes after a change of: $what";
}

for my $case (
    ['the text of init_by_lua*', {}, { init => 'local unused = 1' }],
    ['the text of ssl_certificate_by_lua*', {}, { ask => "$asks local unused = 1" }],
    ['the file of ssl_certificate_by_lua*', { code => "ssl_certificate_by_lua_file $folder/code.lua;" },
        { prepare => sub { write_to("$folder/code.lua", "$asks local unused = 1") } }],
    ['the text of ssl_certificate_by_lua* for all servers', { code => '', http => "ssl_certificate_by_lua_block { $asks }" },
        { http => "ssl_certificate_by_lua_block { $asks local unused = 1 }" }],
    ['which server has which code', { two_servers($asks, "$asks local unused = 1") },
        { two_servers("$asks local unused = 1", $asks) }],
    ['the text of init_worker_by_lua*', {}, { http => 'init_worker_by_lua_block { local unused = 1 }' }],
    ['the text of ssl_client_hello_by_lua*', {}, { server => 'ssl_client_hello_by_lua_block { local unused = 1 }' }],
    ['the file of a module', \%OF_MODULE, { prepare => sub { write_to("$folder/rules.lua", 'return 2') } }],
    ['the file of authorities', \%OWN_CA, { prepare => sub { copy("$folder/more.crt", 'own.crt') } }],
    ["the file of a plugin's store", { ask_with("file = '$folder/own.crt'", 3) }, { prepare => sub { copy("$folder/more.crt", 'own.crt') } }],
    ["the names of a plugin's policy", \%OF_PLUGIN, { prepare => sub { policy(names => '"a.test", "b.test"') } }],
    ["the depth of a plugin's policy", \%OF_PLUGIN, { prepare => sub { policy(depth => 4) } }],
    ["the consumers of a plugin's policy", \%OF_PLUGIN,
        { prepare => sub { policy(consumers => '{ name = "two", common_name = "one" }') } }],
    ["the authorities of a plugin's policy", \%OF_PLUGIN, { prepare => sub { policy(ca => 'more.crt') } }],
    ['ssl_verify_depth', {}, { depth => 4 }],
    ['the file of ssl_client_certificate', \%OF_CLIENTS, { prepare => sub { copy("$folder/more.crt", 'own.crt') } }],
    ['the file of ssl_trusted_certificate', \%OF_SERVER, { prepare => sub { copy("$folder/more.crt", 'own.crt') } }],
    ['ssl_crl', { %OF_LIST, client => 'client1' }, { prepare => sub { copy("$folder/31.crl", 'list.crl') } }],
    ["the server's certificate", {}, { certificate => 'service' }],
    # What is not told:
    ['nothing, with authorities of another library', { init => 'ca = require("ngx.ssl").parse_pem_cert(read(CA))' }, {}],
    ['nothing, with authorities that are made for each client', { ask('x509.chain(read(CA))') }, {}],
    ['nothing, with authorities that a worker makes', { http => 'init_worker_by_lua_block { ca = x509.chain(read(CA)) }' }, {}],
    ["nothing, with a plugin's store that has a folder", { ask_with("$STORE, dir = '$folder/none'", 3) }, {}],
    ['nothing, with a module that is loaded later', { before => $OF_MODULE{before}, ask => "require 'late' $asks" }, {}],
    ['nothing, with a module that is not a file', { init => 'package.loaded.no_file = {}' }, {}],
    ['nothing, with a module that Lua code provides', { init => 'package.preload.own = function() return {} end require "own"' }, {}],
    ['nothing, with files that are read for each request', { server => 'location /new { lua_code_cache off; return 200; }' }, {}],
    ['nothing, with names that only nginx can tell', { listen => "unix:$folder/gateway.sock default_server",
        http => "server { listen unix:$folder/gateway.sock ssl; server_name ~^x; ssl_certificate $pki/gateway.crt; ssl_certificate_key $pki/gateway.key; }" }, {}],
) {
    my ($what, $before, $after) = @$case;
    rules('return 1');
    like first_offered_after($before, $after), $ALL_ASKED_ANEW, "the first client does not resume after a change of: $what";
}

stop_nginx('gateway');
start(start => { log => 'info' }, init => 'package.loaded["no\"file"] = {}');
like slurp("$folder/gateway.log"), qr/\[info\] .* a reload will ask the first client of each name again: Lua package "no\\"file" has no file/,
    'what is not told is logged';

# ---- sessions of the first client grow old -------------------------------------------------------

my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
$library or die "libfaketime is not installed\n";
my $clock = "$folder/clock";

# Sets the gateway's clock to this many seconds from now.
sub set_clock {
    my ($seconds) = @_;
    write_to("$clock.new", sprintf '%+d', $seconds);
    rename "$clock.new", $clock or die "$clock: $!\n";
    return;
}

my %CLOCK = (FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1, FAKETIME_DONT_FAKE_MONOTONIC => 1);
my %WITH_CLOCK = (
    server => 'ssl_session_timeout 1h;',
    start  => { main => join('', map {"env $_;\n"} sort keys %CLOCK), environment => { LD_PRELOAD => $library, %CLOCK } },
);

set_clock(0);
make_sessions(%WITH_CLOCK);
set_clock(200);
for my $tls (@VERSIONS) {
    my $renewed = connection(tls => $tls, in => "kept$tls", out => "renewed$tls");
    like $renewed, qr/\Ar /, "$tls: a session resumes after a while, and may be renewed";
}
for my $case ([290, 'r'], [310, '[.]'], [-10, '[.]']) {
    my ($seconds, $expected) = @$case;
    set_clock($seconds);
    for my $tls (@VERSIONS) {
        for my $file ("kept$tls", $tls eq '1.3' ? "renewed$tls" : ()) {
            reload('gateway');
            like connection(tls => $tls, in => $file), qr/\A$expected verify=SUCCESS/, "$file, $seconds seconds after its full handshake";
        }
    }
}
set_clock(310);
make_sessions(%WITH_CLOCK);
set_clock(1000);
is offered(), all_resumed(), 'without a reload, nginx decides how old a session may be';
reload('gateway');
connection();
is offered(), all_resumed(), 'so it does once the configuration has asked a client';

# ---- clients that were not asked -----------------------------------------------------------------

sub is_unasked {
    my ($server, $expected, $name) = @_;
    stop_nginx('gateway');
    start(ask => "if asks then $asks end", server => $server);
    my ($worker) = workers('gateway');
    connection(tls => $_, out => "kept$_", worker => $worker) for @VERSIONS;
    my $resumed = join '', map { substr connection(tls => $_, in => "kept$_", worker => $worker), 0, 1 } @VERSIONS;
    is $resumed, 'rr', "$name: a client that was not asked resumes";
    configure(ask => "if asks then $asks end", init => 'asks = true', server => $server);
    like connection(tls => $_), qr{\A[.] verify=SUCCESS}, "$name: other clients are asked after a reload" for @VERSIONS;
    my $offered = offered();
    like $offered, $expected, "$name: so is that client";
    return;
}

is_unasked('', $ALL_ASKED, 'tickets');
is_unasked('ssl_session_tickets off; ssl_session_cache builtin:100;', $ALL_ASKED, "OpenSSL's cache");
# As nginx has it without the module.
is_unasked($IN_CACHE, qr{\A(?:1[.][23] r verify=NONE.*\n?){2}\z}, "nginx's cache");

make_sessions();
configure(ask => '');
connection(tls => $_) for @VERSIONS;
my $NONE_ASKED = qr{\A(?:1[.][23] [.] verify=NONE .*\n?){2}\z};
like offered(), $NONE_ASKED, 'a session does not resume where clients are not asked any more';

# ---- addresses -----------------------------------------------------------------------------------

my ($port) = free_ports(1);
my ($one, $all, $other) = ("127.0.0.1:$port", "*:$port", "127.0.0.2:$port");
my $servers = sub {
    my ($with_one) = @_;
    my $server = gateway(listen => $all) =~ s/.*?^    (?=server \{)//msr;
    return (listen => $with_one ? $one : $all, http => $with_one ? $server : '');
};
stop_nginx('gateway');
start($servers->(1));
connection(to => $one, tls => $_, out => "kept$_") for @VERSIONS;
my $resumed = join "\n", map { "$_ r verify=SUCCESS " . $made{$_} =~ s/.* //r } @VERSIONS;
is offered(to => $one), $resumed, 'a session resumes at its address';
like offered(to => $other), $ALL_ASKED, 'not at another one, which has the same port and another server';
configure($servers->(1));
connection(to => $_) for $one, $other;
is offered(to => $one), $resumed, 'a session resumes at its address after a reload';
like offered(to => $other), $ALL_ASKED, 'not at another one';
configure($servers->(0));
connection(to => $one);
like offered(to => $one), $ALL_ASKED, 'nor where its address has become part of another one';

# ---- the end of sessions -------------------------------------------------------------------------

make_sessions();
my @before = workers('gateway');
write_to("$folder/gateway.conf", slurp("$folder/gateway.conf") . "nonsense;\n");
kill 'HUP', master('gateway');
wait_until('a line in the log', sub { slurp("$folder/gateway.log") =~ /unknown directive "nonsense"/ });
is offered(), all_resumed(), 'a reload that fails loses no session';
is join(' ', workers('gateway')), "@before", 'as no worker has ended';

stop_nginx('gateway');
start(server => 'location /drop { content_by_lua_block { require("resty.kong.sessions").drop() ngx.say("pid=0 dropped") } }');
$made{$_} = connection(tls => $_, out => "kept$_") for @VERSIONS;
is offered(), all_resumed(), 'sessions resume';
like connection(uri => '/drop'), qr/dropped/, 'all sessions are dropped';
like offered(worker => $_), $ALL_ASKED, "no session is resumed any more in $_" for workers('gateway');
reload('gateway');
connection(tls => $_) for @VERSIONS;
like offered(), $ALL_ASKED, 'nor after a reload';

stop_nginx('gateway');

# ---- where nothing is shared ---------------------------------------------------------------------

start(http => 'kong_tls_session_cache 1024;');
($first, $second) = workers('gateway');

my $own = connection(worker => $first, out => 'own');
is connection(worker => $second, in => 'own'), $own, q{a worker does not know another one's chains};
is connection(worker => $first,  in => 'own'), $own =~ s/\A[.]/r/r, 'it knows its own';

done_testing();
