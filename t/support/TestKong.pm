# SPDX-License-Identifier: Apache-2.0

package TestKong;

# Shared by the test files of this project. Use it before TestHarness:
#
#     use lib 't/support';
#     use TestKong;
#     use TestHarness 'no_plan';
#
# It sets these variables, each only where the environment has none:
#
#     TEST_NGINX_LOAD_MODULES   the modules of Debian's nginx, and the one under test
#     TEST_NGINX_PKI            a folder of certificates, made by scripts/pki
#     TEST_NGINX_SUPPORT        the folder of the Lua modules in t/support/lua
#     TEST_NGINX_HTML_DIR       where user_files are
#     TEST_NGINX_SERVER_ROOT    the server root
#     TEST_NGINX_CLIENT_SOCKET  the process that runs programs for client.lua (see below)
#
# and lets the Lua code of nginx's workers read them. Blocks may have a section `exchanges`: see TestExchanges.pm.

use strict;
use warnings;

use Cwd ();
use Fcntl qw(:flock F_SETFD FD_CLOEXEC);
use File::Basename ();
use File::Path ();
use File::Spec ();
use File::Temp ();
use POSIX qw(:sys_wait_h);
use Socket qw(AF_UNIX SOCK_STREAM SOMAXCONN sockaddr_un);
use Time::HiRes ();

my $SOURCE = Cwd::abs_path(__FILE__);
my $ROOT = _plain_name(File::Basename::dirname(File::Basename::dirname(File::Basename::dirname($SOURCE))));
my $DEBIAN = '/usr/lib/nginx/modules';

my @FOR_LUA = map {"TEST_NGINX_$_"} qw(CLIENT_SOCKET HTML_DIR PKI SERVER_ROOT SUPPORT);

# Seconds to wait for what should happen at once: a busy machine may take long.
our $PATIENCE = 120;

my $ready;

sub import {
    my $caller = caller;
    {
        no strict 'refs';
        *{"${caller}::$_"} = \&{$_}
            for qw(http2_server keeps_by_default nginx_version project_root require_program skip_file slurp write_to);
    }
    return if $ready++;

    my @modules = grep {-f} map {"$DEBIAN/$_"} qw(ndk_http_module.so ngx_http_lua_module.so);
    $ENV{TEST_NGINX_LOAD_MODULES} = join ' ', @modules, "$ROOT/objs/ngx_http_kong_tls_module.so"
        unless defined $ENV{TEST_NGINX_LOAD_MODULES};
    $ENV{TEST_NGINX_SUPPORT} = "$ROOT/t/support/lua" unless defined $ENV{TEST_NGINX_SUPPORT};
    $ENV{TEST_NGINX_PKI} = _pki("$ROOT/target/pki") unless defined $ENV{TEST_NGINX_PKI};
    _start_runner() unless defined $ENV{TEST_NGINX_CLIENT_SOCKET};

    # Only now: this file is also a program (see below), which has no harness.
    require TestHarness;
    $ENV{TEST_NGINX_HTML_DIR} = TestHarness::html_dir() unless defined $ENV{TEST_NGINX_HTML_DIR};
    $ENV{TEST_NGINX_SERVER_ROOT} = TestHarness::server_root() unless defined $ENV{TEST_NGINX_SERVER_ROOT};
    TestHarness::env_to_nginx(@FOR_LUA);
    require TestExchanges;
    TestExchanges::install();
    return;
}

# Returns the folder of the project, by a name that needs no quotes in a configuration of nginx, or in a command.
sub project_root { return $ROOT }

