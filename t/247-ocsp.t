# SPDX-License-Identifier: Apache-2.0

# revocation_check_mode with OCSP: what responders answer, what they must not be believed, and what happens without an
# answer. The responders are OpenSSL's.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;
use TestPrograms;

use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(sleep time);

require_program('curl', 'faketime', 'nginx', 'openssl');

my $folder = test_folder();
my $pki    = $ENV{TEST_NGINX_CERTIFICATES};
my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
$library or die "libfaketime is not installed\n";

# ---- certificates --------------------------------------------------------------------------------

my %port;
@port{qw(authority root delegate no-usage of-other expired-delegate other below down silent answers proxy)} = free_ports(12);

sub self_signed {
    my ($name) = @_;
    # Since yesterday: the clock is set back below.
    my $said = `faketime -f -1d openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $pki/$name.key \\
        -days 4000 -subj /O=Test/CN=$name -addext keyUsage=critical,keyCertSign,cRLSign -out $pki/$name.crt 2>&1`;
    die $said if $?;
    return;
}
my $number = 30_000;
sub certificate {
    my ($name, $issuer, %of) = @_;
    return issue($name, subject => "/O=Test/CN=$name", issuer => $issuer, serial => ++$number, %of);
}
sub asks {
    my ($port) = @_;
    return "authorityInfoAccess=OCSP;URI:http://127.0.0.1:$port/";
}
self_signed('root');
self_signed('other');
certificate('authority', 'root', authority => 1, extensions => [asks($port{root})]);
certificate('revoked-authority', 'root', authority => 1, extensions => [asks($port{root})]);
my @client = ('extendedKeyUsage=clientAuth');
certificate($_, 'authority', extensions => [@client, asks($port{authority})]) for qw(good bad stranger);
certificate('other-good', 'authority', extensions => [@client, asks($port{authority})]);
certificate('silent-one', 'authority', extensions => [@client]);
certificate('https-only', 'authority', extensions => [@client, 'authorityInfoAccess=OCSP;URI:https://127.0.0.1/']);
certificate('below', 'revoked-authority', extensions => [@client, asks($port{below})]);
my @signs = (extensions => ['extendedKeyUsage=OCSPSigning']);
certificate('delegate', 'authority', @signs);
certificate('no-usage', 'authority', extensions => ['keyUsage=digitalSignature']);
certificate('of-other', 'other',     @signs);
certificate('expired-delegate', 'authority', @signs, valid => [2020, 2021]);

my $ca = join '', map { slurp("$pki/$_.crt") } qw(root other authority revoked-authority);
write_certificate_file('ca.pem', $ca);

# ---- responders ----------------------------------------------------------------------------------

# The certificates that a responder knows, in the format of "openssl ca".
sub index_of {
    my ($name, %of) = @_;
    my $text = '';
    for my $certificate (sort keys %of) {
        my ($serial) = `openssl x509 -in $pki/$certificate.crt -noout -serial` =~ /=(\w+)/;
        $text .= join("\t", $of{$certificate} ? ('V', '490101000000Z', '') : ('R', '490101000000Z', '260101000000Z'),
            $serial, 'unknown', "/O=Test/CN=$certificate") . "\n";
    }
    return write_certificate_file($name, $text);
}
my %index = (
    authority => index_of('authority.index', good => 1, 'other-good' => 1, bad => 0),
    root      => index_of('root.index', authority => 1, 'revoked-authority' => 0),
    'revoked-authority' => index_of('below.index', below => 1),
);

# Starts a responder for what an authority has issued. Reads its log: a connection without a request would block it.
sub start_responder {
    my ($name, $authority, $signer) = @_;
    start_program("$name-responder", sub { may_be_gone("$folder/$name-responder.out") =~ /waiting for OCSP client/ },
        'openssl', 'ocsp', '-index', $index{$authority}, '-port', $port{$name}, '-rsigner', "$pki/$signer.crt",
        '-rkey', "$pki/$signer.key", '-CA', "$pki/$authority.crt", '-ignore_err', '-nmin', 10);
    return;
}
start_responder('authority', 'authority', 'authority');
start_responder('root', 'root', 'root');
start_responder('below', 'revoked-authority', 'revoked-authority');
start_responder($_, 'authority', $_) for qw(delegate no-usage of-other expired-delegate other);

