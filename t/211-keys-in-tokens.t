# SPDX-License-Identifier: Apache-2.0

# Keys that are in a token: resty.kong.x509.key { uri = ..., pin = ... }.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;
use TestTokens;

use Test::More;

require_program('nginx');
require_tokens();

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

make_token('one', '1111', ec => "$pki/client1.key", rsa => "$pki/client-rsa.key");
make_token('two', '2222', ec => "$pki/client2.key");
make_token('three', '3333', ec => "$pki/client1.key");

my $log = "$folder/gateway.log";

# Returns what was logged since this was last called.
my $seen = 0;
sub logged {
    my $text = slurp($log);
    my $new = substr $text, $seen;
    $seen = length $text;
    return $new;
}

# Returns the errors of the module among that, without what comes before and after.
sub errors {
    # With OpenSSL 3.5, nginx logs an error when a service has closed the connection first.
    my @lines = grep { !/SSL_shutdown\(\) failed/ } split /\n/, logged();
    my $before = qr/\[(?:error|crit|alert|emerg)\] \S+ (?:\*\d+ )?(?:\[lua\] \S+ (?:"[\w.]+"\]:\d+: \w+\(\): )?)?/;
    return join '', map { /$before(.*?)(?: while SSL .*|, client: .*)?$/ ? "$1\n" : () } @lines;
}

start_nginx('services', http => join '', map {<<"_EOC_"} 'TLSv1.2', 'TLSv1.3');
    server {
        listen unix:$folder/$_.sock ssl;
        ssl_protocols $_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        return 200 "\$ssl_client_s_dn \$connection_requests \$ssl_session_reused";
    }
_EOC_

my $init = <<'_EOC_';
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        x509 = require "resty.kong.x509"
        pki = require "pki"
        URI = "pkcs11:token=%s;object=%s"
        chain, key = {}, {}
        for name, place in pairs {
            client1 = { "one", "ec", "1111" }, ["client-rsa"] = { "one", "rsa", "1111" }, client2 = { "two", "ec", "2222" },
        } do
            chain[name] = assert(x509.chain(pki.read(name)))
            key[name] = assert(x509.key { uri = URI:format(place[1], place[2]), pin = place[3] })
            assert(key[name]:belongs_to(chain[name]))
        end
    }
_EOC_

