# SPDX-License-Identifier: Apache-2.0

package TestProcesses;

# Starts nginx with several processes, for tests of what happens to these. Each nginx has a name, and its files
# NAME.conf, NAME.log and NAME.pid in a folder that is removed with the test:
#
#     use TestProcesses;
#     my $folder = test_folder();
#     start_nginx('gateway', http => '...', modules => 1);
#     kill 'HUP', master('gateway');

use strict;
use warnings;

use TestKong;

use Exporter 'import';
use File::Spec ();
use File::Temp ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Time::HiRes ();

our @EXPORT = qw(alone configure_nginx free_ports has_ended http_get master may_be_gone reload resident start_nginx stop_nginx test_folder
    test_nginx wait_until workers);

$ENV{PATH} .= ':/usr/local/sbin:/usr/sbin:/sbin';

my $folder;
my $parent = $$;
my @started;

sub test_folder {
    return $folder //= do {
        my $made = File::Temp::tempdir('kong-tls-XXXXXXXX', TMPDIR => 1, CLEANUP => !$ENV{TEST_NGINX_NO_CLEAN});
        chmod 0755, $made or die "$made: $!\n";
        $made;
    };
}

# Returns this many ports that nobody listens on.
sub free_ports {
    my ($count) = @_;
    my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $@ } 1 .. $count;
    return map { $_->sockport } @sockets;
}

# Writes the configuration of an nginx with this "http" block. "modules" says whether to load the module under test,
# with the Lua modules of t/support/lua, or "others" for all modules but the one under test. "main" is for outside of
# the block.
sub configure_nginx {
    my ($name, %with) = @_;
    test_folder();
    my $which   = $with{modules} // '';
    my @modules = $which ? split(' ', $ENV{TEST_NGINX_LOAD_MODULES}) : ();
    @modules = grep { !/ngx_http_kong_tls_module/ } @modules if $which eq 'others';
    my $modules = join '', map {"load_module $_;\n"} @modules;
    my $lua = $which ? "lua_package_path '$ENV{TEST_NGINX_SUPPORT}/?.lua;;';" : '';
    my $user = $> == 0 ? "user @{[$with{user} // 'root']};\n" : '';
    return write_to("$folder/$name.conf", <<"_EOC_");
${modules}pid $folder/$name.pid;
error_log $folder/$name.log @{[$with{log} // 'error']};
${user}worker_processes @{[$with{workers} // 1]};
@{[$with{main} // '']}
events { worker_connections @{[$with{connections} // 2048]}; }
http {
    access_log off;
    $lua
$with{http}
}
_EOC_
}

# Writes such a configuration, and starts nginx, with these variables of the environment as well.
sub start_nginx {
    my ($name, %with) = @_;
    configure_nginx($name, %with);
    local %ENV = (%ENV, %{ $with{environment} // {} });
    system(_binary(), '-p', $folder, '-c', "$folder/$name.conf", '-e', "$folder/$name.log") == 0
        or die "nginx: status $?\n";
    push @started, $name;
    # nginx writes its pid file after the process that was started has ended.
    wait_until("workers of $name", sub { -s "$folder/$name.pid" && workers($name) == ($with{workers} // 1) });
    return;
}

# Returns whether `nginx -t` accepts such a configuration, and what it prints.
sub test_nginx {
    my ($name, %with) = @_;
    configure_nginx($name, %with);
    my $said = `@{[_binary()]} -t -p $folder -c $folder/$name.conf -e $folder/$name.log 2>&1`;
    return ($? == 0, $said);
}

# Returns the path of the binary, which a binary that is to be replaced must know.
sub _binary {
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};
    my ($found) = grep { -x && !-d } map {"$_/nginx"} File::Spec->path;
    return $found // die "nginx is not installed\n";
}

# Stops an nginx. Where its binary is being replaced, the old master ends first: it would start workers again.
sub stop_nginx {
    my ($name) = @_;
    for my $file ("$folder/$name.pid.oldbin", "$folder/$name.pid") {
        my ($pid) = may_be_gone($file) =~ /\A(\d+)$/m or next;
        kill 'TERM', $pid;
        my $until = Time::HiRes::time() + 10;
        Time::HiRes::sleep(0.01) until has_ended($pid) || Time::HiRes::time() > $until;
        kill 'KILL', workers($pid), $pid if !has_ended($pid);
    }
    return;
}

# Returns whether a process has ended, even if its parent has not been told yet.
sub has_ended {
    my ($pid) = @_;
    return may_be_gone("/proc/$pid/stat") !~ /\) [^XZ]/;
}

END {
    local $?;
    # Not in children of the test.
    if ($$ == $parent) {
        stop_nginx($_) for reverse @started;
    }
}

sub master {
    my ($name) = @_;
    return slurp("$folder/$name.pid") =~ /\A(\d+)$/m ? $1 : die "$name has no master\n";
}

# Returns the workers of an nginx, by its name or by the process id of its master.
sub workers {
    my ($of) = @_;
    my $master = $of =~ /\A\d+\z/ ? $of : master($of);
    # A new binary is a child of the old master.
    return grep { may_be_gone("/proc/$_/cmdline") =~ /\Anginx: worker/ }
        split ' ', may_be_gone("/proc/$master/task/$master/children");
}

# Returns the contents of a file that goes with a process; nothing if the process has gone.
sub may_be_gone {
    my ($path) = @_;
    open my $file, '<', $path or return '';
    local $/;
    return scalar(<$file>) // '';
}

# Returns how many kilobytes of memory a process has.
sub resident {
    my ($pid) = @_;
    return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : die "no process $pid\n";
}

# Requests a path of an nginx on a unix socket. Returns status, headers and body; or what went wrong.
sub http_get {
    my ($path, $uri) = @_;
    my $socket = IO::Socket::UNIX->new(Peer => $path) or return 'no connection';
    print $socket "GET $uri HTTP/1.0\r\nHost: x\r\n\r\n";
    my $answer = '';
    while (1) {
        vec(my $ready = '', fileno $socket, 1) = 1;
        select($ready, undef, undef, $TestKong::PATIENCE) or return 'hangs';
        sysread $socket, $answer, 65536, length $answer or last;
    }
    return $answer =~ m{\AHTTP/\S+ (\d+)(.*?)\r\n\r\n(.*)\z}s ? ($1, $2, $3) : "no answer: $answer";
}

# Makes the workers of an nginx other than this one wait while `what` runs: this one serves its requests. (Linux does not
# wake a worker up for a connection that has been stopped: it no longer waits in epoll_wait.)
sub alone {
    my ($name, $worker, $what) = @_;
    my @others = grep { $_ != $worker } workers($name);
    kill 'STOP', @others;
    wait_until('workers that wait', sub { !grep { may_be_gone("/proc/$_/stat") !~ /\) T/ } @others });
    my @result = $what->();
    kill 'CONT', @others;
    return wantarray ? @result : $result[0];
}

# Loads the configuration again, and waits until only new workers are there.
sub reload {
    my ($name) = @_;
    my %old = map { $_ => 1 } workers($name);
    my $count = keys %old;
    kill 'HUP', master($name);
    wait_until("new workers of $name", sub { my @now = workers($name); @now == $count && !grep { $old{$_} } @now });
    return;
}

# Waits until the condition holds, and dies if that takes too long.
sub wait_until {
    my ($what, $condition) = @_;
    my $until = Time::HiRes::time() + $TestKong::PATIENCE;
    until ($condition->()) {
        die "waited too long for $what\n" if Time::HiRes::time() > $until;
        Time::HiRes::sleep(0.005);
    }
    return 1;
}

1;
