# SPDX-License-Identifier: Apache-2.0

# The reference has all that the module has.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use Test::More;

my $reference = join '', map { slurp($_) } glob 'docs/reference/*.md';

# Checks that the text matches. Unlike "like", it doesn't print the whole text of a file if it doesn't.
sub contains {
    my ($text, $pattern, $what) = @_;
    return ok $text =~ $pattern, $what;
}

# The reference has every function of the Lua sources.
my %functions = map { $_ => 1 }
    slurp('src/lua/resty/kong/pdk.lua') =~ /^\s+(\w+) = public\(/mg;
my %documented = $reference =~ /^\| `(\w+)\(.*?\)` \| ([^|]*) \|/mg;
is_deeply [sort keys %documented], [sort keys %functions], 'each function of the PDK is in the reference';
my $types = slurp('types/kong.lua');

for my $name (slurp('src/lua/resty/kong/tls.lua') =~ /^\s+(\w+) = public\(/mg) {
    like $reference, qr/`$name`/, "the reference names $name";
    contains($types, qr/^function tls\.$name\(/m, "types/kong.lua has $name of resty.kong.tls");
}
for my $name (sort keys %functions) {
    contains($types, qr/^function (?:client_tls|service)\.$name\(/m, "types/kong.lua has $name");
}

# The tables have every function and method of these packages, in each way that Lua defines them, and each field.
for my $package ('x509', 'addresses') {
    my $source  = slurp("src/lua/resty/kong/$package.lua");
    my @methods = $source =~ /^(?:function M\.|(?:function )?\w*methods[.:])(\w+)(?:\(| = )/mg;
    push @methods, $1 =~ /(\w+) =/g while $source =~ /^local \w*methods = \{(.+)\}$/mg;
    cmp_ok @methods, '>=', 2, "resty.kong.$package has functions and methods";
    for my $name (@methods) {
        contains($reference, qr/^\|.*`(?:$package\.|\w+:)$name\b/m, "the reference has $name of resty.kong.$package");
        contains($types, qr/^function \w+[.:]$name\(/m, "types/kong.lua has $name of resty.kong.$package");
    }
}
my ($fields) = slurp('src/lua/resty/kong/x509.lua') =~ /^local CERTIFICATE_FIELDS = \{\n(.*?)^\}/ms;
my @fields = $fields =~ /^    (\w+) =/mg;
cmp_ok @fields, '>=', 7, 'a certificate has fields';
for my $name (@fields) {
    contains($reference, qr/`(?:certificate)?\.$name`/, "the reference has $name of a certificate");
    contains($types, qr/^---\@field $name\?? /m, "types/kong.lua has $name of a certificate");
}

# The tables have every directive and variable.
my %first_cells = map { $_ => 1 } join('', map { slurp("docs/reference/$_.md") } qw(directives variables)) =~ /^\| `(\$?kong_\w+)/mg;
my @directives = slurp('src/directives.rs') =~ /const NAME: &'static CStr = c"(\w+)"/g;
my @variables = map {"\$$_"} slurp('src/variables.rs') =~ /"(kong_\w+)"/g;
is_deeply [sort keys %first_cells], [sort @directives, @variables],
    'each directive and variable is in the reference';
ok @directives && @variables, 'the sources have directives and variables';

# docs/reference/metrics.md has every metric, with the values of its labels.
my $counters = slurp('src/status/counters.rs');
my $page = slurp('docs/reference/metrics.md');
my @families = $counters =~ /^        name: "(\w+)",$/mg;
my @metrics = $page =~ /^\| `kong_tls_(\w+)_total` \|/mg;
is_deeply \@metrics, \@families, 'each metric is in the table, in the order of the sources';
my ($caches) = $page =~ /^\| cache \|(.*?)\n\n/ms;
is_deeply [sort $caches =~ /^\| `(\w+)` \|/mg], [sort $counters =~ /\("(\w+)", Self::/g], 'each cache is in the table';
my %values = map { $_ => 1 } $counters =~ /\("(\w+)", Counter::/g;
like $page, qr/^\| `kong_tls_.*`$_`/m, "the table of metrics has the value $_" for sort keys %values;

done_testing();