# Returns a link to a folder whose own name has spaces in it, or other characters that mean something to nginx or a
# shell.
sub _plain_name {
    my ($root) = @_;
    return $root if $root !~ m{[^\w./+-]};
    my $folder = File::Temp::tempdir('kong-tls-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    # Workers run as another user.
    chmod 0755, $folder or die "$folder: $!\n";
    symlink $root, "$folder/project" or die "$folder/project: $!\n";
    return "$folder/project";
}

# Test files run at the same time: one of them makes the certificates, the others wait.
sub _pki {
    my ($folder) = @_;
    File::Path::make_path(File::Basename::dirname($folder));
    open my $lock, '>', "$folder.lock" or die "$folder.lock: $!\n";
    flock $lock, LOCK_EX or die "$folder.lock: $!\n";
    system("$ROOT/scripts/pki", $folder) == 0 or die "scripts/pki failed\n";
    return $folder;
}

# Skips the whole file if a program that it needs isn't installed. With TEST_NGINX_NO_SKIP set, as it should be
# wherever everything is installed, the file fails instead.
sub require_program {
    my @folders = (File::Spec->path, qw(/usr/local/sbin /usr/sbin /sbin));
    for my $name (@_) {
        next if grep { -x "$_/$name" && !-d "$_/$name" } @folders;
        die "$name is not installed\n" if $ENV{TEST_NGINX_NO_SKIP};
        skip_file("$name is not installed");
    }
    return;
}

# Skips the whole file.
sub skip_file {
    my ($reason) = @_;
    require Test::More;
    my $test = Test::More->builder;
    $test->plan(skip_all => $reason) unless $test->has_plan;
    $test->skip($reason);
    exit 0;
}

# ---- the nginx under test ------------------------------------------------------------------------

my $about;

# What `nginx -V` prints.
sub about_nginx {
    return $about //= do {
        local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
        my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
        my $said = `'$binary' -V 2>&1`;
        $? == 0 or die "there is no program $binary to test\n";
        $said;
    };
}

# Returns the version of nginx, numbered as nginx does it.
sub nginx_version {
    return sprintf '%d%03d%03d', about_nginx() =~ m{nginx/(\d+)\.(\d+)\.(\d+)};
}

# Returns what "listen" and the server need for HTTP/2: nginx 1.25.1 and later wants a directive.
sub http2_server {
    return nginx_version() >= 1_025_001 ? ('', 'http2 on;') : (' http2', '');
}

# Returns whether nginx keeps connections unless a block turns that off: 1.29.7 and later do.
sub keeps_by_default {
    return nginx_version() >= 1_029_007;
}

# ---- files ---------------------------------------------------------------------------------------

# For files that must exist, or must be written.

sub slurp {
    my ($path) = @_;
    open my $file, '<', $path or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

# Writes a file, and returns its path.
sub write_to {
    my ($path, $text) = @_;
    open my $file, '>:raw', $path or die "$path: $!\n";
    print $file $text;
    close $file or die "$path: $!\n";
    return $path;
}

# ---- running programs for client.lua -------------------------------------------------------------
#
# ngx.pipe needs an nginx patched by OpenResty, and a stock one has no other way to run a program
# without blocking its only worker. So a process next to nginx runs them: Lua connects to its
# socket, sends a command line, and gets the output when the program has ended. Closing the
# connection before that ends the program.
#
# Both directions are sequences of `<length>:<bytes>`. A request is timeout, stdin, number of words,
# words...; a reply is status of waitpid (or "timeout"), stdout, stderr.

my ($folder, $lifeline);

# Starts the process, which ends when its end of the lifeline is closed, however this one ends.
sub _start_runner {
    $folder = File::Temp::tempdir('runner-XXXXXXXX', TMPDIR => 1);
    my $path = "$folder/socket";

    socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
    bind($listener, sockaddr_un($path)) or die "bind $path: $!\n";
    chmod 0777, $path;    # workers may run as another user
    chmod 0755, $folder;
    listen($listener, SOMAXCONN) or die "listen: $!\n";
    pipe(my $life, $lifeline) or die "pipe: $!\n";

    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        # The runner gets the socket as its standard input, and nothing else of this process.
        setpgrp;
        open STDIN,  '<&', $listener   or POSIX::_exit(126);
        open STDOUT, '>',  '/dev/null' or POSIX::_exit(126);
        fcntl $life, F_SETFD, 0;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD __DIE__);
        exec {$^X} $^X, $SOURCE, '--run-programs', fileno $life, $folder or POSIX::_exit(127);
    }
    $ENV{TEST_NGINX_CLIENT_SOCKET} = $path;
    return;
}

