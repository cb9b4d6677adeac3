# SPDX-License-Identifier: Apache-2.0

# What the README and the book show is true: their commands are executed.

use strict;
use warnings;

use lib 't/support';
use TestConsoles qw(steps);
use TestKong;

use File::Temp qw(tempdir);
use IO::Socket::INET;
use Test::More;
use Time::HiRes ();

my $root = project_root();
my $readme = slurp('README.md');

my ($configuration) = $readme =~ /^```nginx\n(.*?)^```$/ms;
is $configuration, slurp('nginx-conf/first.conf'), 'the configuration in the README is nginx-conf/first.conf';
my $without_comment = $configuration =~ s/\A(?:#.*\n)+\n//r;
contains(slurp('docs/start/first-gateway.md'), qr/^```nginx\n\Q$without_comment\E```$/m,
    'so is that of the first gateway');

# Uses a folder of its own that looks like this one, and free ports.
my $folder = tempdir(CLEANUP => 1);
# As in a checkout, workers of another user may read it.
chmod 0755, $folder or die "$folder: $!\n";
for my $name (qw(objs scripts src)) {
    symlink "$root/$name", "$folder/$name" or die "$name: $!\n";
}
mkdir "$folder/nginx-conf" or die $!;
my @ports = (8080, 8443, 8444, 8445, 8446);
my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $@ } @ports;
my %port;
@port{@ports} = map { $_->sockport } @sockets;
close $_ for @sockets;
my $ports = join '|', @ports;
my $with_free_ports = sub { $_[0] =~ s/(127\.0\.0\.1:|port[ =]+)($ports)/$1$port{$2}/gr };

sub write_file {
    my ($name, $text) = @_;
    open my $file, '>', "$folder/$name" or die "$name: $!\n";
    print $file $with_free_ports->($text);
    close $file or die "$name: $!\n";
    return;
}
write_file($_, slurp($_)) for glob 'nginx-conf/*.{conf,lua}';
write_file('first.conf', $configuration);

# Checks that the text matches. Unlike "like", it doesn't print the whole text of a file if it doesn't.
sub contains {
    my ($text, $pattern, $what) = @_;
    return ok $text =~ $pattern, $what;
}

# Waits for the end of the nginx that a configuration has started, which holds the ports until then.
sub wait_for_end {
    my ($configuration) = @_;
    my ($pid) = slurp("$folder/$configuration") =~ /^pid\s+(\S+);/m or return;
    my $until = time + 10;
    Time::HiRes::sleep(0.01) while -e "$folder/$pid" && time < $until;
    return;
}