sub gateway {
    my (%with) = @_;
    my $locations = join '', map {<<"_EOC_"} 'TLSv1.2', 'TLSv1.3';
        location /$_/ {
            access_by_lua_block {
                local name, other = ngx.var.arg_cert, ngx.var.arg_key or ngx.var.arg_cert
                local ok, err = kong.service.set_tls_cert_key(chain[name], key[other])
                if not ok then
                    ngx.log(ngx.ERR, "refused: ", err)
                    return ngx.exit(503)
                end
            }
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            keepalive_settings;
            proxy_pass https://$_;
        }
_EOC_
    my $keeps = $with{keeps} ? 'proxy_http_version 1.1; proxy_set_header Connection "";' : '';
    $locations =~ s/keepalive_settings;/$keeps/g;
    my $upstreams = join '', map {<<"_EOC_"} 'TLSv1.2', 'TLSv1.3';
    upstream $_ {
        server unix:$folder/$_.sock;
        @{[$with{keeps} ? 'kong_tls_keepalive 8;' : '']}
    }
_EOC_
    return (
        modules     => 1,
        main        => for_tokens() . "env TEST_NGINX_PKI;\n",
        environment => {environment_of_tokens(), TEST_NGINX_PKI => $pki},
        http        => ($with{init} // $init) . $upstreams . <<"_EOC_", %with);
    kong_tls_session_cache @{[$with{sessions} // 'off']};
    server {
        listen unix:$folder/gateway.sock;
$locations
        @{[$with{more} // '']}
    }
_EOC_
}

# Returns the status and the body of an answer of the gateway.
sub ask {
    my ($uri) = @_;
    my ($status, undef, $body) = http_get("$folder/gateway.sock", $uri);
    return defined $body && $status == 200 ? $body : $status;
}

my %SUBJECTS = (client1 => 'CN=client-1,O=Test', client2 => 'CN=client-2,O=Test', 'client-rsa' => 'CN=client-rsa,O=Test');


# Lets a test call something in a worker.
my $call = <<'_EOC_';
        location /call {
            content_by_lua_block {
                local call = assert(loadstring("return " .. ngx.unescape_uri(ngx.var.arg_call)))
                local ok, value, err = pcall(call)
                ngx.print((tostring(value == nil and err or value):gsub("^[^ ]*:%d+: ", ""):gsub(" 0x%x+$", "")))
            }
        }
_EOC_

sub call {
    my ($code) = @_;
    return ask('/call?call=' . $code =~ s/(\W)/sprintf '%%%02X', ord $1/ger);
}

# Calls x509.key in a worker.
sub key_of { return call("x509.key { $_[0] }") }

# ---- certificates, in two workers, before and after a reload -------------------------------------

start_nginx('gateway', gateway(workers => 2));
for my $time ('at first', 'after a reload') {
    for my $protocol ('TLSv1.2', 'TLSv1.3') {
        for my $name (sort keys %SUBJECTS) {
            for my $turn (1 .. 2) {
                for my $worker (workers('gateway')) {
                    alone('gateway', $worker, sub {
                        is ask("/$protocol/?cert=$name"), "$SUBJECTS{$name} 1 .", "$name, $protocol, $turn, $time";
                    });
                }
            }
            is ask("/$protocol/?cert=$name&key=$_"), 503, "$name with the key of $_ is refused, $time"
                for grep { $_ ne $name } sort keys %SUBJECTS;
        }
    }
    is errors(), "refused: key does not belong to the first certificate of chain\n" x 12, "... with one line for each, $time";
    reload('gateway') if $time eq 'at first';
}
stop_nginx('gateway');
unlike logged(), qr/exited on signal|\[(?:alert|emerg)\]/, 'nothing crashes at the end';

# ---- identities ----------------------------------------------------------------------------------

start_nginx('gateway', gateway(keeps => 1, init => $init =~ s/(\n    \}\n)\z/
        chain.file, key.file = chain.client1, assert(x509.key(pki.read("client1", ".key")))$1/r));
for my $protocol ('TLSv1.2', 'TLSv1.3') {
    is join(', ', map { ask("/$protocol/?cert=$_") } qw(client1 client2 client1 client2 file)),
        join(', ', map {"CN=client-$_ ."} '1,O=Test 1', '2,O=Test 1', '1,O=Test 2', '2,O=Test 2', '1,O=Test 3'),
        "each identity has a connection of its own, and the same key in a file is the same one: $protocol";
}
stop_nginx('gateway');
start_nginx('gateway', gateway(sessions => 'shared:sessions:1m'));
for my $protocol ('TLSv1.2', 'TLSv1.3') {
    is join(', ', map { ask("/$protocol/?cert=$_") } qw(client1 client2 client1 client2)),
        'CN=client-1,O=Test 1 ., CN=client-2,O=Test 1 ., CN=client-1,O=Test 1 r, CN=client-2,O=Test 1 r',
        "each identity resumes its own session: $protocol";
}
is errors(), '', '... without an error';
stop_nginx('gateway');

# ---- what x509.key says --------------------------------------------------------------------------

start_nginx('gateway', gateway(more => $call));
my $failed = 'ENGINE_load_private_key() failed';
my $absent = uses_engine() ? "it could not be opened: $failed (object not found; failed loading private key)"
    : 'there is no such token, or no such private key in it';
my $refused = uses_engine() ? "it could not be opened: $failed (PIN incorrect; failed loading private key)"
    : 'the token has refused the pin, or has no such private key';
my $again = 'the pin was refused before, and is not tried again: nginx must read its configuration anew';
my $unspecific = 'uri must name the token (token or serial) and the key (object or id)';
for (
    ['uri = "pkcs11:token=three;object=ec", pin = "secret-pin"',   $refused, 'a wrong pin'],
    ['uri = "pkcs11:token=three;object=ec", pin = "secret-pin"',   $again,   'the same again'],
    ['uri = "pkcs11:token=three;object=ec"',                       'pin is missing', 'no pin'],
    ['uri = "pkcs11:token=three;object=ec", pin = ""',             'pin must not be empty', 'an empty pin'],
    ['uri = "pkcs11:token=no;object=ec", pin = "secret-pin"',      $absent,  'no such token'],
    ['uri = "pkcs11:token=three;object=ec", pin = "3333"',         'userdata:', 'the right pin after wrong ones'],
    ['uri = "pkcs11:token=three;id=%01", pin = "3333"',            'userdata:', 'the same key by its id'],
    ['uri = "pkcs11:token=three;object=no", pin = "3333"',
        uses_engine() ? $absent : qr/^(?:\Q$absent\E|\Q$refused\E)$/, 'no such object'],
    ['uri = "pkcs11:token=three", pin = "3333"',                   $unspecific, 'no object'],
    ['uri = "pkcs11:object=ec", pin = "3333"',                     $unspecific, 'no token'],
    ['uri = "pkcs11:token=three;object=ec?pin-value=secret-pin"',  qr/^uri must have no attribute "pin-value": /, 'a pin in the URI'],
    ['uri = "pkcs11:token=three;object=ec;module-path=/x"',        qr/^uri must have no attribute "module-path": /, 'a library'],
    ['uri = "file:/etc/passwd"', 'uri must not name a file: read it, and give x509.key its text', 'a file'],
    ['uri = "/etc/passwd"',      'uri must begin with a scheme, such as "pkcs11:"', 'the name of a file'],
    ['uri = "other:x"', 'OpenSSL has no provider for the scheme "other": see openssl.cnf', 'another scheme'],
    ['url = "pkcs11:"', 'unknown option "url"; options are pin, uri: resty.kong.x509.key', 'an unknown option'],
    ['pin = "secret-pin"', 'uri must be a string: given nil: resty.kong.x509.key', 'no URI'],
    ['uri = "pkcs11:x", pin = 1234', 'pin must be a string: given a number: resty.kong.x509.key', 'a number as pin'],
) {
    my ($options, $expected, $what) = @$_;
    my $said = key_of($options);
    ref $expected ? like $said, $expected, $what : is $said, $expected, $what;
}
is call('x509.key({ uri = "pkcs11:token=three;object=ec" }, "secret-pin")'),
    'password is for a key in PEM; that of a token is pin, beside uri: resty.kong.x509.key', 'a pin in place of a password';
is call('x509.key({ uri = "pkcs11:token=three;object=ec", pin = "3333" }):belongs_to(chain.client1)'), 'true', 'belongs_to';
is call('x509.key({ uri = "pkcs11:token=three;object=ec", pin = "3333" }):belongs_to(chain.client2)'), 'false', '... not';
is errors(), '', 'x509.key logs nothing';
stop_nginx('gateway');
$seen = 0;
unlike logged(), qr/secret-pin|3333|2222|1111/, 'no pin is in the log';

# ---- the plugin services -------------------------------------------------------------------------

start_nginx('gateway', gateway(init => $init =~ s/(\n    \}\n)\z/
        P = os.getenv("TEST_NGINX_PKI") .. "\/"
        new = require("resty.kong.plugins.services").new
        function service(key) return { upstream = "TLSv1.3", verify = false, certificate = P .. "client1.crt", key = key } end
        key_one = { uri = "pkcs11:token=one;object=ec", pin = "1111" }
        services = assert(new { services = { one = service(key_one) } })
        lazy = assert(new { check = "used", services = {
            absent = service { uri = "pkcs11:token=one;object=no", pin = "1111" }, other = service { uri = "pkcs11:token=two;object=ec", pin = "2222" },
        } })$1/r, more => $call . <<'_EOC_'));
        location /services {
            access_by_lua_block { _G[ngx.var.arg_of]:access(ngx.var.arg_name) }
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_pass https://$kong_upstream_target;
        }
_EOC_
is ask('/services?of=services&name=one'), 'CN=client-1,O=Test 1 .', 'a service has a key in a token';
is errors(), '', '... without an error';
is ask('/services?of=lazy&name=absent'), 503, 'a service whose key is absent is refused';
like errors(), qr/\Aservices: "absent": key: .*\n\z/, '... with one line';
is ask('/services?of=lazy&name=other'), 503, 'a service whose key is another is refused';
is errors(), qq{services: "other": key: it does not belong to the certificate\n}, '... with one line';
is call('new { services = { x = service { pin = "1" } } }'), 'service "x": key: uri must be a string: given nil', 'no URI';
is call('new { services = { x = service { uri = "x:", pin = 1 } } }'),
    'service "x": key: pin must be a string: given a number', 'a number as pin';
is call('new { services = { x = service { uri = "x:", pen = 1 } } }'),
    'service "x": key: unknown option "pen"; options are pin, uri', 'an unknown option';
is call('new { services = { x = service { uri = "x:y" } } }'),
    'service "x": key: OpenSSL has no provider for the scheme "x": see openssl.cnf', 'an unknown scheme';
is call('new { defaults = { password = "x" }, services = { x = service(key_one) } }'),
    'service "x": password is for a key in PEM; that of a token is pin, beside uri', 'a password';
stop_nginx('gateway');

# ---- tokens that are gone ------------------------------------------------------------------------

# Whatever the library does, no request goes out without its certificate, and each that is refused has one line.
sub refused_or_shown {
    my ($what, $may_answer) = @_;
    for my $protocol ('TLSv1.3', 'TLSv1.2') {
        for my $name (sort keys %SUBJECTS) {
            for my $worker (workers('gateway')) {
                errors();
                my $answer = alone('gateway', $worker, sub { ask("/$protocol/?cert=$name") });
                my $errors = errors();
                if ($may_answer && $answer eq "$SUBJECTS{$name} 1 .") {
                    is $errors, '', "$what: $name has its certificate, $protocol";
                    next;
                }
                like $answer, qr/\A50[23]\z/, "$what: $name is refused, $protocol";
                like $errors, qr/\A(?:refused: key|upstream TLS handshake refused, .*: the key has failed to sign: ).*\n\z/,
                    "$what: $name has one line, $protocol";
            }
        }
    }
    return;
}

start_nginx('gateway', gateway(workers => 2, more => $call));
for my $name (sort keys %SUBJECTS) {
    for my $worker (workers('gateway')) {
        alone('gateway', $worker, sub { is ask("/TLSv1.3/?cert=$name"), "$SUBJECTS{$name} 1 .", "$name is used" });
    }
}
rename "$folder/tokens", "$folder/gone" or die $!;
refused_or_shown('gone while it is used', 1);
rename "$folder/gone", "$folder/tokens" or die $!;
reload('gateway');
rename "$folder/tokens", "$folder/gone" or die $!;
refused_or_shown('gone before it was used', 0);
like key_of('uri = "pkcs11:token=one;object=ec", pin = "1111"'), qr/userdata|could not be opened|no such token/, 'x509.key answers';
rename "$folder/gone", "$folder/tokens" or die $!;
reload('gateway');
is ask("/TLSv1.3/?cert=$_"), "$SUBJECTS{$_} 1 .", "after a reload, $_ is there again" for sort keys %SUBJECTS;
stop_nginx('gateway');

# ---- pins that are changed -----------------------------------------------------------------------

start_nginx('gateway', gateway(workers => 2));
change_pin('two', '2222', '4444');
for my $worker (workers('gateway')) {
    alone('gateway', $worker, sub {
        errors();
        my $answer = ask('/TLSv1.3/?cert=client2');
        my $errors = errors();
        # With SoftHSM, the engine uses the login of the process that has read the configuration.
        if (uses_engine() && $answer eq "$SUBJECTS{client2} 1 .") {
            pass 'the login is used on';
            return;
        }
        is $answer, 503, 'a pin that is refused refuses the request';
        is $errors, "refused: key: $refused\n", '... with one line';
        is ask('/TLSv1.3/?cert=client2'), 503, '... and the next';
        is errors(), "refused: key: $again\n", '... for which it is not tried';
    });
    is ask('/TLSv1.3/?cert=client1'), "$SUBJECTS{client1} 1 .", 'another token is not concerned';
}
change_pin('two', '4444', '2222');
reload('gateway');
errors();
is ask('/TLSv1.3/?cert=client2'), "$SUBJECTS{client2} 1 .", 'after a reload, the pin is tried again';
stop_nginx('gateway');

# ---- workers without their environment -----------------------------------------------------------

my %without = gateway();
$without{main} =~ s/^env SOFTHSM2_CONF;\n//m or die;
start_nginx('gateway', %without);
my $answer = ask('/TLSv1.3/?cert=client1');
ok $answer eq 503 || $answer eq "$SUBJECTS{client1} 1 .", 'without SOFTHSM2_CONF, the certificate is shown, or the request refused';
stop_nginx('gateway');

# ---- no library ----------------------------------------------------------------------------------

my %nothing = gateway(init => $init =~ s/for name, place in pairs \{.*\} do/for name, place in pairs {} do/sr =~ s/client1 = .*?,\n//r);
$nothing{environment}{OPENSSL_CONF} = '/dev/null';
$nothing{main} =~ s/^env OPENSSL_CONF;$/env OPENSSL_CONF=\/dev\/null; env OPENSSL_ENGINES=$folder;/m or die;
$nothing{http} .= "    server { listen unix:$folder/call.sock; $call }";
start_nginx('gateway', %nothing);
my (undef, undef, $said) = http_get("$folder/call.sock", '/call?call=' . 'x509.key{uri="pkcs11:token=one;object=ec",pin="1111"}' =~ s/(\W)/sprintf '%%%02X', ord $1/ger);
is $said, 'OpenSSL has no provider for the scheme "pkcs11", and no engine of this name: see openssl.cnf', 'without a library';
stop_nginx('gateway');

$seen = 0;
unlike logged(), qr/exited on signal|panic/, 'nothing has crashed';

done_testing;
