# SPDX-License-Identifier: Apache-2.0

# Stores whose files are read again (`refresh` of x509.store): what a new revocation list revokes is refused in all
# workers, whatever was found out, kept or resumed before; and files that are not good change nothing.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use IO::Socket::UNIX;
use IPC::Open3 qw(open3);
use Test::More;
use Time::HiRes qw(time);

require_program('curl', 'faketime', 'nginx', 'openssl');

# A connection that was closed is an answer, too.
$SIG{PIPE} = 'IGNORE';    ## no critic (RequireLocalizedPunctuationVars)

my $folder = test_folder();
my $pki    = $ENV{TEST_NGINX_CERTIFICATES};
my $tests  = $ENV{TEST_NGINX_PKI};
my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
$library or die "libfaketime is not installed\n";

# ---- certificates and lists ----------------------------------------------------------------------

my $number = 30_000;
for my $name (qw(good bad)) {
    issue($name, subject => "/O=Test/CN=$name", serial => ++$number, extensions => ['extendedKeyUsage=clientAuth']);
}
issue('between', subject => '/O=Test/CN=between', authority => 1, serial => ++$number,
    extensions => ['keyUsage=critical,keyCertSign,cRLSign']);
issue('below', subject => '/O=Test/CN=below', issuer => 'between', serial => ++$number,
    extensions => ['extendedKeyUsage=clientAuth']);
issue('impostor', subject => `openssl x509 -in $tests/ca.crt -noout -subject -nameopt compat` =~ s/^subject= *(.*)\n/$1/r,
    issuer => 'other-ca', authority => 1, serial => ++$number);
# Dates of a list are whole years: this one is of the past.
revocation_list({ since => 2024, number => '0A' }, 'none',  'ca');
revocation_list({ since => 2025, number => '0B' }, 'some',  'ca', 'bad');
revocation_list({ since => 2026, number => '0C' }, 'all',   'ca', 'bad', 'good');
revocation_list({ since => 2026, number => '0D' }, 'service', 'ca', 'service');
revocation_list({ since => 2024, number => '0E' }, 'earlier', 'ca');
revocation_list({ since => 2026, number => '09' }, 'number-back', 'ca');
revocation_list({ since => 2026, number => '0F' }, 'forged', 'impostor');
revocation_list({ since => 2026, number => '0F' }, 'between-fine', 'between');
revocation_list({ since => 2026, number => '0F' }, 'between-revoked', 'ca', 'between');
revocation_list({ since => 2024, until => 2025, number => '0B' }, 'expired', 'ca', 'bad');
revocation_list({ since => 2090, number => '0F' }, 'future', 'ca');
revocation_list({ since => 2026, number => '1B' }, 'late', 'ca', 'good');

my %list = map { $_ => slurp("$pki/$_.crl") }
    qw(none some all service earlier number-back forged between-fine between-revoked expired future late);
my $ca = slurp("$tests/ca.crt");
my ($hash) = `openssl x509 -in $tests/ca.crt -noout -subject_hash` =~ /(\w+)/;
write_certificate_file('below.pem', slurp("$pki/below.crt") . slurp("$pki/between.crt"));

# Replaces a file as operators should: by renaming another.
sub put {
    my ($name, $text) = @_;
    write_to("$folder/.new", $text);
    chmod 0644, "$folder/.new" or die "$name: $!\n";
    rename "$folder/.new", "$folder/$name" or die "$name: $!\n";
    return;
}

# Writes over a file, as operators should not.
sub write_over {
    my ($name, $text) = @_;
    write_to("$folder/$name", $text);
    return;
}

my @FILES = qw(clients services spiffe cut garbage gone mode mode-at-once back number signature several missing rename
               ctx future);
put("$_.crl", $list{some}) for @FILES;
put('clients.crl', $list{none});
put($_, $list{none}) for qw(services.crl spiffe.crl);
put('several.crl', $list{some} . $list{'between-fine'});
put('missing.crl', $list{'between-fine'} . $list{some});
put("$_.crl", $list{expired}) for qw(refuse accept expired);
put('leaf.crl', $list{'between-revoked'} . $list{'between-fine'});
put('chain.crl', $list{'between-revoked'} . $list{'between-fine'});
put('lacking.crl', $list{'between-fine'});
put('root-only.crl', $list{some});
for my $name (qw(dir half)) {
    mkdir "$folder/$name" or die "$name: $!\n";
    put("$name/$hash.0", $ca);
    put("$name/$hash.r0", $list{none});
}
put('authorities.crt', $ca);
# If the test runs as root, the workers run as nobody.
my $has_users = $> == 0;

