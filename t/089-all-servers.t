# SPDX-License-Identifier: Apache-2.0

# ssl_certificate_by_lua* for all servers of a configuration, and reloads that change whether Lua code may request
# certificates.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('curl', 'nginx');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

sub configuration {
    my ($init, $more) = @_;
    my $server = "listen unix:$folder/gateway.sock ssl; ssl_certificate $pki/gateway.crt; ssl_certificate_key $pki/gateway.key;";
    return <<"_EOC_";
    init_by_lua_block { $init }
    ssl_certificate_by_lua_block { local nobody_is_asked_yet }
    server {
        $server
        server_name n.test;
        ssl_verify_client optional;
        ssl_client_certificate $pki/ca.crt;
        return 200 "\$ssl_client_verify\\n";
    }
    server {
        $server
        server_name a.test;
        return 200 "a.test: \$ssl_client_verify\\n";
    }
    $more
_EOC_
}

my @curl = ('curl', '-sk', '--max-time', 60, '--cert', "$pki/client1.crt", '--key', "$pki/client1.key");

# Requests a.test on a connection to n.test, where nginx requested the certificate, and returns the status.
sub elsewhere {
    return `@curl -o /dev/null -w '%{http_code}' --unix-socket $folder/gateway.sock -H Host:a.test https://n.test/`;
}

my $LIBRARY = 'require "resty.kong.tls"';

start_nginx('gateway', modules => 1, http => configuration($LIBRARY, ''));
is elsewhere(), 421, 'ssl_certificate_by_lua_block in http {} makes a request for another server a 421';

# The next configuration has no code that requests certificates, and is invalid.
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration('', 'ssl_session_cache nonsense;'));
kill 'HUP', master('gateway');
wait_until('a refused configuration', sub { slurp("$folder/gateway.log") =~ /invalid session cache "nonsense"/ });
my ($worker) = workers('gateway');
kill 'KILL', $worker;
wait_until('another worker', sub { my @now = workers('gateway'); @now && $now[0] != $worker });
wait_until('an answer', sub { elsewhere() ne '000' });
is elsewhere(), 421, 'a refused configuration changes nothing for new workers';

($worker) = workers('gateway');
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration('', ''));
kill 'HUP', master('gateway');
wait_until('another worker', sub { my @now = workers('gateway'); @now == 1 && $now[0] != $worker });
is elsewhere(), 200, 'a configuration without resty.kong.tls answers as nginx does';

($worker) = workers('gateway');
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration($LIBRARY, ''));
kill 'HUP', master('gateway');
wait_until('another worker', sub { my @now = workers('gateway'); @now == 1 && $now[0] != $worker });
is elsewhere(), 421, 'a configuration that loads resty.kong.tls again answers with 421';

done_testing();
