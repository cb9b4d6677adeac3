# SPDX-License-Identifier: Apache-2.0

# ssl_certificate_by_lua* for all servers of a configuration, and what a reload changes of whom Lua code may ask.

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

# The status of a request to another server than that whose client nginx has asked.
sub elsewhere {
    return `@curl -o /dev/null -w '%{http_code}' --unix-socket $folder/gateway.sock -H Host:a.test https://n.test/`;
}

my $LIBRARY = 'require "resty.kong.tls"';

start_nginx('gateway', modules => 1, http => configuration($LIBRARY, ''));
is elsewhere(), 421, 'where Lua code may ask in all servers, it may in each';

# The next one has nobody who asks, and is no good.
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration('', 'ssl_session_cache nonsense;'));
kill 'HUP', master('gateway');
wait_until('it is refused', sub { slurp("$folder/gateway.log") =~ /invalid session cache "nonsense"/ });
my ($worker) = workers('gateway');
kill 'KILL', $worker;
wait_until('there is another worker', sub { my @now = workers('gateway'); @now && $now[0] != $worker });
wait_until('it answers', sub { elsewhere() ne '000' });
is elsewhere(), 421, 'a configuration that was refused changes nothing for new workers';

($worker) = workers('gateway');
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration('', ''));
kill 'HUP', master('gateway');
wait_until('there is another worker', sub { my @now = workers('gateway'); @now == 1 && $now[0] != $worker });
is elsewhere(), 200, 'one in which nobody can ask is as nginx has it';

($worker) = workers('gateway');
TestProcesses::configure_nginx('gateway', modules => 1, http => configuration($LIBRARY, ''));
kill 'HUP', master('gateway');
wait_until('there is another worker', sub { my @now = workers('gateway'); @now == 1 && $now[0] != $worker });
is elsewhere(), 421, 'and one in which Lua code may ask again is guarded';

done_testing();
