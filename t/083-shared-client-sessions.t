# SPDX-License-Identifier: Apache-2.0

# Sessions of clients from which Lua code requested a certificate: each resumes in any worker, and after a reload if
# nothing has changed of what its client was asked with, with the whole chain of its first handshake.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

my @VERSIONS = qw(1.2 1.3);

# What is different in some tests, by default:
my %DEFAULT = (
    http    => '',
    init    => '',
    server  => '',
    ask     => 'assert(kong.client.tls.request_client_certificate(ca))',
    root    => "$pki/ca.crt",
    certificate => 'gateway',
    depth   => 3,
);

sub gateway {
    my %with = (%DEFAULT, @_);
    return <<"_EOC_";
    $with{http}
    init_by_lua_block {
        kong, x509 = require "resty.kong.pdk", require "resty.kong.x509"
        function read(path)
            local file = assert(io.open(path))
            local text = file:read("*a")
            file:close()
            return text
        end
        ca = assert(x509.chain(read("$with{root}")))
        $with{init}
    }
    server {
        listen unix:$folder/gateway.sock ssl;
        ssl_certificate $pki/$with{certificate}.crt;
        ssl_certificate_key $pki/$with{certificate}.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_depth $with{depth};
        $with{server}
        ssl_certificate_by_lua_block {
            $with{ask}
        }
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
    start_nginx('gateway', modules => 1, workers => 2, http => gateway(%with));
    return;
}

# Makes a connection, which offers the session in a file ("in"), or writes its own there ("out"). Returns whether it
# was resumed: "r" or ".", and what the gateway said.
sub connection {
    my (%with) = @_;
    my $worker = $with{worker};
    my @argv = ('openssl', 's_client', '-ign_eof', '-unix', "$folder/gateway.sock",
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

# ---- where nothing is shared ---------------------------------------------------------------------

start(http => 'kong_tls_session_cache 1024;');
($first, $second) = workers('gateway');

my $own = connection(worker => $first, out => 'own');
is connection(worker => $second, in => 'own'), $own, q{a worker does not know another one's chains};
is connection(worker => $first,  in => 'own'), $own =~ s/\A[.]/r/r, 'it knows its own';

done_testing();
