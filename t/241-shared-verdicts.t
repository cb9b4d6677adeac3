# SPDX-License-Identifier: Apache-2.0

# What one worker has found out about a client's chain, no other finds out again: neither with mtls_auth nor with
# header_cert_auth, and only for the same policy.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('nginx');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();
mkdir "$folder/none" or die "$folder/none: $!\n";

sub gateway {
    my ($cache) = @_;
    return <<"_EOC_";
    $cache
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        certificates = {}
        for _, name in ipairs { "client1", "client2", "client-other" } do
            local text = pki.read(name)
            certificates[name] = ngx.escape_uri(text:match("%-%-%-%-%-BEGIN.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-"))
        end
        local function policy(with)
            local options = {
                header = "X-Client-Cert", encoding = "url", trusted = { "unix:" },
                ca = { pem = pki.read("ca") },
                consumers = { { name = "one", common_name = "client-1" } },
            }
            for option, value in pairs(with) do
                options[option] = value
            end
            return assert(require("resty.kong.plugins.header_cert_auth").new(options))
        end
        policies = {
            one = policy {},
            again = policy {},
            depth = policy { depth = 5 },
            consumers = policy { consumers = { { name = "other", common_name = "client-1" } } },
            header = policy { header = "X-Other-Cert" },
            store = policy { ca = { pem = pki.read("ca") .. pki.read("other-ca") } },
            folder = policy { ca = { pem = pki.read("ca"), dir = "$folder/none" } },
        }
    }
    server {
        listen unix:$folder/gateway.sock;
        location /t {
            rewrite_by_lua_block {
                local name = ngx.var.arg_policy == "header" and "X-Other-Cert" or "X-Client-Cert"
                ngx.req.set_header(name, certificates[ngx.var.arg_client])
            }
            access_by_lua_block { policies[ngx.var.arg_policy]:access() }
            content_by_lua_block { ngx.print(ngx.var.http_x_consumer_username, " ", ngx.var.http_x_client_cert_dn) }
        }
    }
    server {
        listen unix:$folder/status.sock;
        kong_tls_status;
    }
_EOC_
}

# Sends a request to a worker. Returns what it answers, and whether it had to verify the chain.
sub judged {
    my ($policy, $client, $worker) = @_;
    my $misses = sub {
        my $text = (http_get("$folder/status.sock", '/?format=prometheus'))[2];
        return $text =~ /^kong_tls_cache_misses_total\{cache="verdicts"\} (\d+)$/m ? $1 : die $text;
    };
    my $before = $misses->();
    my ($status, undef, $body) = alone('gateway', $worker, sub {
        http_get("$folder/gateway.sock", "/t?policy=$policy&client=$client");
    });
    return ($status eq '200' ? $body : $status) . ($misses->() > $before ? ' verified' : ' known');
}

my $ONE = 'one CN=client-1,O=Test';

start_nginx('gateway', modules => 1, workers => 2, http => gateway(''));
my ($first, $second) = workers('gateway');
is judged('one', 'client1', $first),  "$ONE verified", 'the first worker verifies a chain';
is judged('one', 'client1', $first),  "$ONE known",    'once';
is judged('one', 'client1', $second), "$ONE known",    'the second worker has the verdict of the first';
is judged('again', 'client1', $second), "$ONE known",  'it is that of an equal policy, too';
is judged('one', 'client2', $first),  '401 verified',  'a client without a consumer';
is judged('one', 'client2', $second), '401 known',     'is refused by the second worker at once';
is judged('one', 'client-other', $first),  '401 verified', 'a stranger';
is judged('one', 'client-other', $second), '401 known',    'is refused by the second worker at once';
is judged('depth', 'client1', $second),     "$ONE verified", 'another depth is another policy';
is judged('header', 'client1', $second),    "$ONE verified", 'so is another header';
is judged('store', 'client1', $second),     "$ONE verified", 'so is another store';
is judged('consumers', 'client1', $second), "other CN=client-1,O=Test verified", 'so are other consumers';
is judged('folder', 'client1', $_), "$ONE verified", "what a store finds in a folder is known to worker $_ only"
    for $first, $second;

reload('gateway');
($first, $second) = workers('gateway');
is judged('one', 'client1', $first), "$ONE known", 'a reload keeps verdicts';
is((http_get("$folder/gateway.sock", '/t?policy=one&client=client2'))[0], 401, 'and refusals');
stop_nginx('gateway');

start_nginx('gateway', modules => 1, workers => 2, http => gateway('kong_tls_session_cache off;'));
is judged('one', 'client1', $_), "$ONE verified", "without a zone, worker $_ verifies by itself" for workers('gateway');
stop_nginx('gateway');

done_testing();