# ---- the gateway ---------------------------------------------------------------------------------

sub server {
    my ($name, $settings) = @_;
    return "server { listen unix:$folder/$name.sock ssl; ssl_certificate $tests/gateway.crt; "
        . "ssl_certificate_key $tests/gateway.key; ssl_protocols TLSv1.2 TLSv1.3; $settings }\n";
}

start_nginx('service', http => <<"_EOC_");
    log_format seen '\$connection \$connection_requests \$ssl_session_reused';
    server {
        listen unix:$folder/service.sock ssl;
        access_log $folder/service.seen seen;
        ssl_certificate $tests/service-uri.crt;
        ssl_certificate_key $tests/service-uri.key;
        return 200 "served";
    }
_EOC_

my $stores = <<"_EOC_";
        x509 = require "resty.kong.x509"
        function read(name)
            local file = assert(io.open(name))
            local text = file:read("*a")
            file:close()
            return text
        end
        ca = read("$tests/ca.crt")
        local function list(name, more)
            local options = { pem = ca, crl_file = "$folder/" .. name .. ".crl", refresh = 1 }
            for option, value in pairs(more or {}) do
                options[option] = value
            end
            return options
        end
        options = {
            clients = list("clients"), services = list("services"), spiffe = list("spiffe"),
            refuse = list("refuse", { on_expired = "refuse" }), default = list("refuse"),
            accept = list("accept", { on_expired = "accept" }),
            fixed_accept = { pem = ca, crl_file = "$folder/accept.crl", on_expired = "accept" },
            leaf = list("leaf", { leaf_only = true }), chain = list("chain"),
            lacking = list("lacking", { leaf_only = true }), root_only = list("root-only", { leaf_only = true }),
            lacking_chain = list("lacking"),
            dir = { dir = "$folder/dir", check_revocation = true, refresh = 1 },
            half = { dir = "$folder/half", check_revocation = true, refresh = 1 },
            file = { file = "$folder/authorities.crt", refresh = 1 },
        }
        for name in ("@FILES"):gmatch("%S+") do
            options[name] = options[name] or list(name)
        end
        stores = {}
        for name, of_store in pairs(options) do
            stores[name] = assert(x509.store(of_store))
        end
        chains = {}
        for _, name in ipairs { "good.crt", "bad.crt", "below.pem" } do
            chains[name:match("%w+")] = assert(x509.chain(read("$pki/" .. name)))
        end
_EOC_

my $verdicts = <<"_EOC_";
    server {
        listen unix:$folder/%s.sock;
        location /verify {
            content_by_lua_block {
                local ok, err = stores[ngx.var.arg_store]:verify(chains[ngx.var.arg_chain])
                ngx.print(tostring(ok or err))
            }
        }
        location /status {
            kong_tls_status;
        }
    }
_EOC_

start_nginx('gateway', modules => 1, workers => 2, log => 'info', ($has_users ? (user => 'nobody nogroup') : ()),
    http => <<"_EOC_" . sprintf $verdicts, 'gateway');
    init_by_lua_block {
        kong = require "resty.kong.pdk"
$stores
        local consumers = { { name = "good", common_name = "good" }, { name = "bad", common_name = "bad" } }
        policy = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "default" }, ca = options.clients, consumers = consumers } })
        local function of_expired(on_expired)
            local ca = { pem = ca, crl_file = "$folder/expired.crl", on_expired = on_expired }
            return ca, assert(require("resty.kong.plugins.mtls_auth").new {
                { names = { "default" }, ca = ca, consumers = consumers } })
        end
        local accepting, refusing
        accepting, of_accepting = of_expired("accept")
        refusing, of_refusing = of_expired("refuse")
        local names = { host = false, uris = { "spiffe://test/ns/one" } }
        services = assert(require("resty.kong.plugins.services").new { services = {
            accepting = { ca = accepting, verify_names = names },
            refusing = { ca = refusing, verify_names = names },
            trusting = { verify_spiffe = { trust_domains = { test = accepting }, ids = names.uris } },
            one = { ca = options.services, verify_names = { host = false, uris = { "spiffe://test/ns/one" } } },
            spiffe = { verify_spiffe = { trust_domains = { test = options.spiffe }, ids = { "spiffe://test/ns/one" } } },
        } })
    }
    upstream service {
        server unix:$folder/service.sock;
        kong_tls_keepalive 8;
    }
    @{[server('clients', <<"_TLS_")]}
        ssl_certificate_by_lua_block { policy:certificate() }
        location / {
            access_by_lua_block { policy:access() }
            content_by_lua_block { ngx.print(ngx.req.get_headers()["X-Consumer-Username"], " ", ngx.worker.pid(), "\\n") }
        }
