# Many requests, handshakes and reloads: none is answered for another, and memory does not grow.
#
# A short form of it. TEST_NGINX_TORTURE=1 is the long one: 200,000 requests, 100,000 handshakes and 1,000
# reloads.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('nginx', 'wrk');

my ($REQUESTS, $HANDSHAKES, $RELOADS) = $ENV{TEST_NGINX_TORTURE} ? (200_000, 100_000, 1_000) : (10_000, 3_000, 30);
# Where memory is looked at.
my $SAMPLES = 10;

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
my ($port, $tls_port) = free_ports(2);

# The service says no to whom it does not expect.
start_nginx('services', http => <<"_EOC_");
    ssl_session_cache shared:sessions:4m;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate $pki/service.crt;
    ssl_certificate_key $pki/service.key;
    ssl_verify_client optional_no_ca;
    ssl_client_certificate $pki/ca.crt;
    server {
        listen unix:$folder/service.sock ssl;
        location / {
            if (\$ssl_client_s_dn != \$http_x_expect) { return 418; }
            return 200 "right\\n";
        }
    }
    server {
        listen unix:$folder/wrong.sock ssl;
        ssl_certificate $pki/service-other.crt;
        ssl_certificate_key $pki/service-other.key;
        return 200 "wrong\\n";
    }
_EOC_

start_nginx('gateway', modules => 1, log => 'crit', main => 'worker_shutdown_timeout 5s;', http => <<"_EOC_");
    kong_tls_session_cache 200;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local ssl = require "ngx.ssl"
        local function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        clients = {}
        for number, name in ipairs { "client1", "client2", "client-rsa", "client-weak" } do
            clients[number] = { chain = ssl.parse_pem_cert(read(name .. ".crt")), key = ssl.parse_pem_priv_key(read(name .. ".key")) }
        end
        authorities = ssl.parse_pem_cert(read("ca.crt"))
        names = { "CN=client-1,O=Test", "CN=client-2,O=Test", "CN=client-rsa,O=Test", "CN=client-weak,O=Test" }
    }
    upstream kept { server unix:$folder/service.sock; kong_tls_keepalive 50; }
    upstream beside { server unix:$folder/service.sock; kong_tls_keepalive 20; keepalive 20; }
    upstream anew { server unix:$folder/service.sock; }
    upstream wrong { server unix:$folder/wrong.sock; }
    server {
        listen 127.0.0.1:$port;
        keepalive_requests 1000000;
        set \$expect "";
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Expect \$expect;
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $pki/ca.crt;
        location / {
            access_by_lua_block {
                local number = tonumber(ngx.var.arg_client)
                if number > 0 then
                    assert(kong.service.set_tls_cert_key(clients[number].chain, clients[number].key))
                    ngx.var.expect = names[number]
                end
                local depth = tonumber(ngx.var.arg_depth)
                if depth > 0 then
                    assert(kong.service.set_tls_verify(true))
                    assert(kong.service.set_tls_verify_depth(depth))
                end
            }
            proxy_pass https://\$arg_to;
        }
        location /reloads { return 204; }
    }
    server {
        listen 127.0.0.1:$tls_port ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_session_cache builtin:1000 shared:sessions:1m;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(authorities))
            assert(kong.client.tls.disable_session_reuse())
        }
        return 204;
    }
_EOC_

