# SPDX-License-Identifier: Apache-2.0

package NginxTest;

# Declarative tests for nginx: each block of a test file is a configuration, the requests to send to it, and the
# results to expect. This is the part of the documented interface of CPAN's Test::Nginx::Socket that this project
# uses, and needs only Test::Base. Test files do not depend on which of the two they get: see
# t/support/TestHarness.pm.
#
# Where the two could differ, this one is the stricter:
#
#   * a section it does not know, one given twice, or one that would check nothing ends the test;
#   * every block needs its own `config`, and a `request` unless nginx must refuse to start;
#   * alerts and emergencies in the error log that `error_log` does not name, a crash, a panic, a
#     report of valgrind or a sanitizer, and an nginx that does not end when told to fail the block;
#   * `no_error_log` of the last repetition also covers what nginx logs while it ends.
#
# The environment is that of the original. In addition there are TEST_NGINX_LOG_WAIT, how many
# seconds a line of `error_log` may take to appear (3), and TEST_NGINX_STOP_WAIT, how many nginx may
# take to end (5).

use strict;
use warnings;

use NginxTest::Client;
use NginxTest::Filter;
use NginxTest::Server;
use NginxTest::Util;
use NginxTest::Util
    qw(expand_env find_program read_file setting time_scale wait_for write_file);
use Test::Base ();
use Test::More ();
use Text::ParseWords ();
use Time::HiRes ();

our @ISA    = ('Test::Base');
our @EXPORT = (@NginxTest::Util::EXPORT, qw(run_tests));

# `use NginxTest` may carry a plan: 'no_plan', or tests => N.
sub import {
    my ($class, @words) = @_;
    my @others;
    while (@words) {
        my $word = shift @words;
        if    ($word eq 'no_plan') { Test::More::plan('no_plan') }
        elsif ($word eq 'tests')   { Test::More::plan(tests => shift @words) }
        else                       { push @others, $word }
    }
    @_ = ($class, @others);
    goto &Test::Base::import;
}

my @SECTIONS = qw(
    main_config http_config config post_main_config server_name user_files log_level init
    request raw_request more_headers timeout abort wait
    curl curl_options curl_protocol curl_error http2
    ignore_response error_code error_code_like response_body response_body_like
    response_body_unlike response_headers response_headers_like raw_response_headers_like
    raw_response_headers_unlike
    error_log no_error_log grep_error_log grep_error_log_out shutdown_error_log
    no_shutdown_error_log access_log no_access_log
    must_die skip_eval skip_nginx skip_nginx2 skip_openssl ONLY LAST SKIP no_check_leak
);
my %KNOWN = map { $_ => 1 } @SECTIONS;

# Registers sections that a block preprocessor turns into others.
sub add_section { $KNOWN{$_} = 1 for @_; return }

# Sections that check nothing when they are empty.
my @NEEDS_TEXT = qw(
    request response_body_like response_body_unlike response_headers response_headers_like
    raw_response_headers_like raw_response_headers_unlike error_code_like error_log no_error_log
    grep_error_log shutdown_error_log no_shutdown_error_log access_log no_access_log
    skip_eval skip_nginx skip_nginx2 skip_openssl
);

# What Test::Base itself keeps in a block.
my %INTERNAL = map { $_ => 1 } qw(
    name description seq_num is_filtered blocks_object original_values _section_map _section_order
);

# ---- filters -------------------------------------------------------------------------------------

sub filter_class { return 'NginxTest::Filter' }

# ---- small helpers -------------------------------------------------------------------------------

# Returns a section's value, or undef where the block has none.
sub _get {
    my ($block, $section) = @_;
    my $value = $block->{$section} or return undef;    ## no critic (a value in list context too)
    return $value->[0];
}

sub _has { return defined _get(@_) }

# Returns the text of a section that takes one line.
sub _line {
    my $value = _get(@_);
    return $value if !defined $value || ref $value;
    return $value =~ s/\A\s+|\s+\z//gr;
}