_TLS_
    @{[map { server("clients-$_", <<"_TLS_") } 'accepting', 'refusing', 'accepting-crl']}
        @{[/crl/ ? "ssl_crl $pki/expired.crl;" : '']}
        ssl_certificate_by_lua_block { of_@{[s/-crl//r]}:certificate() }
        location / {
            access_by_lua_block { of_@{[s/-crl//r]}:access() }
            content_by_lua_block { ngx.print(ngx.var.ssl_client_verify) }
        }
_TLS_
    server {
        listen unix:$folder/services.sock;
        location / {
            access_by_lua_block {
                if ngx.var.arg_store == "ctx" then
                    -- Another library's use of a store: the pointer outlives the store that it was taken from.
                    pointer = pointer or { ctx = stores.ctx.ctx }
                    assert(kong.service.set_tls_verify(true))
                    assert(kong.service.set_tls_verify_names { host = false, uris = { "spiffe://test/ns/one" } })
                    assert(kong.service.set_tls_verify_store(pointer))
                else
                    services:access(ngx.var.arg_store)
                end
            }
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass https://service;
        }
    }
_EOC_

sub verdict {
    my ($store, $chain, $gateway) = @_;
    return (http_get("$folder/@{[$gateway // 'gateway']}.sock", "/verify?store=$store&chain=$chain"))[2] =~ s/ \(certificate.*//r;
}

# Waits until a store gives this verdict. Each request makes a worker look at the files if that is due.
sub wait_for {
    my ($store, $chain, $expected) = @_;
    for my $worker (workers('gateway')) {
        alone('gateway', $worker, sub { wait_until("$expected by $store", sub { verdict($store, $chain) eq $expected }) });
    }
    return pass "$store: $expected for $chain in each worker";
}

sub counted {
    my ($name) = @_;
    my $text = (http_get("$folder/gateway.sock", '/status?format=prometheus'))[2];
    return $text =~ /^kong_tls_\Q$name\E_total (\d+)$/m ? $1 : die $text;
}

sub logged { return slurp("$folder/gateway.log") =~ s/\Q$folder\E/FOLDER/gr }

my $REVOKED = 'certificate revoked';

# ---- clients, under load -------------------------------------------------------------------------

my @CLIENT = map { ("--cert", "$pki/$_.crt", '--key', "$pki/$_.key") } 'good';
sub visit {
    my (@more) = @_;
    open my $out, '-|', 'curl', '-sk', '-m', 20, '-o', "$folder/body", '-w', '%{http_code}', '--unix-socket',
        "$folder/clients.sock", @CLIENT, @more, 'https://a.test/' or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said;
}

# A client that keeps its connection: sends a request, and returns the status.
sub keep_connection {
    my $pid = open3(my $to, my $from, undef, 'openssl', 's_client', '-quiet', '-unix', "$folder/clients.sock", '-cert', "$pki/good.crt",
        '-key', "$pki/good.key", @_);
    return sub {
        print $to "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" or return 'closed';
        $to->flush;
        my $status = '';
        while (my $line = <$from>) {
            # Behind the body of the answer before.
            $status = $1 if $line =~ m{HTTP/1\.1 (\d+)};
            last if $line eq "\r\n" && $status;
        }
        return $status;
    };
}

sub session {
    my ($version, @more) = @_;
    my $said = `printf 'GET / HTTP/1.0\\r\\nHost: a.test\\r\\n\\r\\n' | openssl s_client -unix $folder/clients.sock -tls$version \\
        -ign_eof -cert $pki/good.crt -key $pki/good.key @more 2>&1`;
    my ($how) = $said =~ /^(New|Reused), /m;
    my ($status) = $said =~ m{HTTP/1\.1 (\d+)};
    return join ' ', $how // 'failed', $status // $said;
}

for my $worker (workers('gateway')) {
    is alone('gateway', $worker, \&visit), 200, 'a client is accepted before it is revoked';
}
my $keeps = keep_connection();
is $keeps->(), 200, 'also on a connection that it keeps';
for my $version ('1_2', '1_3') {
    is session($version, '-sess_out', "$folder/session-$version"), 'New 200', "TLS $version: a session is made";
    is session($version, '-sess_in', "$folder/session-$version"), 'Reused 200', "TLS $version: and resumed";
}

# Requests that never stop: each line has the time before the request, and the status.
my @load;
for my $number (1, 2) {
    my $pid = fork // die $!;
    if (!$pid) {
        open my $out, '>', "$folder/load-$number" or die $!;
        $out->autoflush(1);
        while (1) {
            my $began = time;
            open my $curl, '-|', 'curl', '-sk', '-m', 20, '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket',
                "$folder/clients.sock", @CLIENT, 'https://a.test/' or die;
            my $status = <$curl> // '';
            close $curl;
            print $out "$began $status\n";
        }
    }
    push @load, $pid;
}
my $parent = $$;
END { if ($parent && $$ == $parent) { kill 'KILL', @load } }
sub load_has { my ($number, $what) = @_; return -e "$folder/load-$number" && slurp("$folder/load-$number") =~ $what }
wait_until('load', sub { load_has(1, qr/ 200\n.* 200\n/s) && load_has(2, qr/ 200\n.* 200\n/s) });

put('clients.crl', $list{all});
my $replaced = time;
wait_until('refusals', sub { load_has(1, qr/ 401\n/) && load_has(2, qr/ 401\n/) });
for my $worker (workers('gateway')) {
    alone('gateway', $worker, sub { wait_until('a refusal in each worker', sub { visit() eq '401' }) });
}
my $refused = time;
wait_until('more refusals', sub { load_has(1, qr/( 401\n.*){20}/s) && load_has(2, qr/( 401\n.*){20}/s) });
kill 'KILL', @load;
waitpid $_, 0 for @load;
my @answers = map { [split ' '] } map { split /\n/, slurp("$folder/load-$_") } 1, 2;
is_deeply [grep { ($_->[1] // '') !~ /\A(?:200|401|000)\z/ } @answers], [], 'no request has failed';
my ($last) = sort { $b <=> $a } map { $_->[0] } grep { ($_->[1] // '') eq '200' } @answers;
cmp_ok $last - $replaced, '<', 4, 'no request is accepted some time after the list was replaced';
is_deeply [grep { $_->[0] > $refused && ($_->[1] // '') eq '200' } @answers], [], 'and none after each worker has refused one';

is $keeps->(), 401, 'a connection that was kept is refused, too';
for my $version ('1_2', '1_3') {
    like session($version, '-sess_in', "$folder/session-$version"), qr/\A(?:New|Reused) 401\z/,
        "TLS $version: so is a session of before";
}
# Without a handshake, it is the verdict of before that must not count: it is kept for ten seconds.
put('clients.crl', $list{service});
for my $worker (workers('gateway')) {
    alone('gateway', $worker, sub { wait_until('a client that is not revoked any more', sub { visit() eq '200' }) });
}
$keeps = keep_connection();
is $keeps->(), 200, 'a client that is not revoked any more is accepted';
put('clients.crl', $list{late});
$replaced = time;
my $said;
wait_until('a refusal', sub { ($said = $keeps->()) ne '200' });
is $said, 401, 'and refused when it is';
cmp_ok time - $replaced, '<', 4, 'a connection that is kept is refused as soon as a new one';

ok logged() =~ m{\[notice\] .*a store was read again: crl_file "FOLDER/clients\.crl"}, 'the log says so';
cmp_ok counted('store_replacements'), '>=', 2, 'each worker counts that it has read a store again';

# ---- services ------------------------------------------------------------------------------------

revocation_list({ since => 2026, number => '1A' }, 'service-uri', 'ca', 'service-uri');
my $service_is_revoked = slurp("$pki/service-uri.crl");

sub served {
    my ($store) = @_;
    my ($status, undef, $body) = http_get("$folder/services.sock", "/?store=$store");
    return $status eq '200' ? $body : $status;
}
# Returns how many requests the service has logged.
sub seen { return scalar(() = slurp("$folder/service.seen") =~ /\n/g) }

for my $store ('one', 'spiffe') {
    my ($worker) = workers('gateway');
    alone('gateway', $worker, sub {
        my $earlier = seen();
        is served($store), 'served', "$store: a service is accepted before it is revoked";
        is served($store), 'served', "$store: a second request is served";
        wait_until('its log', sub { seen() == $earlier + 2 });
        like slurp("$folder/service.seen"), qr/^\d+ 2 \S+\n\z/m, "$store: by the same connection";
        put($store eq 'one' ? 'services.crl' : 'spiffe.crl', $service_is_revoked);
        wait_until('a service that is refused', sub { served($store) ne 'served' });
        my $before = seen();
        is served($store), 502, "$store: a service is refused when it is revoked";
        is seen(), $before, "$store: it gets no request any more, neither by a kept connection nor by a session";
    });
}
ok logged() =~ /upstream SSL certificate verify error: \(23:certificate revoked\)/, 'the log says why';

alone('gateway', (workers('gateway'))[0], sub {
    is served('ctx'), 'served', 'a pointer to a store is used';
    put('ctx.crl', $service_is_revoked);
    wait_until('a new list', sub { verdict('ctx', 'bad') eq 'true' });
    is served('ctx'), 'served', 'and is what it was when the store is another';
});

# ---- files that are not good ---------------------------------------------------------------------

# For each: the store, what is wrong with its file, how it gets so, and the words for that; and how it is mended, if not
# by another list.
my @breaks = (
    ['cut', 'half of a file', sub { put('cut.crl', substr $list{all}, 0, 200) },
        qr/crl_file "FOLDER\/cut\.crl": line 1: "-----END X509 CRL-----" is missing/],
    ['garbage', 'garbage', sub { put('garbage.crl', "\0garbage\n" x 100) },
        qr/crl_file "[^"]*": no revocation list in PEM format found/],
    ['gone', 'no file', sub { unlink "$folder/gone.crl" or die $! }, qr/crl_file "[^"]*": No such file or directory/],
    ['back', 'an older list', sub { put('back.crl', $list{earlier}) },
        qr/the revocation list of "CN=Test Root CA,O=Test" is older than the one in use/],
    ['number', 'a list with a lower number', sub { put('number.crl', $list{'number-back'}) },
        qr/the revocation list of "[^"]*" is older than the one in use/],
    ['signature', 'a list of another key', sub { put('signature.crl', $list{forged}) },
        qr/the revocation list of "[^"]*" is not signed by the certificate of this name/],
    ['future', 'a list of the future', sub { put('future.crl', $list{future}) },
        qr/the revocation list of "[^"]*" is not yet valid/],
    ['missing', 'a list that is missing', sub { put('missing.crl', $list{'between-fine'}) },
        qr/the revocation list of "[^"]*", which is in use, is missing/],
    ['rename', 'a folder in place of a file',
        sub { rename "$folder/rename.crl", "$folder/rename.old"; mkdir "$folder/rename.crl" or die $! },
        qr/crl_file "[^"]*": it is no file/, sub { rmdir "$folder/rename.crl" or die $!; put('rename.crl', $list{all}) }],
);
# Only root can make files that workers can not read.
my $DENIED = qr/crl_file "[^"]*": Permission denied \(os error 13\); the user of the workers must be able to read it/;
push @breaks, ['mode', 'a file of others', sub { put('mode.crl', $list{all}); chmod 0600, "$folder/mode.crl" or die $! }, $DENIED,
        sub { chmod 0644, "$folder/mode.crl" or die $! }],
    ['mode-at-once', 'a file of others before there is anything new in it', sub { chmod 0600, "$folder/mode-at-once.crl" or die $! },
        $DENIED] if $has_users;

is_deeply [map { verdict($_->[0], 'bad') } @breaks], [($REVOKED) x @breaks], 'all files are good';
$_->[2]->() for @breaks;
for (@breaks) {
    my ($store, undef, undef, $problem) = @$_;
    wait_until("a line about $store", sub { verdict($store, 'bad'); logged() =~ qr/\(crl_file "FOLDER\/$store\.crl"\): $problem/ });
}
my $failures = counted('store_refresh_failures');
wait_until('more looks', sub {
    verdict($_->[0], 'good') for @breaks;
    counted('store_refresh_failures') > $failures + 5 * @breaks;
});
for (@breaks) {
    my ($store, $what, undef, $problem) = @$_;
    is verdict($store, 'bad'),  $REVOKED, "$what: a revoked certificate is refused";
    is verdict($store, 'good'), 'true',   "$what: a good one is accepted";
    my ($text, %lines) = logged();
    $lines{$1}++ while $text =~ /\[error\] (\d+)#\d+: a store could not be read again, and stays as it was \(crl_file "FOLDER\/$store\.crl"\): $problem/g;
    is_deeply [values %lines], [(1) x keys %lines], "$what: each worker logs it once" or diag $text;
}
for (@breaks) {
    my ($store, undef, undef, undef, $mend) = @$_;
    $mend //= sub { put("$store.crl", $list{all}) };
    $mend->();
}
wait_for($_->[0], 'good', $REVOKED) for @breaks;

# The list of an authority that is not in the store may go.
put('several.crl', $list{all});
wait_for('several', 'good', $REVOKED);

# A file that is written slowly is not read before it is complete.
{
    $failures = counted('store_refresh_failures');
    open my $file, '>', "$folder/cut.crl" or die $!;
    $file->autoflush(1);
    my ($one, $two) = (substr($list{service}, 0, 300), substr $list{service}, 300);
    print $file $one;
    verdict('cut', 'good') for 1 .. 20;
    print $file $two;
    close $file;
    wait_for('cut', 'good', 'true');
    is counted('store_refresh_failures'), $failures, 'a file that is being written is no failure';
}

# ---- lists that have expired ---------------------------------------------------------------------

is verdict($_, 'good'), 'CRL has expired', "$_: a list that has expired refuses all" for qw(refuse default);
is verdict($_, 'bad'),  'CRL has expired', "$_: also what it revokes" for qw(refuse default);
is verdict($_, 'good'), 'true',   "$_: a list that has expired still counts" for qw(accept fixed_accept);
is verdict($_, 'bad'),  $REVOKED, "$_: for what it revokes" for qw(accept fixed_accept);
# The same in handshakes.
sub by_handshake {
    my ($server, $client) = @_;
    my $said = `curl -sk -m 20 -w ' %{http_code}' --unix-socket $folder/clients-$server.sock --cert $pki/$client.crt \\
        --key $pki/$client.key https://a.test/`;
    return $said =~ s/<html>.*<\/html>\s*//sr;
}
is by_handshake('accepting', 'good'), 'SUCCESS 200', 'on_expired = "accept": a client is accepted in the handshake';
is by_handshake('accepting', 'bad'),  '401',        'on_expired = "accept": a client that is revoked is refused';
is by_handshake('refusing', 'good'),  '401',        'on_expired = "refuse": all are refused';
is by_handshake('accepting-crl', 'good'), '401',    'ssl_crl of the server must not have expired';
is served('accepting'), 'served', 'on_expired = "accept": a service is accepted';
is served('trusting'),  'served', 'on_expired = "accept": also with verify_spiffe';
is served('refusing'),  '502',    'on_expired = "refuse": a service is refused';
put("$_.crl", $list{all}) for qw(refuse accept);
wait_for($_, 'good', $REVOKED) for qw(refuse accept);
is verdict('fixed_accept', 'good'), 'true', 'a store without refresh stays as it is';

# ---- the leaf alone ------------------------------------------------------------------------------

is verdict('chain', 'below'), $REVOKED, 'the whole chain: a revoked intermediate is refused';
is verdict('leaf', 'below'),  'true',   'leaf_only: a revoked intermediate is accepted';
is verdict('lacking_chain', 'below'), 'unable to get certificate CRL', 'the whole chain: each needs a list';
is verdict('lacking', 'below'),       'true', 'leaf_only: an intermediate needs no list';
is verdict('root_only', 'below'), 'unable to get certificate CRL', 'leaf_only: the leaf needs a list';
is verdict('root_only', 'bad'), $REVOKED, 'leaf_only: a revoked leaf is refused';

# ---- folders and authorities ---------------------------------------------------------------------

is verdict('dir', 'good'), 'true', 'dir: a good certificate is accepted';
put("dir/$hash.r1", $list{all});
wait_for('dir', 'good', $REVOKED);
# The lists are what the folder has, not what it has ever had.
put("dir/$hash.r0", $list{service});
unlink "$folder/dir/$hash.r1" or die $!;
wait_for('dir', 'good', 'true');
put("half/$hash.r1", substr $list{all}, 0, 300);
wait_until('a line about half', sub { verdict('half', 'good'); logged() =~ /\(dir "FOLDER\/half"\): dir "FOLDER\/half\/$hash\.r1": line 1:/ });
is verdict('half', 'good'), 'true', 'dir: half of a file changes nothing';
put("half/$hash.r1", $list{all});
wait_for('half', 'good', $REVOKED);

is verdict('file', 'bad'), 'true', 'file: a certificate of an authority in a file is accepted';
put('authorities.crt', slurp("$tests/other-ca.crt"));
wait_for('file', 'bad', 'unable to get local issuer certificate');

# ---- workers that start later --------------------------------------------------------------------

put('several.crl', $list{service});
wait_for('several', 'good', 'true');
{
    my %before = map { $_ => 1 } workers('gateway');
    my ($one) = keys %before;
    kill 'KILL', $one;
    my $new;
    wait_until('a new worker', sub { ($new) = grep { !$before{$_} } workers('gateway'); $new && workers('gateway') == 2 });
    alone('gateway', $new, sub {
        wait_until('that worker', sub { http_get("$folder/gateway.sock", '/status') eq '200' or 1 });
        is verdict('several', 'good'), 'true', 'a worker that starts later reads the files before it answers';
        is verdict('several', 'bad'), 'true', 'all of what is new in them';
    });
}
stop_nginx('gateway');

# ---- a clock that is set -------------------------------------------------------------------------

my $clock = write_to("$folder/clock", '+0');
# Sets the clock to this many seconds from now.
sub set_clock {
    my ($seconds) = @_;
    write_to("$clock.new", sprintf '%+d', $seconds);
    chmod 0644, "$clock.new";
    rename "$clock.new", $clock or die "$clock: $!\n";
    return;
}
my $YEAR = 365.25 * 24 * 3600;
put('clock.crl', $list{some});
start_nginx('clock', modules => 1, log => 'info',
    main => join('', map {"env $_;\n"} qw(FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC
        NO_FAKE_STAT)),
    environment => { LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1,
                     FAKETIME_DONT_FAKE_MONOTONIC => 1, NO_FAKE_STAT => 1, TZ => 'UTC' },
    http => <<"_EOC_" . sprintf $verdicts, 'clock');
    init_by_lua_block {
        x509 = require "resty.kong.x509"
        local function read(name)
            local file = assert(io.open(name))
            local text = file:read("*a")
            file:close()
            return text
        end
        stores = { clock = assert(x509.store { pem = read("$tests/ca.crt"), crl_file = "$folder/clock.crl", refresh = 1 }) }
        chains = { good = assert(x509.chain(read("$pki/good.crt"))), bad = assert(x509.chain(read("$pki/bad.crt"))) }
    }
_EOC_
sub by_clock { my ($chain) = @_; return verdict('clock', $chain, 'clock') }
is by_clock('bad'), $REVOKED, 'a revoked certificate is refused';
# The clock goes back behind the date of the new list, which is that of the future now. The one in use is of the past.
my $this_year = (gmtime)[5] + 1900;
set_clock(-($this_year - 2025 + ((gmtime)[7] / 365.25) - 0.5) * $YEAR);
put('clock.crl', $list{all});
wait_until('a line about the clock', sub { by_clock('bad'); slurp("$folder/clock.log") =~ /is not yet valid/ });
is by_clock('bad'), $REVOKED, 'a clock that is behind: the old list stays in force';
set_clock(0);
wait_until('the new list', sub { by_clock('good') eq $REVOKED });
pass 'a clock that is right again: the new list is in force, and the file did not change for that';
for my $jump ([-86_400, $list{service}, 0], [86_400, $list{late}, 1]) {
    my ($seconds, $text, $revokes) = @$jump;
    set_clock($seconds);
    put('clock.crl', $text);
    # The authority may be younger than a day.
    wait_until('a list', sub { (by_clock('good') eq $REVOKED) == $revokes });
    pass "a clock that was set by $seconds seconds: files are read again all the same";
}
stop_nginx('clock');

my $log = slurp("$folder/gateway.log") =~ s/^.* exited on signal 9\n//mr;
unlike $log, qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged'
    or diag join "\n", $log =~ /^.*\[(?:alert|crit|emerg)\].*$/mg;

done_testing();