write_to("$folder/mixed.lua", <<'_EOC_');
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
local random = math.random
function init() counts = "" statuses = {} math.randomseed(os.time()) end
local to = { "kept", "kept", "kept", "beside", "beside", "anew" }
function request()
    local client, depth = random(0, 3), random(0, 40)
    local where = to[random(#to)]
    -- Some are refused: OpenSSL does not take the certificate, or the service is not who it should be.
    local kind = random(100)
    if kind == 1 then client, where = 4, "anew" end
    if kind == 2 then where, depth = "wrong", 5 end
    return wrk.format("GET", "/?client=" .. client .. "&depth=" .. depth .. "&to=" .. where)
end
function response(status)
    statuses[status] = (statuses[status] or 0) + 1
    counts = ""
    for one, count in pairs(statuses) do counts = counts .. one .. "=" .. count .. " " end
end
function done()
    for _, thread in ipairs(threads) do print("statuses " .. thread:get("counts")) end
end
_EOC_

# By how much it grows from one sample to the next, and how far the samples are from that line.
sub slope {
    my @samples = @_;
    my ($x, $y) = map { my $sum = 0; $sum += $_ for @$_; $sum / @$_ } [0 .. $#samples], \@samples;
    my ($over, $under) = (0, 0);
    for (0 .. $#samples) { $over += ($_ - $x) * ($samples[$_] - $y); $under += ($_ - $x)**2 }
    my $slope = $over / $under;
    my $noise = 0;
    $noise += ($samples[$_] - $y - $slope * ($_ - $x))**2 for 0 .. $#samples;
    return ($slope, sqrt($noise / @samples));
}

# Samples of memory during "work", which is done in parts. What it takes at first it takes once: the first
# three are left out.
sub is_flat {
    my ($what, $count, $limit, $measure, $work) = @_;
    my @samples;
    for (1 .. $SAMPLES) {
        $work->(int $count / $SAMPLES);
        push @samples, $measure->();
    }
    splice @samples, 0, 3;
    my ($slope, $noise) = slope(@samples);
    my $bytes = $slope * 1024 / ($count / $SAMPLES);
    note sprintf '%s: %.1f bytes each, noise %.0f KB, %d KB at the end', $what, $bytes, $noise, $samples[-1];
    # What is not flat grows by more than what its samples are apart anyway. In the short form caches still
    # fill: it finds what each leaves behind, if that is as much as a session or a certificate.
    $limit *= 50 unless $ENV{TEST_NGINX_TORTURE};
    ok $bytes < $limit || $slope < $noise, "$what: memory is flat" or diag "@samples";
    return;
}

# ---- requests ------------------------------------------------------------------------------------

# wrk has no number of requests, but it goes on for a time: so many that there were.
my %statuses;
my $rate = 500;
sub load {
    my ($count) = @_;
    my $done = 0;
    while ($done < $count) {
        my $seconds = int(($count - $done) / $rate) || 1;
        $seconds = 20 if $seconds > 20;
        my $said = `wrk -t1 -c16 -d${seconds}s --timeout 10s -s $folder/mixed.lua http://127.0.0.1:$port/ 2>&1`;
        my ($requests) = $said =~ /(\d+) requests in/ or die $said;
        my ($errors) = $said =~ /Socket errors: (.*)/;
        fail("socket errors: $errors") if $errors && $errors =~ /[1-9]/;
        $statuses{$1} += $2 while $said =~ /(\d{3})=(\d+) /g;
        $done += $requests;
        $rate = $requests / $seconds || 1;
    }
    return;
}
my ($worker) = workers('gateway');
is_flat('requests of mixed identities', $REQUESTS, 8, sub { resident($worker) }, \&load);
note 'answers: ', join ' ', map {"$_: $statuses{$_}"} sort keys %statuses;
is_deeply [grep { !/^(?:200|502)$/ } keys %statuses], [], 'no request was answered for another';
my $all = 0;
$all += $_ for values %statuses;
my $refused = ($statuses{502} // 0) / $all;
ok $refused > 0.01 && $refused < 0.04, 'those were refused that had to be' or diag $refused;
is_deeply [workers('gateway')], [$worker], 'the worker is the same';

# ---- handshakes ----------------------------------------------------------------------------------

sub handshakes {
    my ($count) = @_;
    my $done = 0;
    while ($done < $count) {
        my $said = `wrk -t1 -c8 -d2s --timeout 10s -H 'Connection: close' https://127.0.0.1:$tls_port/ 2>&1`;
        my ($requests) = $said =~ /(\d+) requests in/ or die $said;
        $done += $requests or die $said;
    }
    return;
}
is_flat('handshakes that leave no session (CVE-2024-2511)', $HANDSHAKES, 16, sub { resident($worker) }, \&handshakes);

# ---- reloads -------------------------------------------------------------------------------------

sub reload {
    my ($count) = @_;
    for (1 .. $count) {
        my ($old) = workers('gateway');
        kill 'HUP', master('gateway');
        wait_until('a new worker', sub { my @now = workers('gateway'); @now == 1 && $now[0] != $old });
    }
    return;
}
# nginx itself takes some 100 bytes each, and more for the first.
is_flat('reloads', $RELOADS, 1_000, sub { resident(master('gateway')) }, \&reload);

is slurp("$folder/gateway.log") =~ s/^.*no protocols available.*\n//mgr, '', 'nothing critical in the log';
done_testing();
