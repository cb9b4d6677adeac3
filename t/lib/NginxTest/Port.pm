# SPDX-License-Identifier: Apache-2.0

package NginxTest::Port;

# Free ports of the loopback for servers of a test file. Loads and creates nothing else.

use strict;
use warnings;

use Exporter 'import';
use Socket qw(PF_INET SOCK_STREAM SOL_SOCKET SO_REUSEADDR INADDR_ANY sockaddr_in);

our @EXPORT_OK = qw(free_port);

my @held;

# Returns a port that the kernel picks. The socket stays bound, without listening, as long as this process lives: no
# other program gets the port, while nginx, which sets SO_REUSEADDR, can listen on it again and again.
sub free_port {
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    bind($socket, sockaddr_in(0, INADDR_ANY)) or die "bind: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) or die "setsockopt: $!\n";
    push @held, $socket;
    return (sockaddr_in(getsockname $socket))[0];
}

1;
