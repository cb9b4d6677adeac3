# SPDX-License-Identifier: Apache-2.0

# docs/operations/sizing.md: its figures are those of docs/performance.md, or are measured here; its sums are right; and
# its example is that of nginx-conf/sizing.conf.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

my $page = slurp('docs/operations/sizing.md');

# The memory of one, in KB, rounded to what the page says.
my $performance = slurp('docs/performance.md');
for (
    ['idle connection: `kong_tls_keepalive`', 0, qr/An idle connection takes about (\d+) KB/],
    ['request in flight: certificate set',    0, qr/A request in flight to a service takes about (\d+) KB/],
    ['session of another identity: cache',    2, qr/A session takes about (\d+) KB in this form/],
) {
    my ($row, $column, $text) = @$_;
    my ($cells) = $performance =~ /^\| \Q$row\E[^|]*\|(.*)\|$/m or BAIL_OUT("docs/performance.md has no $row");
    my $measured = (split /\|/, $cells)[$column] / 1000;
    my ($said) = $page =~ $text;
    # A new measurement must not make this fail by its noise.
    cmp_ok abs($measured - $said), '<', 0.1 * $said, "the page says what was measured: $row";
}

# Sums: "1,000 × 3 = 3,000" with or without units.
my $sums = 0;
while ($page =~ /`([^`=]+) = ([^`]+)`/g) {
    my ($sum, $result) = ($1, $2);
    next if "$sum$result" =~ /[a-z_"{}]/;
    my ($left, $right) = map { s/,//gr =~ s/KB/* 1000/gr =~ s/MB/* 1000000/gr =~ s/×/*/gr } $sum, $result;
    die "not a sum: $left" if "$left$right" =~ m{[^\d*/+ ]};
    is eval $left, eval $right, "$sum = $result";    ## no critic (of numbers alone)
    $sums++;
}
cmp_ok $sums, '>=', 12, 'the page has at least 12 sums';

my $configuration = slurp('nginx-conf/sizing.conf');
my @fragments = $page =~ /^```nginx\n(.*?)^```$/msg;
is @fragments, 2, 'the page shows two parts of the configuration';
ok index($configuration, $_) >= 0, 'it is a part of nginx-conf/sizing.conf' for @fragments;
# The pairs, the zone for them, and the default timeout of sessions.
my ($pairs) = $page =~ /Pairs: `.* = ([\d,]+)`/;
my ($megabytes) = $page =~ /a zone of `\Q$pairs\E × 4 KB = (\d+) MB`/;
like $configuration, qr/kong_tls_session_cache shared:\w+:${megabytes}m;/, 'there is room for each pair';
like slurp('docs/reference/directives.md'), qr/shared:kong_tls:8m timeout=5m/,
    'sessions last for 300 seconds, in a zone of 8 MB';

# ---- what is measured here -----------------------------------------------------------------------

require_program('nginx', 'openssl');
my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

# The certificates that the gateway shows, by the names of the columns on the page.
my %shows = (none => '', 'P-256' => "$pki/client1", 'RSA-2048' => "$folder/rsa");
my $said = `openssl req -x509 -newkey rsa:2048 -nodes -keyout $folder/rsa.key -CA $pki/ca.crt -CAkey $pki/ca.key \\
    -days 30 -subj /O=Test/CN=client-rsa -out $folder/rsa.crt 2>&1`;
die $said if $?;

start_nginx('services', http => join '', map {<<"_EOC_"} '1.2', '1.3');
    server {
        listen unix:$folder/$_.sock ssl;
        ssl_protocols TLSv$_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        keepalive_timeout 0;
        return 200 "\$ssl_session_reused";
    }
_EOC_

# A gateway with a zone of this size, whose identities differ in the name that they verify.
sub start {
    my ($size) = @_;
    my $locations = '';
    for my $version ('1.2', '1.3') {
        for my $name (sort keys %shows) {
            my $file = $shows{$name};
            my $set = $file && qq{assert(kong.service.set_tls_cert_key(read("$file")))};
            $locations .= <<"_EOC_";
        location /$version/$name {
            access_by_lua_block {
                $set
                assert(kong.service.set_tls_verify(true))
            }
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_name pair\$arg_pair.wild.test;
            proxy_ssl_trusted_certificate $pki/ca.crt;
            proxy_pass https://unix:$folder/$version.sock:/;
        }
_EOC_
        }
    }
    start_nginx('gateway', modules => 1, http => <<"_EOC_");
    kong_tls_session_cache shared:sessions:$size;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local x509 = require "resty.kong.x509"
        local parsed = {}
        local function text(name)
            local file = assert(io.open(name))
            local content = file:read("*a")
            file:close()
            return content
        end
        function read(name)
            if not parsed[name] then
                parsed[name] = { assert(x509.chain(text(name .. ".crt"))), assert(x509.key(text(name .. ".key"))) }
            end
            return unpack(parsed[name])
        end
    }
    server {
        listen unix:$folder/gateway.sock;
$locations
    }
    server {
        listen unix:$folder/status.sock;
        kong_tls_status;
    }
_EOC_
    return;
}

# Sends a request for each of these pairs. Returns how many of them resumed a session.
sub round_of {
    my ($kind, @pairs) = @_;
    my $resumed = 0;
    for my $pair (@pairs) {
        my ($status, undef, $body) = http_get("$folder/gateway.sock", "/$kind?pair=$pair");
        die "$status: $body" if $status ne '200';
        $resumed++ if $body eq 'r';
    }
    return $resumed;
}

sub metric {
    my ($name) = @_;
    my (undef, undef, $text) = http_get("$folder/status.sock", '/?format=prometheus');
    return $text =~ /^kong_tls_session_cache_\Q$name\E (\d+)$/m ? $1 : die "there is no $name\n";
}

# The room that a pair takes: so many are in a zone that is full. With TLS 1.3, a pair has two tickets.
my ($header, @rows) = map { [split /\s*\|\s*/] } $page =~ /^(\|.*\|)$/mg;
my $KB = 1000;
for my $row (@rows) {
    my (undef, $version, @said) = @$row;
    $version =~ s/TLS // or next;
    for my $column (0 .. $#said) {
        my ($name, $kilobytes) = ($header->[$column + 2], $said[$column] =~ /([\d.]+) KB/);
        start('512k');
        round_of("$version/$name", 1 .. 450);
        my $sessions = metric('entries{kind="session"}') / ($version eq '1.3' ? 2 : 1);
        my $measured = 512 * 1024 / $KB / $sessions;
        # Blocks of memory make steps of a few percent.
        cmp_ok abs($measured - $kilobytes), '<', 0.15 * $kilobytes, "TLS $version, $name: a pair takes $measured KB";
        cmp_ok $measured, '<', ($page =~ /a zone with (\d+) KB for each pair/)[0], 'the rule says more';
        stop_nginx('gateway');
    }
}

# With the room that the page says, all sessions are resumed; with too many pairs that are used in turn, none.
my ($default_pairs) = $page =~ /The default, `8m`, is enough for ([\d,]+)/;
$default_pairs =~ tr/,//d;
start('512k');
my $enough = $default_pairs / 16;
is round_of('1.3/RSA-2048', 1 .. $enough), 0,       "$enough pairs make full handshakes";
is round_of('1.3/RSA-2048', 1 .. $enough), $enough, 'then they resume their sessions';
is metric('evictions_total{kind="session"}'), 0, 'nothing is evicted';
stop_nginx('gateway');
start('512k');
is round_of('1.3/RSA-2048', (1 .. 1.6 * $enough) x 2), 0, 'a zone that is too small can be as bad as none';
stop_nginx('gateway');

# Memory that was never used.
start('64m');
metric('size_bytes');
my ($zone) = slurp('/proc/' . (workers('gateway'))[0] . '/smaps')
    =~ m{^\S+ rw-s .*/dev/zero.*\nSize: +65536 kB\n(.*?)^VmFlags}ms;
my ($resident) = $zone =~ /^Rss: +(\d+) kB$/m;
cmp_ok $resident, '<', 1024, "of a zone of 64 MB that has nothing in it, $resident KB are there";

done_testing();
