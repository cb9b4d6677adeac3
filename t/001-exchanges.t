# SPDX-License-Identifier: Apache-2.0

# The "exchanges" section: the sections that it expands to, and the errors that it reports.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use Test::More;
use TestExchanges ();

my $LINES = "a \\S+\nb\n";
$ENV{TEST_NGINX_OF_EXCHANGES} = 'of the environment';

sub becomes {
    my ($what, $text, %sections) = @_;
    my $got = eval { TestExchanges::sections($text) };
    is_deeply $got, \%sections, $what or diag($@ || explain($got));
    return;
}

sub is_wrong {
    my ($text, $why) = @_;
    ok !eval { TestExchanges::sections($text) }, "exchanges are refused: $why";
    like $@, qr/\Q$why\E/, 'the error names the reason';
    return;
}

becomes 'a status becomes error_code',
    <<'_EOC_', request => ['GET /t', 'GET /u', 'HEAD /v HTTP/1.0'], error_code => [502, 200, 404];
GET /t           => 502
# A comment.
GET /u           => 200
HEAD /v HTTP/1.0 => 404
_EOC_

becomes 'a text becomes response_body',
    <<'_EOC_', request => [map {"GET /$_"} 1 .. 8], error_code => [(200) x 4, 201, (200) x 3],
GET /1 => one
GET /2 => "two"
GET /3 => three\nlines \\ \"and\" a\ttab
GET /4 => ""
GET /5 => 201 200
GET /6 =>
    # as it is \n
        indented
GET /7 => => =~ 7
GET /8 => $TEST_NGINX_OF_EXCHANGES, and $uri
_EOC_
    response_body => ["one\n", 'two', "three\nlines \\ \"and\" a\ttab\n", '', "200\n", "# as it is \\n\n    indented\n",
        "=> =~ 7\n", "of the environment, and \$uri\n"];

becomes 'regular expressions alone become response_body_like',
    <<'_EOC_', request => [map {"GET /$_"} 1 .. 6], error_code => [200, 404, 200, 502, 503, 200],
GET /1 => /^a\.b$/
GET /2 => 404 /a/b, [{]c} => "d" /is
GET /3 => /
    a \S+
    b
/
GET /4 => 502
GET /5 => 503 /
    a \S+
    b
\z/s
GET /6 => /^a /
_EOC_
    response_body_like => [qr/^a\.b$/, qr{(?is:a/b, [{]c} => "d" )}, qr/$LINES/, '', qr/(?s:$LINES\z)/, qr/^a /];

becomes 'regular expressions beside texts become response_body',
    <<'_EOC_', request => [map {"GET /$_"} 1 .. 3], error_code => [200, 200, 502],
GET /1 => one
GET /2 => /two/
GET /3 => 502
_EOC_
    response_body => ["one\n", qr/two/, qr/(?:)/];

becomes 'request headers become more_headers, request bodies stay in request',
    <<'_EOC_', request => ['GET /1', "POST /2\na {b: c} x 2", 'GET /3', 'GET /3'],
GET /1 {X-A: a; q=1} {X-B:} => 200
POST /2\na {b: c} x 2 x 1 => 200
GET /3 {X-C: c} x 2 => 200
_EOC_
    more_headers => ["X-A: a; q=1\nX-B:", '', 'X-C: c', 'X-C: c'], error_code => [(200) x 4];

becomes 'headers of an answer become response_headers',
    <<'_EOC_', request => [map {"GET /$_"} 1 .. 3], error_code => [200, 503, 200],
GET /1 => {X-A: a} {! X-B} yes
GET /2 => 503 {X-C: $TEST_NGINX_OF_EXCHANGES}
GET /3 => {"X-A": 1}
_EOC_
    response_headers => ["X-A: a\n! X-B", 'X-C: of the environment', ''],
    response_body => ["yes\n", qr/(?:)/, qq({"X-A": 1}\n)];

becomes 'loops are unrolled',
    <<'_EOC_', request => [map {"GET /$_"} qw(1 1/a 1/b 2 2/a 2/b)], error_code => [(200) x 6],
for $n, $what (1 one  2 "two and more")
    GET /$n => $what, $un
    # Within.
    for $letter (
        a
        b
    )
        GET /$n/$letter =>
            $letter of $n
_EOC_
    response_body => [map {("$_->[1], \$un\n", "a of $_->[0]\n", "b of $_->[0]\n")} [1, 'one'], [2, 'two and more']];

is_wrong '# none', 'there are none';
is_wrong 'GET /t', 'is no exchange';
is_wrong 'GET /t =>', 'says nothing of the answer';
is_wrong 'GET /t=> 200', 'is no exchange';
is_wrong 'GET t => 200', 'is no request';
is_wrong 'GET /t x2 => 200', 'is no request';
is_wrong 'GET /t {X-A} => 200', 'is no request';
is_wrong 'GET /t => /a', 'neither a text nor a regular expression';
is_wrong 'GET /t => //', 'neither a text nor a regular expression';
is_wrong 'GET /t => "a', 'neither a text nor a regular expression';
is_wrong 'GET /t => a\d', 'unknown escape';
is_wrong 'GET /t => $TEST_NGINX_OF_NOBODY', 'the environment has no TEST_NGINX_OF_NOBODY';
is_wrong "GET /t => a\n    b", 'there are lines below it';
is_wrong "GET /t => /\n    b\nGET /u => 200", 'has no end';
is_wrong "GET /t => 200 /\n/", 'has no end';
is_wrong "GET /t =>\n  b", 'not indented by four spaces';
is_wrong "    GET /t => a", 'is below nothing';
is_wrong 'for a (b)', 'is no loop';
is_wrong "for \$a (b)\nGET /t => 200", 'there is nothing below';
is_wrong "for \$a, \$b (c)\n    GET /t => 200", 'not as many words';
is_wrong "for \$a (\n    b\nGET /t => 200", 'has no end';

done_testing();
