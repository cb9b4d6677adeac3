# SPDX-License-Identifier: Apache-2.0

package TestExchanges;

# A section of a block with an exchange on each line, a request and the expected answer:
#
#     --- exchanges
#     GET /t?client=client1 => client=CN=client-1,O=Test reused=.
#     GET /plain            => 502
#
# instead of lists of requests, statuses and bodies, each in its own section. A line that begins with # is a comment.
#
# A request is a method and a path, and if need be: a version, a body after a \n, headers, and how often it is sent.
#
#     POST /form HTTP/1.0\na=b&c=d => 405
#     GET /t {Accept: text/html} {X-A: b} x 3 => 200
#
# An answer has at least one of these: a status (200 by default), headers, and a body. Without a body, any body is
# accepted. In headers and bodies, $TEST_NGINX_NAME is replaced from the environment.
#
#     => 404                          status
#     => 503 {X-Tries: 2} {! Server}  headers: the first has this value, the second is absent
#     => ok                           the whole body, with the end of its line
#     => 200 404 is a number          a body that begins like a status
#     => first\nsecond                two lines
#     => "ok"                         without the end of a line; "" is an empty body
#     => /^ok$/                       a regular expression, with Perl's flags
#     => 404 /not found/i
#     =>                              lines of the body
#         first
#         second
#     => /                            lines of a regular expression
#         first \S+
#         second
#     /                               (or \z/, or $/)
#
# A loop repeats the exchanges below it with different words, and may be within another loop:
#
#     for $name, $number (one 1  two 2  three 3)
#         GET /t?name=$name => $number
#     for $name (
#         one
#         "one and two"
#     )
#         GET /$name => 200
#
# All exchanges become the standard sections `request`, `more_headers`, `error_code`, `response_headers`, and
# `response_body` or `response_body_like`.

use strict;
use warnings;

use TestHarness ();

use Text::ParseWords qw(shellwords);

my @MADE = qw(request more_headers error_code response_headers response_body response_body_like);

sub install {
    TestHarness::add_section('exchanges');
    TestHarness::add_block_preprocessor(\&_expand);
    return;
}

sub _expand {
    my ($block) = @_;
    my $text = $block->exchanges;
    return unless defined $text;
    my $name = $block->name;
    for my $section (@MADE, 'raw_request') {
        die "$name: has both 'exchanges' and '$section'\n" if defined $block->$section;
    }
    my $sections = eval { sections($text) } or die "$name: exchanges: $@";
    $block->set_value($_, $sections->{$_}) for sort keys %$sections;
    return;
}

