# SPDX-License-Identifier: Apache-2.0

package NginxTest::Util;

# Settings of a test file, and what the harness needs from the system: a server root, free ports,
# the values of $TEST_NGINX_* variables, waiting for conditions, and cleaning up at the end.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Path ();
use File::Spec ();
use File::Temp ();
use NginxTest::Port qw(free_port);
use POSIX ();
use Test::More ();
use Time::HiRes ();

# What test files get, by way of NginxTest.
our @EXPORT = qw(
    add_block_preprocessor add_cleanup_handler add_response_body_check bail_out
    check_accum_error_log env_to_nginx html_dir log_level master_on master_process_enabled no_long_string no_plan no_root_location
    no_shuffle repeat_each server_addr server_port server_port_for_client server_root timeout
    worker_connections workers
);

our @EXPORT_OK = qw(
    expand_env find_program read_file setting time_scale valgrind_command wait_for write_file
);

# ---- settings ------------------------------------------------------------------------------------

my %setting = (
    accum_error_log    => 0,
    body_checks        => [],
    env                => [],
    log_level          => $ENV{TEST_NGINX_LOG_LEVEL} || 'debug',
    master             => ($ENV{TEST_NGINX_MASTER_PROCESS} || 'off') eq 'on',
    preprocessors      => [],
    repeat             => 1,
    root_location      => 1,
    timeout            => $ENV{TEST_NGINX_TIMEOUT} || 3,
    worker_connections => 64,
    workers            => 1,
);

# Returns the current value of a setting.
sub setting {
    my ($name) = @_;
    die "no setting '$name'" unless exists $setting{$name};
    return $setting{$name};
}

# Every setter also returns the value, and only returns it when called without an argument.
sub _access {
    my ($name, @value) = @_;
    $setting{$name} = $value[0] if @value;
    return $setting{$name};
}

sub repeat_each            { return _access(repeat             => @_) }
sub workers                { return _access(workers            => @_) }
sub worker_connections     { return _access(worker_connections => @_) }
sub log_level              { return _access(log_level          => @_) }
sub timeout                { return _access(timeout            => @_) }
sub master_on              { return _access(master             => 1) }
sub no_root_location       { return _access(root_location      => 0) }
sub check_accum_error_log  { return _access(accum_error_log    => 1) }
sub add_block_preprocessor { push @{ $setting{preprocessors} }, @_; return }
sub env_to_nginx           { push @{ $setting{env} },           @_; return }

# A check is called with the block, the body, and the index of the block's request that it answers.
sub add_response_body_check { push @{ $setting{body_checks} }, @_; return }

# nginx can only have several workers under a master.
sub master_process_enabled {
    my $on = _access(master => @_);
    return $on || $setting{workers} > 1;
}

# Blocks run in the order of the file and differences are printed in full: nothing to turn off.
sub no_shuffle     { return }
sub no_long_string { return }

sub no_plan {
    Test::More::plan('no_plan');
    return;
}

# ---- cleaning up ---------------------------------------------------------------------------------

my $owner = $$;
my @cleanup;

# Runs handlers once, last added first, when this process ends in any way that it can notice.
sub add_cleanup_handler { push @cleanup, @_; return }

sub cleanup {
    while (my $handler = pop @cleanup) {
        eval { $handler->(); 1 } or warn "cleanup: $@";
    }
    return;
}

sub bail_out {
    cleanup();
    Test::More::BAIL_OUT(join '', @_);
}

# A signal ends the test by way of END, which stops nginx.
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub {
        exit 130 if $$ == $owner;
        POSIX::_exit(130);
    };
}

END {
    if ($$ == $owner) {
        local ($?, $@, $!);
        cleanup();
    }
}

# ---- small helpers -------------------------------------------------------------------------------

# A missing file reads as an empty one.
sub read_file {
    my ($path, $offset) = @_;
    open my $file, '<:raw', $path or return '';
    seek $file, $offset, 0 if $offset;
    local $/;
    my $text = <$file>;
    return defined $text ? $text : '';
}

sub write_file {
    my ($path, $text) = @_;
    open my $file, '>:raw', $path or bail_out("can't write $path: $!");
    print {$file} $text;
    close $file or bail_out("can't write $path: $!");
    return;
}

sub find_program {
    my ($name) = @_;
    return -x $name ? Cwd::abs_path($name) : undef if $name =~ m{/};

    for my $folder (File::Spec->path, qw(/usr/local/sbin /usr/sbin /sbin)) {
        my $path = File::Spec->catfile($folder, $name);
        return $path if -x $path && !-d $path;
    }
    return;
}