# Returns strings to find and regular expressions to match, one for each line of plain text.
sub _patterns {
    my ($value) = @_;
    return () unless defined $value;
    return map { ref $_ ? $_ : s/\n\z//r } @$value if ref $value eq 'ARRAY';
    return $value if ref $value;
    return grep {/\S/} split /\n/, $value;
}

sub _regex {
    my ($value) = @_;
    return $value if ref $value;
    $value =~ s/\n\z//;
    return qr/$value/s;
}

sub _matches {
    my ($pattern, $line) = @_;
    return ref $pattern ? $line =~ $pattern : index($line, $pattern) >= 0;
}

sub _found {
    my ($pattern, $text) = @_;
    for my $line (split /\n/, $text) {
        return 1 if _matches($pattern, $line);
    }
    return 0;
}

sub _show { my ($pattern) = @_; return ref $pattern ? "$pattern" : qq{"$pattern"} }

# Returns seconds, from `2`, `1.5s` or `50ms`.
sub _seconds {
    my ($text) = @_;
    $text =~ /\A\s*([\d.]+)\s*(ms|s)?\s*\z/ or bail_out("not a time: '$text'");
    return defined $2 && $2 eq 'ms' ? $1 / 1000 : $1;
}

# Replaces the variables that the original replaces in expected headers and bodies.
sub _expected {
    my ($text) = @_;
    return $text if !defined $text || ref $text;
    my ($server, $client) = (server_port(), server_port_for_client());
    return $text =~ s/\$ServerPortForClient\b/$client/gr =~ s/\$ServerPort\b/$server/gr;
}

# ---- running -------------------------------------------------------------------------------------

my $failures = 0;

sub run_tests {
    my $builder = Test::More->builder;
    Test::More::plan('no_plan') unless $builder->has_plan;

    my @blocks = Test::Base::blocks();
    bail_out('there are no test blocks') unless @blocks;
    _check_names($_) for @blocks;

    for my $block (@blocks) {
        $_->($block) for @{ setting('preprocessors') };
        _check_names($block);
        _check_values($block);

        my $before = $builder->current_test;
        _run_block($block);
        my @results = $builder->summary;
        _keep($block) if grep { !$_ } @results[$before .. $#results];
        _append_error_log();
    }
    return;
}

# Ends everything for a mistake that would leave a block testing less than it says.
sub _refuse { my ($block, @text) = @_; return bail_out($block->name, ': ', @text) }

sub _check_names {
    my ($block) = @_;
    for my $section (sort keys %$block) {
        next if $INTERNAL{$section};
        $KNOWN{$section} or _refuse($block, "unknown section '$section'");
    }

    my %seen;
    $seen{$_}++ and _refuse($block, "section '$_' is given twice")
        for @{ $block->{_section_order}[0] };
    return;
}

sub _check_values {
    my ($block) = @_;
    my $refuse = sub { _refuse($block, @_) };

    for my $section (grep { !$INTERNAL{$_} } sort keys %$block) {
        @{ $block->{$section} } < 2
            or $refuse->("section '$section' is a list; use a reference to an array");
    }

    for my $section (@NEEDS_TEXT) {
        my $value = _get($block, $section);
        next unless defined $value;
        $refuse->("section '$section' is empty")
            if ref $value eq 'ARRAY' ? !@$value : !ref $value && $value !~ /\S/;
    }

    $refuse->("needs a 'config' section") unless _has($block, 'config');
    $refuse->("has both 'request' and 'raw_request'")
        if _has($block, 'request') && _has($block, 'raw_request');
    $refuse->("needs a 'request' section")
        unless grep { _has($block, $_) } qw(request raw_request must_die);
    $refuse->("'grep_error_log' and 'grep_error_log_out' go together")
        if _has($block, 'grep_error_log') xor _has($block, 'grep_error_log_out');
    return;
}

# Keeps the records of a failed block, as its server root is about to be emptied.
sub _keep {
    my ($block) = @_;
    my $root = server_root();
    my $folder = sprintf '%s/failed/%d', $root, ++$failures;
    File::Path::make_path($folder);
    for my $file ('conf/nginx.conf', map {"logs/$_.log"} qw(error access stderr valgrind)) {
        my $text = read_file("$root/$file");
        write_file("$folder/" . ($file =~ s{.*/}{}r), $text) if length $text;
    }

    # Without the debug entries, which can be many lines each.
    my @entries = split m{^(?=\d{4}/\d\d/\d\d )}m, read_file("$root/logs/error.log");
    my @lines   = map { split /\n/ } grep { !/\A\S+ \S+ \[debug\] / } @entries;
    splice @lines, 0, @lines - 40 if @lines > 40;
    Test::More::diag('FAILED: ', $block->name, " - records in $folder\n",
        "end of its error log:\n", map {"    $_\n"} @lines);

    my $printed = read_file("$root/logs/stderr.log");
    Test::More::diag("printed by nginx:\n$printed") if length $printed;
    return;
}

sub _append_error_log {
    my $path = $ENV{TEST_NGINX_ERROR_LOG} or return;
    open my $file, '>>', $path or bail_out("can't write $path: $!");
    print {$file} read_file(server_root() . '/logs/error.log');
    close $file;
    return;
}

# ---- skipping ------------------------------------------------------------------------------------

# Compares version numbers part by part; 1.1.1h is newer than 1.1.1.
sub _compare_versions {
    my @parts = map {
        [map { /\A\d+\z/ ? $_ : ord } $_[$_] =~ /\d+|[a-z]/g]
    } 0, 1;
    while (grep {@$_} @parts) {
        my ($left, $right) = map { my $part = shift @$_; defined $part ? $part : 0 } @parts;
        return $left <=> $right if $left != $right;
    }
    return 0;
}

# Evaluates the condition of `skip_nginx` or `skip_openssl`: `< 1.2.3`, or two joined by `and` or `or`.
sub _version_holds {
    my ($condition, $version) = @_;
    my $holds = sub {
        $_[0] =~ /\A\s*(<=?|>=?|==)\s*([\w.]+)\s*\z/ or bail_out("not a version range: '$_[0]'");
        my ($operator, $order) = ($1, _compare_versions($version, $2));
        return $order == 0 ? $operator =~ /=/ : $operator =~ ($order < 0 ? qr/</ : qr/>/);
    };

    my ($left, $join, $right) = split /\s+(and|or)\s+/, $condition;
    return $holds->($left) unless defined $join;
    return $join eq 'and'
        ? $holds->($left) && $holds->($right)
        : $holds->($left) || $holds->($right);
}

# Returns the number of assertions to skip and why, or nothing.
sub _skip {
    my ($block) = @_;
    for my $section (qw(skip_eval skip_nginx skip_nginx2 skip_openssl)) {
        my $text = _line($block, $section);
        next unless defined $text;
        $text =~ /\A(\d+)\s*:\s*(.+)\z/s or bail_out($block->name, ": bad $section: '$text'");
        my ($count, $condition) = ($1, $2);

        my $skip;
        if ($section eq 'skip_eval') {
            $skip = eval "package main; no strict; $condition";    ## no critic (that is its job)
            bail_out($block->name, ": skip_eval: $@") if $@;
        }
        else {
            my $what = $section eq 'skip_openssl' ? qr{OpenSSL ([\w.]+)} : qr{nginx/([\d.]+)};
            my ($version) = NginxTest::Server::about() =~ $what;
            $skip = defined $version && _version_holds($condition, $version);
        }
        return ($count, "$section: $condition") if $skip;
    }
    return;
}

# ---- configuration -------------------------------------------------------------------------------

my @PASSED_ENV = qw(
    ASAN_OPTIONS LSAN_OPTIONS UBSAN_OPTIONS LD_LIBRARY_PATH LD_PRELOAD MOCKEAGAIN
    MOCKEAGAIN_VERBOSE MOCKEAGAIN_WRITE_TIMEOUT_PATTERN MOCKNOEAGAIN MOCKNOEAGAIN_VERBOSE
    RUST_BACKTRACE
);

sub _configuration {
    my ($block) = @_;
    my $root    = server_root();
    my $valgrind = $ENV{TEST_NGINX_USE_VALGRIND} && !_has($block, 'must_die');
    my $master  = master_process_enabled() && !$valgrind;
    my $workers = $master ? setting('workers') : 1;
    my $level   = _line($block, 'log_level') || setting('log_level');
    my $name    = _line($block, 'server_name') || 'localhost';
    my $port    = server_port();
    my $connections = setting('worker_connections');
    my %text = map { $_ => expand_env(_get($block, $_)) // '' }
        qw(main_config http_config config post_main_config);

    my $modules = join '', map {"load_module $_;\n"} split ' ', $ENV{TEST_NGINX_LOAD_MODULES} || '';
    my $user    = '';
    $user = 'user ' . ($ENV{TEST_NGINX_WORKER_USER} || 'root') . ";\n" if $> == 0;

    my @env = ((grep { defined $ENV{$_} } @PASSED_ENV), @{ setting('env') });
    my $env = join '', map { /[\s'"]/ ? "env '$_';\n" : "env $_;\n" } @env;
    my $temp = join '', map {"    ${_}_temp_path $root/tmp/$_;\n"}
        qw(client_body proxy fastcgi uwsgi scgi);
    my $on   = $master ? 'on' : 'off';
    my $location = setting('root_location') ? <<"END" : '';
        location / {
            root $root/html;
            index index.html index.htm;
        }
END

    return <<"END";
$modules${user}daemon off;
master_process $on;
worker_processes $workers;
pid $root/logs/nginx.pid;
error_log $root/logs/error.log $level;
$env
$text{main_config}
http {
    access_log $root/logs/access.log;
    default_type text/plain;
    keepalive_timeout 68;
$temp
$text{http_config}
    server {
        listen 127.0.0.1:$port;
        server_name '$name';
        client_max_body_size 30M;

        # ---- the block's own
$text{config}
        # ---- end of it
$location    }
}
$text{post_main_config}
events {
    accept_mutex off;
    worker_connections $connections;
}
END
}

sub _write_user_files {
    my ($block) = @_;
    my $files = _get($block, 'user_files');
    return unless defined $files;

    if (!ref $files) {
        my ($before, @parts) = split /^>>>[ \t]*(\S+)(?:[ \t]+\S+)?[ \t]*\n/m, expand_env($files);
        bail_out($block->name, ": user_files: text before the first '>>>'") if $before =~ /\S/;
        $files = [];
        push @$files, [splice @parts, 0, 2] while @parts;
    }

    for my $file (@$files) {
        my ($path, $text) = @$file;
        $path = html_dir() . "/$path";
        File::Path::make_path($path =~ s{/[^/]*\z}{}r);
        write_file($path, defined $text ? $text : '');
    }
    return;
}

# ---- one block -----------------------------------------------------------------------------------

sub _run_block {
    my ($block) = @_;
    my $name = $block->name;

    if (my ($count, $why) = _skip($block)) {
        Test::More->builder->skip("$name - $why") for 1 .. $count * setting('repeat');
        return;
    }

    NginxTest::Util::fresh_root();
    _write_user_files($block);
    write_file(server_root() . '/conf/nginx.conf', _configuration($block));
    if (defined(my $code = _get($block, 'init'))) {
        eval "package main; no strict; $code; 1"    ## no critic (that is its job)
            or bail_out("$name: init: $@");
    }
    return _run_refused($block) if _has($block, 'must_die');

    my $server = NginxTest::Server->new;
    if (!$server->wait_started) {
        $server->stop;
        Test::More::fail("$name - nginx starts (it " . $server->end . ')');
        return;
    }

    my $repeat = setting('repeat');
    my $later;
    for my $turn (1 .. $repeat) {
        my $label = $repeat > 1 ? " (turn $turn)" : '';
        my $from = setting('accum_error_log') ? 0 : $turn > 1 ? $server->log_size : 0;
        _run_requests($block, $label);
        if (my $seconds = _line($block, 'wait')) {
            Time::HiRes::sleep(_seconds($seconds));
        }
        _check_logs($block, $server, $label, $from, $turn);
        $later = sub { _check_absent($block, $server, $label, $from, $turn) };
        last if $turn == $repeat || $server->ended;
        $later->();
    }

    my $size  = $server->log_size;
    my $wrong = $server->stop;
    $later->();
    _check_shutdown($block, $server, $size);
    Test::More::fail("$name - $wrong") if $wrong;
    _check_health($block, $server);
    return;
}

# Runs a block whose configuration nginx must refuse, by itself and not by a crash.
sub _run_refused {
    my ($block) = @_;
    my $name = $block->name;
    my $code = _line($block, 'must_die');

    for my $turn (1 .. setting('repeat')) {
        my $from   = -s server_root() . '/logs/error.log' || 0;
        my $server = NginxTest::Server->new(valgrind => 0);
        my $ended  = $server->wait_ended;
        if (defined $code && length $code) {
            my $found = !$ended || $server->signal ? $server->end : $server->exit_code;
            Test::More::is($found, $code, "$name - nginx refuses to start, with status $code");
        }
        else {
            Test::More::ok($ended && !$server->signal && $server->exit_code != 0,
                "$name - nginx refuses to start (it " . $server->end . ')');
        }
        $server->stop unless $ended;
        _check_logs($block, $server, '', $from, $turn);
        _check_absent($block, $server, '', $from, $turn);
        _check_health($block, $server);
    }
    return;
}

# ---- requests and responses ----------------------------------------------------------------------

sub _run_requests {
    my ($block, $label) = @_;
    my $name = $block->name;
    my $raw  = _has($block, 'raw_request');
    my $list = _get($block, $raw ? 'raw_request' : 'request');
    my $many = !$raw && ref $list eq 'ARRAY';
    my @requests = $many ? @$list : $list;

    # Returns the section's value for one of the requests.
    my $part = sub {
        my ($section, $index) = @_;
        my $value = _get($block, $section);
        return $value unless defined $value && $many;
        return $value if ref $value ne 'ARRAY' && $section eq 'more_headers';
        bail_out("$name: several requests need an array of as many values in '$section'")
            unless ref $value eq 'ARRAY' && @$value == @requests;
        return $value->[$index];
    };

    for my $index (0 .. $#requests) {
        my $where = $label . ($many ? " (request $index: " . _first_line($requests[$index]) . ')' : '');
        my ($response, $method) =
            _send($block, $requests[$index], $raw, scalar $part->('more_headers', $index));
        if ($response->{timeout} && !_has($block, 'abort')) {
            Test::More::fail("$name - the response comes in time$where");
        }

        if (defined(my $error = _get($block, 'curl_error'))) {
            my $got = defined $response->{error} ? $response->{error} : 'no error';
            $error =~ s/\s+\z//;
            Test::More::like($got, qr/\Q$error\E/, "$name - curl_error$where");
            next;
        }
        if ($response->{error} && !_has($block, 'ignore_response')) {
            Test::More::fail("$name - the request is answered$where");
            Test::More::diag($response->{error});
        }
        next if _has($block, 'ignore_response');
        _check_response($block, $response, $where, sub { $part->(shift, $index) });
        $_->($block, $response->{body}, $index) for @{ setting('body_checks') };
    }
    return;
}

# Returns the line that tells a request from the others of its block.
sub _first_line {
    my ($request) = @_;
    $request = $request->[0] if ref $request eq 'ARRAY';
    my ($line) = (ref $request ? $request->{value} : $request) =~ /^\s*([^#\s].*?)\s*$/m;
    return $line // '';
}

sub _send {
    my ($block, $text, $raw, $headers) = @_;
    my $timeout = _seconds(_line($block, 'timeout') || setting('timeout')) * time_scale();

    if ($raw) {
        my @packets = map { ref $_ ? $_ : {value => $_} } ref $text eq 'ARRAY' ? @$text : $text;
        return NginxTest::Client::send_packets(\@packets, 'GET', $timeout);
    }

    my $request = NginxTest::Client::parse_request($text);
    my @headers = NginxTest::Client::header_lines($headers);
    if (grep { _has($block, $_) } qw(curl curl_options curl_protocol curl_error http2)) {
        my $options = _get($block, 'curl_options');
        $options = [Text::ParseWords::shellwords($options)] if defined $options && !ref $options;
        return NginxTest::Client::run_curl(
            $request,
            headers  => \@headers,
            http2    => _has($block, 'http2'),
            options  => [map { expand_env($_) } @{ $options || [] }],
            protocol => scalar _line($block, 'curl_protocol'),
            timeout  => $timeout,
        );
    }

    my @packets = NginxTest::Client::request_packets($request, @headers);
    return NginxTest::Client::send_packets(\@packets, $request->{method}, $timeout);
}

sub _check_response {
    my ($block, $response, $where, $part) = @_;
    my $name = $block->name;
    my ($head, $body) = @$response{qw(head body)};
    my $value;

    if (defined($value = $part->('error_code_like'))) {
        Test::More::like($response->{status}, _regex($value), "$name - error_code_like$where");
    }
    else {
        $value = $part->('error_code');
        $value = defined $value ? $value =~ s/\s+//gr : 200;
        Test::More::is($response->{status}, $value, "$name - error_code$where");
    }

    if (defined($value = $part->('response_headers'))) {
        for (NginxTest::Client::header_lines($value)) {
            my ($absent, $header, $text) = /\A(!)?\s*([^:\s]+)\s*(?::\s*(.*))?\z/
                or bail_out("$name: response_headers: '$_'");
            my $got = $response->{headers}{ lc $header };
            $got = join ', ', @$got if $got;
            if ($absent) {
                Test::More::is($got, undef, "$name - response_headers: no $header$where");
            }
            else {
                $_ = defined $_ ? $_ : '' for $got, $text;
                Test::More::is($got, _expected($text),
                    "$name - response_headers: $header$where");
            }
        }
    }

    if (defined($value = $part->('response_headers_like'))) {
        for (NginxTest::Client::header_lines($value)) {
            my ($header, $text) = /\A([^:\s]+)\s*:\s*(.*)\z/
                or bail_out("$name: response_headers_like: '$_'");
            my $got = join ', ', @{ $response->{headers}{ lc $header } || [] };
            Test::More::like($got, qr/\A(?:$text)\z/s,
                "$name - response_headers_like: $header$where");
        }
    }

    for my $section (qw(raw_response_headers_like raw_response_headers_unlike)) {
        next unless defined($value = $part->($section));
        my $check = Test::More->can($section =~ /_(like|unlike)\z/);
        $check->($head, _regex($value), "$name - $section$where");
    }

    if (defined($value = $part->('response_body'))) {
        $value = _expected($value);
        if (ref $value eq 'Regexp') {
            Test::More::like($body, $value, "$name - response_body$where");
        }
        else {
            bail_out("$name: response_body: unexpected ", ref $value) if ref $value;
            Test::More::is($body, $value, "$name - response_body$where");
        }
    }

    for my $section (qw(response_body_like response_body_unlike)) {
        next unless defined($value = $part->($section));
        my $check = Test::More->can($section =~ /_(like|unlike)\z/);
        $check->($body, _regex(_expected($value)), "$name - $section$where");
    }
    return;
}

# ---- logs ----------------------------------------------------------------------------------------

# Returns how long log lines may take to appear after the response, while nginx runs.
sub _log_wait {
    my ($server) = @_;
    return 0 if $server->ended;
    my $seconds = $ENV{TEST_NGINX_LOG_WAIT};
    return (defined $seconds ? $seconds : 3) * time_scale();
}

# Returns all that `pattern` matches in `text`, one match in a line.
sub _grep {
    my ($pattern, $text) = @_;
    $pattern = quotemeta($pattern =~ s/\n\z//r) unless ref $pattern;
    my $found = '';
    for (split /\n/, $text) {
        $found .= "$&\n" while /$pattern/g;
    }
    return $found;
}

# Checks what must be in the logs.
sub _check_logs {
    my ($block, $server, $label, $from, $turn) = @_;
    my $name = $block->name;
    my %read = (
        error_log  => sub { $server->error_log($from) },
        access_log => sub { read_file(server_root() . '/logs/access.log') },
    );

    for my $section (qw(error_log access_log)) {
        for my $pattern (_patterns(_get($block, $section))) {
            my $found;
            wait_for(
                _log_wait($server),
                sub {
                    my $ended = $server->ended;    # asked first: nothing is written after that
                    $found = _found($pattern, $read{$section}->());
                    return $found || $ended;
                }
            );
            Test::More::ok($found, "$name - $section has a line with " . _show($pattern) . $label);
        }
    }

    if (defined(my $pattern = _get($block, 'grep_error_log'))) {
        my $expected = _grep_expected($block, $turn);
        my $got;
        wait_for(
            _log_wait($server),
            sub {
                my $ended = $server->ended;
                $got = _grep($pattern, $server->error_log($from));
                return $got eq $expected || $ended;
            }
        );

        # Only the end shows that nothing is there.
        Test::More::is($got, $expected, "$name - grep_error_log_out$label") if length $expected;
    }
    return;
}

sub _grep_expected {
    my ($block, $turn) = @_;
    my $expected = _get($block, 'grep_error_log_out');
    return $expected unless ref $expected;
    bail_out($block->name, ": grep_error_log_out: not a list of a value for every turn")
        unless ref $expected eq 'ARRAY' && defined $expected->[$turn - 1];
    return $expected->[$turn - 1];
}

# Checks what must not be in the logs.
sub _check_absent {
    my ($block, $server, $label, $from, $turn) = @_;
    my $name = $block->name;
    my %text = (
        no_error_log  => $server->error_log($from),
        no_access_log => read_file(server_root() . '/logs/access.log'),
    );

    if (_has($block, 'grep_error_log') && !length _grep_expected($block, $turn)) {
        Test::More::is(_grep(_get($block, 'grep_error_log'), $text{no_error_log}),
            '', "$name - grep_error_log_out$label");
    }

    for my $section (qw(no_error_log no_access_log)) {
        for my $pattern (_patterns(_get($block, $section))) {
            my @lines = grep { _matches($pattern, $_) } split /\n/, $text{$section};
            Test::More::ok(!@lines, "$name - $section: no line with " . _show($pattern) . $label)
                or Test::More::diag(map {"    $_\n"} @lines > 10 ? @lines[0 .. 9] : @lines);
        }
    }
    return;
}

# Checks what nginx logged while it ended.
sub _check_shutdown {
    my ($block, $server, $from) = @_;
    my $name = $block->name;
    my $text = $server->error_log($from);
    for my $pattern (_patterns(_get($block, 'shutdown_error_log'))) {
        Test::More::ok(_found($pattern, $text),
            "$name - shutdown_error_log has a line with " . _show($pattern));
    }
    for my $pattern (_patterns(_get($block, 'no_shutdown_error_log'))) {
        Test::More::ok(!_found($pattern, $text),
            "$name - no_shutdown_error_log: no line with " . _show($pattern));
    }
    return;
}

# Checks for signs of trouble that no block has to ask for. They count only when there are some, so that the number of
# tests is that of the sections.
sub _check_health {
    my ($block, $server) = @_;
    my $name  = $block->name;
    my $level = _has($block, 'must_die') ? qr/\[alert\]/ : qr/\[(?:alert|emerg)\]/;
    my @named = map { _patterns(_get($block, $_)) } qw(error_log shutdown_error_log);
    my @lines = split /\n/, $server->error_log(0);

    for my $line (grep {/$level/} @lines) {
        next if grep { _matches($_, $line) } @named;
        Test::More::fail("$name - no alerts in the error log");
        Test::More::diag("    $line");
    }

    # Printed, or logged by the code that caught the panic; a "runtime error" that nginx logs is one of Lua.
    my $trouble = qr/panicked at|ERROR: \w+Sanitizer|\A(?!.* \[\w+\] \d+#).*runtime error: /;
    for my $line (grep {/$trouble/} @lines, split /\n/, $server->printed) {
        next if grep { _matches($_, $line) } @named;
        Test::More::fail("$name - no panic or report of a sanitizer");
        Test::More::diag("    $line");
    }

    my $report = $server->valgrind_report;
    if (length $report) {
        Test::More::fail("$name - no report of valgrind");
        Test::More::diag($report);
    }
    return;
}

1;
