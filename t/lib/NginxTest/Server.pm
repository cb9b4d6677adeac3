# SPDX-License-Identifier: Apache-2.0

package NginxTest::Server;

# One running nginx: started in the foreground as a child of the test, so that nothing about its end
# can go unnoticed.

use strict;
use warnings;

use NginxTest::Util
    qw(add_cleanup_handler bail_out find_program read_file server_root time_scale valgrind_command
    wait_for);
use POSIX ':sys_wait_h';

# Seconds nginx may take to start, to end after QUIT, and to end after TERM.
my ($START, $QUIT, $TERM) = (60, $ENV{TEST_NGINX_STOP_WAIT} || 5, 1);

my %running;
add_cleanup_handler(sub { $_->_end_at_once for values %running });

sub binary {
    my $name = $ENV{TEST_NGINX_BINARY} || 'nginx';
    return find_program($name) || bail_out("there is no program $name to test");
}

# What `nginx -V` prints.
my $about;

sub about {
    return $about if defined $about;
    my $binary = binary();
    $about = `'$binary' -V 2>&1`;
    return $about;
}

# Starts nginx with conf/nginx.conf of the server root and returns at once; `valgrind => 0` never
# uses valgrind.
sub new {
    my ($class, %option) = @_;
    my $root = server_root();
    my $self = bless {
        pidfile  => "$root/logs/nginx.pid",
        log      => "$root/logs/error.log",
        stderr   => "$root/logs/stderr.log",
        valgrind => "$root/logs/valgrind.log",
    }, $class;

    my @command = (binary(), '-p', "$root/", '-c', "$root/conf/nginx.conf", '-e', $self->{log});
    unshift @command, valgrind_command($self->{valgrind}) unless defined $option{valgrind};

    my $pid = fork;
    bail_out("fork: $!") unless defined $pid;
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE __DIE__);
        setpgrp;
        open STDIN,  '<', '/dev/null';
        open STDERR, '>', $self->{stderr};
        open STDOUT, '>&', \*STDERR;
        exec {$command[0]} @command or POSIX::_exit(127);
    }

    $self->{pid} = $pid;
    $running{$pid} = $self;
    return $self;
}

# Returns whether nginx has ended; `end` then says how.
sub ended {
    my ($self) = @_;
    return 1 if defined $self->{status};
    my $got = waitpid $self->{pid}, WNOHANG;
    return 0 if $got == 0;
    $self->{status} = $got > 0 ? $? : -1;
    delete $running{ $self->{pid} };
    return 1;
}

sub signal    { return $_[0]{status} & 127 }
sub exit_code { return $_[0]{status} >> 8 }

# Returns how nginx ended, in words.
sub end {
    my ($self) = @_;
    return 'is running' unless $self->ended;
    return $self->signal
        ? 'was killed by signal ' . $self->signal
        : 'exited with status ' . $self->exit_code;
}

# Waits until nginx has started, and returns whether it has. nginx writes its pid file when it listens on every
# socket: connections are not refused from then on.
sub wait_started {
    my ($self) = @_;
    wait_for($START * time_scale(), sub { $self->ended || -s $self->{pidfile} });
    return !$self->ended && -s $self->{pidfile};
}

# For configurations that nginx must refuse. A pid file means that nginx has accepted the configuration; only the init
# handlers of a worker may still end it.
sub wait_ended {
    my ($self) = @_;
    wait_for($START * time_scale(), sub { $self->ended || -s $self->{pidfile} });
    wait_for(1 * time_scale(), sub { $self->ended });
    return $self->ended;
}

# Asks nginx to end and waits for it. Returns nothing when all went well, else what was wrong.
sub stop {
    my ($self) = @_;
    return $self->{status} ? 'nginx ' . $self->end : 'nginx ended before it was told to'
        if $self->ended;

    # nginx without a master can miss a signal that comes right before it waits for events: it notices only when
    # something wakes it. So the signal is repeated.
    my $again = 0;
    my $in_time = wait_for(
        $QUIT * time_scale(),
        sub {
            return 1 if $self->ended;
            kill QUIT => $self->{pid} if $again++ % 25 == 0;
            return 0;
        }
    );
    $self->_end_at_once unless $in_time;
    kill KILL => -$self->{pid};    # workers a dead master has left behind

    return 'nginx did not end on QUIT' unless $in_time;
    return 'nginx ' . $self->end if $self->{status} != 0;
    return;
}

sub _end_at_once {
    my ($self) = @_;
    return if $self->ended;
    kill TERM => $self->{pid};
    wait_for($TERM * time_scale(), sub { $self->ended });
    kill KILL => -$self->{pid};
    wait_for($TERM, sub { $self->ended });
    return;
}

# Returns what nginx wrote to the error log from `offset` on.
sub error_log { my ($self, $offset) = @_; return read_file($self->{log}, $offset) }
sub log_size  { my ($self) = @_; return -s $self->{log} || 0 }

# Returns what nginx itself, libraries, panics and sanitizers printed.
sub printed { my ($self) = @_; return read_file($self->{stderr}) }

sub valgrind_report { my ($self) = @_; return read_file($self->{valgrind}) }

1;