# Makes an answer, which is served to whoever asks. It has no nonce, unless "nonce" is set; and it is made "ago" seconds
# ago, and valid for "minutes".
sub answer {
    my ($name, %of) = @_;
    my $nonce = $of{nonce} ? '' : '-no_nonce';
    my $about = $of{about} // 'good';
    my $ago   = $of{ago} // 0;
    my $shift = sprintf '%+ds', -$ago;
    my $period = $of{minutes} ? "-nmin $of{minutes}" : '';
    my $index = $of{index} // $index{authority};
    my $said = `openssl ocsp -issuer $pki/authority.crt -cert $pki/$about.crt $nonce -reqout $folder/$name.req 2>&1 &&
        faketime -f $shift openssl ocsp -index $index -CA $pki/authority.crt -rsigner $pki/authority.crt \\
        -rkey $pki/authority.key -reqin $folder/$name.req -respout $folder/$name.new $period 2>&1`;
    die $said if $?;
    rename "$folder/$name.new", "$folder/$name.answer" or die "$name: $!\n";
    return;
}
answer('fresh', minutes => 10);
answer($_, minutes => 10) for qw(slow slow-again slow-for-some);
answer('brief');
answer($_, minutes => 1) for qw(short back);
answer('old-and-endless', ago => 3600);
answer('old-but-valid', ago => 3600, minutes => 120);
answer('expired', ago => 3600, minutes => 10);
answer('early', ago => -3600, minutes => 10);
answer('of-another', about => 'other-good', minutes => 10);
answer('other-nonce', nonce => 1, minutes => 10);
write_to("$folder/garbage.answer", 'no answer');
write_to("$folder/empty.answer", '');
write_to("$folder/absent.answer", '');
write_to("$folder/trailing.answer", slurp("$folder/fresh.answer") . 'x');
{
    my $forged = slurp("$folder/fresh.answer");
    # A byte of the signature, which is followed by the certificate of the signer.
    my ($length) = length slurp("$pki/authority.der") if -e "$pki/authority.der";
    my $at = index $forged, "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x03";
    substr($forged, $at + 30, 1) ^= "\x01";
    write_to("$folder/forged.answer", $forged);
}
write_to("$folder/large.answer", slurp("$folder/fresh.answer") . "\0" x (70 * 1024));
# tryLater, unauthorized
write_to("$folder/later.answer",        "\x30\x03\x0a\x01\x03");
write_to("$folder/unauthorized.answer", "\x30\x03\x0a\x01\x06");

