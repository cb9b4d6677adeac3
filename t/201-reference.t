# SPDX-License-Identifier: Apache-2.0

# The reference has all that the module has, each under a heading of its own, and nothing else; and what it says about
# phases, contexts and metrics is what the running module says.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestReference;

use Test::More;

# `scripts/book --generate` runs this file to write the generated parts of the pages.
if ($ENV{TEST_NGINX_WRITE_REFERENCE}) {
    for my $page (reference_pages()) {
        my $text = slurp(reference_page($page));
        my $made = generated($page, $text);
        next if $made eq $text;
        write_to(reference_page($page), $made);
        diag "written: docs/reference/$page.md";
    }
}

for my $page (reference_pages()) {
    my $text = slurp(reference_page($page));
    my $made = generated($page, $text);
    ok $made eq $text, "the generated parts of docs/reference/$page.md are those of the module"
        or diag "scripts/book --generate writes them: ", difference($text, $made);
}

sub difference {
    my ($text, $made) = @_;
    my @lines = split /\n/, $text;
    my @new   = split /\n/, $made;
    for my $number (0 .. $#new) {
        my $old = $lines[$number] // '(nothing)';
        return "line @{[$number + 1]} is\n    $old\nand should be\n    $new[$number]" if $old ne $new[$number];
    }
    return 'lines are missing or in excess at the end';
}

# The titles of a page at one level of headings.
sub titles {
    my ($page, $level) = @_;
    return map { $_->{title} } grep { $_->{level} == $level } sections(slurp(reference_page($page)));
}

# Checks that the page has exactly these headings, besides those of `others`.
sub has_headings {
    my ($page, $level, $expected, @others) = @_;
    my %other = map { $_ => 1 } @others;
    cmp_ok scalar @$expected, '>', 0, "there is something to have on docs/reference/$page.md";
    return is_deeply [sort grep { !$other{$_} } titles($page, $level)], [sort @$expected],
        "docs/reference/$page.md has a heading for each";
}

# Checks that the text has lines that match; the text itself is too long to be shown.
sub contains {
    my ($text, $pattern, $what) = @_;
    return ok $text =~ $pattern, $what;
}

my %types = map { $_ => slurp($_) } split /\n/, `find types -name '*.lua'`;
my $types = join '', map { $types{$_} } sort keys %types;
my ($version) = slurp('Cargo.toml') =~ /^version = "(\d+\.\d+)/m;

