# SPDX-License-Identifier: Apache-2.0

package TestRelay;

# Relays between two peers of TLS, and breaks off: after this many records (RFC 8446, section 5.1) that one of them
# has sent, with half, some bytes or none of the next record.
#
#     my $port = start_relay("$folder/service.sock");
#     break_off($port, from => 'server', records => 3, part => 'half', how => 'reset');
#
# "how" is close, reset, plain (sends text in place of the rest, then closes), alert (sends a fatal alert, then
# closes), or stall. With offers => 'session', it breaks off only handshakes that offer a session.
# end_connections($port) ends idle connections.

use strict;
use warnings;

use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Socket qw(SOL_SOCKET SO_LINGER);

use TestKong;
use TestProcesses;

use Exporter 'import';

our @EXPORT = qw(break_off end_connections let_pass start_relay);

my @children;
my $parent = $$;

sub _instructions { my ($port) = @_; return test_folder() . "/relay-$port" }

# Applies to connections that come after this.
sub break_off {
    my ($port, %with) = @_;
    write_to(_instructions($port), join ' ', @with{qw(from records part how)}, $with{offers} // 'anything');
    return;
}

sub let_pass {
    my ($port) = @_;
    write_to(_instructions($port), 'nobody 0 none close');
    return;
}

# Ends all connections.
sub end_connections {
    my ($port) = @_;
    write_to(_instructions($port), 'nobody 0 none end');
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "relay: $@\n";
    # Waits until the relay has done so.
    sysread $socket, my $nothing, 1;
    let_pass($port);
    return;
}

sub start_relay {
    my ($to) = @_;
    my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1') or die "relay: $@\n";
    my $port = $listener->sockport;
    let_pass($port);
    my $child = fork // die "fork: $!\n";
    if (!$child) {
        # prove waits for whoever holds its pipes.
        open STDOUT, '>', '/dev/null';
        $SIG{PIPE} = 'IGNORE';
        eval { _relay($listener, $to); 1 } or warn $@;
        require POSIX;
        POSIX::_exit(0);
    }
    push @children, $child;
    return $port;
}

END {
    local $?;
    if ($$ == $parent && @children) {
        kill 'KILL', @children;
        waitpid $_, 0 for @children;
    }
}

sub _relay {
    my ($listener, $to) = @_;
    my $port = $listener->sockport;
    my %peer;
    while (1) {
        my $set = '';
        vec($set, fileno $_->{socket}, 1) = 1 for grep { !$_->{stalls} } values %peer;
        vec($set, fileno $listener, 1) = 1;
        my $ready = $set;
        my $found = select $ready, undef, undef, 1;
        last if !kill 0, $parent;
        next if $found <= 0;
        if (vec $ready, fileno $listener, 1) {
            my $client = $listener->accept or next;
            my $server = IO::Socket::UNIX->new(Peer => $to);
            if (!$server) { close $client; next }
            my ($from, $records, $part, $how, $offers) = split ' ', slurp(_instructions($port));
            if ($how eq 'end') {
                close $_ for $client, $server, map { $_->{socket} } values %peer;
                %peer = ();
                next;
            }
            my %side = (client => { socket => $client }, server => { socket => $server });
            for my $name (keys %side) {
                my $side = $side{$name};
                @$side{qw(to buffer left part how)} = ($side{ $name eq 'client' ? 'server' : 'client' }, '', -1, $part, $how);
                $side->{left} = $records if $name eq $from;
                $side->{offers} = $offers if $name eq 'client';
                $peer{ fileno $side->{socket} } = $side;
            }
        }
        # A copy, since two sides are deleted at a time.
        for my $side (my @all = values %peer) {
            my $number = fileno $side->{socket} // next;
            next unless vec $ready, $number, 1;
            next unless $peer{$number} && $peer{$number} == $side;
            my $more = sysread $side->{socket}, $side->{buffer}, 65536, length $side->{buffer};
            if (!$more || _pass($side)) {
                for my $one ($side, $side->{to}) {
                    delete $peer{ fileno $one->{socket} };
                    close $one->{socket};
                }
            }
        }
    }
    return;
}

# Passes on whole records. Returns whether the connection is over.
sub _pass {
    my ($side) = @_;
    if (($side->{offers} // '') eq 'session') {
        _record($side->{buffer}) or return 0;
        $_->{left} = -1 for _offers_session($side->{buffer}) ? () : ($side, $side->{to});
        $side->{offers} = 'known';
    }
    if ($side->{left} < 0) {
        syswrite $side->{to}{socket}, $side->{buffer};
        $side->{buffer} = '';
        return 0;
    }
    while ($side->{left} > 0) {
        my $length = _record($side->{buffer}) or return 0;
        syswrite $side->{to}{socket}, substr $side->{buffer}, 0, $length, '';
        $side->{left}--;
    }
    my $length = 0;
    if ($side->{part} ne 'none') {
        $length = _record($side->{buffer}) or return 0;
        $length = $side->{part} eq 'half' ? int $length / 2 : 3;
    }
    syswrite $side->{to}{socket}, substr $side->{buffer}, 0, $length;
    if ($side->{how} eq 'stall') {
        # Until the other side gives up.
        $side->{stalls} = 1;
        return 0;
    }
    syswrite $side->{to}{socket}, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nplain\n" if $side->{how} eq 'plain';
    # After a ClientHello, the alert is for the client, which has no key yet.
    if ($side->{how} eq 'alert') {
        my $client = $side->{offers} ? $side->{socket} : $side->{to}{socket};
        syswrite $client, pack 'C n n C2', 21, 0x0303, 2, 2, 80;
    }
    if ($side->{how} eq 'reset') {
        setsockopt $_, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 for $side->{socket}, $side->{to}{socket};
    }
    return 1;
}

# Returns whether a ClientHello offers a session: a ticket of TLS 1.2 (RFC 5077), or a pre_shared_key.
sub _offers_session {
    my ($hello) = @_;
    # Record, handshake, version and random.
    my (undef, undef, $extensions) = unpack 'C/a n/a a*', substr $hello, 5 + 4 + 2 + 32;
    my (undef, $rest) = unpack 'C/a a*', $extensions;
    my $list = unpack 'n/a', $rest;
    while (length $list) {
        my ($type, $data) = unpack 'n n/a', $list;
        return 1 if $type == 41 || $type == 35 && length $data;
        substr $list, 0, 4 + length $data, '';
    }
    return 0;
}

# Returns the length of the first record, or 0 if it is not complete.
sub _record {
    my ($buffer) = @_;
    return 0 if length $buffer < 5;
    my $length = 5 + unpack 'x3 n', $buffer;
    return length $buffer >= $length ? $length : 0;
}

1;
