# SPDX-License-Identifier: Apache-2.0

# Objects of resty.kong.x509 work in each Lua state: where the first coroutine that needs them belongs to a request,
# and where each request has its own state. They leave no memory behind.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use Test::More;

require_program('nginx', 'openssl');

my $folder = test_folder();

# The number of requests in a round, and the kilobytes that the last rounds may add together. Their objects take far
# more.
my $REQUESTS = 40;
my $ROOM     = 1024;

sub use_objects {
    my ($code_cache) = @_;
    my $name = "code_cache_$code_cache";
    start_nginx($name, modules => 1, workers => 1, http => <<"_EOC_");
    lua_code_cache $code_cache;
    server {
        listen unix:$folder/$name.sock;
        location / {
            content_by_lua_block {
                local function read(name)
                    local file = assert(io.open("$ENV{TEST_NGINX_PKI}/" .. name))
                    local text = file:read("*a")
                    file:close()
                    return text
                end
                local x509 = require "resty.kong.x509"
                local list = require("resty.kong.addresses").new { "10.0.0.0/8" }
                local ok = true
                for _ = 1, 10 do
                    local chain = assert(x509.chain(read("client1.crt")))
                    local key = assert(x509.key(read("client1.key")))
                    local store = assert(x509.store { pem = read("ca.crt"), crl = read("empty.crl") })
                    ok = ok and key:belongs_to(chain) and store:verify(chain) and chain[1].sans ~= nil
                            and list:contain("10.0.0.1") and not list:contain("11.0.0.1")
                            and not x509.chain("none") and chain.ctx ~= nil
                end
                collectgarbage()
                ngx.print(tostring(ok))
            }
        }
    }
_EOC_
    my $worker = (workers($name))[0];
    my (%said, @memory);
    for my $round (1 .. 6) {
        $said{ (http_get("$folder/$name.sock", '/'))[2] }++ for 1 .. $REQUESTS;
        push @memory, resident($worker);
    }
    is_deeply \%said, { true => 6 * $REQUESTS }, "code cache $code_cache: each request succeeds";
    cmp_ok $memory[5] - $memory[2], '<', $ROOM, "code cache $code_cache: memory does not grow" or diag "@memory";
    stop_nginx($name);
    unlike slurp("$folder/$name.log"), qr/\[(?:error|crit|emerg)\]|\[alert\](?!.*lua_code_cache)/,
        "code cache $code_cache: no errors are logged, also not at the end";
    return;
}

use_objects('on');
use_objects('off');

done_testing();