# Checks the section of a function or method: it begins with its form, has the version since which it is there, and is
# in types/ with the same parameters.
sub describes_function {
    my ($page, $title, $form, $declared) = @_;
    my $text = section_of($page, $title) // '';
    my ($parameters) = $text =~ /\A\n`\Q$form\E\(([^`]*)\)` /
        or return fail("$page $title: it begins with `$form(...)`");
    contains($text, qr/^\* \*\*Since:\*\* \d+\.\d+$/m, "$page $title: it says since when");
    contains($text, qr/^```lua\n/m, "$page $title: it has an example") if $text !~ /\)` is(?: an older name of)?\s+\[/;
    my $names = join ', ', $parameters =~ /(\w+)/g;
    my ($in_types) = $types =~ /^function $declared\(([^)]*)\) end$/m
        or return fail("$page $title: it is in types/");
    return is $in_types, $names, "$page $title: types/ has the same parameters";
}

# ---- functions for requests ----------------------------------------------------------------------

my %facts = %{ facts() };
my @low_level = slurp('src/lua/resty/kong/tls.lua') =~ /^\s+(\w+) = public\(/mg;
is_deeply [sort keys %{ $facts{'resty.kong.tls'} }], [sort @low_level],
    'resty.kong.tls has the functions of its source';
my %in_types = (
    'kong.client.tls' => 'client_tls', 'kong.service' => 'service', 'kong.service.request' => 'request',
    'resty.kong.tls'  => 'tls',
);
for my $page (sort keys %in_types) {
    my @functions = sort keys %{ $facts{$page} };
    has_headings($page, 2, \@functions);
    my $prefix = $page eq 'resty.kong.tls' ? 'tls' : $page;
    for my $name (@functions) {
        contains(section_of($page, $name) // '', qr/^\* \*\*Phases:\*\* \w/m, "$page $name: it has its phases");
        describes_function($page, $name, "$prefix.$name", "\\w+\\.$name");
    }
}

# ---- packages ------------------------------------------------------------------------------------

# The functions and methods of a package, in each way that Lua defines them.
sub methods_of {
    my ($source) = @_;
    my @found = $source =~ /^(function M\.\w+|(?:function )?\w*methods[.:]\w+)(?:\(| = )/mg;
    while ($source =~ /^local (\w*methods) = \{(.+)\}$/mg) {
        my ($table, $fields) = ($1, $2);
        push @found, map {"$table.$_"} $fields =~ /(\w+) =/g;
    }
    return map {
        my ($table, $name) = /(\w+)[.:](\w+)$/;
        [$table eq 'M' ? '' : $table =~ s/_?methods//r, $name];
    } @found;
}

my $x509 = slurp('src/lua/resty/kong/x509.lua');
my ($fields) = $x509 =~ /^local CERTIFICATE_FIELDS = \{\n(.*?)^\}/ms;
my @fields = $fields =~ /^    (\w+) =/mg;
my @of_x509 = methods_of($x509);
my @functions = map { $_->[1] } grep { $_->[0] eq '' } @of_x509;
my @objects = ('Chain objects', 'Certificate objects', 'Key objects', 'Store objects');
has_headings('resty.kong.x509', 2, [@functions, 'addresses'], @objects);
has_headings('resty.kong.x509', 3, [@fields, map {"$_->[0]:$_->[1]"} grep { $_->[0] ne '' } @of_x509]);
for (@of_x509, ['', 'addresses']) {
    my ($object, $name) = @$_;
    describes_function('resty.kong.x509', $object eq '' ? $name : "$object:$name",
        $object eq '' ? "x509.$name" : "$object:$name", $object eq '' ? "x509\\.$name" : "$object:$name");
}
for my $name (@fields) {
    contains($types, qr/^---\@field $name\?? /m, "types/ has the field $name of a certificate");
    contains(section_of('resty.kong.x509', $name) // '', qr/^\* \*\*Type:\*\* \w+$/m, "$name: it has its type");
}

my @of_addresses = methods_of(slurp('src/lua/resty/kong/addresses.lua'));
has_headings('resty.kong.addresses', 2, [map { $_->[1] } @of_addresses]);
for (@of_addresses) {
    my ($object, $name) = @$_;
    describes_function('resty.kong.addresses', $name,
        $name eq 'new' ? "addresses.$name" : "list:$name", "\\w+[.:]$name");
}

my @of_sessions = methods_of(slurp('src/lua/resty/kong/sessions.lua'));
has_headings('resty.kong.sessions', 2, [map { $_->[1] } @of_sessions]);
describes_function('resty.kong.sessions', $_, "sessions.$_", "sessions\\.$_") for map { $_->[1] } @of_sessions;

# Each option of a store is in the list of parameters.
my ($store_options) = $x509 =~ /^local STORE_OPTIONS = \{\n(.*?)^\}/ms;
for my $option ($store_options =~ /(\w+) = "/g) {
    my $text = section_of('resty.kong.x509', 'store') // '';
    contains($text, qr/^\* `$option` \(/m, "x509.store: it has the option $option");
    contains($types, qr/\b$option\?: |^---\@field $option\? /m, "types/ has the option $option of x509.store");
}

# ---- plugins -------------------------------------------------------------------------------------

# Returns the fields of a Lua table in a source.
sub table_of {
    my ($source, $name) = @_;
    my ($text) = slurp("src/lua/resty/kong/plugins/$source.lua") =~ /^local $name = \{(.*?)\}$/ms
        or die "$source.lua has no table $name\n";
    return grep { $_ ne 'true' } $text =~ /(\w+) = /g;
}

my @common = (table_of('authentication', 'OPTIONS'), table_of('revocation', 'OPTIONS'));
my @services_fields = slurp('src/lua/resty/kong/plugins/services.lua') =~ /^local FIELDS = \{\n(.*?)^\}/ms;
my %options = (
    mtls_auth        => [@common, table_of('mtls_auth', 'OPTIONS')],
    header_cert_auth => [@common, table_of('header_cert_auth', 'OPTIONS')],
    services         => [table_of('services', 'OPTIONS'), $services_fields[0] =~ /^    (\w+) =/mg],
    sni              => ['dict'],
);
for my $plugin (sort keys %options) {
    my $page = "resty.kong.plugins.$plugin";
    my @methods = map { $_->[1] } methods_of(slurp("src/lua/resty/kong/plugins/$plugin.lua"));
    has_headings($page, 2, \@methods);
    has_headings($page, 3, $options{$plugin});
    for my $name (@methods) {
        my $text = section_of($page, $name) // '';
        my $form = $name eq 'new' ? "$plugin.new" : "${plugin}:$name";
        $form =~ s/^sni/certificates/ if $name ne 'new';
        contains($text, qr/\A\n`\Q$form\E\([^`]*\)` /, "$page $name: it begins with `$form(...)`");
        contains($text, qr/^\* \*\*Since:\*\* \d+\.\d+$/m, "$page $name: it says since when");
    }
    for my $name (@{ $options{$plugin} }) {
        my $text = section_of($page, $name) // '';
        contains($text, qr/^\* \*\*$_:\*\* \S/m, "$page $name: it has \"$_\"") for qw(Type Default Since);
    }
    my ($of_plugin) = grep {m{/plugins/$plugin\.lua\z}} keys %types;
