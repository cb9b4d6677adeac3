# SPDX-License-Identifier: Apache-2.0

# kong_tls_session_cache shared:name:size: all workers share the sessions with services. A ticket is used once over all
# of them, and a worker that is killed takes only what it was about to change with it.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('faketime', 'nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

sub service {
    my ($name, $rest) = @_;
    return <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $pki/ca.crt;
        keepalive_timeout 0;
        $rest
        return 200 "client=\$ssl_client_s_dn";
    }
_EOC_
}

# The service is one process, so that its tickets are its own.
start_nginx('services', http => service('tls12', 'ssl_protocols TLSv1.2;') . service('tls13', 'ssl_protocols TLSv1.3;'));

sub gateway {
    my ($cache) = @_;
    my $locations = join '', map {<<"_EOC_"} qw(tls12 tls13);
        location /$_ {
            access_by_lua_block {
                local name = ngx.var.arg_client
                if name then
                    assert(kong.service.set_tls_cert_key(cert[name], key[name]))
                end
                assert(kong.service.set_tls_verify(true))
                if ngx.var.arg_store then
                    assert(kong.service.set_tls_verify_store(stores[ngx.var.arg_store]))
                end
            }
            proxy_pass https://unix:$folder/$_.sock:/;
        }
_EOC_
    return <<"_EOC_";
    $cache
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local x509 = require "resty.kong.x509"
        cert, key, stores = {}, {}, {}
        local pki = require "pki"
        for _, name in ipairs { "client1", "client2" } do
            cert[name] = pki.chain(name)
            key[name] = pki.key(name)
        end
        stores.text = assert(x509.store { pem = pki.read("ca") })
        stores.folder = assert(x509.store { pem = pki.read("ca"), dir = "$folder/none" })
    }
    server {
        listen unix:$folder/gateway.sock;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_ssl_name service.test;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $pki/ca.crt;
        add_header X-Reused \$kong_upstream_ssl_session_reused;
        add_header X-Worker \$pid;
        add_header X-Identity \$kong_upstream_ssl_identity;
$locations
        location = /drop {
            content_by_lua_block {
                local done, result, err = pcall(require("resty.kong.sessions").drop, ngx.var.arg_identity)
                ngx.print(tostring(result), err and " " .. err or "")
            }
        }
        # Takes the lock of the zone as nginx does, marks the zone as being changed, and dies.
        location = /die {
            content_by_lua_block {
                local ffi = require "ffi"
                ffi.cdef "int kill(int pid, int signal);"
                for line in io.lines("/proc/self/maps") do
                    local from, to = line:match("^(%x+)%-(%x+) rw%-s .*/dev/zero")
                    from, to = tonumber(from or 0, 16), tonumber(to or 0, 16)
                    if to - from == 8 * 1024 * 1024 then
                        -- The zone begins with a slab pool, which begins with the lock: the process that holds it. The
                        -- first page behind the pool is the lowest address of a page in the pool.
                        local words, first = ffi.cast("uintptr_t *", from), to
                        for index = 1, 40 do
                            local word = tonumber(words[index])
                            if word > from and word < first and word % 4096 == 0 then
                                first = word
                            end
                        end
                        ffi.cast("uint32_t *", first)[0] = 1
                        words[0] = ngx.worker.pid()
                        ffi.C.kill(ngx.worker.pid(), 9)
                    end
                end
                ngx.print("no zone")
            }
        }
    }
    server {
        listen unix:$folder/status.sock;
        kong_tls_status;
    }
_EOC_
}

# Returns what the status says of a metric.
sub metric {
    my ($name) = @_;
    my (undef, undef, $text) = http_get("$folder/status.sock", '/?format=prometheus');
    return $text =~ /^kong_tls_\Q$name\E (\d+)$/m ? $1 : "no $name";
}

mkdir "$folder/none" or die "$folder/none: $!\n";

