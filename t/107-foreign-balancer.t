# SPDX-License-Identifier: Apache-2.0

# A balancer of another module, with and without nginx's keepalive: the module does not touch the peer data of that
# balancer.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('curl', 'nginx');

my ($lua) = split ' ', $ENV{TEST_NGINX_LOAD_MODULES};
my $fair = ($lua // '') =~ s{[^/]+\z}{ngx_http_upstream_fair_module.so}r;
plan skip_all => 'there is no ngx_http_upstream_fair_module for this nginx' if !-f $fair;

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};

start_nginx('services', http => <<"_EOC_");
    server {
        listen unix:$folder/service.sock ssl;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        ssl_conf_command ClientSignatureAlgorithms RSA-PSS+SHA256:RSA+SHA256;
        return 200 "\$ssl_client_s_dn\\n";
    }
_EOC_
$ENV{TEST_NGINX_LOAD_MODULES} = "$fair $ENV{TEST_NGINX_LOAD_MODULES}";
my %blocks = (alone => 'fair;', kept => 'fair; keepalive 4;', reversed => 'keepalive 4; fair;');
start_nginx('gateway', modules => 1, http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        cert, key = {}, {}
        for _, name in ipairs { "client1", "client-rsa" } do
            cert[name], key[name] = pki.chain("$pki/" .. name), pki.key("$pki/" .. name)
        end
    }
    @{[join '', map {"upstream $_ { server unix:$folder/service.sock; server unix:$folder/service.sock; $blocks{$_} }\n"} sort keys %blocks]}
    server {
        listen unix:$folder/gateway.sock;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert[ngx.var.arg_cert], key[ngx.var.arg_cert])) }
        @{[join '', map {"location /tls/$_ { proxy_pass https://$_; } location /plain/$_ { proxy_pass http://$_; }\n"} sort keys %blocks]}
    }
_EOC_

my ($worker) = workers('gateway');
for my $block (sort keys %blocks) {
    my $status = sub { (http_get("$folder/gateway.sock", $_[0]))[0] };
    for my $turn (1, 2) {
        is($status->("/tls/$block?cert=client-rsa"), '200', "$block: a certificate that the service accepts is a 200");
        is($status->("/tls/$block?cert=client1"), '502', "$block: a certificate that can't be presented is a 502");
        is($status->("/plain/$block?cert=client1"), '500', "$block: TLS settings without TLS are a 500");
    }
}
is_deeply([workers('gateway')], [$worker], 'the worker has not crashed');
unlike(slurp("$folder/gateway.log"), qr/\[(?:crit|alert|emerg)\]/,
    'no entries of level crit, alert or emerg are logged');
done_testing();