SKIP: {
        skip "types/ does not describe plugins", scalar @{ $options{$plugin} } unless $of_plugin;
        my $all = $types{$of_plugin} . join '', map { $types{$_} } grep {m{/plugins/}} sort keys %types;
        contains($all, qr/^---\@field $_\?? /m, "types/ has the option $_ of $plugin") for @{ $options{$plugin} };
    }
}
my %listed = map { $_ => 1 } slurp(reference_page('plugins')) =~ /\(resty\.kong\.plugins\.(\w+)\.md\)/g;
is_deeply [sort keys %listed], [sort keys %options], 'docs/reference/plugins.md links to each plugin';

# ---- directives ----------------------------------------------------------------------------------

my @directives = sort keys %{ $facts{directives} };
has_headings('directives', 2, \@directives);
for my $name (@directives) {
    my $text = section_of('directives', $name) // '';
    contains($text, qr/^\* \*\*Syntax:\*\* `$name\b[^`]*;`/m, "$name: it has its syntax");
    contains($text, qr/^\* \*\*Default:\*\* (?:`$name\b[^`]*;`|none)$/m, "$name: it has its default");
    contains($text, qr/^\* \*\*Context:\*\* `/m, "$name: it has its context");
    contains($text, qr/^\* \*\*Since:\*\* \d+\.\d+$/m, "$name: it says since when");

    # The defaults are also directives that nginx accepts.
    my ($default) = $text =~ /^\* \*\*Default:\*\* `([^`]*)`/m;
    next unless defined $default;
    unlike nginx_says($default), qr/emerg/, "$name: nginx accepts its default";
}

# A location without verification is refused with "on", and not by default.
for my $with ('', 'kong_tls_certificate_verify off;', 'kong_tls_certificate_verify on;') {
    my $location = "location / { proxy_pass https://127.0.0.1; $with }";
    my $said = nginx_says("server { $location }");
    is $said =~ /emerg/ ? 1 : 0, $with =~ / on/ ? 1 : 0, "with \"$with\", an unverified location is as its page says";
}

# The defaults of numbers and times are in the sources in milliseconds.
sub seconds { my $product = 1; $product *= $_ for split /\s*\*\s*/, $_[0]; return $product / 1000 }
my ($entries, $timeout) = slurp('src/upstream/handshake/session_cache.rs')
    =~ /DEFAULT: Self =\s+Self \{ entries: NonZeroUsize::new\((\d+)\)\.unwrap\(\), timeout: ([\d *]+) \}/;
my ($zone_name, $megabytes) = slurp('src/session_zone/zone.rs')
    =~ /DEFAULT_NAME: .* = b"(\w+)";\nconst DEFAULT_SIZE: usize = (\d+) \* 1024 \* 1024;/;
my $session_cache = section_of('directives', 'kong_tls_session_cache') // '';
is sprintf('shared:%s:%dm timeout=%dm', $zone_name, $megabytes, seconds($timeout) / 60),
    $session_cache =~ /^\* \*\*Default:\*\* `kong_tls_session_cache (.*);`/m ? $1 : '',
    'kong_tls_session_cache: the default is that of the sources';
contains($session_cache, qr/\b@{[$entries =~ s{(?=\d{3}\z)}{,}r]} identities and addresses in each worker/,
    'kong_tls_session_cache: the number of entries of a worker is that of the sources');
my ($decoded, $bytes) = slurp('src/upstream/handshake/sessions.rs')
    =~ /^const DECODED: usize = (\d+);\nconst DECODED_BYTES: usize = (\d+) \* 1024 \* 1024;/m;
contains($session_cache, qr/the @{[$decoded =~ s{(?=\d{3}\z)}{,}r]} that it has used last, at most $bytes MB/,
    'kong_tls_session_cache: how many sessions a worker keeps in decoded form');
my %default = slurp('src/directives.rs') =~ /^        (timeout|requests|time): ([\d *]+),$/mg;
my $keepalive = section_of('directives', 'kong_tls_keepalive') // '';
my %shown = (
    timeout  => seconds($default{timeout}) . 's',
    requests => $default{requests},
    time     => seconds($default{time}) / 3600 . 'h',
);
for my $name (sort keys %shown) {
    contains($keepalive, qr/^\* `$name=\w+` \(default `$shown{$name}`\)/m,
        "kong_tls_keepalive: the default of $name is that of the sources");
}

# ---- variables -----------------------------------------------------------------------------------

my @variables = map {"\$$_"} slurp('src/variables.rs') =~ /"(kong_\w+)"/g;
has_headings('variables', 2, \@variables);
for my $name (titles('variables', 2)) {
    my $text = section_of('variables', $name) // '';
    contains($text, qr/^\* \*\*Since:\*\* \d+\.\d+$/m, "$name: it says since when");
    unlike nginx_says("server { return 200 $name; }"), qr/emerg/, "$name: nginx knows it";
}

# ---- metrics -------------------------------------------------------------------------------------

my %metrics = %{ $facts{metrics} };
has_headings('metrics', 2, [keys %metrics], 'Formats', 'Cache sizes', 'Access log');
for my $name (sort keys %metrics) {
    my $text = section_of('metrics', $name) // '';
    contains($text, qr/^\* \*\*$_:\*\* \S/m, "$name: it has \"$_\"") for grep {/^[A-Z]/} keys %{ $metrics{$name} };
    contains($text, qr/^\* \*\*Since:\*\* \d+\.\d+$/m, "$name: it says since when");
    # The caches have their own list.
    next if $text =~ /\]\(#cache-sizes\)/;
    my ($values) = $text =~ /^Values?:\n\n(.*)/ms;
    my %seen;
    my @expected = grep { !$seen{$_}++ } @{ $metrics{$name}{values} // [] };
    is_deeply [($values // '') =~ /^\* `(\w+)`: /mg], \@expected,
        "$name: it has the values of its label, in their order";
}
my @caches = @{ $metrics{kong_tls_cache_hits_total}{values} };
has_headings('metrics', 3, \@caches);
cmp_ok scalar @caches, '>=', 6, 'there are caches';

# Each version is one that there was.
for my $page (reference_pages()) {
    my @later = grep { $_ > $version } slurp(reference_page($page)) =~ /^\* \*\*Since:\*\* (\d+\.\d+)$/mg;
    is_deeply \@later, [], "docs/reference/$page.md names no version to come";
}

done_testing();
