# SPDX-License-Identifier: Apache-2.0

# Folders of certificates and lists (`dir` of x509.store): what can't be read is not as if it were not there.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use Test::More;

require_program('curl', 'nginx', 'openssl');

my $folder = test_folder();
my $pki    = $ENV{TEST_NGINX_CERTIFICATES};

issue('good', subject => '/CN=good');
issue('bad', subject => '/CN=bad');
revocation_list({ since => 2025 }, 'old', 'ca');
revocation_list('new', 'ca', 'bad');

sub hash { return `openssl x509 -in $ENV{TEST_NGINX_PKI}/ca.crt -noout -subject_hash` =~ s/\s//gr }
my $hash = hash();

# A folder, and what is in it: names of files, with what they hold.
sub folder {
    my ($name, %files) = @_;
    mkdir "$folder/$name" or die "$name: $!\n";
    put("$name/$_", $files{$_}) for keys %files;
    return;
}

sub put {
    my ($name, $text) = @_;
    write_to("$folder/$name", $text);
    chmod 0644, "$folder/$name" or die "$name: $!\n";
    return;
}

my %text = (ca => slurp("$ENV{TEST_NGINX_PKI}/ca.crt"), old => slurp("$pki/old.crl"), new => slurp("$pki/new.crl"));
my %good = ("$hash.0" => $text{ca}, "$hash.r0" => $text{old});

my @FOLDERS = qw(complete later cut link loop mode searched gone renamed certificates);
folder($_, %good) for @FOLDERS;
put("complete/$hash.r1", $text{new});

start_nginx('gateway', modules => 1, user => 'nobody nogroup', workers => 1, http => <<"_EOC_");
    init_by_lua_block {
        x509 = require "resty.kong.x509"
        function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        chains = { good = assert(x509.chain(read("good.crt"))), bad = assert(x509.chain(read("bad.crt"))) }
        -- The master makes them, as root if the test is.
        stores = {}
        for name in ("@FOLDERS"):gmatch("%S+") do
            stores[name] = assert(x509.store { dir = "$folder/" .. name, check_revocation = true })
        end
        unchecked = assert(x509.store { dir = "$folder/mode" })
    }
    server {
        listen unix:$folder/gateway.sock;
        location / {
            content_by_lua_block {
                local store = stores[ngx.var.arg_store] or unchecked
                local ok, err = store:verify(chains[ngx.var.arg_chain])
                ngx.print(tostring(ok or err))
            }
        }
    }
_EOC_

sub verdict {
    my ($store, $chain) = @_;
    return (http_get("$folder/gateway.sock", "/?store=$store&chain=$chain"))[2] =~ s/\Q$folder\E/FOLDER/r;
}

sub missing {
    my ($path, $problem) = @_;
    return qr/\Aunable to get certificate CRL \(certificate \d: [^)]*\); "\QFOLDER\/$path\E" can't be read: $problem/;
}

is verdict('complete', 'good'), 'true', 'all of it can be read: good';
like verdict('complete', 'bad'), qr/\Acertificate revoked \(certificate 1/, 'all of it can be read: revoked';

is verdict('later', 'bad'), 'true', 'no list says so yet';
put("later/$hash.r1", $text{new});
like verdict('later', 'bad'), qr/\Acertificate revoked/, 'a list that is there since';
put("later/$hash.r2", substr $text{new}, 0, 200);
like verdict('later', 'good'), missing("later/$hash.r2", 'line 1: "-----END X509 CRL-----" is missing'), 'another, cut off: nobody is good';
like verdict('later', 'bad'), qr/\Acertificate revoked/, '... and what is known counts';
put("later/$hash.r2", $text{new});
is verdict('later', 'good'), 'true', '... until it is whole';

for my $text (['cut', ''], ['cut', "garbage\n"], ['cut', $text{ca}], ['cut', $text{new} =~ s/^(\w)/!$1/mr]) {
    put("cut/$hash.r1", $text->[1]);
    like verdict('cut', 'good'), missing("cut/$hash.r1", '.'), 'a list that is none: ' . substr $text->[1] =~ s/\n/ /gr, 0, 40;
}

symlink "$folder/nowhere", "$folder/link/$hash.r1" or die "link: $!\n";
like verdict('link', 'good'), missing("link/$hash.r1", 'No such file'), 'a link to nowhere';
symlink "$folder/loop/$hash.r1", "$folder/loop/$hash.r1" or die "link: $!\n";
like verdict('loop', 'good'), missing("loop/$hash.r1", 'Too many levels'), 'a link to itself';

put("mode/$hash.r1", $text{new});
chmod 0, "$folder/mode/$hash.r1" or die "mode: $!\n";
like verdict('mode', 'good'), missing("mode/$hash.r1", 'Permission denied'), 'a list that the worker may not read';
is verdict('unchecked', 'good'), 'true', 'where lists are not asked for, it is of no consequence';
chmod 0644, "$folder/mode/$hash.r1" or die "mode: $!\n";
like verdict('mode', 'bad'), qr/\Acertificate revoked/, '... that it may read now';

is verdict('searched', 'good'), 'true', 'a folder';
chmod 0600, "$folder/searched" or die "searched: $!\n";
like verdict('searched', 'good'), missing('searched', 'Permission denied'), '... that the worker may no longer look into';
chmod 0755, "$folder/searched" or die "searched: $!\n";
is verdict('searched', 'good'), 'true', '... and may again';

is verdict('renamed', 'good'), 'true', 'a folder';
rename "$folder/renamed", "$folder/elsewhere" or die "renamed: $!\n";
like verdict('renamed', 'good'), missing('renamed', 'No such file'), '... that is not there any more';

chmod 0, "$folder/certificates/$hash.0" or die "certificates: $!\n";
like verdict('certificates', 'good'), qr/\Aunable to get local issuer certificate \(.*\); "FOLDER\/certificates\/$hash\.0" can't be read: Permission denied/,
    'an authority that the worker may not read';
chmod 0700, "$folder/gone" or die "gone: $!\n";
like verdict('gone', 'good'), qr/\Aunable to get local issuer certificate \(.*\); "FOLDER\/gone" can't be read: Permission denied/,
    'a folder that only the master could look into';

# Once each, however often it is needed.
my $log = slurp("$folder/gateway.log");
my %times;
$times{$1}++ while $log =~ m{\[error\] [^"]*"\Q$folder\E/(\S+)" can't be read}g;
is_deeply [map { $times{$_} } "later/$hash.r2", "link/$hash.r1", 'renamed', 'gone'], [1, 1, 1, 1], 'the log says so' or diag $log;

done_testing();
