# SPDX-License-Identifier: Apache-2.0

# kong_tls_session_cache shared:name:size: all workers share the sessions with services. A ticket is used once over all of
# them, and a worker that is killed takes only what it was about to change with it.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

sub service {
    my ($name, $rest) = @_;
    return <<"_EOC_";
    server {
        listen unix:$folder/$name.sock ssl;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $pki/ca.crt;
        keepalive_timeout 0;
        $rest
        return 200 "client=\$ssl_client_s_dn";
    }
_EOC_
}

# The service is one process, so that its tickets are its own.
start_nginx('services', http => service('tls12', 'ssl_protocols TLSv1.2;') . service('tls13', 'ssl_protocols TLSv1.3;'));

sub gateway {
    my ($cache) = @_;
    my $locations = join '', map {<<"_EOC_"} qw(tls12 tls13);
        location /$_ {
            access_by_lua_block {
                local name = ngx.var.arg_client
                if name then
                    assert(kong.service.set_tls_cert_key(cert[name], key[name]))
                end
                assert(kong.service.set_tls_verify(true))
                if ngx.var.arg_store then
                    assert(kong.service.set_tls_verify_store(stores[ngx.var.arg_store]))
                end
            }
            proxy_pass https://unix:$folder/$_.sock:/;
        }
_EOC_
    return <<"_EOC_";
    $cache
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local ssl, x509 = require "ngx.ssl", require "resty.kong.x509"
        cert, key, stores = {}, {}, {}
        local function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        for _, name in ipairs { "client1", "client2" } do
            cert[name] = assert(ssl.parse_pem_cert(read(name .. ".crt")))
            key[name] = assert(ssl.parse_pem_priv_key(read(name .. ".key")))
        end
        stores.text = assert(x509.store { pem = read("ca.crt") })
        stores.folder = assert(x509.store { pem = read("ca.crt"), dir = "$folder/none" })
    }
    server {
        listen unix:$folder/gateway.sock;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_ssl_name service.test;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $pki/ca.crt;
        add_header X-Reused \$kong_upstream_ssl_session_reused;
        add_header X-Worker \$pid;
$locations
    }
    server {
        listen unix:$folder/status.sock;
        kong_tls_status;
    }
_EOC_
}

mkdir "$folder/none" or die "$folder/none: $!\n";

sub start {
    my ($cache, $workers) = @_;
    start_nginx('gateway', modules => 1, workers => $workers // 2, http => gateway($cache));
    return;
}

# Returns whether a request resumed a session: "r" or ".", and what the service said.
sub request {
    my ($uri, $worker) = @_;
    my @answer = $worker ? alone('gateway', $worker, sub { http_get("$folder/gateway.sock", $uri) })
        : http_get("$folder/gateway.sock", $uri);
    return "@answer" if $answer[0] ne '200';
    my ($reused, $by) = $answer[1] =~ /^X-Reused: (.).*^X-Worker: (\d+)/ms;
    die "$by is not $worker\n" if $worker && $by != $worker;
    return "$reused $answer[2]";
}

my ($NONE, $ONE, $TWO) = ('client=', 'client=CN=client-1,O=Test', 'client=CN=client-2,O=Test');

start('');
my ($first, $second) = workers('gateway');

# ---- one session, two workers --------------------------------------------------------------------

for my $of (qw(tls12 tls13)) {
    is request("/$of?client=client1", $first),  ". $ONE", "$of: the first request makes a session";
    is request("/$of?client=client1", $second), "r $ONE", "$of: the other worker resumes it";
    is request("/$of?client=client2", $second), ". $TWO", "$of: another certificate does not";
    is request("/$of?client=client2", $first),  "r $TWO", "$of: its own session is resumed";
    is request("/$of",                $first),  ". $NONE", "$of: nor does a request without one";
    is request("/$of?client=client1", $_), "r $ONE", "$of: again, in $_" for $second, $first, $second;
}

# ---- what is a worker's own ----------------------------------------------------------------------

is request('/tls12?store=text', $first),  ". $NONE", 'a store of a text';
is request('/tls12?store=text', $second), "r $NONE", 'a store of a text means the same to all workers';
# The first session of a store is for one that may never be used again.
is request('/tls12?store=folder', $first),  ". $NONE", 'a store with a folder';
is request('/tls12?store=folder', $first),  "r $NONE", 'is known to its worker';
is request('/tls12?store=folder', $second), ". $NONE", 'but not to the other one';

# ---- a reload ------------------------------------------------------------------------------------

reload('gateway');
($first, $second) = workers('gateway');
for my $of (qw(tls12 tls13)) {
    is request("/$of?client=client1", $first),  "r $ONE", "$of: a session is resumed after a reload";
    is request("/$of?client=client2", $second), "r $TWO", "$of: each by its own identity";
    is request("/$of?client=client2", $first),  "r $TWO", "$of: in each worker";
}
is request('/tls12?store=text',   $second), "r $NONE", 'a store of a text means the same after a reload';
is request('/tls12?store=folder', $first),  ". $NONE", 'a store with a folder does not';

stop_nginx('gateway');

# ---- another zone of that name -------------------------------------------------------------------

my ($accepted, $said) = test_nginx('another', modules => 1, http => 'lua_shared_dict kong_tls 1m;');
ok $accepted, 'another module may have a zone of the name that is used without a directive';
like $said, qr/\[warn\] .*another module has a shared memory zone "kong_tls"/, 'this is said';
($accepted, $said) = test_nginx('another', modules => 1,
    http => 'lua_shared_dict shared 1m; kong_tls_session_cache shared:shared:1m;');
ok !$accepted, 'not of the name in the directive';
like $said, qr/\[emerg\] .*"kong_tls_session_cache" directive could not make its shared memory zone/, 'this is said too';

done_testing();
