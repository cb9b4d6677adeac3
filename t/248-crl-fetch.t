# SPDX-License-Identifier: Apache-2.0

# revocation_check_mode with revocation lists (CRLs) of distribution points: which lists count, and which do not.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

require_program('curl', 'nginx', 'openssl');

my $folder = test_folder();
my $pki    = $ENV{TEST_NGINX_CERTIFICATES};
my ($port, $down) = free_ports(2);
mkdir "$folder/lists" or die $!;
chmod 0755, "$folder/lists";

# ---- certificates --------------------------------------------------------------------------------

my $number = 40_000;
sub self_signed {
    my ($name, $subject) = @_;
    my $said = `openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $pki/$name.key \\
        -days 4000 -subj /O=Test/CN=@{[$subject // $name]} -addext keyUsage=critical,keyCertSign,cRLSign -out $pki/$name.crt 2>&1`;
    die $said if $?;
    return;
}
sub points {
    my @urls = map { m{://} ? $_ : "http://127.0.0.1:$port/$_" } @_;
    return 'crlDistributionPoints=' . join ',', map {"URI:$_"} @urls;
}
my %serial;
sub certificate {
    my ($name, $issuer, $points, %of) = @_;
    $serial{$name} = ++$number;
    my @extensions = $of{authority} ? () : 'extendedKeyUsage=clientAuth';
    push @extensions, points(@$points) if @$points;
    push @extensions, @{ $of{extensions} // [] };
    return issue($name, subject => "/O=Test/CN=$name", issuer => $issuer, serial => $number,
        authority => $of{authority}, extensions => \@extensions);
}
self_signed('root');
self_signed('other');
# Another key, with the name of the authority.
self_signed('impostor', 'authority');
certificate('authority', 'root', ['root.crl'], authority => 1);
certificate('revoked-authority', 'root', ['root.crl'], authority => 1);
certificate('signs-nothing', 'root', ['root.crl'], authority => 1, extensions => ['keyUsage=critical,keyCertSign']);

# Makes a list. The dates are seconds from now; "extensions" are as in OpenSSL's configuration.
sub list {
    my ($name, $issuer, %of) = @_;
    my $path = "$pki/$name-list";
    mkdir $path;
    my $revoked = join '', map { join("\t", 'R', '490101000000Z', '260101000000Z', sprintf('%06X', $serial{$_}), 'unknown',
        "/O=Test/CN=$_") . "\n" } @{ $of{revokes} // [] };
    write_certificate_file("$name-list/index", $revoked . ($of{more} // ''));
    my $extensions = $of{extensions} ? "crl_extensions=of\n[of]\n" . join "\n", @{ $of{extensions} } : '';
    my $conf = write_certificate_file("$name-list/conf",
        "[ca]\ndefault_ca=it\n[it]\ndatabase=$path/index\ndefault_md=@{[$of{digest} // 'sha256']}\n$extensions\n");
    my ($from, $until) = map { strftime('%Y%m%d%H%M%SZ', gmtime(time + $_)) } $of{from} // -10, $of{until} // 86400;
    my $file = "$folder/lists/$name.crl";
    my $form = $of{der} ? "&& openssl crl -in $file.new -outform DER -out $file.der && mv $file.der $file.new" : '';
    my $said = `openssl ca -config $conf -cert $pki/$issuer.crt -keyfile $pki/$issuer.key -gencrl \\
        -crl_lastupdate $from -crl_nextupdate $until -out $file.new 2>&1 $form`;
    die $said if $?;
    chmod 0644, "$file.new";
    rename "$file.new", $file or die "$file: $!\n";
    return;
}
sub idp { return ('issuingDistributionPoint=critical,@idp', '[idp]', @_) }

my %list = (
    list        => [authority => revokes => ['bad'], der => 1],
    pem         => [authority => revokes => ['pem-bad']],
    root        => [root => revokes => ['revoked-authority']],
    below       => ['revoked-authority' => der => 1],
    foreign     => ['other'],
    impostor    => ['impostor'],
    unsigned    => ['signs-nothing'],
    expired     => [authority => from => -7200, until => -3600, revokes => ['expired-bad']],
    early       => [authority => from => 3600],
    weak        => [authority => digest => 'sha1'],
    delta       => [authority => extensions => ['2.5.29.27=critical,ASN1:INTEGER:1']],
    indirect    => [authority => extensions => [idp('indirectCRL=TRUE')]],
    authorities => [authority => extensions => [idp('onlyCA=TRUE')]],
    attributes  => [authority => extensions => [idp('onlyAA=TRUE')]],
    users       => [authority => revokes => ['users-bad'], extensions => [idp('onlyuser=TRUE')]],
    reasons     => [authority => extensions => [idp('onlysomereasons=keyCompromise')]],
    elsewhere   => [authority => extensions => [idp('fullname=URI:http://elsewhere.test/')]],
    itself      => [authority => extensions => [idp("fullname=URI:http://127.0.0.1:$port/itself.crl")]],
    critical    => [authority => extensions => ['1.2.3.4=critical,ASN1:NULL']],
    large       => [authority => revokes => ['large-bad'], der => 1,
                    more => join '', map { sprintf "R\t490101000000Z\t260101000000Z,keyCompromise\t%020X\tunknown\t/CN=x\n", 2**40 + $_ } 1 .. 260_000],
);
for my $name (sort keys %list) {
    my ($issuer, %of) = @{ $list{$name} };
    my $signer = $issuer eq 'impostor' || $issuer eq 'other' ? 'authority' : $issuer;
    certificate($name, $signer, ["$name.crl"]) if $name !~ /^(?:list|pem|root)$/;
    certificate("$name-bad", $signer, ["$name.crl"]) if grep { $_ eq "$name-bad" } @{ $of{revokes} // [] };
}
certificate($_, 'authority', ['list.crl']) for qw(good bad);
certificate('pem-good', 'authority', ['pem.crl']);
certificate('large-other', 'authority', ['large.crl']);
certificate('missing', 'authority', ['missing.crl']);
certificate('garbage', 'authority', ['garbage.crl']);
certificate('too-large', 'authority', ['too-large.crl']);
certificate('stream', 'authority', ['stream']);
certificate('redirected', 'authority', ['redirect/list.crl']);
certificate('loop', 'authority', ['loop']);
certificate('to-file', 'authority', ['to-file']);
certificate('second', 'authority', ['ldap://a.test/x', "http://127.0.0.1:$down/x", 'list.crl']);
certificate('no-http', 'authority', ['ldap://a.test/x']);
certificate('late', 'authority', ['late.crl']);
certificate('back', 'authority', ['back.crl']);
my $dead = "authorityInfoAccess=OCSP;URI:http://127.0.0.1:$down/";
certificate('both', 'authority', ['both.crl'], extensions => [$dead]);
certificate('both-bad', 'authority', ['both.crl'], extensions => [$dead]);
$list{both} = [authority => revokes => ['both-bad']];
list($_, @{ $list{$_} }) for sort keys %list;
write_to("$folder/lists/garbage.crl", "0\x03abc");
write_to("$folder/lists/too-large.crl", "\0" x (17 * 1024 * 1024));

write_certificate_file('ca.pem', join '', map { slurp("$pki/$_.crt") } qw(root other authority revoked-authority signs-nothing));

# ---- a server of lists, and a gateway ------------------------------------------------------------

start_nginx('lists', modules => 1, log => 'alert', http => <<"_EOC_");
    lua_shared_dict counts 1m;
    server {
        listen 127.0.0.1:$port;
        root $folder/lists;
        access_by_lua_block { ngx.shared.counts:incr(ngx.var.uri, 1, 0) }
        location /counts {
            content_by_lua_block { ngx.print(ngx.shared.counts:get(ngx.var.arg_of) or 0) }
        }
        location /redirect/ {
            return 302 ../list.crl;
        }
        location = /loop {
            return 302 /loop;
        }
        location = /to-file {
            return 302 file:///etc/passwd;
        }
        location = /stream {
            content_by_lua_block {
                for _ = 1, 1000 do
                    if not ngx.print(("x"):rep(65536)) or not ngx.flush(true) then break end
                end
            }
        }
    }
_EOC_

my @clients = map {qq{"$_"}} sort keys %serial;
start_nginx('gateway', modules => 1, log => 'info', workers => 2, http => <<"_EOC_");
    lua_shared_dict revocation 64m;
    lua_shared_dict small 1m;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local consumers = {}
        for _, name in ipairs { @{[join ', ', @clients]} } do
            table.insert(consumers, { name = name, common_name = name })
        end
        policies = {}
        local function add(name, mode, dict, more)
            policies[name] = assert(require("resty.kong.plugins.header_cert_auth").new {
                header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, ca = { file = "$pki/ca.pem" },
                consumers = consumers, revocation_check_mode = mode, revocation_dict = dict, http_timeout = 5000 })
        end
        add("STRICT", "STRICT", "revocation")
        add("IGNORE", "IGNORE_CA_ERROR", "revocation")
        add("SMALL", "STRICT", "small")
    }
    server {
        listen unix:$folder/gateway.sock;
        location / {
            access_by_lua_block { policies[ngx.var.arg_policy]:access() }
            content_by_lua_block {
                ngx.say(ngx.req.get_headers()["X-Consumer-Username"], " ", ngx.var.kong_client_verify)
            }
            error_page 401 = \@refused;
        }
        location = /ping {
            return 204;
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
sub header {
    my ($name) = @_;
    return slurp("$pki/$name.crt") =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
}
sub ask {
    my ($name, $policy) = @_;
    return curl('--unix-socket', "$folder/gateway.sock", '-H', 'X-Client-Cert: ' . header($name),
        'http://a/?policy=' . ($policy // 'STRICT'));
}
sub fetched {
    my ($list) = @_;
    return curl("http://127.0.0.1:$port/counts?of=/$list") =~ s/200\z//r;
}
sub revoked { return "FAILED:certificate revoked (certificate $_[1]: CN=$_[0],O=Test) 401" }

# ---- lists that count ----------------------------------------------------------------------------

for my $policy (qw(STRICT IGNORE)) {
    for my $name (qw(good pem-good users itself redirected second both)) {
        is ask($name, $policy), "$name SUCCESS 200", "$policy: accepted: $name";
    }
    for my $name (qw(bad pem-bad users-bad both-bad)) {
        is ask($name, $policy), revoked($name, 1), "$policy: refused, as it is revoked: $name";
    }
    is ask('below', $policy), revoked('revoked-authority', 2), "$policy: refused, as its authority is revoked";
}
is fetched('list.crl'), 3, 'a list is fetched once for each set of distribution points';

# ---- lists that do not count ---------------------------------------------------------------------

my $incomplete = qr/it is not a complete list of the certificate's issuer/;
for my $case (
    ['foreign',     $incomplete, 'of another authority'],
    ['impostor',    qr/CRL signature failure|$incomplete/, 'of another key with the name of the issuer'],
    ['unsigned',    qr/key usage does not include CRL signing/, 'of an issuer that may not sign lists'],
    ['expired',     qr/it has expired/, 'that has expired'],
    ['early',       qr/it is not valid yet/, 'of the future'],
    ['weak',        qr/it is signed with SHA-1/, 'that is signed with SHA-1'],
    ['delta',       qr/delta CRL/, 'with the changes to another one'],
    ['indirect',    $incomplete, 'with certificates of other issuers'],
    ['authorities', qr/different CRL scope|$incomplete/i, 'with authorities only'],
    ['attributes',  qr/different CRL scope|$incomplete/i, 'with attribute certificates only'],
    ['reasons',     $incomplete, 'for some reasons only'],
    ['elsewhere',   qr/different CRL scope|$incomplete/i, 'of another distribution point'],
    ['critical',    qr/unhandled critical CRL extension/, 'with a critical extension that is not known'],
    ['missing',     qr/it answers with status 404/, 'that is not there'],
    ['garbage',     qr/it is no revocation list/, 'that is none'],
    ['too-large',   qr/the body is too large/, 'that is too large'],
    ['stream',      qr/the body is too large/, 'without end'],
    ['loop',        qr/it redirects more than 3 times/, 'behind redirects without end'],
    ['to-file',     qr/redirect: the URL does not begin with http/, 'behind a redirect to a file'],
    ['no-http',     qr/names neither/, 'without an http:// URL'],
) {
    my ($name, $reason, $what) = @$case;
    like ask($name), qr/\AFAILED:certificate status not available \(certificate 1: CN=\Q$name\E,O=Test\): .*$reason.* 401\z/,
        "STRICT refuses with a list $what";
    is ask($name, 'IGNORE'), "$name SUCCESS 200", "IGNORE_CA_ERROR accepts with a list $what";
}

# ---- a large list --------------------------------------------------------------------------------

{
    cmp_ok -s "$folder/lists/large.crl", '>', 10_000_000, 'a list of 10 MB';
    my $header = header('large');
    write_to("$folder/curl.conf", join "next\n", map { <<"_EOC_" } 1 .. 100);
url = "http://a/?policy=STRICT&n=$_"
unix-socket = "$folder/gateway.sock"
header = "X-Client-Cert: $header"
_EOC_
    my $begin = time;
    my $said = `curl -s -m 20 --parallel --parallel-max 100 -K $folder/curl.conf 2>/dev/null`;
    diag sprintf 'a list of %d bytes: %.0f ms', -s "$folder/lists/large.crl", 1000 * (time - $begin) if $ENV{TEST_NGINX_TIMES};
    is scalar(() = $said =~ /^large SUCCESS$/mg), 100, 'a large list: all of 100 requests are accepted';
    for (1 .. 4) {
        is ask('large-bad'), revoked('large-bad', 1), 'a large list: a revoked certificate is refused';
        is ask('large-other'), 'large-other SUCCESS 200', 'a large list: another certificate is accepted';
    }
    is fetched('large.crl'), 1, 'a large list is fetched once, for all workers and certificates';
    like ask('large', 'SMALL'), qr/lua_shared_dict "small": no memory.* 401\z/, 'a dict that is too small for a list';
    like slurp("$folder/gateway.log"), qr/no memory \(make the lua_shared_dict of revocation_dict larger\)/, 'the log says what to do';
}

# ---- a list that is replaced ---------------------------------------------------------------------

{
    list('late', 'authority', until => 8);
    my %said = (ask('late') => 1);
    list('late', 'authority', until => 3600, revokes => ['late']);
    wait_until('the new list', sub { my $now = ask('late'); $said{$now} = 1; $now eq revoked('late', 1) });
    is join(' | ', sort keys %said), join(' | ', revoked('late', 1), 'late SUCCESS 200'),
        'a list that is replaced is fetched again before it ends';
}

{
    list('back', 'authority', from => -100, until => 8, revokes => ['back']);
    my %said = (ask('back') => 1);
    list('back', 'authority', from => -200, until => 3600);
    wait_until('the list of before', sub { $said{ ask('back') } = 1; fetched('back.crl') >= 2 });
    my $end = time + 10;
    wait_until('the end of the list', sub { $said{ ask('back', $_) } = 1 for qw(STRICT IGNORE); time > $end });
    is join(' | ', keys %said), revoked('back', 1), 'a list of before does not take back that a certificate is revoked';
}

my $log = slurp("$folder/gateway.log");
unlike $log, qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged';

done_testing();
