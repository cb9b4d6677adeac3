# SPDX-License-Identifier: Apache-2.0

package NginxTest::Client;

# Sends the requests of a block: plain HTTP over a socket, or anything curl can speak.
#
# A response is a hash: `raw` (everything received), `head` (the raw header block), `status`, `headers` (lower-case
# name => list of values), `body`, and `error` if there is no response.

use strict;
use warnings;

use Errno qw(EINTR);
use NginxTest::Util
    qw(bail_out find_program read_file server_addr server_port_for_client server_root wait_for);
use POSIX ':sys_wait_h';
use Socket qw(PF_INET SOCK_STREAM MSG_NOSIGNAL IPPROTO_TCP TCP_NODELAY inet_aton sockaddr_in);
use Time::HiRes ();

# ---- requests ------------------------------------------------------------------------------------

# Parses the text of a `request` section into {method, uri, protocol, body (undef if none), packets}. The text may be
# a list, of strings or {value, delay_before}: then the body is sent in that many pieces.
sub parse_request {
    my ($text) = @_;
    my ($first, @rest) = ref $text eq 'ARRAY' ? @$text : $text;
    @rest = map { ref $_ ? $_ : {value => $_} } @rest;

    1 while $first =~ s/\A\s*#[^\n]*\n//;    # comments
    $first =~ s/\A\s+//;
    my ($line, $body) = split /\n/, $first, 2;
    $line = '' unless defined $line;
    $line =~ s/\s+\z//;
    $line =~ m{\A([A-Za-z]\S*)(?:\s+(.*?))?(?:\s+(HTTP/\d+\.\d+))?\z}
        or bail_out("not a request: '$line'");
    my %request = (method => $1, uri => $2, protocol => $3 || 'HTTP/1.1');
    $request{uri} = '/' unless defined $request{uri} && length $request{uri};

    $body = '' if @rest && !defined $body;
    if (@rest) {
        $request{packets} = [{value => $body}, @rest];
        $request{body} = join '', map { $_->{value} } @{ $request{packets} };
    }
    elsif (defined $body) {
        $body =~ s/\n\z//;    # it only ends the section
        $request{body} = $body if length $body;
    }
    return \%request;
}

