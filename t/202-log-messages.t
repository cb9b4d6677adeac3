# SPDX-License-Identifier: Apache-2.0

# docs/operations/log-messages.md has every message that the module can write to the error log, and no others.
#
# Every text of the sources that could be part of a message is looked for on the page: each string literal that has a
# blank in it, or that a macro formats into a message. Those that are no messages are in the list below. So a new
# message can't be forgotten, whichever way it takes to the log.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use Test::More;

# Files whose texts don't come into a log: of fuzzers, of unit tests, and of the status page.
my $OTHER_FILES = qr{\Asrc/(?:
    fuzzing\.rs | openssl/test_certificate\.rs | lua/resty/kong/testing(?:\.lua|/.*)
    | status/(?:about|counters|format|page|session_zone)\.rs
)\z}x;

# Texts that are no messages, by file.
my %NO_MESSAGE = (
    # C declarations, and Lua code.
    'src/lua/ffi.rs'                       => ['void *', 'void *const *', 'const char *', 'const void *', qr/\Astruct /],
    'src/lua/resty/kong/tls/ctypes.lua'    => ['void *', qr/\Astruct /],
    'src/lua/resty/kong/tls/functions.lua' => ['void *[?]', qr/\bframe\b/, qr/\Astruct /, '=resty.kong.<>'],
    'src/lua/resty/kong/tls/mistakes.lua'  => [qr/\A\[\^/],
    # The form of a verdict in the zone, and a type of content.
    'src/lua/resty/kong/plugins/authentication.lua' => [qr/\A\^?\(?%[sl]/, 'application/json; charset=utf-8'],
    # The name of a text that is kept.
    'src/lua/resty/kong/forwarded_certificate.lua' => ['in header'],
    # The form of a key, and of the place of an error.
    'src/lua/resty/kong/plugins/replaced.lua' => ['%s %.0f', qr/\A\^%\[string/],
    # The forms of what is in the dict, and keys there.
    'src/lua/resty/kong/plugins/revocation.lua' => [qr/\A\^?\(?%[sd]/, qr/\A\^\(/, qr/\A(?:down|failing|logged) <>\z/],
    # HTTP.
    'src/lua/resty/kong/plugins/fetch.lua' => [qr/\A\^/, '<>\r\n', qr/\A(?:Connection|Content-\w+|Host): /],
    # Labels of PEM.
    'src/openssl/pem.rs'               => [qr/\A(?:[A-Z0-9.]+ )+[A-Z]+\z/],
    'src/client/header_certificate/pem.rs' => [qr/\A-----/],
    # Values of headers.
    'src/client/forwarded_certificate.rs' => [qr/\A(?::<>:|%<>|"<>"|[A-Z]\w+=.*|<>=<>|<>)\z/],
    # Kinds of keys and signatures.
    'src/openssl/signature_algorithms.rs' => [qr/\A(?:EC|RSA|RSA-PSS|DSA)(?: of)? \S+/, qr/\Aof an unknown/, '0x<>'],
    # Written to a variable.
    'src/variables.rs' => ['FAILED:<>'],
);
# Mistakes in the module's own sources, which its first start would show.
push @{ $NO_MESSAGE{'src/lua/ffi.rs'} }, 'the function has more arguments than there is room for';
push @{ $NO_MESSAGE{'src/lua/resty/kong/tls/functions.lua'} }, 'no function <>';
push @{ $NO_MESSAGE{'src/lua/x509.rs'} }, 'unknown format';
push @{ $NO_MESSAGE{'src/client/forwarded_certificate.rs'} }, 'there is no format "<>"';

my %used;

# Returns whether a text of a file is in the list above.
sub is_no_message {
    my ($file, $text) = @_;
    for my $known (@{ $NO_MESSAGE{$file} // [] }) {
        next unless ref $known ? $text =~ $known : $text eq $known;
        return $used{"$file: $known"} = 1;
    }
    return 0;
}

# ---- the sources --------------------------------------------------------------------------------

# The texts, by themselves: the files that have them. Parts that vary are "<>".
my %texts;
# All literals, of which a message may have one where its text has a part that varies.
my %words;

sub found {
    my ($file, $text, $is_error) = @_;
    $text =~ s/\A\s+|\s+\z//g;
    $text =~ s/(?:<>)+/<>/g;
    $words{$text} = 1;
    return if $text !~ /[A-Za-z]/ || $text !~ /\S\s\S|<>/ && !$is_error;
    push @{ $texts{$text} }, $file if !is_no_message($file, $text);
    return;
}

# Returns a text with "<>" for each part that varies, which the page writes as <name>.
sub with_gaps {
    my ($text) = @_;
    return $text =~ s/<[\w' ]+>/<>/gr;
}

sub read_rust {
    my ($file) = @_;
    my $source = slurp($file);
    $source =~ s/^#\[cfg\((?:test|all\(test.*)\)\]\nmod tests \{\n.*//ms;
    my $before = '';
    while ($source =~ m{\G(?:(//[^\n]*)|\bc?"((?:[^"\\]|\\.)*)"|"((?:[^"\\]|\\.)*)"|'(?:\\.[^']*|[^'\\])'|(.))}gs) {
        my $text = $2 // $3;
        if (!defined $text) {
            $before .= $4 // '';
            next;
        }
        my $context = substr $before, -60;
        $before .= '""';
        # Reasons of lints, and what a panic is logged under.
        next if $context =~ /(?:reason = |\bguard\(|const NAME: &'static str = )\z/;
        next if $context =~ /\b(?:expect|assert!|assert_eq!|include_str!|c_str!)\(\z/;
        $text =~ s/\\\n\s*//g;
        $text =~ s/\\n/ /g;
        $text =~ s/\\(["\\])/$1/g;
        $text =~ s/(?<!\{)\{(?!\{)[^{}]*\}/<>/g;
        $text =~ s/\{\{/{/g;
        $text =~ s/\}\}/}/g;
        found($file, with_gaps($text), $context =~ /\b(?:format_args!|#\[error)\(\s*\z/);
    }
    return;
}

# Returns the words of a Lua source: strings without their quotes as references, all others as they are.
sub lua_words {
    my ($source) = @_;
    my @words;
    while ($source =~ m{\G(?:\s+|--\[\[.*?\]\]|--[^\n]*|"((?:[^"\\]|\\.)*)"|(\w+|\.\.\.?|.))}gs) {
        my ($text, $word) = ($1, $2);
        if (defined $text) {
            $text =~ s/\\(["\\])/$1/g;
            push @words, \$text;
        }
        push @words, $word if defined $word;
    }
    # The arguments of ngx.log, after the level, are one text.
    for my $start (grep { "@words[$_ .. $_ + 3]" eq 'ngx . log (' } 0 .. $#words - 3) {
        my ($depth, $arguments) = (1, 0);
        for my $i ($start + 4 .. $#words) {
            $depth += { '(' => 1, ')' => -1 }->{ $words[$i] } // 0;
            last if $depth == 0;
            $words[$i] = '..' if $words[$i] eq ',' && $depth == 1 && $arguments++;
        }
    }
    return @words;
}

# Returns where an operand ends that begins at a place: a string, or a name with all that is called or indexed of it.
sub end_of_operand {
    my ($words, $i) = @_;
    return $i + 1 if ref $words->[$i] || $words->[$i] !~ /\A\w+\z/;
    my $depth = 0;
    for ($i++; $i < @$words; $i++) {
        my $word = $words->[$i];
        if    ($word =~ /\A[(\[]\z/) { $depth++ }
        elsif ($word =~ /\A[)\]]\z/) { return $i if --$depth < 0 }
        elsif ($word =~ /\A[.:]\z/)  { $i++ if $depth == 0 }
        elsif ($depth == 0)          { return $i }
    }
    return $i;
}

sub read_lua {
    my ($file) = @_;
    my @words = lua_words(slurp($file));
    for my $start (0 .. $#words) {
        next unless ref $words[$start] || $words[$start] =~ /\A\w+\z/;
        next if $start > 0 && $words[ $start - 1 ] =~ /\A(?:\.\.|[.:])\z/;
        # The strings of an expression, and gaps for what is joined to them.
        my ($i, $text) = ($start, '');
        while (1) {
            $text .= ref $words[$i] ? ${ $words[$i] } : '<>';
            $i = end_of_operand(\@words, $i);
            last if ($words[$i] // '') ne '..';
            $i++;
        }
        my $is_error = "@words[$start < 2 ? 0 : $start - 2 .. $start - 1]" =~ /\A(?:error \(|nil ,)\z/;
        found($file, with_gaps($text), $is_error) if $text ne '<>';
    }
    return;
}

require File::Find;
my @sources;
File::Find::find({ no_chdir => 1, wanted => sub { push @sources, $_ if /\.(?:rs|lua)$/ } }, 'src');
for my $file (sort @sources) {
    next if $file =~ $OTHER_FILES;
    if   ($file =~ /\.rs$/) { read_rust($file) }
    else                    { read_lua($file) }
}
cmp_ok keys %texts, '>', 200, 'more than 200 texts are found in the sources';

# Lines are written by these functions alone, so their messages are literals of these sources.
my %writes = map { $_ => 1 } qw(src/nginx/log.rs src/nginx/conf_parser.rs);
my @others = grep { !$writes{$_} && slurp($_) =~ /\b(?:ngx_log_error|ngx_conf_log_error|ngx_log_debug|eprintln)\b/ }
    grep {/\.(?:rs|c)$/} @sources, 'src/nginx/bitfields.c';
is_deeply \@others, [], 'nothing else writes to the log';

my @unused = grep { !$used{$_} } map { my $file = $_; map {"$file: $_"} @{ $NO_MESSAGE{$file} } } sort keys %NO_MESSAGE;
is_deeply \@unused, [], 'each text in the list of those that are no messages is in the sources';

# ---- the page -----------------------------------------------------------------------------------

my ($page) = slurp('docs/operations/log-messages.md') =~ /(.*)^## Messages of nginx$/ms
    or BAIL_OUT('the page has no messages of nginx');
my @spans = map { with_gaps(s/\n\s*/ /gr) } $page =~ /(?<!`)`([^`]+)`(?!`)/g;
# A message is alone in its line.
my @messages = map { with_gaps($_) } $page =~ /^(?:\* |  )`([^`]+)`\\?$/mg;
cmp_ok @messages, '>', 180, 'the page has more than 180 messages';

# Each text is on the page.
for my $text (sort keys %texts) {
    my $wanted = $text =~ s/\A(?:<>)?\s*(.*?)\s*(?:<>)?\z/$1/sr;
    next if $wanted !~ /\w/;
    my $pattern = join '.+?', map {quotemeta} split /<>/, $wanted;
    ok scalar(grep {/$pattern/} @spans), "the page has: $text"
        or diag("It is in @{ $texts{$text} }.");
}

# Each message of the page can be made of texts of the sources: one of them, in which other texts may stand in place
# of the parts that vary, and behind which another text may follow.
my @patterns = map { [$_, join('(.+?)', map {quotemeta} split /<>/, $_, -1) =~ s/(?<=\))\(\.\+\?\)\z/(.*?)/r] }
    sort { length $b <=> length $a || $a cmp $b } grep { /[^<>]/ && /\S\s\S|<>/ } keys %words;
my %made;

sub is_made {
    my ($text) = @_;
    $text =~ s/\A\s+|\s+\z//g;
    return 1 if $text eq '' || $text eq '<>' || $words{$text};
    return $made{$text} if defined $made{$text};
    $made{$text} = 0;
    for (@patterns) {
        my ($words, $pattern) = @$_;
        if (my @parts = $text =~ /\A$pattern\z/) {
            return $made{$text} = 1 if !grep { !is_made($_) } @parts;
        }
        if (my @parts = $text =~ /\A$pattern\s*(\S.*)\z/) {
            return $made{$text} = 1 if !grep { !is_made($_) } @parts;
        }
    }
    return 0;
}

ok is_made($_), "the sources have: $_" for @messages;

done_testing();