sub _run_programs {
    my ($life_fd, $place) = @_;
    open my $life, '<&=', $life_fd or die "lifeline: $!\n";
    fcntl $life, F_SETFD, FD_CLOEXEC;
    open my $listener, '<&=', 0 or die "socket: $!\n";
    fcntl $listener, F_SETFD, FD_CLOEXEC;

    # Programs talk to nginx on this machine, whatever proxies the environment names.
    delete @ENV{ map { ($_, uc) } qw(http_proxy https_proxy all_proxy no_proxy) };
    $SIG{CHLD} = 'IGNORE';
    $SIG{PIPE} = 'IGNORE';

    while (1) {
        my $ready = _select({listener => $listener, life => $life}, undef);
        last if $ready->{life};
        accept my $connection, $listener or next;
        my $pid = fork;
        next if !defined $pid || $pid;
        $SIG{CHLD} = 'DEFAULT';
        eval { _serve($connection, $life); 1 } or print STDERR "client.lua: $@";
        POSIX::_exit(0);
    }
    File::Path::remove_tree($place);
    return;
}

# Returns which of the named handles can be read. Returns none when the time is over.
sub _select {
    my ($handles, $seconds) = @_;
    my $bits = '';
    vec($bits, fileno $_, 1) = 1 for values %$handles;
    my $found = select my $out = $bits, undef, undef, $seconds;
    return {} if $found <= 0;
    return {map { $_ => vec $out, fileno $handles->{$_}, 1 } keys %$handles};
}

sub _read_item {
    my ($connection, $buffer) = @_;
    my $item;
    until ($$buffer =~ /\A(\d+):/ && length $$buffer >= $1 + length "$1:") {
        sysread $connection, $$buffer, 65536, length $$buffer or die "incomplete request\n";
    }
    $$buffer =~ s/\A(\d+)://;
    $item = substr $$buffer, 0, $1, '';
    return $item;
}

sub _serve {
    my ($connection, $life) = @_;
    my $buffer = '';
    my ($timeout, $stdin, $count) = map { _read_item($connection, \$buffer) } 1 .. 3;
    my @command = map { _read_item($connection, \$buffer) } 1 .. $count;

    # The program can read a file at any time; a pipe would need another turn of the loop.
    my $input = File::Temp->new;
    print {$input} $stdin;
    $input->flush;
    seek $input, 0, 0;

    pipe(my $out, my $out_end) or die "pipe: $!\n";
    pipe(my $err, my $err_end) or die "pipe: $!\n";
    my $pid = fork;
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        setpgrp;
        $SIG{PIPE} = 'DEFAULT';
        open STDIN,  '<&', $input;
        open STDOUT, '>&', $out_end;
        open STDERR, '>&', $err_end;
        { no warnings 'exec'; exec {$command[0]} @command; }
        print STDERR "can't run $command[0]: $!\n";
        POSIX::_exit(127);
    }
    close $out_end;
    close $err_end;

    my $deadline = Time::HiRes::time() + $timeout;
    my %handles  = (out => $out, err => $err, connection => $connection, life => $life);
    my %text     = (out => '', err => '');
    my $status;
    while ($handles{out} || $handles{err}) {
        my $left = $deadline - Time::HiRes::time();
        if ($left <= 0) {
            $status = 'timeout';
            last;
        }
        my $ready = _select(\%handles, $left);
        if ($ready->{life} || $ready->{connection}) {    # the test has ended, or the caller has
            kill KILL => -$pid, $pid;
            return;
        }
        for my $name (grep { $ready->{$_} } qw(out err)) {
            sysread $handles{$name}, $text{$name}, 65536, length $text{$name}
                or delete $handles{$name};
        }
    }

    # The output may end before the program does.
    while (!defined $status) {
        if    (waitpid($pid, WNOHANG) == $pid)        { $status = $? }
        elsif (Time::HiRes::time() >= $deadline)      { $status = 'timeout' }
        else                                          { Time::HiRes::sleep(0.002) }
    }
    if ($status eq 'timeout') {
        kill KILL => -$pid, $pid;
        waitpid $pid, 0;
    }

    my $reply = join '', map { length($_) . ":$_" } $status, @text{qw(out err)};
    while (length $reply) {
        my $sent = syswrite $connection, $reply or last;
        substr($reply, 0, $sent) = '';
    }
    return;
}

if (!caller) {
    my ($mode, @arguments) = @ARGV;
    die "this is a module for tests\n" unless ($mode // '') eq '--run-programs';
    _run_programs(@arguments);
}

1;