sub start {
    my ($cache, $workers) = @_;
    start_nginx('gateway', modules => 1, workers => $workers // 2, http => gateway($cache));
    return;
}

# Returns whether a request resumed a session: "r" or ".", and what the service said.
sub request {
    my ($uri, $worker) = @_;
    my @answer = $worker ? alone('gateway', $worker, sub { http_get("$folder/gateway.sock", $uri) })
        : http_get("$folder/gateway.sock", $uri);
    return "@answer" if $answer[0] ne '200';
    my ($reused, $by) = $answer[1] =~ /^X-Reused: (.).*^X-Worker: (\d+)/ms;
    die "$by is not $worker\n" if $worker && $by != $worker;
    return "$reused $answer[2]";
}

my ($NONE, $ONE, $TWO) = ('client=', 'client=CN=client-1,O=Test', 'client=CN=client-2,O=Test');

start('');
my ($first, $second) = workers('gateway');

# ---- one session, two workers --------------------------------------------------------------------

for my $of (qw(tls12 tls13)) {
    is request("/$of?client=client1", $first),  ". $ONE", "$of: the first request makes a session";
    is request("/$of?client=client1", $second), "r $ONE", "$of: the other worker resumes it";
    is request("/$of?client=client2", $second), ". $TWO", "$of: another certificate does not";
    is request("/$of?client=client2", $first),  "r $TWO", "$of: its own session is resumed";
    is request("/$of",                $first),  ". $NONE", "$of: nor does a request without one";
    is request("/$of?client=client1", $_), "r $ONE", "$of: again, in $_" for $second, $first, $second;
}

# ---- what is a worker's own ----------------------------------------------------------------------

is request('/tls12?store=text', $first),  ". $NONE", 'a store of a text';
is request('/tls12?store=text', $second), "r $NONE", 'a store of a text means the same to all workers';
# The first session of a store is for one that may never be used again.
is request('/tls12?store=folder', $first),  ". $NONE", 'a store with a folder';
is request('/tls12?store=folder', $first),  "r $NONE", 'is known to its worker';
is request('/tls12?store=folder', $second), ". $NONE", 'but not to the other one';

# ---- a reload ------------------------------------------------------------------------------------

reload('gateway');
($first, $second) = workers('gateway');
for my $of (qw(tls12 tls13)) {
    is request("/$of?client=client1", $first),  "r $ONE", "$of: a session is resumed after a reload";
    is request("/$of?client=client2", $second), "r $TWO", "$of: each by its own identity";
    is request("/$of?client=client2", $first),  "r $TWO", "$of: in each worker";
}
is request('/tls12?store=text',   $second), "r $NONE", 'a store of a text means the same after a reload';
is request('/tls12?store=folder', $first),  ". $NONE", 'a store with a folder does not';

# ---- dropped sessions ----------------------------------------------------------------------------

sub drop {
    my ($identity) = @_;
    return (http_get("$folder/gateway.sock", '/drop' . (defined $identity ? "?identity=$identity" : '')))[2];
}

sub identity {
    my ($uri) = @_;
    my ($identity) = (http_get("$folder/gateway.sock", $uri))[1] =~ /^X-Identity: (\w+)/m;
    return $identity;
}

for my $of (qw(tls12 tls13)) {
    request("/$of?client=$_", $first) for qw(client1 client2);
    my $one = identity("/$of?client=client1");
    # The locations have the same directives.
    is drop($one), 2, "$of: the sessions of an identity are dropped, at both addresses";
    is request("/$of?client=client1", $second), ". $ONE", "$of: the other worker does not resume them";
    is request("/$of?client=client2", $second), "r $TWO", "$of: those of another identity are kept";
    is drop('0123456789abcdef'), 0, "$of: an identity without sessions has none";
}
cmp_ok drop(), '>=', 4, 'all sessions are dropped';
is drop(), 0, 'then there are none';
is request("/$_", $first), ". $NONE", "$_: nothing is resumed" for qw(tls12 tls13);
is request('/tls12?store=folder', $second), ". $NONE", 'not what is a worker\'s own either';
like drop($_), qr/identity must be a value of \$kong_upstream_ssl_identity: given the string "\Q$_\E": resty.kong.sessions.drop/,
    "\"$_\" is no identity" for '-', '0123', '0123456789ABCDEF';

# ---- a worker that is killed ---------------------------------------------------------------------

request("/$_?client=client1", $first) for qw(tls12 tls13);
is metric('session_cache_entries{kind="peer"}'), 4, 'there are sessions';
sub another_worker {
    my ($victim) = @_;
    return wait_until('another worker', sub { my @now = workers('gateway'); @now == 2 && !grep { $_ == $victim } @now });
}
($first, $second) = workers('gateway');
kill 'KILL', $first;
another_worker($first);
is metric('session_cache_entries{kind="peer"}'), 4, 'a worker that is killed takes no sessions with it';

($first, $second) = workers('gateway');
alone('gateway', $first, sub { http_get("$folder/gateway.sock", '/die') });
another_worker($first);
($first, $second) = workers('gateway');
is request('/tls12', $first), ". $NONE", 'the next request finds this out';
is request("/$_?client=client1", $second), ". $ONE", "$_: after a worker has died in a change, the zone is empty"
    for qw(tls12 tls13);
is request("/$_?client=client1", $first), "r $ONE", "$_: and is used again" for qw(tls12 tls13);
my $log = slurp("$folder/gateway.log");
is +(() = $log =~ /\[error\] .*a process has ended while it changed the zone of kong_tls_session_cache: the zone was emptied/g), 1,
    'this is said once';

# ---- metrics -------------------------------------------------------------------------------------

is metric('session_cache_size_bytes'), 8 * 1024 * 1024, 'the size of the zone';
is metric('session_cache_entries{kind="peer"}'), 2, 'two identities with an address';
cmp_ok metric('session_cache_entries{kind="session"}'), '>=', 2, 'each has a session';
is metric('session_cache_entries{kind="service_certificate"}'), 1, 'the service has one certificate';
my $bytes = metric('session_cache_bytes{kind="session"}') / metric('session_cache_entries{kind="session"}');
cmp_ok $bytes, '<=', 3 * 1024, "a session takes $bytes bytes";
cmp_ok metric('session_cache_hits_total{from="shared"}'), '>', 0, 'sessions were read from the zone';
cmp_ok metric('session_cache_hits_total{from="worker"}'), '>', 0, 'others were those of the worker';
stop_nginx('gateway');

# ---- other sizes ---------------------------------------------------------------------------------

# Returns how often each of these clients resumed a session, in two rounds.
sub rounds {
    my @clients = @_;
    my $resumed = 0;
    for my $client ((@clients) x 2) {
        my $said = request("/tls13?client=$client");
        $said =~ /^([r.]) client=CN=/ or fail("$client: $said");
        $resumed++ if $1 eq 'r';
    }
    return $resumed;
}

# Certificates of different names; and one so large that its session, which the service keeps in the ticket, is too.
my @MANY = map {"many$_"} 1 .. 60;
my $sans = join ',', map {"DNS:" . ('n' x 50) . "$_.test"} 1 .. 200;
for my $name (@MANY, 'large') {
    my $more = $name eq 'large' ? "-addext 'subjectAltName=$sans'" : '';
    my $said = `openssl req -x509 -new -key $pki/client1.key -CA $pki/ca.crt -CAkey $pki/ca.key -days 30 $more \\
        -subj /CN=$name -out $folder/$name.crt 2>&1`;
    die $said if $?;
}
sub more_clients {
    my ($gateway) = @_;
    my $names = join ', ', map {qq("$_")} @MANY, 'large';
    $gateway =~ s{^(?=        stores.text =)}{<<"_EOC_"}em;
        for _, name in ipairs { $names } do
            cert[name] = pki.chain("$folder/" .. name)
            key[name] = key.client1
        end
_EOC_
    return $gateway;
}

start_nginx('gateway', modules => 1, workers => 2,
    http => more_clients(gateway('kong_tls_session_cache shared:small:64k;')));
cmp_ok rounds(@MANY), '<', @MANY / 2, 'a zone of 64 KB is too small for 60 clients';
cmp_ok metric('session_cache_evictions_total{kind="session"}'), '>', 50, 'sessions were evicted';
cmp_ok metric('session_cache_entries{kind="session"}'), '<', 60, 'there are fewer sessions than clients';
is rounds('many1'), 1, 'but the last one is there';
is rounds('large'), 1, 'a session of 16 KB has room in it';
cmp_ok rounds('many1', 'many2'), '>=', 2, 'and so have others after it';
stop_nginx('gateway');

start_nginx('gateway', modules => 1, workers => 2,
    http => more_clients(gateway('kong_tls_session_cache shared:large:64m timeout=1h;')));
is rounds(@MANY), @MANY, 'a zone of 64 MB is large enough';
is rounds('large'), 1, 'also for a session of 16 KB';
is metric('session_cache_evictions_total{kind="session"}'), 0, 'nothing is evicted';
stop_nginx('gateway');

# ---- no zone -------------------------------------------------------------------------------------

for my $cache ('8', 'off') {
    start("kong_tls_session_cache $cache;");
    ($first, $second) = workers('gateway');
    my $again = $cache eq 'off' ? '.' : 'r';
    is request('/tls12?client=client1', $first),  ". $ONE",      "$cache: the first request";
    is request('/tls12?client=client1', $first),  "$again $ONE", "$cache: the same worker";
    is request('/tls12?client=client1', $second), ". $ONE",      "$cache: the other worker";
    like drop(), qr/^nil the workers share no sessions: kong_tls_session_cache has no zone/, "$cache: there is nothing to drop";
    stop_nginx('gateway');
}

# ---- a clock that is set -------------------------------------------------------------------------

{
    my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1' or die "libfaketime is not installed\n";
    my $clock = write_to("$folder/clock", '+0');
    my @names = qw(FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC);
    start_nginx('gateway', modules => 1, workers => 2, main => join('', map {"env $_;\n"} @names),
        environment => { LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1,
                         FAKETIME_DONT_FAKE_MONOTONIC => 1 },
        http => gateway(''));
    ($first, $second) = workers('gateway');
    is request("/$_?client=client1", $first), ". $ONE", "$_: a session before the clock is set" for qw(tls12 tls13);
    # Not before now: the certificates may have been made just now.
    for my $seconds (3600, 0, 1800) {
        write_to("$clock.new", sprintf '%+d', $seconds);
        rename "$clock.new", $clock or die "$clock: $!\n";
        is request('/tls12?client=client1', $_), "r $ONE", "the clock is set by $seconds seconds: resumed by $_" for $first, $second;
        # With TLS 1.3, OpenSSL goes by the age of a ticket, and offers it or not.
        like request('/tls13?client=client1', $_), qr/\A[.r] \Q$ONE\E\z/, "TLS 1.3: the answer is right" for $first, $second;
    }
    stop_nginx('gateway');
}

# ---- another zone of that name -------------------------------------------------------------------

my ($accepted, $said) = test_nginx('another', modules => 1, http => 'lua_shared_dict kong_tls 1m;');
ok $accepted, 'another module may have a zone of the name that is used without a directive';
like $said, qr/\[warn\] .*another module has a shared memory zone "kong_tls"/, 'this is said';
($accepted, $said) = test_nginx('another', modules => 1,
    http => 'lua_shared_dict shared 1m; kong_tls_session_cache shared:shared:1m;');
ok !$accepted, 'not of the name in the directive';
like $said, qr/\[emerg\] .*"kong_tls_session_cache" directive could not make its shared memory zone/, 'this is said too';

done_testing();