# Everything is allowed to take longer under valgrind.
sub time_scale { return $ENV{TEST_NGINX_USE_VALGRIND} ? 20 : 1 }

# Calls the condition every few milliseconds until it holds, and returns what it returned. Returns the last (false)
# result when the time is over.
sub wait_for {
    my ($seconds, $condition) = @_;
    my $deadline = Time::HiRes::time() + $seconds;
    my ($over, $value);
    while (1) {
        $over  = Time::HiRes::time() >= $deadline;
        $value = $condition->();
        last if $value || $over;
        Time::HiRes::sleep(0.004);
    }
    return $value;
}

# Returns the words to put before nginx's command line, none unless valgrind is asked for.
sub valgrind_command {
    my ($log) = @_;
    my $options = $ENV{TEST_NGINX_USE_VALGRIND} or return;
    $options = '--tool=memcheck --leak-check=full' if $options =~ /\A\d+\z/;

    my $valgrind = find_program('valgrind') or bail_out('valgrind is not installed');
    my @suppressions =
        -f 'valgrind.suppress' ? '--suppressions=' . Cwd::abs_path('valgrind.suppress') : ();
    return ($valgrind, '-q', "--log-file=$log", '--child-silent-after-fork=yes',
        split(' ', $options), '--gen-suppressions=all', @suppressions);
}

# ---- ports ---------------------------------------------------------------------------------------

my $server_port = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT} || free_port();
my $client_port = $ENV{TEST_NGINX_CLIENT_PORT} || $ENV{TEST_NGINX_PORT} || $server_port;

sub server_addr            { return '127.0.0.1' }
sub server_port            { return $server_port }
sub server_port_for_client { return $client_port }

# ---- server root ---------------------------------------------------------------------------------

my $own_root = !$ENV{TEST_NGINX_SERVROOT} && !$^C;    # no folder for `perl -c`, which has no end
my $root =
    $own_root
    ? File::Temp::tempdir('nginx-test-XXXXXXXX', TMPDIR => 1)
    : File::Spec->rel2abs($ENV{TEST_NGINX_SERVROOT} || 't/servroot');

# A user other than root must be able to reach the files nginx serves.
chmod 0755, $root if $own_root;

sub server_root { return $root }
sub html_dir    { return "$root/html" }

# Added first, so it runs after nginx was stopped. A server root with failed blocks is kept.
add_cleanup_handler(
    sub {
        return unless $own_root && -d $root;
        if ($ENV{TEST_NGINX_NO_CLEAN} || -d "$root/failed") {
            Test::More::diag("server root kept: $root");
            return;
        }
        File::Path::remove_tree($root);
    }
);

# Makes an empty server root for the next block. Empties only a folder that was made here; records of failed blocks
# stay until the next run.
sub fresh_root {
    my @entries = glob "$root/*";
    bail_out("$root is neither empty nor a server root of an earlier test")
        if @entries && !-d "$root/logs" && !-d "$root/failed";

    File::Path::remove_tree(grep { $_ ne "$root/failed" } @entries);
    File::Path::make_path(map {"$root/$_"} qw(conf html logs tmp));
    return;
}

File::Path::remove_tree("$root/failed") unless $own_root || $^C;

# ---- $TEST_NGINX_* -------------------------------------------------------------------------------

# Replaces $TEST_NGINX_NAME and ${TEST_NGINX_NAME}. A numbered port is the same one in the whole file. A name without
# a value ends everything: half of a configuration tests nothing.
sub expand_env {
    my ($text) = @_;
    return $text unless defined $text && !ref $text;
    $text =~ s/\$(\{)?(TEST_NGINX_[A-Z0-9_]+)(?(1)\})/_value($2)/ge;
    return $text;
}

sub _value {
    my ($name) = @_;
    my %fixed = (
        TEST_NGINX_SERVER_PORT => $server_port,
        TEST_NGINX_CLIENT_PORT => $client_port,
        TEST_NGINX_PORT        => $server_port,
        TEST_NGINX_SERVER_ROOT => $root,
        TEST_NGINX_SERVROOT    => $root,
        TEST_NGINX_HTML_DIR    => html_dir(),
    );

    return $fixed{$name} if exists $fixed{$name};
    $ENV{$name} = free_port() if $name =~ /\ATEST_NGINX_RAND_PORT_\d+\z/ && !defined $ENV{$name};
    bail_out("the environment has no $name") unless defined $ENV{$name};
    return $ENV{$name};
}

1;
