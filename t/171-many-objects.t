# SPDX-License-Identifier: Apache-2.0

# More stores, certificates and clients than the tables are made for: nothing is evicted that an identity, a kept
# connection or a session depends on.

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

# The number of stores, and of certificates.
my $MANY = 1100;

start_nginx('gateway', modules => 1, connections => 8192, main => 'worker_rlimit_nofile 16384;', http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local ssl = require "ngx.ssl"
        local x509 = require "resty.kong.x509"
        local function read(name)
            local file = assert(io.open("$pki/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        stores, texts, chains = {}, {}, {}
        key = assert(ssl.parse_pem_priv_key(read("client1.key")))
        for number = 0, $MANY - 1 do
            -- The same contents in another object. What a store finds in a folder is not known before: so each of
            -- them is another one.
            stores[number] = assert(x509.store { file = "$pki/ca.crt", dir = "$folder/none" })
            texts[number] = assert(x509.store { file = "$pki/ca.crt", pem = read("ca.crt") })
            chains[number] = assert(ssl.parse_pem_cert(read("client1.crt")))
        end
    }
    upstream service {
        server unix:$folder/service.sock;
        kong_tls_keepalive 2000 requests=100000;
    }
    upstream small {
        server unix:$folder/service.sock;
        kong_tls_keepalive 20;
    }
    server {
        listen unix:$folder/gateway.sock;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_ssl_name service.test;
        location /store {
            rewrite_by_lua_block {
                assert(kong.service.set_tls_verify_store(stores[tonumber(ngx.var.arg_n)]))
                assert(kong.service.set_tls_verify(true))
            }
            proxy_pass https://service/;
        }
        location /text {
            rewrite_by_lua_block {
                assert(kong.service.set_tls_verify_store(texts[tonumber(ngx.var.arg_n)]))
                assert(kong.service.set_tls_verify(true))
            }
            proxy_pass https://service/;
        }
        location /certificate {
            rewrite_by_lua_block {
                assert(kong.service.set_tls_cert_key(chains[tonumber(ngx.var.arg_n)], key))
            }
            proxy_pass https://service/;
        }
        location /small {
            rewrite_by_lua_block {
                assert(kong.service.set_tls_verify_store(stores[tonumber(ngx.var.arg_n)]))
                assert(kong.service.set_tls_verify(true))
            }
            proxy_pass https://small/;
        }
        location /anew {
            rewrite_by_lua_block {
                local x509 = require "resty.kong.x509"
                local store = assert(x509.store { file = "$pki/ca.crt", dir = "$folder/none" })
                assert(kong.service.set_tls_verify_store(store))
                assert(kong.service.set_tls_verify(true))
            }
            proxy_pass https://small/;
        }
        # Uses each object once. Prints the number of identities, and the number of requests on reused connections.
        location /round {
            content_by_lua_block {
                local kept = 0
                identities = {}
                for number = 0, (tonumber(ngx.var.arg_count) or $MANY) - 1 do
                    local answer = ngx.location.capture("/" .. ngx.var.arg_of .. "?n=" .. number)
                    assert(answer.status == 200, answer.status)
                    if tonumber(answer.body) > 1 then
                        kept = kept + 1
                    end
                end
                local all = table.concat(identities, " ")
                local different, seen = 0, {}
                for _, identity in ipairs(identities) do
                    if not seen[identity] then
                        seen[identity] = true
                        different = different + 1
                    end
                end
                identities = nil
                ngx.print(different, " ", kept, " ", ngx.md5(all))
            }
        }
        # add_header does nothing in subrequests.
        header_filter_by_lua_block {
            if identities then
                identities[#identities + 1] = ngx.var.kong_upstream_ssl_identity
            end
        }
    }
    server {
        listen unix:$folder/service.sock ssl;
        keepalive_requests 100000;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional;
        ssl_client_certificate $pki/ca.crt;
        return 200 "\$connection_requests";
    }
_EOC_

sub round {
    my ($of, $count) = @_;
    my ($status, undef, $body) = http_get("$folder/gateway.sock", "/round?of=$of&count=" . ($count // $MANY));
    return $status eq '200' ? split ' ', $body : ($status, $body // '');
}

my @first = round('store');
is_deeply [@first[0, 1]], [$MANY, 0], 'there are as many identities as stores, each with its own connection';
# Stores that were not set before get one sixteenth of the room for idle connections.
is_deeply [round('store')], [$MANY, 2000 / 16, $first[2]],
    'the identities are the same, and the connections of a sixteenth were kept';
is_deeply [round('store')], [$MANY, $MANY, $first[2]], 'all connections are kept from the second time on';

# Certificates with the same contents have one identity, whatever the object; and so have stores of texts.

for my $of (qw(certificate text)) {
    my ($different, $kept) = round($of);
    is $different, 1, "many objects with the same $of have one identity";
    is $kept, $MANY - 1, "many objects with the same $of share one connection";
}

# Stores that are created for each request get one sixteenth of the room, and replace each other there.
is +(round('small', 20))[1], 0,  'the first requests with 20 stores open 20 connections';
is +(round('small', 20))[1], 20, 'all 20 connections are reused';
is +(round('anew', 100))[1], 0,  'stores that are created for each request reuse no connection';
is +(round('small', 20))[1], 19, 'stores that are created for each request evict one connection only';

done_testing();
