# SPDX-License-Identifier: Apache-2.0

# Where the module can't work, it is refused with one line, from the module, the dynamic loader, or nginx.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use File::Temp ();
use Test::More;

require_program('gcc', 'nginx');

my $folder = File::Temp::tempdir('refused-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my @modules = split ' ', $ENV{TEST_NGINX_LOAD_MODULES};
my ($ours) = grep {m{/ngx_http_kong_tls_module\.so$}} @modules;

# Returns the lines that `nginx -t` prints, without its verdict.
sub said {
    my ($preload, @load) = @_;
    my $modules = join '', map {"load_module $_;\n"} @load;
    my $configuration = write_to("$folder/nginx.conf", "${modules}pid $folder/nginx.pid;\nevents {}\nhttp {}\n");
    local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
    my $said = `LD_PRELOAD=$preload nginx -t -p $folder -c $configuration -e $folder/error.log 2>&1`;
    return grep { !/configuration file .* (?:test failed|syntax is ok|test is successful)$/ } split /^/, $said;
}

is join('', said('', @modules)), '', 'the module loads after the Lua module, without a message';

SKIP: {
    skip 'the Lua module is part of this nginx', 2 if @modules == 1;
    my @said = said('', $ours);
    is @said, 1, 'without the Lua module, nginx prints one line';
    like $said[0], qr/\[emerg\].* dlopen\(\).*undefined symbol: \w*lua/,
        'the line names an undefined Lua symbol, as in the README';

    @said = said('', $ours, grep { $_ ne $ours } @modules);
    is @said, 1, 'before the Lua module, nginx prints one line';
    like $said[0], qr/undefined symbol: \w*lua/, 'the line names an undefined Lua symbol';
}

# A library that reports another version of OpenSSL.
my $source = write_to("$folder/openssl.c", "unsigned long OpenSSL_version_num(void) { return 0x1010117fUL; }\n");
system('gcc', '-shared', '-fPIC', '-o', "$folder/openssl.so", $source) == 0 or die "gcc failed\n";
my @said = said("$folder/openssl.so", @modules);
is @said, 1, 'with another version of OpenSSL, nginx prints one line';
like $said[0], qr/\[emerg\].* this module was built for OpenSSL 3, and has got OpenSSL .*: build it with the OpenSSL that nginx has/,
    'the line says which OpenSSL the module needs';

# A module for another nginx: the build signature of nginx in the module's data is changed.
open my $file, '<:raw', $ours or die "$ours: $!\n";
my $image = do { local $/; <$file> };
ok $image =~ s/\b8,4,8,(?=[01]{20})/8,4,4,/, 'the module has the build signature of nginx';
open my $other, '>:raw', "$folder/other.so" or die $!;
print {$other} $image;
close $other or die $!;
@said = said('', (grep { $_ ne $ours } @modules), "$folder/other.so");
is @said, 1, 'a module for another nginx is refused with one line';
like $said[0], qr/\[emerg\].*module ".*other\.so" is not binary compatible/,
    "the line is nginx's error about binary compatibility";

done_testing();