# Returns a `more_headers` section as a list of lines.
sub header_lines {
    my ($text) = @_;
    return grep {length} map { s/\A\s+|\s+\z//gr } split /\n/, defined $text ? $text : '';
}

# Returns the pieces to write for a parsed request.
sub request_packets {
    my ($request, @headers) = @_;
    my %given = map { /\A([^:\s]+)\s*:/ ? (lc $1 => 1) : () } @headers;

    unshift @headers, 'Connection: close' unless $given{connection};
    unshift @headers, 'Host: localhost'   unless $given{host};
    push @headers, 'Content-Length: ' . length $request->{body}
        if defined $request->{body}
        && !$given{'content-length'}
        && !$given{'transfer-encoding'};

    my $head = join "\r\n", "$request->{method} $request->{uri} $request->{protocol}", @headers, '',
        '';
    return {value => $head . (defined $request->{body} ? $request->{body} : '')}
        unless $request->{packets};

    my ($first, @rest) = @{ $request->{packets} };
    return ({%$first, value => $head . $first->{value}}, @rest);
}

# ---- responses -----------------------------------------------------------------------------------

sub _chunked {
    my ($text) = @_;
    my $body = '';
    while ($text =~ s/\A([0-9A-Fa-f]+)[^\r\n]*\r\n//) {
        my $size = hex $1;
        return ($body, $text =~ /\A(?:[^\r\n]+\r\n)*\r\n/ ? 1 : 0) if $size == 0;
        return ($body . substr($text, 0, $size), 0) if length $text < $size + 2;
        $body .= substr $text, 0, $size;
        substr($text, 0, $size) = '';
        $text =~ s/\A\r\n// or return ($body, 0);
    }
    return ($body, 0);
}

# Fills in the parts of a response from `head` and what follows it. `whole` is true when nothing of the response can
# be missing.
sub _fill {
    my ($response, $head, $rest, $method) = @_;
    my ($status_line, @lines) = split /\r\n/, $head;
    $response->{head} = $head;
    ($response->{status}) = $status_line =~ m{\AHTTP/\S+ +(\d{3})};
    for (@lines) {
        push @{ $response->{headers}{ lc $1 } }, $2 if /\A([^:]+):\s*(.*?)\s*\z/;
    }

    my ($length)   = @{ $response->{headers}{'content-length'}    || [] };
    my ($encoding) = @{ $response->{headers}{'transfer-encoding'} || [] };
    if ($method eq 'HEAD' || $response->{status} =~ /\A(?:204|304)\z/) {
        @$response{qw(body whole)} = ($rest, 1);
    }
    elsif (defined $encoding && lc $encoding eq 'chunked') {
        @$response{qw(body whole)} = _chunked($rest);
    }
    elsif (defined $length) {
        @$response{qw(body whole)} = ($rest, length $rest >= $length);
    }
    else {
        @$response{qw(body whole)} = ($rest, 0);
    }
    return $response;
}

# Parses what was received so far as a response, without interim responses (100 Continue).
sub parse_response {
    my ($raw, $method) = @_;
    my $response = {raw => $raw, status => '', headers => {}, head => '', body => ''};
    my $rest = $raw;
    while ($rest =~ s{\A(HTTP/\S+ +(\d{3}).*?\r\n)\r\n}{}s) {
        my ($head, $status) = ($1, $2);
        next if $status =~ /\A1/ && $status ne '101';
        return _fill($response, $head, $rest, $method);
    }
    $response->{body} = $raw unless $raw =~ m{\AHTTP/};
    return $response;
}

# ---- over a socket -------------------------------------------------------------------------------

# Waits until the socket can be read or written; returns false when the time is over.
sub _ready {
    my ($socket, $what, $seconds) = @_;
    my $bits = '';
    vec($bits, fileno $socket, 1) = 1;
    my ($read, $write) = $what eq 'read' ? ($bits, undef) : (undef, $bits);
    my $found;
    while (1) {
        $found = select $read, $write, undef, $seconds;
        last if $found >= 0;
        die "select: $!" unless $! == EINTR;
    }
    return $found;
}

# Sends packets on a new connection and reads until nginx closes it. A connection that nginx keeps open is left when
# the response is complete. The timeout applies to each step, as in nginx.
sub send_packets {
    my ($packets, $method, $timeout) = @_;

    socket(my $socket, PF_INET, SOCK_STREAM, 0) or bail_out("socket: $!");
    if (!connect $socket, sockaddr_in(server_port_for_client(), inet_aton(server_addr()))) {
        return {%{ parse_response('', $method) }, error => "can't connect: $!"};
    }
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;

    my ($error, $raw) = ('', '');
    my $alive = 1;
PACKET: for my $packet (@$packets) {
        Time::HiRes::sleep($packet->{delay_before}) if $packet->{delay_before};
        my $left = $packet->{value};
        while (length $left) {
            $alive = _ready($socket, 'write', $timeout) or last PACKET;
            my $sent = send $socket, $left, MSG_NOSIGNAL;
            last PACKET unless defined $sent;    # nginx may have answered and closed already
            substr($left, 0, $sent) = '';
        }
    }

    my $keep = ($packets->[0]{value} || '') =~ /^Connection:\s*keep-alive/im;
    while ($alive) {
        my $response = parse_response($raw, $method);
        last if $response->{whole} && $keep;

        # With the whole response here, only the end of the connection is missing.
        if (!_ready($socket, 'read', $response->{whole} ? 0.5 : $timeout)) {
            $alive = $response->{whole};
            last;
        }
        my $got = sysread $socket, $raw, 65536, length $raw;
        $error = "read: $!" if !defined $got && $! != EINTR;
        last if $error || defined $got && $got == 0;
    }
    close $socket;

    my $response = parse_response($raw, $method);
    $response->{timeout} = 1 unless $alive;
    $response->{error} = $error if $error && !$response->{whole};
    return $response;
}

# ---- with curl -----------------------------------------------------------------------------------

# Returns the command line of curl for a parsed request.
sub curl_command {
    my ($request, %option) = @_;
    my %version = ('HTTP/1.0' => '--http1.0', 'HTTP/1.1' => '--http1.1');
    my $protocol = $option{protocol} || 'http';
    my $http2    = $protocol eq 'https' ? '--http2' : '--http2-prior-knowledge';
    my @headers  = @{ $option{headers} || [] };
    my $curl     = find_program('curl') || bail_out('curl is not installed');

    my @command = ($curl, '-q', '-sS', '--noproxy', '*', '--max-time', $option{timeout});
    push @command, $option{http2} ? $http2 : $version{ $request->{protocol} } || '--http1.1';
    push @command,
        $request->{method} eq 'HEAD'
        ? '--head'
        : $request->{method} eq 'GET' && !defined $request->{body} ? ()
        :   ('-X', $request->{method});
    push @command, '--data-binary', $request->{body} if defined $request->{body};
    push @command, '-H', 'Content-Type:'
        if defined $request->{body} && !grep {/\Acontent-type\s*:/i} @headers;
    push @command, '-H', 'Host: localhost' unless grep {/\Ahost\s*:/i} @headers;
    push @command, '-H', $_ for @headers;
    push @command, @{ $option{options} || [] };

    my $uri = $request->{uri};
    $uri = "/$uri" unless $uri =~ m{\A/};
    return (@command, "$protocol://" . server_addr() . ':' . server_port_for_client() . $uri);
}

# Runs curl. `error` is what curl printed when it failed.
sub run_curl {
    my ($request, %option) = @_;
    my $files = server_root() . '/tmp/curl';
    my @command = curl_command($request, %option);
    splice @command, 1, 1, '-q', '-D', "$files.head", '-o', "$files.body";
    unlink map {"$files.$_"} qw(head body err);

    my $pid = fork;
    bail_out("fork: $!") unless defined $pid;
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__);
        open STDIN,  '<', '/dev/null';
        open STDERR, '>', "$files.err";
        open STDOUT, '>&', \*STDERR;
        exec {$command[0]} @command or POSIX::_exit(127);
    }

    my $status;
    wait_for($option{timeout} + 5,
        sub { waitpid($pid, WNOHANG) == $pid and defined($status = $?) });
    if (!defined $status) {
        kill KILL => $pid;
        waitpid $pid, 0;
        $status = $?;
    }

    my ($head, $body, $printed) = map { read_file("$files.$_") } qw(head body err);
    my ($last) = $head =~ m{(HTTP/\S+ +(?!1)\d{3}(?:(?!\r\n\r\n).)*\r\n)\r\n\z}s;
    my $response = {raw => $head . $body, status => '', headers => {}, head => '', body => $body};
    if (defined $last) {
        _fill($response, $last, $body, $request->{method});
        $response->{body} = $body;    # curl has undone any transfer encoding
    }
    $response->{error} = sprintf 'curl ended with %d: %s', $status >> 8 || $status, $printed
        if $status != 0;
    return $response;
}

1;
