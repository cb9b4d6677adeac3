# SPDX-License-Identifier: Apache-2.0

# Setting the clock does not make a plugin's verdict last longer, or outlast the wrong time. And a verdict ends at the
# date at which something expires.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
use Time::Local qw(timegm);

require_program('curl', 'faketime', 'nginx', 'openssl');

my $folder = test_folder();
my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
$library or die "libfaketime is not installed\n";

# ---- certificates --------------------------------------------------------------------------------

# Creates a CA that is valid for this many days.
sub self_signed {
    my ($name, $days) = @_;
    my $said = `openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ENV{TEST_NGINX_CERTIFICATES}/$name.key \\
        -days $days -subj /O=Test/CN=$name -addext keyUsage=critical,keyCertSign,cRLSign -out $ENV{TEST_NGINX_CERTIFICATES}/$name.crt 2>&1`;
    die $said if $?;
    return;
}

self_signed('root', 40000);
my @client = (extensions => ['extendedKeyUsage=clientAuth']);
issue('authority', subject => '/O=Test/CN=Authority', issuer => 'root', authority => 1, valid => [2020, 2049]);
# These certificates outlast their CA.
issue('now', subject => '/O=Test/CN=now', issuer => 'authority', valid => [2020, 2060], @client);
issue('later', subject => '/O=Test/CN=later', issuer => 'authority', valid => [2040, 2045], @client);
my $pki = $ENV{TEST_NGINX_CERTIFICATES};
# CRLs that are valid for ten years.
revocation_list('list', 'authority');
revocation_list('root', 'root');
my $next_update = `openssl crl -in $pki/list.crl -noout -nextupdate -dateopt iso_8601`;
my @next_update = $next_update =~ /(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)/ or die $next_update;

# ---- a gateway with a clock of its own -----------------------------------------------------------

my $clock = write_to("$folder/clock", '+0');
# Sets the clock to this many seconds from now.
sub set_clock {
    my ($seconds) = @_;
    write_to("$clock.new", sprintf '%+d', $seconds);
    rename "$clock.new", $clock or die "$clock: $!\n";
    return;
}
my $YEAR = 365.25 * 24 * 3600;