# Serves these answers, and others that are no HTTP.
my @raw = (
    [endless_head   => q{for _ = 1, 10000 do sock:send("X-Line: " .. ("x"):rep(1000) .. "\r\n") end}],
    [endless_line   => q{for _ = 1, 10000 do sock:send(("x"):rep(10000)) end}],
    [no_http        => q{sock:send("SSH-2.0-x\r\n\r\n")}],
    [closed         => q{}],
    [cut            => q{sock:send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")}],
    [two_lengths    => q{sock:send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")}],
    [compressed     => q{sock:send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")}],
    [redirect       => q{sock:send("HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n")}],
    [error          => q{sock:send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")}],
    [dripping       => q{for _ = 1, 200 do if not sock:send("H") then break end ngx.sleep(0.05) end}],
    [bad_chunk      => q{sock:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc")}],
    [wide_chunk     => q{sock:send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\nabc")}],
    [chunked        => q{local all = read("fresh")
                         sock:send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                         for at = 1, #all do sock:send("1 ;x=y\r\n" .. all:sub(at, at) .. "\r\n") end
                         sock:send("0\r\n\r\n")}],
    [until_closed   => q{sock:send("HTTP/1.0 200 OK\r\n\r\n" .. read("fresh"))}],
);
start_nginx('answers', modules => 1, log => 'alert', http => <<"_EOC_");
    lua_shared_dict counts 1m;
    init_by_lua_block {
        function read(name)
            local file = assert(io.open("$folder/" .. name .. ".answer", "rb"))
            local text = file:read("*a")
            file:close()
            return text
        end
    }
    server {
        listen 127.0.0.1:$port{answers};
        location /counts {
            content_by_lua_block { ngx.print(ngx.shared.counts:get(ngx.var.arg_of) or 0) }
        }
        location / {
            content_by_lua_block {
                ngx.req.read_body()
                local name = ngx.var.uri:sub(2)
                ngx.shared.counts:incr(name, 1, 0)
                if name:find("slow", 1, true) then
                    ngx.sleep(0.5)
                end
                ngx.print(read(name))
            }
        }
@{[map { <<"_LOCATION_" } @raw]}
        location = /$_->[0] {
            lua_socket_log_errors off;
            content_by_lua_block {
                ngx.req.read_body()
                local sock = assert(ngx.req.socket(true))
                $_->[1]
                return ngx.exit(444)
            }
        }
_LOCATION_
    }
    server {
        listen 127.0.0.1:$port{proxy};
        location / {
            if (\$host != nowhere.test) {
                return 400;
            }
            proxy_pass http://127.0.0.1:$port{authority};
        }
    }
    server {
        listen 127.0.0.1:$port{silent};
        location / {
            content_by_lua_block { ngx.sleep(30) }
        }
    }
_EOC_

# What is trusted later is another file.
sub put_authority {
    my ($name) = @_;
    write_to("$folder/moving.new", slurp("$pki/$name.crt"));
    chmod 0644, "$folder/moving.new" or die $!;
    rename "$folder/moving.new", "$folder/moving.pem" or die $!;
    return;
}
put_authority('revoked-authority');

# ---- a gateway -----------------------------------------------------------------------------------

my $clock = write_to("$folder/clock", '+0');
sub set_clock {
    my ($seconds) = @_;
    write_to("$clock.new", sprintf '%+d', $seconds);
    rename "$clock.new", $clock or die "$clock: $!\n";
    return;
}

# The policies: each asks a responder, instead of that in the certificate; in both modes.
my @answers = (map({s/.*\///r} map {s/\.answer$//r} glob "$folder/*.answer"), map { $_->[0] } @raw);
my %url = map { $_ => "http://127.0.0.1:$port{answers}/$_" } @answers;
$url{$_} = "http://127.0.0.1:$port{$_}/" for grep { !/answers|root|proxy/ } keys %port;
my $urls = join ', ', map {qq{["$_"] = "$url{$_}"}} sort keys %url;

start_nginx('gateway', modules => 1, log => 'info', workers => 2,
    main => join('', map {"env $_;\n"} qw(FAKETIME_TIMESTAMP_FILE FAKETIME_NO_CACHE FAKETIME_DONT_FAKE_MONOTONIC)),
    environment => { LD_PRELOAD => $library, FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1,
                     FAKETIME_DONT_FAKE_MONOTONIC => 1, TZ => 'UTC' },
    http => <<"_EOC_");
    lua_shared_dict revocation 1m;
    lua_shared_dict others 1m;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local consumers = {}
        for _, name in ipairs { "good", "bad", "stranger", "below", "silent-one", "https-only" } do
            table.insert(consumers, { name = name, common_name = name })
        end
        local ca = { file = "$pki/ca.pem" }
        policies = {}
        local function add(name, options)
            for _, mode in ipairs { "STRICT", "IGNORE_CA_ERROR", "SKIP" } do
                local all = { header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, ca = ca, consumers = consumers,
                    revocation_check_mode = mode, revocation_dict = "revocation", http_timeout = 3000 }
                for option, value in pairs(options) do
                    all[option] = value or nil
                end
                policies[name .. " " .. mode] = assert(require("resty.kong.plugins.header_cert_auth").new(all))
            end
        end
        for name, url in pairs { $urls } do
            local short = name == "silent" or name == "dripping"
            add(name, { ocsp_responder = url, revocation_leaf_only = true, http_timeout = short and 300 or nil })
        end
        add("hasty", { ocsp_responder = "$url{'slow-for-some'}", revocation_leaf_only = true, http_timeout = 100 })
        add("moving", { header = "X-Client-Cert", format = "aws-alb", encoding = false,
            ca = { file = "$folder/moving.pem", partial_chain = true, refresh = 1 } })
        add("own", {})
        add("own-others", { revocation_dict = "others" })
        add("others-fresh", { revocation_dict = "others", ocsp_responder = "$url{fresh}", revocation_leaf_only = true })
        add("alone", { revocation_dict = false, ocsp_responder = "$url{fresh}", revocation_leaf_only = true })
        add("alone-own", { revocation_dict = false })
        add("anonymous", { anonymous = "guest" })
        add("proxy", { http_proxy = "http://127.0.0.1:$port{proxy}", ocsp_responder = "http://nowhere.test/x",
            revocation_leaf_only = true })
        add("name", { ocsp_responder = "http://localhost:$port{authority}", revocation_leaf_only = true })
        local function handshake(mode)
            return assert(require("resty.kong.plugins.mtls_auth").new { { names = { "default" }, ca = ca, consumers = consumers,
                revocation_check_mode = mode, revocation_dict = "revocation" } })
        end
        by_handshake = handshake("STRICT")
    }
    server {
        listen unix:$folder/gateway.sock;
        location / {
            access_by_lua_block { policies[ngx.var.arg_policy .. " " .. ngx.var.arg_mode]:access() }
            content_by_lua_block {
                ngx.say(ngx.req.get_headers()["X-Consumer-Username"], " ", ngx.var.kong_client_verify)
            }
            error_page 401 = \@refused;
        }
        location \@refused {
            return 401 "\$kong_client_verify\\n";
        }
        location = /flush {
            content_by_lua_block { ngx.shared.others:flush_all() ngx.say(ngx.shared.others:flush_expired()) }
        }
        location = /fill {
            content_by_lua_block {
                local number = 0
                while ngx.shared.others:safe_set("x" .. number, ("x"):rep(100)) do
                    number = number + 1
                end
                ngx.say(number)
            }
        }
    }
    server {
        listen unix:$folder/tls.sock ssl;
        ssl_certificate $ENV{TEST_NGINX_PKI}/gateway.crt;
        ssl_certificate_key $ENV{TEST_NGINX_PKI}/gateway.key;
        ssl_certificate_by_lua_block { by_handshake:certificate() }
        location / {
            access_by_lua_block { by_handshake:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"], " ", ngx.var.kong_client_verify) }
            error_page 401 = \@refused;
        }
        location \@refused {
            return 401 "\$kong_client_verify\\n";
        }
    }
_EOC_

sub curl {
    my (@words) = @_;
    open my $out, '-|', 'curl', '-sk', '-m', 20, '-w', '%{http_code}', @words or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said =~ s/\n/ /r;
}
my %header = map {
    my $pem = slurp("$pki/$_.crt");
    $_ => $pem =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger
} qw(good bad stranger below silent-one https-only);

sub ask {
    my ($policy, $name, $mode) = @_;
    return curl('--unix-socket', "$folder/gateway.sock", '-H', "X-Client-Cert: $header{$name}",
        "http://a/?policy=$policy&mode=" . ($mode // 'STRICT'));
}

sub handshake {
    my ($name) = @_;
    return curl('--unix-socket', "$folder/tls.sock", '--cert', "$pki/$name.crt", '--key', "$pki/$name.key", 'https://a.test/');
}

# How often an answer was fetched.
sub fetched {
    my ($name) = @_;
    return curl("http://127.0.0.1:$port{answers}/counts?of=$name") =~ s/200\z//r;
}

my @modes = ('STRICT', 'IGNORE_CA_ERROR');

like ask('absent', 'good'), qr/it is no OCSP response.*401/, 'a responder without an answer';

# ---- what responders answer ----------------------------------------------------------------------

for my $mode (@modes) {
    for my $responder ('authority', 'delegate', 'proxy', 'own') {
        is ask($responder, 'good', $mode), 'good SUCCESS 200', "$mode, $responder: a good certificate is accepted";
        is ask($responder, 'bad',  $mode), 'FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 401',
            "$mode, $responder: a revoked certificate is refused";
        is ask($responder, 'stranger', $mode),
            'FAILED:certificate unknown to its OCSP responder (certificate 1: CN=stranger,O=Test) 401',
            "$mode, $responder: a certificate that the responder does not know is refused";
    }
    is ask('own', 'below', $mode), 'FAILED:certificate revoked (certificate 2: CN=revoked-authority,O=Test) 401',
        "$mode: a certificate below a revoked authority is refused";
    is ask('below', 'below', $mode), 'below SUCCESS 200', "$mode: revocation_leaf_only does not ask about authorities";
}
is ask('own', 'bad', 'SKIP'), 'bad SUCCESS 200', 'SKIP asks nobody';
is ask('anonymous', 'bad'), 'guest FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 200',
    'anonymous: a client with a revoked certificate is anonymous';
is handshake('good'), 'good SUCCESS 200', 'handshake: a good certificate is accepted';
is handshake('bad'),  'FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 401',
    'handshake: a revoked certificate is refused';

# ---- what must not be believed -------------------------------------------------------------------

my $not_available = qr/certificate status not available \(certificate 1: CN=good,O=Test\): /;
my $signer = qr/it is signed neither by the certificate's issuer nor by a responder that the issuer has authorised/;
for my $case (
    ['no-usage',         $signer, 'a certificate of the issuer that is not for OCSP'],
    ['of-other',         $signer, 'a delegate of another trusted authority'],
    ['expired-delegate', $signer, 'a delegate whose certificate has expired'],
    ['other',            $signer, 'another trusted authority'],
    ['forged',           $signer, 'nobody: the signature is wrong'],
    ['expired',          qr/it has expired/, 'an answer that has expired'],
    ['early',            qr/it is not valid yet/, 'an answer of the future'],
    ['old-and-endless',  qr/it has expired/, 'an old answer without an end'],
    ['of-another',       qr/it is about another certificate/, 'an answer about another certificate'],
    ['other-nonce',      qr/its nonce is not that of the request/, 'an answer to another request'],
    ['garbage',          qr/it is no OCSP response/, 'an answer that is no OCSP response'],
    ['empty',            qr/it is no OCSP response/, 'an empty answer'],
    ['trailing',         qr/other bytes follow it/, 'an answer with other bytes behind it'],
    ['large',            qr/the body is too large/, 'an answer that is too large'],
    ['later',            qr/the responder says tryLater/, 'tryLater'],
    ['unauthorized',     qr/the responder says unauthorized/, 'unauthorized'],
    ['down',             qr/connection refused/, 'nothing: nobody listens'],
    ['silent',           qr/timeout/, 'nothing: the responder is silent'],
    ['dripping',         qr/timeout/, 'nothing: the responder sends a byte at a time'],
    ['endless_head',     qr/the head of the response is longer than/, 'headers without end'],
    ['endless_line',     qr/the head of the response is longer than/, 'a line without end'],
    ['no_http',          qr/it is no HTTP\/1 response/, 'no HTTP'],
    ['closed',           qr/the connection was closed too early/, 'nothing: the connection is closed'],
    ['cut',              qr/the connection was closed too early/, 'a part of a body'],
    ['two_lengths',      qr/the header content-length is there twice/, 'two lengths'],
    ['compressed',       qr/the body is compressed/, 'a compressed body'],
    ['redirect',         qr/it answers with status 302/, 'a redirect'],
    ['error',            qr/it answers with status 503/, 'status 503'],
    ['bad_chunk',        qr/a chunk has no length/, 'a chunk without a length'],
    ['wide_chunk',       qr/a chunk has no length/, 'a chunk with an absurd length'],
    ['name',             qr/no resolver defined to resolve/, 'nothing: there is no resolver'],
) {
    my ($responder, $reason, $what) = @$case;
    my $begin = time;
    like ask($responder, 'good'), qr/\AFAILED:$not_available.*$reason.* 401\z/, "STRICT refuses with: $what";
    is ask($responder, 'good', 'IGNORE_CA_ERROR'), 'good SUCCESS 200', "IGNORE_CA_ERROR accepts with: $what";
    cmp_ok time - $begin, '<', 5, 'in time';
}
like ask('own', 'silent-one'), qr/names neither an OCSP responder nor a distribution point with an http:\/\/ URL 401\z/,
    'STRICT refuses a certificate that names nobody to ask';
like ask('own', 'https-only'), qr/names neither an OCSP responder/, 'STRICT refuses a certificate with https:// only';
is ask('own', 'silent-one', 'IGNORE_CA_ERROR'), 'silent-one SUCCESS 200',
    'IGNORE_CA_ERROR accepts a certificate that names nobody to ask';
for my $responder (qw(fresh brief old-but-valid chunked until_closed)) {
    is ask($responder, 'good'), 'good SUCCESS 200', "an answer is accepted: $responder";
}

# ---- failures ------------------------------------------------------------------------------------

{
    my $begin = time;
    like ask('silent', 'good'), qr/timeout.*401/, 'a failure counts for a while' for 1 .. 5;
    cmp_ok time - $begin, '<', 1, 'and does not cost each request its time';
    my $lines = () = slurp("$folder/gateway.log") =~ m{\[error\].* revocation: \Q$url{down}\E: connection refused}g;
    is $lines, 1, 'a failure is logged once';
    like slurp("$folder/gateway.log"), qr{localhost:\d+: no resolver defined.* \(give the directive resolver},
        'the log says that names need a resolver';
}

like ask('hasty', 'good'), qr/timeout.*401/, 'a policy that has little time';
is ask('slow-for-some', 'good'), 'good SUCCESS 200', 'its failure is none of a policy that has more';

# ---- one request for all -------------------------------------------------------------------------

{
    my $config = join "next\n", map { <<"_EOC_" } 1 .. 200;
url = "http://a/?policy=slow&mode=STRICT&n=$_"
unix-socket = "$folder/gateway.sock"
header = "X-Client-Cert: $header{good}"
_EOC_
    write_to("$folder/curl.conf", $config);
    my $said = `curl -s -m 20 --parallel --parallel-max 200 -K $folder/curl.conf 2>/dev/null`;
    is scalar(() = $said =~ /^good SUCCESS$/mg), 200, 'all of 200 requests are accepted';
    is fetched('slow'), 1, 'two workers fetch one answer for 200 requests';
}

# ---- answers that are refreshed ------------------------------------------------------------------

{
    # It ends in six seconds.
    answer('short', ago => 54, minutes => 1);
    my %said = (ask('short', 'good') => 1);
    wait_until('the answer is fetched again', sub { $said{ ask('short', 'good') } = 1; fetched('short') >= 2 });
    is join(' | ', keys %said), 'good SUCCESS 200', 'an answer that is in use is fetched again before it ends';
}

# ---- authorities that are replaced ----------------------------------------------------------------

{
    my $chain = $header{below} . slurp("$pki/revoked-authority.crt") =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
    my $visit = sub {
        return curl('--unix-socket', "$folder/gateway.sock", '-H', "X-Client-Cert: $chain", 'http://a/?policy=moving&mode=STRICT');
    };
    is $visit->(), 'below SUCCESS 200', 'an authority that is trusted itself is not asked about';
    put_authority('root');
    my $log = sub { scalar(() = slurp("$folder/gateway.log") =~ /a store was read again: file "\S+moving.pem"/g) };
    # Both workers.
    wait_until('the new authorities', sub { $visit->(); $log->() >= 2 });
    is $visit->(), 'FAILED:certificate revoked (certificate 2: CN=revoked-authority,O=Test) 401',
        'it is, as soon as it is not trusted any more' for 1 .. 4;
}

# ---- answers that are sent again -----------------------------------------------------------------

{
    # Revoked two minutes ago, by an answer that ends in six seconds; then somebody on the way sends one of before.
    answer('back', ago => 114, minutes => 2, index => index_of('revoked.index', good => 0));
    my %said = (ask('back', 'good') => 1);
    answer('back', ago => 1200, minutes => 120);
    wait_until('the answer is fetched again', sub { $said{ ask('back', 'good', $_) } = 1 for @modes; fetched('back') >= 2 });
    $said{ ask('back', 'good', $_) } = 1 for @modes;
    set_clock(20);
    $said{ ask('back', 'good', $_) } = 1 for @modes;
    set_clock(0);
    is join(' | ', keys %said), 'FAILED:certificate revoked (certificate 1: CN=good,O=Test) 401',
        'an answer of before does not take back that a certificate is revoked';
    like slurp("$folder/gateway.log"), qr{revocation: \Q$url{back}\E: it is older than the answer before},
        'the log says so when the other has ended';
}

# ---- a reload, and a responder that comes back ---------------------------------------------------

{
    my $pid = open my $out, '-|', 'curl', '-s', '--unix-socket', "$folder/gateway.sock", '-H', "X-Client-Cert: $header{good}",
        'http://a/?policy=slow-again&mode=STRICT' or die $!;
    wait_until('the request', sub { fetched('slow-again') });
    reload('gateway');
    is scalar(<$out>), "good SUCCESS\n", 'a request that waits for an answer outlives a reload';
    close $out;
    answer('absent', minutes => 10);
    wait_until('the answer of a responder that comes back', sub { ask('absent', 'good') eq 'good SUCCESS 200' });
    pass 'an answer is fetched when the responder comes back';
}

# ---- the dict ------------------------------------------------------------------------------------

is ask('own-others', 'good'), 'good SUCCESS 200', 'another dict';
curl('--unix-socket', "$folder/gateway.sock", 'http://a/fill');
is ask('own-others', 'bad'), 'FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 401',
    'a full dict: a revoked certificate is refused';
is ask('others-fresh', 'good'), 'good SUCCESS 200', 'a full dict: a good certificate is accepted';
{
    my $before = fetched('fresh');
    curl('--unix-socket', "$folder/gateway.sock", 'http://a/flush');
    # The workers still have it, for a while.
    set_clock(2);
    is ask('others-fresh', 'good'), 'good SUCCESS 200', 'an empty dict: a good certificate is accepted';
    is fetched('fresh'), $before + 1, 'an empty dict: the answer is fetched again';
    set_clock(0);
}

# ---- without a dict ------------------------------------------------------------------------------

{
    my $before = fetched('fresh');
    is ask('alone', 'good'), 'good SUCCESS 200', 'without a dict: a good certificate is accepted' for 1 .. 10;
    my $more = fetched('fresh') - $before;
    ok $more >= 1 && $more <= 2, 'each worker asks once';
    is ask('alone-own', 'bad', $_), 'FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 401',
        "without a dict, $_: a revoked certificate is refused" for @modes;
}

# ---- the end of the responder, and the clock -----------------------------------------------------

stop_nginx('answers');
is ask($_, 'good'), 'good SUCCESS 200', "$_: an answer counts when its responder has gone" for qw(fresh old-but-valid);
set_clock(7200);
like ask($_, 'good'), qr/connection refused.* 401\z/, "$_: an answer counts no longer than it says" for qw(fresh old-but-valid);
is ask('fresh', 'good', 'IGNORE_CA_ERROR'), 'good SUCCESS 200', 'IGNORE_CA_ERROR accepts when an answer has ended';
is ask('own', 'bad', 'IGNORE_CA_ERROR'), 'FAILED:certificate revoked (certificate 1: CN=bad,O=Test) 401',
    'IGNORE_CA_ERROR refuses what was revoked when the answer has ended';
set_clock(-7200);
like ask('fresh', 'good'), qr/connection refused.* 401\z/, 'an answer does not count before it was made';
like ask('own', 'good'), qr/it is not valid yet: is the clock right\?.* 401\z/, 'an answer of the future does not count';
set_clock(0);
is ask('fresh', 'good'), 'good SUCCESS 200', 'the answer counts when the clock is right again';

my $log = slurp("$folder/gateway.log");
unlike $log, qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged';
like $log, qr/header_cert_auth: certificate revoked \(certificate 1: CN=bad,O=Test\), client/, 'the log says who is revoked';

done_testing();