# Returns the standard sections for the text of an `exchanges` section.
sub sections {
    my ($text) = @_;
    my @exchanges = _read([grep {/\S/} split /\n/, $text]);
    die "there are none\n" unless @exchanges;
    my %sections = (
        request    => [map { $_->{request} } @exchanges],
        error_code => [map { $_->{status} } @exchanges],
    );
    for (['more_headers', 'request_headers'], ['response_headers', 'headers']) {
        my ($section, $field) = @$_;
        next unless grep { length $_->{$field} } @exchanges;
        $sections{$section} = [map { $_->{$field} } @exchanges];
    }

    my @bodies = map { $_->{body} } @exchanges;
    if (grep { defined && !ref } @bodies) {
        # A regular expression may take the place of a text. This one matches anything.
        $sections{response_body} = [map { $_ // qr/(?:)/ } @bodies];
    }
    elsif (grep {defined} @bodies) {
        $sections{response_body_like} = [map { $_ // '' } @bodies];
    }
    return \%sections;
}

# Takes all lines, and what is below each of them. The lines themselves are not indented.
sub _read {
    my ($lines) = @_;
    my @exchanges;
    while (defined(my $line = shift @$lines)) {
        next if $line =~ /\A#/;
        die "'$line' is below nothing\n" if $line =~ /\A\s/;
        push @exchanges, $line =~ /\Afor\s/ ? _loop($line, $lines) : _exchange(_whole($line, $lines));
    }
    return @exchanges;
}

# Takes what is below the line of an exchange: a whole body, or a whole regular expression.
sub _whole {
    my ($line, $lines) = @_;
    my @below = _below($lines);
    return ($line, join '', map {"$_\n"} @below)
        if $line !~ m{\s=>(?:\s+\d{3})?(?:\s+\{[^{}]*\})*\s+/\z};
    die "'$line' has no end\n" if !@below || !@$lines || $lines->[0] !~ m{\A(?:\\z|\$)?/[imsx]*\z};
    return $line . join('', map {"$_\n"} @below) . shift @$lines;
}

# Takes the lines that are indented, and returns them without the indentation.
sub _below {
    my ($lines) = @_;
    my @below;
    while (@$lines && $lines->[0] =~ /\A\s/) {
        $lines->[0] =~ /\A {4}/ or die "'$lines->[0]' is not indented by four spaces\n";
        push @below, substr shift @$lines, 4;
    }
    return @below;
}

sub _loop {
    my ($line, $lines) = @_;
    my ($names, $words) = $line =~ /\Afor (\$\w+(?:, \$\w+)*) \((.*)\z/ or die "'$line' is no loop\n";
    my @names = $names =~ /\$(\w+)/g;
    if ($words !~ s/\)\z//) {
        $words = join ' ', $words, _below($lines);
        die "'$line' has no end\n" if !@$lines || shift @$lines ne ')';
    }
    my @words = shellwords($words);
    my @below = _below($lines);
    die "'$line' has not as many words as it needs\n" if !@words || @words % @names;
    die "there is nothing below '$line'\n" unless @below;

    my @exchanges;
    while (my @values = splice @words, 0, scalar @names) {
        my %value;
        @value{@names} = @values;
        push @exchanges, _read([map { s/\$(\w+)/$value{$1} \/\/ "\$$1"/ger } @below]);
    }
    return @exchanges;
}

sub _exchange {
    my ($line, $below) = @_;
    my ($request, $answer) = $line =~ /\A(\S.*?)\s+=>(?:\s+(.*?))?\s*\z/s or die "'$line' is no exchange\n";
    my $count = $request =~ s/\s+x\s+(\d+)\z// ? $1 : 1;
    my @request_headers;
    unshift @request_headers, $1 while $request =~ s/\s+\{([\w-]+:[^{}]*)\}\z//;
    $request =~ m{\A[A-Z]+ /[^\s\\]*(?: HTTP/\d\.\d)?(?:\\n.*)?\z} or die "'$request' is no request\n";

    $answer //= '';
    $below  //= '';
    die "'$line' says nothing of the answer\n" unless length "$answer$below";
    my $status = $answer =~ s/\A(\d{3})(?:\s+|\z)// ? $1 : 200;
    my @headers;
    push @headers, _environment($1) while $answer =~ s/\A\{(!\s*[\w-]+|[\w-]+:[^{}]*)\}(?:\s+|\z)//;
    die "'$answer' is a body, and there are lines below it\n" if length $answer && length $below;

    my $exchange = {
        request         => _unescape($request),
        request_headers => join("\n", @request_headers),
        status          => $status,
        headers         => join("\n", @headers),
        body            => length $below ? _environment($below) : scalar _body($answer),
    };
    return ($exchange) x $count;
}

# Returns a text, a regular expression, or nothing.
sub _body {
    my ($text) = @_;
    return if $text eq '';
    if ($text =~ m{\A/(.+)/([imsx]*)\z}s) {
        my ($pattern, $flags) = ($1, $2);
        return length $flags ? qr/(?$flags:$pattern)/ : qr/$pattern/;
    }
    return _environment(_unescape($1)) if $text =~ /\A"(.*)"\z/;
    die "'$text' is neither a text nor a regular expression\n" if $text =~ m{\A[/"]};
    return _environment(_unescape($text)) . "\n";
}

my %ESCAPES = (n => "\n", r => "\r", t => "\t", '\\' => '\\', '"' => '"');

sub _unescape {
    my ($text) = @_;
    return $text =~ s{\\(.)}{$ESCAPES{$1} // die "'$text' has an unknown escape\n"}ger;
}

sub _environment {
    my ($text) = @_;
    return $text =~ s/\$(TEST_NGINX_\w+)/$ENV{$1} \/\/ die "the environment has no $1\n"/ger;
}

1;
