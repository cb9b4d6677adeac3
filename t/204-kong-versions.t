# SPDX-License-Identifier: Apache-2.0

# The tables of functions in docs/migrating name all functions that the module has, say of no other that it is there,
# and have the texts of Kong's errors in a test.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestReference;

use Test::More;

my %PAGES = (
    'kong.client.tls'      => ['kong',                  'kong.client.tls'],
    'kong.service'         => ['kong',                  'kong.service'],
    'kong.service.request' => ['kong',                  'kong.service.request'],
    'resty.kong.tls'       => ['lua-kong-nginx-module', 'resty.kong.tls'],
);

# Returns the rows of the table after the line that begins with a package: [function, version, here].
sub rows_of {
    my ($page, $package) = @_;
    my ($rest) = slurp("docs/migrating/$page.md") =~ /^(?:\| )?`\Q$package\E` (.*)/ms or return;
    my ($table) = $rest =~ /^\|---\|---\|---\|\n((?:\|[^\n]*\n)+)/m or return;
    return map { [/^\| `(\w+)` \| (.*?) \| (.*) \|$/] } split /\n/, $table;
}

my %facts = %{ facts() };
for my $package (sort keys %PAGES) {
    next if !$facts{$package};
    my @rows = rows_of(@{ $PAGES{$package} });
    cmp_ok scalar @rows, '>', 0, "$package has a table";
    my @names = map { $_->[0] } @rows;
    is_deeply [sort map { $_->[0] } grep { $_->[2] !~ /^no\b/ } @rows], [sort keys %{ $facts{$package} }],
        "the table of $package has all of its functions, and no others are there";
    my %seen;
    ok !(grep { $seen{$_}++ } @names), "the table of $package has each function once";
    for my $row (@rows) {
        like $row->[1], qr/^(?:-|Enterprise|(?:after )?\d+\.[\d.]+(?: to [\d.]+)?)$/, "$package.$row->[0]: a version";
    }
    # In the order of the versions, those without one last.
    my @versions = map { $_->[1] =~ /^(?:after )?([\d.]+)/ ? join('', map { sprintf '%03d', $_ } split /[.]/, $1) : '999' } @rows;
    is_deeply \@versions, [sort @versions], "the table of $package is in the order of the versions";
}

# Every text of lua-kong-nginx-module in the sources is in the test of the texts.
my $test = slurp('t/051-kong-texts.t');
my @texts = (slurp('src/lua/resty/kong/tls.lua') =~ /"((?:\w+ )+[^"]+)"/g);
cmp_ok scalar @texts, '>=', 13, 'resty.kong.tls has texts';
for my $text (@texts) {
    ok index($test, $text =~ s/ \z//r) >= 0, "t/051-kong-texts.t has \"$text\"";
}

done_testing;
