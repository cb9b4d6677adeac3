# SPDX-License-Identifier: Apache-2.0

# The number of instructions that the module adds to a subrequest without settings does not grow with the number of
# subrequests. They share the pool of their request: a search of the pool for a subrequest's own data would visit the
# data of all subrequests.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use POSIX ':sys_wait_h';
use Test::More;

require_program('nginx', 'valgrind');

my $folder = test_folder();

# More than the module adds to a subrequest, and far less than a visit of some hundreds of others would take.
my $MOST = 3000;

# Visits of so many others would show. And a request with so many is answered in time when the machine is busy: under
# valgrind, 16,000 take 14 seconds of the processor, and send nothing before.
my $MANY = 4000;

# The number of bytes in a slice.
my $SLICE = 64;

start_nginx('services', http => <<"_EOC_");
    keepalive_requests 1000000;
    server {
        listen unix:$folder/plain.sock;
        location / { return 200 "x"; }
        location /file { root $folder; }
    }
_EOC_

# The location of a request for "/N" that makes N subrequests, for each kind.
my %KINDS;
%KINDS = (
    slice => sub {
        my ($count) = @_;
        write_to("$folder/file-$count", 'x' x ($count * $SLICE));
        return "slice $SLICE; proxy_set_header Range \$slice_range; proxy_pass http://kept/file-$count;";
    },
    slice_with_settings => sub {
        my ($count) = @_;
        return $KINDS{slice}->($count) . 'kong_tls_allow_plaintext on; access_by_lua_block { assert(kong.service.set_tls_verify(false)) }';
    },
    ssi => sub {
        my ($count) = @_;
        # Includes one part after the other: how nginx waits for many at once depends on which one is answered first.
        write_to("$folder/page-$count", '<!--# include virtual="/part" wait="yes" -->' x $count);
        return "ssi on; ssi_types *; root $folder; rewrite ^ /page-$count break;";
    },
    capture_multi => sub {
        my ($count) = @_;
        return "content_by_lua_block {
            local all = {}
            for i = 1, $count do all[i] = { '/part' } end
            ngx.say(#{ ngx.location.capture_multi(all) })
        }";
    },
    mirror => sub {
        my ($count) = @_;
        return "mirror /part;\n" x $count . 'proxy_pass http://kept;';
    },
);

# Returns the number of instructions that nginx executes, from start to end, with one such request.
sub instructions {
    my ($kind, $count, $modules) = @_;
    my $socket = "$folder/counted.sock";
    my $out    = "$folder/callgrind.out";
    unlink $socket, $out;
    my $pid = start_counting($out, modules => $modules, http => <<"_EOC_");
    init_by_lua_block { if @{[$modules eq '1' ? 1 : 'nil']} then kong = require "resty.kong.pdk" end }
    upstream kept { server unix:$folder/plain.sock; keepalive 4; }
    server {
        listen unix:$socket;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location / { @{[$KINDS{$kind}->($count)]} }
        location /part { proxy_pass http://kept; }
        location = /started { return 204; }
    }
_EOC_
    is +(http_get($socket, '/'))[0], 200, "$kind, $count subrequests: the request is answered";
    # Repeats the signal: nginx without a master can get one just before it starts to wait for events, and then waits.
    wait_until('the end of nginx', sub { kill 'TERM', $pid; waitpid($pid, WNOHANG) == $pid });
    return slurp($out) =~ /^(?:summary|totals): (\d+)$/m ? $1 : die "valgrind has counted nothing\n";
}

sub start_counting {
    my ($out, %with) = @_;
    my ($accepted, $said) = test_nginx('counted', main => 'daemon off; master_process off;', %with);
    die $said if !$accepted;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDERR, '>', "$folder/valgrind.log" or die "valgrind.log: $!\n";
        exec 'valgrind', '-q', '--tool=callgrind', "--callgrind-out-file=$out",
            'nginx', '-p', $folder, '-c', "$folder/counted.conf", '-e', "$folder/counted.log"
            or die "valgrind: $!\n";
    }
    wait_until('nginx', sub { (http_get("$folder/counted.sock", '/started'))[0] eq '204' });
    return $pid;
}

# Returns the number of instructions for one of many subrequests, without those of the start and the first subrequest.
sub of_one {
    my ($kind, $count, $modules, $first) = @_;
    return (instructions($kind, $count, $modules) - $first) / ($count - 1);
}

for my $kind (qw(slice ssi capture_multi mirror)) {
    my %first = map { ($_ => instructions($kind, 1, $_)) } 1, 'others';
    for my $count (1000, $MANY) {
        my $more = of_one($kind, $count, 1, $first{1}) - of_one($kind, $count, 'others', $first{others});
        cmp_ok $more, '<', $MOST,
            sprintf '%s, %d subrequests: the module adds %.0f instructions to each', $kind, $count, $more;
    }
}

# With settings: slices use those of their request.
my $first = instructions('slice_with_settings', 1, 1);
my ($few, $many) = map { of_one('slice_with_settings', $_, 1, $first) } 1000, 16000;
cmp_ok $many, '<', $few * 1.2,
    sprintf 'slices with settings: %.0f instructions each for 1000, %.0f for %d', $few, $many, $MANY;

done_testing();
