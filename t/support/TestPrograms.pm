# SPDX-License-Identifier: Apache-2.0

package TestPrograms;

# Programs that run as long as a test: services other than nginx. Their output is in NAME.out in the folder of the
# test.
#
#     use TestPrograms;
#     start_program('s_server', sub { IO::Socket::UNIX->new("$folder/s.sock") }, 'openssl', 's_server', ...);

use strict;
use warnings;

use TestKong;
use TestProcesses;

use Exporter 'import';
use POSIX ();

our @EXPORT = qw(start_program start_s_server);

my @started;
my $parent = $$;

# Runs a command in the folder of the test, as long as this process lives, and returns when the command accepts
# connections.
sub start_program {
    my ($name, $connects, @command) = @_;
    my $folder = test_folder();
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__);
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', "$folder/$name.out";
        open STDERR, '>&', \*STDOUT;
        local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
        chdir $folder;
        # `timeout` ends the program, whatever happens to this process.
        exec 'timeout', 300, @command or POSIX::_exit(127);
    }
    push @started, $pid;
    return if eval { wait_until($name, $connects) };
    die "$name does not listen:\n", slurp("$folder/$name.out");
}

# Starts openssl s_server on the socket NAME.sock, with the certificate of service.test. It answers with a page.
sub start_s_server {
    my ($name, @options) = @_;
    my $socket = test_folder() . "/$name.sock";
    start_program($name, sub { IO::Socket::UNIX->new($socket) }, 'openssl', 's_server', '-unix', "$name.sock", '-www',
        '-cert', "$ENV{TEST_NGINX_PKI}/service.crt", '-key', "$ENV{TEST_NGINX_PKI}/service.key", @options);
    return $socket;
}

END {
    local $?;
    # Not in children of the test.
    if ($$ == $parent && @started) {
        kill 'TERM', @started;
        waitpid $_, 0 for @started;
    }
}

1;
