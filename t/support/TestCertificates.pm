# SPDX-License-Identifier: Apache-2.0

package TestCertificates;

# Certificates that scripts/pki does not make, because only one test needs them. They are in their own folder, which
# is $TEST_NGINX_CERTIFICATES.
#
#     issue('name', subject => '/CN=...', extensions => [...], issuer => 'ca', key => 'name of another')
#
# "forged" makes a certificate whose signature is not its issuer's. An issuer is in this folder, or in the PKI.

use strict;
use warnings;

use TestHarness ();
use TestKong;

use Exporter 'import';
use File::Temp ();

our @EXPORT = qw(issue names revocation_list write_certificate_file);

my $folder = File::Temp::tempdir('certificates-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $folder or die "$folder: $!\n";
$ENV{TEST_NGINX_CERTIFICATES} = $folder;
TestHarness::env_to_nginx('TEST_NGINX_CERTIFICATES');

my $number = 1000;
my @EC = qw(-algorithm EC -pkeyopt ec_paramgen_curve:P-256);

sub write_certificate_file {
    my ($name, $text) = @_;
    write_to("$folder/$name", $text);
    chmod 0644, "$folder/$name";
    return "$folder/$name";
}

sub _command {
    my $command = join ' ', map {"'$_'"} @_;
    my $said = `$command 2>&1`;
    die "@_: $said\n" if $?;
    return;
}

sub _path {
    my ($name) = @_;
    return -e "$folder/$name.crt" ? "$folder/$name" : "$ENV{TEST_NGINX_PKI}/$name";
}

# Encodes a length in DER.
sub _length {
    my ($length) = @_;
    return pack 'C', $length if $length < 128;
    my $bytes = pack('N', $length) =~ s/\A\0+//r;
    return pack('C', 0x80 | length $bytes) . $bytes;
}

# Encodes names as in a certificate (RFC 5280, section 4.2.1.6): kinds and bytes, whatever those are.
sub names {
    my @names = @_;
    my $all = '';
    while (my ($kind, $bytes) = splice @names, 0, 2) {
        my $tag = { email => 0x81, dns => 0x82, uri => 0x86, ip => 0x87 }->{$kind} // die $kind;
        $all .= pack('C', $tag) . _length(length $bytes) . $bytes;
    }
    return 'subjectAltName=DER:' . unpack 'H*', "\x30" . _length(length $all) . $all;
}

sub issue {
    my ($name, %of) = @_;
    my $path = "$folder/$name";
    if   ($of{key}) { symlink _path($of{key}) . '.key', "$path.key" or die "$name: $!\n" }
    else            { _command('openssl', 'genpkey', @{ $of{algorithm} // \@EC }, '-out', "$path.key") }
    chmod 0644, "$path.key";
    my $issuer = _path($of{issuer} // 'ca');
    my $request = write_certificate_file("$name.conf", "[req]\ndistinguished_name=dn\n[dn]\n");
    _command('openssl', 'req', '-new', '-config', $request, '-key', "$path.key", '-subj', $of{subject}, '-out', "$path.csr");
    # "openssl x509" can't set dates before OpenSSL 3.4.
    mkdir "$path.ca" or die "$name: $!\n";
    write_certificate_file("$name.ca/index", '');
    my $extensions = CORE::join "\n", 'basicConstraints=critical,CA:' . ($of{authority} ? 'TRUE' : 'FALSE'),
        'subjectKeyIdentifier=hash', 'authorityKeyIdentifier=keyid', @{ $of{extensions} // [] };
    my $conf = write_certificate_file("$name.ca/conf", <<"END");
[ca]
default_ca=it
[it]
database=$path.ca/index
new_certs_dir=$path.ca
serial=$path.ca/serial
default_md=sha256
policy=any
email_in_dn=no
x509_extensions=of
unique_subject=no
[any]
organizationName=optional
organizationalUnitName=optional
commonName=optional
[of]
$extensions
END
    write_certificate_file("$name.ca/serial", sprintf "%06X\n", $of{serial} // ++$number);
    my ($from, $until) = @{ $of{valid} // [2020, 2049] };
    _command('openssl', 'ca', '-batch', '-notext', '-config', $conf, '-cert', "$issuer.crt", '-keyfile', "$issuer.key",
        '-startdate', "${from}0101000000Z", '-enddate', "${until}0101000000Z", '-in', "$path.csr", '-out', "$path.crt");
    _forge("$path.crt") if $of{forged};
    return "$path.crt";
}

# Changes the last bit of a signature.
sub _forge {
    my ($path) = @_;
    _command('openssl', 'x509', '-in', $path, '-outform', 'DER', '-out', "$path.der");
    my $der = slurp("$path.der");
    write_to("$path.der", substr($der, 0, -1) . chr(ord(substr $der, -1) ^ 1));
    _command('openssl', 'x509', '-inform', 'DER', '-in', "$path.der", '-out', $path);
    return;
}

# Makes a CRL of an issuer, with the certificates that it revokes. The CRL is valid for ten years from now on, unless
# years come first: { since => 2025, until => 2030 }. So may its number: { number => '0A' }.
sub revocation_list {
    my %of = ref $_[0] ? %{ shift() } : ();
    my ($name, $issuer, @revoked) = @_;
    my $path = "$folder/$name-crl";
    mkdir $path or die "$name: $!\n";
    write_certificate_file("$name-crl/index", '');
    my $number = '';
    if ($of{number}) {
        write_certificate_file("$name-crl/number", "$of{number}\n");
        $number = "crlnumber=$path/number\ncrl_extensions=of\n";
    }
    my $conf = write_certificate_file("$name-crl/conf", <<"END");
[ca]
default_ca=it
[it]
database=$path/index
default_md=sha256
$number\[of]
authorityKeyIdentifier=keyid
END
    $issuer = _path($issuer);
    my @ca = ('openssl', 'ca', '-config', $conf, '-cert', "$issuer.crt", '-keyfile', "$issuer.key");
    _command(@ca, '-revoke', _path($_) . '.crt') for @revoked;
    my @since = $of{since} ? ('-crl_lastupdate', "$of{since}0101000000Z") : ();
    my @until = $of{until} ? ('-crl_nextupdate', "$of{until}0101000000Z") : ('-crldays', 3650);
    _command(@ca, '-gencrl', @since, @until, '-out', "$folder/$name.crl");
    return;
}

1;