start_nginx('gateway', modules => 1, log => 'info',
    main => join('', map {"env $_;\n"} qw(FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC)),
    environment => { LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1,
                     FAKETIME_DONT_FAKE_MONOTONIC => 1, TZ => 'UTC' },
    http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        local consumers = { { name = "now", common_name = "now" }, { name = "later", common_name = "later" } }
        local function header(ca)
            return assert(require("resty.kong.plugins.header_cert_auth").new {
                header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, ca = ca, consumers = consumers })
        end
        local authority = read("authority.crt")
        calls = 0
        by_lookup = assert(require("resty.kong.plugins.header_cert_auth").new {
            header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, ca = { pem = authority, partial_chain = true },
            lookup = function()
                calls = calls + 1
                return { name = "call " .. calls }
            end,
            cache_ttl = 2,
        })
        by_header = header { pem = authority, partial_chain = true }
        with_list = header { pem = authority .. read("root.crt"), crl = read("list.crl") .. read("root.crl") }
        by_handshake = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "default" }, ca = { pem = authority, partial_chain = true }, consumers = consumers } })
    }
    server {
        listen unix:$folder/gateway.sock;
        location /header {
            access_by_lua_block { by_header:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
        location /list {
            access_by_lua_block { with_list:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
        location /lookup {
            access_by_lua_block { by_lookup:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
        location /time {
            content_by_lua_block { ngx.say(ngx.time()) }
        }
    }
    server {
        listen unix:$folder/tls.sock ssl;
        ssl_certificate $ENV{TEST_NGINX_PKI}/gateway.crt;
        ssl_certificate_key $ENV{TEST_NGINX_PKI}/gateway.key;
        ssl_certificate_by_lua_block { by_handshake:certificate() }
        location / {
            access_by_lua_block { by_handshake:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
    }
_EOC_

sub curl {
    my (@words) = @_;
    open my $out, '-|', 'curl', '-sk', '-w', '%{http_code}', @words or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said =~ s/<html>.*<\/html>\s*//sr =~ s/\n/ /r;
}

my %header = map {
    my $pem = slurp("$pki/$_.crt");
    $_ => $pem =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger
} qw(now later);

sub by_header {
    my ($name, $path) = @_;
    return curl('--unix-socket', "$folder/gateway.sock", '-H', "X-Client-Cert: $header{$name}", 'http://a' . ($path // '/header'));
}

sub by_handshake {
    my ($name) = @_;
    return curl('--unix-socket', "$folder/tls.sock", '--cert', "$pki/$name.crt", '--key', "$pki/$name.key", 'https://a.test/');
}

# Sets the clock ahead by years, and then right again.
for my $way (['header', \&by_header], ['handshake', \&by_handshake]) {
    my ($what, $ask) = @$way;
    set_clock(0);
    cmp_ok abs(curl('--unix-socket', "$folder/gateway.sock", 'http://a/time') =~ s/ .*//sr - time), '<', 5, 'the clock is right';
    is $ask->('now'),   'now 200', "$what: a valid certificate is accepted";
    is $ask->('later'), '401',     "$what: a certificate that is not valid yet is refused";
    set_clock(15 * $YEAR);
    cmp_ok curl('--unix-socket', "$folder/gateway.sock", 'http://a/time') =~ s/ .*//sr, '>', time + 14 * $YEAR, 'the clock is ahead';
    is $ask->('later'), 'later 200', "$what: the certificate is accepted while the clock says that it is valid";
    set_clock(0);
    is $ask->('later'), '401', "$what: the certificate is refused when the clock is right again";
    set_clock(30 * $YEAR);
    is $ask->('now'), '401', "$what: a valid certificate is refused while the clock says that it has expired";
    set_clock(0);
    is $ask->('now'), 'now 200', "$what: the valid certificate is accepted when the clock is right again";
    set_clock(-1000);
    is $ask->('later'), '401', "$what: a certificate that is not valid yet is refused when the clock is behind";
}

# Setting the clock neither ends what a function has answered, nor makes it last longer.
{
    my ($begin, @answers);
    do {
        set_clock(0);
        # A new answer has all of its time before it.
        my $before = by_header('now', '/lookup');
        1 while by_header('now', '/lookup') eq $before;
        $begin = clock_gettime(CLOCK_MONOTONIC);
        @answers = map { set_clock($_); by_header('now', '/lookup') =~ s/\D*(\d+) 200\z/$1/r } 0, 1000, -1000, 15 * $YEAR, 0;
    } while clock_gettime(CLOCK_MONOTONIC) - $begin > 2;
    is_deeply \@answers, [($answers[0]) x 5], 'an answer is kept while the clock is set';
    set_clock(-1000);
    my $until = clock_gettime(CLOCK_MONOTONIC) + 30;
    1 while by_header('now', '/lookup') eq "call $answers[0] 200" && clock_gettime(CLOCK_MONOTONIC) < $until;
    cmp_ok clock_gettime(CLOCK_MONOTONIC) - $begin, '<', 10, 'an answer ends by itself, although the clock is behind';
    cmp_ok clock_gettime(CLOCK_MONOTONIC) - $begin, '>=', 2, 'and not before';
}

# ---- dates at which a verdict ends ---------------------------------------------------------------

# Stops the clock at a date.
sub stop_clock {
    my ($date) = @_;
    write_to("$clock.new", strftime('%Y-%m-%d %H:%M:%S', gmtime $date));
    rename "$clock.new", $clock or die "$clock: $!\n";
    return;
}

# A verdict lasts ten seconds, but not across the date.
sub changes_at {
    my ($what, $date, $ask, $before, $from) = @_;
    my ($begin, @answers);
    # Requests that took longer show nothing, and are repeated.
    do {
        $begin = clock_gettime(CLOCK_MONOTONIC);
        @answers = map { stop_clock($_); $ask->() } $date - 100, $date - 1, $date;
    } while clock_gettime(CLOCK_MONOTONIC) - $begin > 9;
    is_deeply \@answers, [$before, $before, $from], "$what: the verdict changes at that date";
    return;
}
changes_at('a CA expires', timegm(0, 0, 0, 1, 0, 2049), sub { by_header('now') }, 'now 200', '401');
changes_at('a certificate expires', timegm(0, 0, 0, 1, 0, 2045), sub { by_header('later') }, 'later 200', '401');
changes_at('a CRL expires', timegm(@next_update[5, 4, 3, 2], $next_update[1] - 1, $next_update[0]),
    sub { by_header('now', '/list') }, 'now 200', '401');
changes_at('a certificate becomes valid', timegm(0, 0, 0, 1, 0, 2040), sub { by_header('later') }, '401', 'later 200');

done_testing();
