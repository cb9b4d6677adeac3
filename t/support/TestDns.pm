# SPDX-License-Identifier: Apache-2.0

package TestDns;

# Name servers for the tests, on ports of the loopback that the environment names:
#
#     TEST_NGINX_DNS_PORT         dnsmasq, with the names below
#     TEST_NGINX_SILENT_DNS_PORT  a server that never answers
#
#     service.test, a.test   127.0.0.1           aaaa.test   ::1
#     many.test              127.0.0.1 to .3     both.test   127.0.0.1 and ::1
#
# No other name below .test exists. Use it before TestHarness, like TestKong.

use strict;
use warnings;

use IO::Socket::INET ();
use POSIX ();
use Socket qw(SOCK_DGRAM);
use Time::HiRes ();

my @RECORDS = (
    'service.test,127.0.0.1', 'a.test,127.0.0.1',    'aaaa.test,::1', 'both.test,127.0.0.1,::1',
    'many.test,127.0.0.1',    'many.test,127.0.0.2', 'many.test,127.0.0.3',
);

my ($pid, $silent);
my $parent = $$;

sub import {
    return if $pid;
    # Another program may take the port between our choice and the start of dnsmasq.
    for (1 .. 10) {
        my $port = _port();
        $ENV{TEST_NGINX_DNS_PORT} = $port;
        $pid = _start($port);
        last if _answers_in_time($port);
        _stop();
    }
    die "dnsmasq did not start\n" unless $pid;

    $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp') or die "udp: $@\n";
    $ENV{TEST_NGINX_SILENT_DNS_PORT} = $silent->sockport;
    return;
}

sub _port {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp') or die "udp: $@\n";
    return $socket->sockport;
}

sub _start {
    my ($port) = @_;
    my $child = fork;
    die "fork: $!\n" unless defined $child;
    return $child if $child;

    # Whoever waits for the end of our output must not wait for a server that outlives us.
    open $_, '>', '/dev/null' or POSIX::_exit(126) for *STDOUT, *STDERR;
    local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
    exec 'dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--pid-file', "--port=$port",
        '--listen-address=127.0.0.1', '--bind-interfaces', '--no-resolv', '--no-hosts',
        '--user=' . getpwuid($>), '--log-facility=/dev/null', '--local=/test/',
        map {"--host-record=$_"} @RECORDS
        or POSIX::_exit(127);
}

sub _runs { return $pid && waitpid($pid, POSIX::WNOHANG()) == 0 }

sub _answers_in_time {
    my ($port) = @_;
    my $until = Time::HiRes::time() + 10;
    while (_runs() && Time::HiRes::time() < $until) {
        return 1 if _answers($port) && _runs();
        Time::HiRes::sleep(0.005);
    }
    return;
}

# Sends a query for the address of a.test (RFC 1035, section 4.1), and returns whether it is answered.
sub _answers {
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Proto => 'udp') or return;
    my $query = pack 'n6 (C/a)2 C n2', 1, 0x0100, 1, 0, 0, 0, 'a', 'test', 0, 1, 1;
    $socket->send($query) or return;
    vec(my $ready = '', fileno $socket, 1) = 1;
    return unless select $ready, undef, undef, 0.1;
    my $answer;
    return defined $socket->recv($answer, 512) && length $answer > length $query;
}

sub _stop {
    if ($pid) {
        kill TERM => $pid;
        waitpid $pid, 0;
    }
    undef $pid;
    return;
}

END {
    local $?;
    # Not in children of the test.
    _stop() if $$ == $parent;
}

1;