# Executes each command of a page, in order, and compares what it prints.
my $executed = 0;
for my $page ('README.md', glob 'docs/{*,*/*}.md') {
    for my $step (steps(slurp($page), 't/200-documentation.t')) {
        my ($command, $expected) = @$step;
        $executed++;
        # Whoever runs the tests has built the module already.
        next if $command eq './scripts/build';
        my $real = $with_free_ports->($command);
        # A server that stays behind must not hold our pipe open.
        my $said = $command =~ /^nginx.*conf$/
            ? `cd $folder && { $real; } >start.log 2>&1; cat start.log`
            : `cd $folder && { $real; } 2>&1`;
        my $status = $? >> 8;
        wait_for_end($1) if $command =~ /^nginx .*-c (\S+) -s quit$/;
        # Removes "signal process started", which `nginx -s` prints.
        $said =~ s/^.* \[notice\] .*\n//mg;
        # Removes a warning of nginx 1.25.1 and later; earlier versions don't know the http2 directive.
        $said =~ s/^.* \[warn\] .*the "listen \.\.\. http2" directive is deprecated.*\n//mg;
        # Removes a warning that an ordinary user gets.
        $said =~ s/^.* \[warn\] the "user" directive makes sense only .*\n//mg;
        is $status, 0, "$page: \$ $command succeeds";
        is $said, $with_free_ports->($expected // ''), 'the command prints what the page shows';
    }
}
ok $executed >= 20, 'at least 20 commands are executed';

# The commands that try a service without nginx, with the values of an example.
{
    my ($script) = slurp('docs/operations/bad-gateway.md') =~ /executed by \S+ -->\n```sh\n(.*?)^```$/ms
        or BAIL_OUT('docs/operations/bad-gateway.md has no commands in sh');
    write_file('try-service.sh', $script);
    is system("cd $folder && nginx -p . -c bad-gateway.conf"), 0, 'the example starts';
    my $said = `cd $folder && sh -e try-service.sh 2>&1`;
    is $?, 0, 'the commands in docs/operations/bad-gateway.md succeed';
    contains($said, qr/^hello \[CN=client-1,O=Test\]$/m, 'curl sends a request with the certificate');
    contains($said, qr/^\s*Verify return code: 0 \(ok\)$/m, 's_client verifies the service');
    contains($said, qr/^Requested Signature Algorithms: /m, 's_client shows the signatures that the service takes');
    system "cd $folder && nginx -p . -c bad-gateway.conf -s quit 2>/dev/null";
    wait_for_end('bad-gateway.conf');
}

END {
    for my $name ($folder ? glob "$folder/*.pid" : ()) {
        open my $pid, '<', $name or next;
        kill 'TERM', <$pid>;
    }
}

# The links of the pages that are not in the book lead somewhere. scripts/book checks those of the book.
sub anchors_of {
    my ($page) = @_;
    my $text = slurp($page) =~ s/^```.*?^```$//gmsr;
    return map { lc($_) =~ s/[^\w\- ]//gr =~ tr/ /-/r } $text =~ /^#+ (.+)$/mg;
}
for my $page (qw(README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md)) {
    my $text = slurp($page);
    my @links = grep { !/^[a-z]+:/ } $text =~ /\]\(([^)\s]+)\)/g, $text =~ /^\[[^\]]+\]: (\S+)$/mg;
    my %defined = map { $_ => 1 } $text =~ /^\[([^\]]+)\]: /mg;
    ok $defined{$_}, "$page defines [$_]" for $text =~ /\]\[([^\]]+)\]/g;
    for my $link (@links) {
        my ($file, $anchor) = $link =~ /^([^#]*)#?(.*)$/;
        $file = $page if $file eq '';
        ok -e $file && ($anchor eq '' || grep { $_ eq $anchor } anchors_of($file)), "$page: $link leads somewhere";
    }
}

# Each console is executed, or its page says why not.
for my $page ('README.md', glob 'docs/{*,*/*}.md') {
    my @lines = split /\n/, slurp($page);
    for my $number (grep { $lines[$_] =~ /^ *```console$/ } 0 .. $#lines) {
        my $before = $number > 0 ? $lines[$number - 1] : '';
        ok $before =~ /^ *<!-- (?:executed by \S+|not executed: .+) -->$/,
            "$page, line $number: executed, or not for a reason";
    }
}

# No page is only a title. Those that include a file of the project have that.
for my $page (glob 'docs/{*,*/*}.md') {
    my $text = slurp($page);
    ok $text =~ /^\{\{#include /m || ($text =~ tr/\n//) > 10, "$page has text";
}

# The first page is short, and has the figures of the last measurement.
cmp_ok $readme =~ tr/\n//, '<=', 150, 'README.md has at most 150 lines';
my ($headlines) = $readme =~ /^<!-- headlines -->\n(.+?)^<!-- \/headlines -->$/ms;
contains(slurp('docs/performance.md'), qr/\Q$headlines\E/, 'README.md has the headlines of docs/performance.md');

# Each file names its licence.
{
    my @files = map { glob } qw(.ci/run scripts/* build.rs bench/* t/*.t t/support/* t/support/lua/*);
    my @folders = ('src', 't/lib');
    require File::Find;
    File::Find::find({ no_chdir => 1, wanted => sub { push @files, $_ if -f && /\.(?:rs|c|lua|pm)$/ } }, @folders);
    my @without = grep { -f && slurp($_) !~ /\A(?:#!.*\n#\n)?\S+ SPDX-License-Identifier: Apache-2\.0$/m } @files;
    is_deeply \@without, [], 'each file names its licence';
    cmp_ok @files, '>', 200, 'more than 200 files are checked';
}

done_testing();
