# SPDX-License-Identifier: Apache-2.0

# The types of the Lua interface in types/, an addon for the Lua language server, as a type checker sees them.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use File::Find ();
use File::Temp ();
use JSON::PP ();
use Test::More;

# scripts/matrix sets this variable: the types are the same on all hosts.
skip_file("no type checker: $ENV{TEST_NGINX_NO_TYPE_CHECKER}") if $ENV{TEST_NGINX_NO_TYPE_CHECKER};
require_program('emmylua_check');

my $root = project_root();
my $addon = JSON::PP->new->decode(slurp('types/config.json'));
ok $addon->{words} && $addon->{settings}, 'types/config.json has what an addon needs';

# Runs the checker in a folder with these files, with the command and the settings that docs/guides/writing-a-plugin.md
# shows. Returns the findings by file: "line code message".
sub check {
    my (%files) = @_;
    my $folder = File::Temp::tempdir(CLEANUP => 1);
    my $guide = slurp('docs/guides/writing-a-plugin.md');
    my ($settings) = $guide =~ /^```json\n(.*?)^```$/ms;
    $settings =~ s{"[^"]*(/types/library")}{"$root$1} or die "there are no settings for an editor in the guide\n";
    my ($command) = $guide =~ /^\$ (emmylua_check .*) \.$/m or die "there is no command of the checker in the guide\n";
    write_to("$folder/.luarc.json", $settings);
    write_to("$folder/$_", $files{$_}) for keys %files;
    my $output = "$folder/output.json";
    my $said = `cd $folder && $command --severity warn -f json --output $output . 2>&1`;
    my %found;
    for my $file (@{ JSON::PP->new->decode(slurp($output)) }) {
        my $name = $file->{file} =~ s{.*/}{}r;
        my @found = map {
            my ($line, $text) = ($_->{range}{start}{line} + 1, $_->{message} =~ s/\s+\z//r);
            "$line $_->{code} $text"
        } @{ $file->{diagnostics} };
        $found{$name} = \@found;
    }
    return \%found;
}

# The checker has no file for this type of LuaJIT's; the Lua language server has.
my $luajit = "---\@meta _\n---\@class ffi.cdata*\n";

# The addon itself.
{
    my %library;
    # Without "@meta": the checker says nothing about files that have it.
    my $add = sub { $library{ s{.*/library/}{}r =~ tr{/}{.}r } = slurp($_) =~ s/^---\@meta.*//mr if -f };
    File::Find::find({ no_chdir => 1, wanted => $add }, 'types/library');
    cmp_ok keys %library, '>=', 9, 'there are at least nine files in types/library';
    my $found = check(%library, 'luajit.lua' => $luajit);
    # What concerns annotations. A function without a body returns nothing, and the rest is found twice.
    my $concerns = qr/^\d+ (?:syntax-error|doc-syntax-error|type-not-found|undefined-doc-param|unknown-doc-tag) /;
    is_deeply [grep { $_ =~ $concerns } @{ $found->{$_} }], [], "types/library: $_" for sort keys %library;
}

# Right uses.
my $right = slurp('t/support/types/right.lua');
my $found = check('right.lua' => $right);
is_deeply $found->{'right.lua'}, [], 'right uses have no findings';

# They use every function and method.
for my $file (glob 'types/library/*.lua types/library/resty/kong/*.lua types/library/resty/kong/plugins/*.lua') {
    for my $name (slurp($file) =~ /^function \w+([.:]\w+)\(/mg) {
        like $right, qr/\w\)?\Q$name\E\b/, "$file: $name is used";
    }
}

# The example of the guide, with its tests.
{
    my $plugin = slurp('nginx-conf/tenant.lua');
    my %tests = ('tenant_spec.lua' => slurp('nginx-conf/tenant_spec.lua'));
    my $example = check('tenant.lua' => $plugin, %tests);
    is_deeply $example, { 'tenant.lua' => [] }, 'the example of the guide has no findings, and its tests are left out'
        or diag explain $example;
    $example = check('tenant.lua' => $plugin =~ s/set_tls_verify\(true\)/set_tls_verify("on")/r, %tests);
    like "@{ $example->{'tenant.lua'} }", qr/param-type-mismatch/, 'a mistake in it is found';
}

# What the guide says is not found.
{
    my $unseen = slurp('t/support/types/unseen.lua');
    is_deeply check('unseen.lua' => $unseen)->{'unseen.lua'}, [], 'some mistakes are not found';
}

# Mistakes: each is found at its line, and nothing else.
{
    my $wrong = slurp('t/support/types/wrong.lua');
    my @lines = split /\n/, $wrong;
    my %expected = map { $lines[$_] =~ / -- ([a-z-]+)$/ ? ($_ + 1 => $1) : () } 0 .. $#lines;
    my @found = @{ check('wrong.lua' => $wrong)->{'wrong.lua'} };
    cmp_ok keys %expected, '>=', 8, 'there are at least eight mistakes';
    for my $line (sort { $a <=> $b } keys %expected) {
        my @here = grep {/^$line /} @found;
        ok scalar(grep {/^$line $expected{$line} /} @here), "line $line: $expected{$line}"
            or diag "$lines[$line - 1]\nfound: ", explain \@here;
    }
    my @others = grep { !$expected{ (split / /)[0] } } @found;
    is_deeply \@others, [], 'nothing else is found';
}

done_testing();
