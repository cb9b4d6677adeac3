# SPDX-License-Identifier: Apache-2.0

# The examples of the reference are true. Lua code is executed, in a phase in which its function may be called, and
# configurations are read by nginx, which says about a wrong line what the reference says.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestHarness 'no_plan';
use TestKong;
use TestReference;

repeat_each(1);

# Returns the blocks of code of a text, in a language. File names are those of a folder "pki" in the examples.
sub blocks_of {
    my ($text, $language) = @_;
    return map {s{\bpki/}{$ENV{TEST_NGINX_PKI}/}gr} $text =~ /^```$language\n(.*?)^```$/msg;
}

sub code_of { return join "\n", blocks_of($_[0], 'lua') }

# ---- configurations ------------------------------------------------------------------------------

# Each is the content of http {}. Below a wrong line there is, after "#> ", what nginx says.
my ($right, $wrong) = (0, 0);
for my $page (reference_pages()) {
    for my $section (sections(slurp(reference_page($page)))) {
        my $title = $section->{title};
        for my $block (blocks_of($section->{text}, 'nginx')) {
            my @pairs = $block =~ /^(.*)\n#> (.*)\n/mg;
            if (!@pairs) {
                $right++;
                Test::More::unlike(nginx_says($block), qr/emerg|warn/,
                    "$page $title: nginx accepts the example");
            }
            while (my ($line, $message) = splice @pairs, 0, 2) {
                $wrong++;
                my $in = $line =~ /^kong_tls_keepalive/ ? 'upstream u { server 127.0.0.1; %s }'
                    : $line =~ /^kong_tls_status/ ? 'server { %s }' : '%s';
                my $said = nginx_says(sprintf $in, $line);
                Test::More::ok(index($said, "[emerg] ") >= 0 && index($said, $message) >= 0,
                    "$page $title: what nginx says about $line") or Test::More::diag($said);
            }
        }
    }
}
Test::More::cmp_ok($right, '>=', 8, 'configurations are read');
Test::More::cmp_ok($wrong, '>=', 15, 'wrong lines are read');

# ---- errors that no example makes ----------------------------------------------------------------

# "* `nil` and `words`" quotes an error whose cause no example has, such as a pointer to freed memory. Its words are in
# the sources; "..." and "<n>" stand for what differs.
my $sources = join '', map { slurp($_) } split /\n/, `find src -name '*.rs'`;
my @formats;
while ($sources =~ /(?:#\[error|format!)\(\s*"((?:[^"\\]|\\.)*)"/gs) {
    my $format = $1 =~ s/\\\n\s*//gr;
    push @formats, join '.*', map {quotemeta} split /\{[^}]*\}/, $format, -1;
}
my $formats = join '|', grep {/\w{4}/} @formats;
my $quoted = 0;
for my $page (reference_pages()) {
    for my $item (slurp(reference_page($page)) =~ /^\* (?:.* returns )?`nil` and (`.*(?:\n  .*)*)/mg) {
        for my $words ($item =~ /(?:\A|or )`([^`]+)`/g) {
            $quoted++;
            my $text = $words =~ s/\s+/ /gr =~ s/<n>/1/gr =~ s/\.\.\./x/gr;
            Test::More::ok($text =~ /\A(?:$formats)\z/, "$page: \"$words\" is an error of the sources");
        }
    }
}
Test::More::cmp_ok($quoted, '>=', 7, 'errors are looked up');

# ---- Lua code ------------------------------------------------------------------------------------

my $values = code_of(section_of(lua => 'Examples'));

# Each section with code is one example.
my (%files, @examples);
for my $page (grep { $_ ne 'resty.kong.testing' } reference_pages()) {
    for my $section (sections(slurp(reference_page($page)))) {
        next if "$page $section->{title}" eq 'lua Examples';
        my $code = code_of($section->{text}) or next;
        my ($phases) = $section->{text} =~ /^\* \*\*Phases:\*\* (.*)/m;
        my ($phase) = (($phases // '') =~ /\b(certificate|client_hello)\b/, 'access');
        my $number = @examples;
        $files{"$number.lua"} = $code;
        push @examples, { id => $number, phase => $phase, name => "$page $section->{title}" };
    }
}
Test::More::cmp_ok(scalar @examples, '>=', 12, 'the reference has examples');

my $user_files = join '', map {">>> $_\n$files{$_}"} sort keys %files;
my ($locations, $servers, $exchanges) = ('', '', '');
for my $example (@examples) {
    my ($id, $phase) = @$example{qw(id phase)};
    my $file = qq{"\$TEST_NGINX_HTML_DIR/$id.lua"};
    $exchanges .= "# $example->{name}\nGET /$id => ok\n";
    if ($phase eq 'access') {
        $locations .= <<"_EOC_";
    location = /$id {
        access_by_lua_block {
            ngx.say(examples.run($file))
            ngx.exit(200)
        }
    }
_EOC_
        next;
    }
    my $directive = "ssl_$phase" . '_by_lua_block';
    $servers .= <<"_EOC_";
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$id.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        $directive { examples.keep($id, $file) }
        location / {
            content_by_lua_block { ngx.say(examples.kept($id)) }
        }
    }
_EOC_
    $locations .= <<"_EOC_";
    location = /$id {
        content_by_lua_block {
            local socket = "\$TEST_NGINX_HTML_DIR/$id.sock"
            ngx.print(require("client").curl({ "-k", "--unix-socket", socket, "https://gateway.test/" }).out)
        }
    }
_EOC_
}

# The values of the examples are made when nginx starts, as the page says.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        examples = require "examples"
        examples.prepare("$TEST_NGINX_HTML_DIR/values.lua")
_EOC_
    $block->set_value('http_config', $config);
});

Test::Base::spec_string(<<"_EOC_");
=== TEST 1: the examples return what they say
--- http_config
    lua_shared_dict certificates 1m;
$servers
--- config
$locations
--- user_files
>>> values.lua
$values
$user_files
--- exchanges
$exchanges
--- no_error_log
[alert]
_EOC_
run_tests();
