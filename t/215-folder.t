# SPDX-License-Identifier: Apache-2.0

# Folders of certificates and CRLs (`dir` of x509.store): a file that can't be read does not count as missing.

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

# Creates a folder with these files, by name, and their contents.
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
        -- The master creates the stores, as root if the test runs as root.
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

is verdict('complete', 'good'), 'true', 'a good certificate is accepted when all files can be read';
like verdict('complete', 'bad'), qr/\Acertificate revoked \(certificate 1/,
    'a revoked certificate is refused when all files can be read';

is verdict('later', 'bad'), 'true', 'a certificate is accepted before there is a CRL that revokes it';
put("later/$hash.r1", $text{new});
like verdict('later', 'bad'), qr/\Acertificate revoked/, 'a CRL that was added later applies';
put("later/$hash.r2", substr $text{new}, 0, 200);
like verdict('later', 'good'), missing("later/$hash.r2", 'line 1: "-----END X509 CRL-----" is missing'),
    'a truncated CRL refuses all certificates';
like verdict('later', 'bad'), qr/\Acertificate revoked/, 'revocations in the other CRLs still apply';
put("later/$hash.r2", $text{new});
is verdict('later', 'good'), 'true', 'a good certificate is accepted when the CRL is complete again';

for my $text (['cut', ''], ['cut', "garbage\n"], ['cut', $text{ca}], ['cut', $text{new} =~ s/^(\w)/!$1/mr]) {
    put("cut/$hash.r1", $text->[1]);
    like verdict('cut', 'good'), missing("cut/$hash.r1", '.'),
        'a file that is no CRL is an error: ' . substr $text->[1] =~ s/\n/ /gr, 0, 40;
}

symlink "$folder/nowhere", "$folder/link/$hash.r1" or die "link: $!\n";
like verdict('link', 'good'), missing("link/$hash.r1", 'No such file'), 'a link to a missing file is an error';
symlink "$folder/loop/$hash.r1", "$folder/loop/$hash.r1" or die "link: $!\n";
like verdict('loop', 'good'), missing("loop/$hash.r1", 'Too many levels'), 'a link to itself is an error';

put("mode/$hash.r1", $text{new});
chmod 0, "$folder/mode/$hash.r1" or die "mode: $!\n";
like verdict('mode', 'good'), missing("mode/$hash.r1", 'Permission denied'),
    'a CRL that the worker can not read is an error';
is verdict('unchecked', 'good'), 'true', 'an unreadable CRL does not matter without check_revocation';
chmod 0644, "$folder/mode/$hash.r1" or die "mode: $!\n";
like verdict('mode', 'bad'), qr/\Acertificate revoked/, 'a CRL applies when the worker can read it again';

is verdict('searched', 'good'), 'true', 'a folder is used that the worker can look into';
chmod 0600, "$folder/searched" or die "searched: $!\n";
like verdict('searched', 'good'), missing('searched', 'Permission denied'),
    'a folder that the worker can no longer look into is an error';
chmod 0755, "$folder/searched" or die "searched: $!\n";
is verdict('searched', 'good'), 'true', 'a folder is used when the worker can look into it again';

is verdict('renamed', 'good'), 'true', 'a folder is used before it is renamed';
rename "$folder/renamed", "$folder/elsewhere" or die "renamed: $!\n";
like verdict('renamed', 'good'), missing('renamed', 'No such file'), 'a folder that was renamed is an error';

chmod 0, "$folder/certificates/$hash.0" or die "certificates: $!\n";
like verdict('certificates', 'good'), qr/\Aunable to get local issuer certificate \(.*\); "FOLDER\/certificates\/$hash\.0" can't be read: Permission denied/,
    'a CA file that the worker can not read is an error';
chmod 0700, "$folder/gone" or die "gone: $!\n";
like verdict('gone', 'good'), qr/\Aunable to get local issuer certificate \(.*\); "FOLDER\/gone" can't be read: Permission denied/,
    'a folder that only the master can look into is an error';

# Each problem is logged once, however often the file is needed.
my $log = slurp("$folder/gateway.log");
my %times;
$times{$1}++ while $log =~ m{\[error\] [^"]*"\Q$folder\E/(\S+)" can't be read}g;
is_deeply [map { $times{$_} } "later/$hash.r2", "link/$hash.r1", 'renamed', 'gone'], [1, 1, 1, 1],
    'each problem is logged once' or diag $log;

done_testing();
