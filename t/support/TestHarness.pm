# SPDX-License-Identifier: Apache-2.0

package TestHarness;

# Loads what runs the blocks of the test files: NginxTest (in t/lib), or another harness with the interface of CPAN's
# Test::Nginx::Socket. TEST_NGINX_HARNESS in the environment is the name of its package.
#
#     use lib 't/support';
#     use TestService;
#     use TestHarness 'no_plan';
#
# gives a test file what the harness exports. A file that needs NginxTest says why, and is skipped with any other
# harness:
#
#     use TestHarness 'no_plan', needs => 'the harness itself is tested';

use strict;
use warnings;

use TestKong ();

use File::Path ();
use File::Temp ();

my $OWN = 'NginxTest';

my ($harness, $root, @preprocessors);

sub import {
    my ($class, @words) = @_;
    my $why = @words > 1 && $words[-2] eq 'needs' ? (splice @words, -2)[1] : undef;
    my $name = name();
    TestKong::skip_file("not with $name: $why") if defined $why && $name ne $OWN;
    @_ = ($name, @words);
    # The harness must see the test file as its caller.
    goto &{ $name->can('import') };
}

# Returns the name of the harness's package, and loads it.
sub name {
    return $harness if defined $harness;
    my $name = $ENV{TEST_NGINX_HARNESS} || $OWN;
    $name =~ /\A\w+(?:::\w+)*\z/ or die "TEST_NGINX_HARNESS is no name of a package: $name\n";

    # The harness reads the environment when it is loaded.
    $ENV{$_} //= $TestKong::PATIENCE for qw(TEST_NGINX_TIMEOUT TEST_NGINX_STOP_WAIT);
    # Each test that fails waits for a line that isn't there.
    $ENV{TEST_NGINX_LOG_WAIT} //= $TestKong::PATIENCE / 4;
    _prepare_for_other() if $name ne $OWN;
    require(($name =~ s{::}{/}gr) . '.pm');
    _replace_functions($name) if $name ne $OWN;
    return $harness = $name;
}

# ---- other harnesses -----------------------------------------------------------------------------

# Does what NginxTest does by itself: a folder and a port of its own, and blocks in the order of the file.
sub _prepare_for_other {
    require NginxTest::Port;
    if (!defined $ENV{TEST_NGINX_SERVROOT}) {
        $root = File::Temp::tempdir('nginx-test-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
        chmod 0755, $root or die "$root: $!\n";
        $ENV{TEST_NGINX_SERVROOT} = $root;
    }
    $ENV{TEST_NGINX_SERVER_PORT} //= NginxTest::Port::free_port();
    $ENV{TEST_NGINX_CLIENT_PORT} //= $ENV{TEST_NGINX_SERVER_PORT};
    $ENV{TEST_NGINX_NO_SHUFFLE}  //= 1;
    return;
}

# The original runs the preprocessors that were added last first. But those of a test file build on those of
# t/support. And body checks know blocks by the names that they have in the file.
sub _replace_functions {
    my ($name) = @_;
    $name->can('add_block_preprocessor')->(sub {
        my ($block) = @_;
        $_->($block) for @preprocessors;
        _adapt($block);
    });
    my $add_check = $name->can('add_response_body_check');
    my %ours = (
        add_block_preprocessor  => sub { push @preprocessors, @_; return },
        add_response_body_check => sub { my ($check) = @_; return $add_check->(_by_name($check)) },
    );
    for my $function (sort keys %ours) {
        no strict 'refs';
        no warnings qw(redefine prototype);
        *{"${name}::$function"} = $ours{$function};
    }
    return;
}

sub _by_name {
    my ($check) = @_;
    return sub {
        my ($block, $body, $index, undef, $skipped) = @_;
        return if $skipped;
        # The preprocessors have run, and the name now begins with that of the file.
        local $block->{name} = [$block->name =~ s/\A\Q$0\E //r];
        return $check->($block, $body, $index);
    };
}

# Adapts a block to what the original does differently.
sub _adapt {
    my ($block) = @_;
    # The original removes its folder, and fails if the block before has left more than its own files there.
    File::Path::remove_tree(grep { !m{/(?:conf|html|logs|\w+_temp)\z} } glob "$root/*") if defined $root;
    # The end of the last line does not belong to a pattern.
    for my $section (qw(response_body_like response_body_unlike)) {
        my $pattern = $block->$section;
        $block->set_value($section, $pattern =~ s/\n\z//r) if defined $pattern && !ref $pattern;
    }
    # The original looks for all lines again after each of several requests.
    return if ref $block->request ne 'ARRAY' || @{ $block->request } < 2;
    my @logs = grep { defined $block->$_ } qw(error_log grep_error_log access_log);
    $block->set_value('skip_nginx', "1: > 0.0.1: @logs is of all requests of a block") if @logs;
    return;
}

# ---- for modules of t/support --------------------------------------------------------------------

sub add_block_preprocessor { return _call('add_block_preprocessor', @_) }
sub env_to_nginx           { return _call('env_to_nginx',           @_) }
sub html_dir               { return _call('html_dir') }
sub server_root            { return _call('server_root') }

# The original takes sections of any name.
sub add_section {
    my $add = name()->can('add_section') or return;
    return $add->(@_);
}

sub _call {
    my ($function, @arguments) = @_;
    return name()->can($function)->(@arguments);
}

1;
