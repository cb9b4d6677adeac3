# SPDX-License-Identifier: Apache-2.0

package TestTokens;

# Keys that are in tokens of SoftHSM, for tests of an nginx that uses them through what this OpenSSL has: the engine
# pkcs11 (libengine-pkcs11-openssl), or else the provider pkcs11 (pkcs11-provider). TEST_NGINX_PKCS11_PROVIDER is
# the path of a provider to be used in any case.
#
#     use TestTokens;
#     require_tokens();
#     my $token = make_token('one', '1234', ec => "$pki/client1.key");
#     start_nginx('gateway', main => for_tokens(), environment => { environment_of_tokens() }, ...);
#
# The keys are named pkcs11:token=one;object=ec and so on.

use strict;
use warnings;

use TestKong;
use TestProcesses;

use Exporter 'import';

our @EXPORT = qw(change_pin environment_of_tokens for_tokens make_token require_tokens uses_engine);

my ($library, $provider, $engine);

# Skips the whole file where there are no tokens, or nothing that makes OpenSSL use them.
sub require_tokens {
    require_program('softhsm2-util', 'pkcs11-tool', 'openssl');
    my %folders = `openssl version -e -m` =~ /^(\w+): "(.*)"$/mg;
    ($library) = grep {-f}
        glob '/usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so /usr/lib64/softhsm/*.so';
    ($engine)   = grep {-f} ($folders{ENGINESDIR} // '') . '/pkcs11.so';
    $engine     = undef if $ENV{TEST_NGINX_PKCS11_PROVIDER};
    # With the provider, OpenSSL may let the token do the work of others: see docs/limits.md.
    ($provider) = grep {-f} $ENV{TEST_NGINX_PKCS11_PROVIDER} || (), ($folders{MODULESDIR} // '') . '/pkcs11.so'
        if !$engine;
    if (!$library || !$provider && !$engine) {
        my $reason = $library ? 'OpenSSL has neither the provider nor the engine pkcs11' : 'there is no libsofthsm2.so';
        die "$reason\n" if $ENV{TEST_NGINX_NO_SKIP};
        skip_file($reason);
    }
    my $folder = test_folder();
    # Workers must be able to use the tokens, whoever they run as.
    umask 0;
    mkdir "$folder/tokens" or die "$folder/tokens: $!\n";
    write_to("$folder/softhsm2.conf", "directories.tokendir = $folder/tokens\nobjectstore.backend = file\n");
    write_to("$folder/openssl.cnf", $provider ? <<"_EOC_" : "# Nothing: OpenSSL finds the engine by itself.\n");
openssl_conf = all
[all]
providers = providers
alg_section = algorithms
[algorithms]
default_properties = ?provider=default
[providers]
default = default_provider
pkcs11 = pkcs11_provider
[default_provider]
activate = 1
[pkcs11_provider]
module = $provider
pkcs11-module-path = $library
pkcs11-module-quirks = no-deinit no-operation-state
activate = 1
_EOC_
    return;
}

sub uses_engine { return !$provider }

# Returns what nginx, and its workers after it, must have in their environment.
sub environment_of_tokens {
    my $folder = test_folder();
    return (
        SOFTHSM2_CONF      => "$folder/softhsm2.conf",
        OPENSSL_CONF       => "$folder/openssl.cnf",
        PKCS11_MODULE_PATH => $library,
    );
}

# Returns the directives that leave these to the workers: nginx removes all others.
sub for_tokens { return join '', map {"env $_;\n"} sort keys %{ { environment_of_tokens() } } }

# Makes a token with this label and pin, and keys from files, by their labels.
sub make_token {
    my ($label, $pin, @keys) = @_;
    my $folder = test_folder();
    _run('--init-token', '--free', '--label', $label, '--pin', $pin, '--so-pin', '99999999');
    my $number = 0;
    while (my ($name, $file) = splice @keys, 0, 2) {
        my $id = sprintf '%02x', ++$number;
        system('openssl', 'pkcs8', '-topk8', '-nocrypt', '-in', $file, '-out', "$folder/import.key") == 0 or die;
        _run('--import', "$folder/import.key", '--token', $label, '--label', $name, '--id', $id, '--pin', $pin);
    }
    return;
}

sub change_pin {
    my ($label, $old, $new) = @_;
    my @login = ('--token-label', $label, '--login', '--pin', $old);
    _call('pkcs11-tool', '--module', $library, @login, '--change-pin', '--new-pin', $new);
    return;
}

sub _run { return _call('softhsm2-util', @_) }

sub _call {
    my @words = @_;
    # SoftHSM itself uses OpenSSL, which must not use SoftHSM here.
    local %ENV = (%ENV, environment_of_tokens(), OPENSSL_CONF => "/dev/null");
    open my $said, '-|', @words or die "$words[0]: $!\n";
    my $text = join '', <$said>;
    close $said or die "@words: $text\n";
    return;
}

1;
