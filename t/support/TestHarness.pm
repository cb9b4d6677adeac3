package TestHarness;

# What runs the blocks of the test files: NginxTest (in t/lib), or another harness with the interface of CPAN's
# Test::Nginx::Socket. TEST_NGINX_HARNESS in the environment is the name of its package.
#
#     use lib 't/support';
#     use TestService;
#     use TestHarness 'no_plan';
#
# gives a test file what the harness exports. A file for which only NginxTest will do says why, and is skipped with any
# other:
#
#     use TestHarness 'no_plan', needs => 'the harness itself is tested';

use strict;
use warnings;

use TestKong ();

use File::Temp ();

my $OWN = 'NginxTest';

my ($harness, @preprocessors);

sub import {
    my ($class, @words) = @_;
    my $why = @words > 1 && $words[-2] eq 'needs' ? (splice @words, -2)[1] : undef;
    my $name = name();
    TestKong::skip_file("not with $name: $why") if defined $why && $name ne $OWN;
    @_ = ($name, @words);
    # It must see the test file as its caller.
    goto &{ $name->can('import') };
}

# The name of its package, which is loaded.
sub name {
    return $harness if defined $harness;
    my $name = $ENV{TEST_NGINX_HARNESS} || $OWN;
    $name =~ /\A\w+(?:::\w+)*\z/ or die "TEST_NGINX_HARNESS is no name of a package: $name\n";

    # It reads the environment when it is loaded.
    $ENV{$_} //= $TestKong::PATIENCE for qw(TEST_NGINX_TIMEOUT TEST_NGINX_STOP_WAIT);
    # A line that isn't there is waited for in each test that fails.
    $ENV{TEST_NGINX_LOG_WAIT} //= $TestKong::PATIENCE / 4;
    _prepare_for_other() if $name ne $OWN;
    require(($name =~ s{::}{/}gr) . '.pm');
    _keep_order($name) if $name ne $OWN;
    return $harness = $name;
}

# What NginxTest does by itself: a folder and a port of its own, and blocks in the order of the file.
sub _prepare_for_other {
    require NginxTest::Port;
    $ENV{TEST_NGINX_SERVROOT} //= File::Temp::tempdir('nginx-test-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $ENV{TEST_NGINX_SERVROOT} or die "$ENV{TEST_NGINX_SERVROOT}: $!\n";
    $ENV{TEST_NGINX_SERVER_PORT} //= NginxTest::Port::free_port();
    $ENV{TEST_NGINX_CLIENT_PORT} //= $ENV{TEST_NGINX_SERVER_PORT};
    $ENV{TEST_NGINX_NO_SHUFFLE}  //= 1;
    return;
}

# The original runs first what was added last. But what a test file adds goes on from what t/support has made.
sub _keep_order {
    my ($name) = @_;
    $name->can('add_block_preprocessor')->(sub {
        my ($block) = @_;
        $_->($block) for @preprocessors;
    });
    no strict 'refs';
    no warnings qw(redefine prototype);
    *{"${name}::add_block_preprocessor"} = sub { push @preprocessors, @_; return };
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
