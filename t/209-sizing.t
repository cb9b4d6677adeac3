# SPDX-License-Identifier: Apache-2.0

# docs/operations/sizing.md: its figures are those of docs/performance.md, its sums are right, and its example is that
# of nginx-conf/sizing.conf.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use Test::More;

my $page = slurp('docs/operations/sizing.md');

# The memory of one, in KB, rounded to what the page says.
my $performance = slurp('docs/performance.md');
for (
    ['idle connection: `kong_tls_keepalive`', 0, qr/An idle connection takes about (\d+) KB/],
    ['request in flight: certificate set',    0, qr/A request in flight to a service takes about (\d+) KB/],
    ['session of another identity: cache',    2, qr/A session takes about (\d+) KB/],
) {
    my ($row, $column, $text) = @$_;
    my ($cells) = $performance =~ /^\| \Q$row\E[^|]*\|(.*)\|$/m or BAIL_OUT("docs/performance.md has no $row");
    my $measured = (split /\|/, $cells)[$column] / 1000;
    my ($said) = $page =~ $text;
    # A new measurement must not make this fail by its noise.
    cmp_ok abs($measured - $said), '<', 0.1 * $said, "the page says what was measured: $row";
}

# Sums: "1,000 × 3 = 3,000" with or without units.
my $sums = 0;
while ($page =~ /`([^`=]+) = ([^`]+)`/g) {
    my ($sum, $result) = ($1, $2);
    next if "$sum$result" =~ /[a-z_"{}]/;
    my ($left, $right) = map { s/,//gr =~ s/KB/* 1000/gr =~ s/MB/* 1000000/gr =~ s/×/*/gr } $sum, $result;
    die "not a sum: $left" if "$left$right" =~ m{[^\d*/+ ]};
    is eval $left, eval $right, "$sum = $result";    ## no critic (of numbers alone)
    $sums++;
}
cmp_ok $sums, '>=', 12, 'the page has at least 12 sums';

my $configuration = slurp('nginx-conf/sizing.conf');
my @fragments = $page =~ /^```nginx\n(.*?)^```$/msg;
is @fragments, 2, 'the page shows two parts of the configuration';
ok index($configuration, $_) >= 0, 'it is a part of nginx-conf/sizing.conf' for @fragments;
# The pairs, and the default timeout of sessions.
my ($pairs) = $page =~ /Pairs: `.* = ([\d,]+)`/;
$pairs =~ tr/,//d;
like $configuration, qr/kong_tls_session_cache $pairs;/, 'there is an entry for each pair';
like slurp('docs/reference/directives.md'), qr/timeout=5m/, 'sessions last for 300 seconds';

done_testing();
