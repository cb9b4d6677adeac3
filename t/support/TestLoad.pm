# SPDX-License-Identifier: Apache-2.0

package TestLoad;

# Load of mixed identities: clients' certificates, one for each request, a service that refuses clients that it does
# not expect, and gateways that present the certificates. A request for /load/NAME has the identity of this name; with
# an unknown name, it presents no certificate.
#
#     issue_identities(10);                           # their names are 1 to 10
#     start_nginx('services', http => load_services());
#     start_nginx('gateway', modules => 1, http => load_gateway(port => $port));
#     my %seen = wrk(seconds => 2, url => "http://127.0.0.1:$port", paths => ['/load/1', '/load/2']);

use strict;
use warnings;

use TestKong;
use TestProcesses;

use Exporter 'import';

our @EXPORT = qw(issue_identities load_gateway load_services load_stock_gateway wrk);

my $pki = $ENV{TEST_NGINX_PKI};
my $count = 0;

my $NOT_KEPT = keeps_by_default() ? 'keepalive 0;' : '';

# Issues this many certificates for one key.
sub issue_identities {
    ($count) = @_;
    my $folder = test_folder() . '/identities';
    mkdir $folder or die "$folder: $!\n";
    for my $number (1 .. $count) {
        my $said = `openssl req -x509 -new -key $pki/client1.key -CA $pki/ca.crt -CAkey $pki/ca.key -days 30 \\
            -subj /CN=load-$number -out $folder/$number.crt 2>&1`;
        die $said if $?;
    }
    return;
}

# Returns the "http" block of the services: sockets service.sock and wrong.sock. The latter has a certificate of
# another CA.
sub load_services {
    my $folder = test_folder();
    return <<"_EOC_";
    ssl_session_cache shared:sessions:16m;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate $pki/service.crt;
    ssl_certificate_key $pki/service.key;
    ssl_verify_client optional_no_ca;
    ssl_client_certificate $pki/ca.crt;
    keepalive_requests 1000000;
    server {
        listen unix:$folder/service.sock ssl;
        location / {
            if (\$ssl_client_s_dn != \$http_x_expect) { return 418; }
            return 200 "right\\n";
        }
    }
    server {
        listen unix:$folder/wrong.sock ssl;
        ssl_certificate $pki/service-other.crt;
        ssl_certificate_key $pki/service-other.key;
        return 200 "wrong\\n";
    }
_EOC_
}

my $COMMON = <<"_EOC_";
    keepalive_requests 1000000;
    ssl_certificate $pki/gateway.crt;
    ssl_certificate_key $pki/gateway.key;
    ssl_client_certificate $pki/ca.crt;
    proxy_http_version 1.1;
    proxy_ssl_name service.test;
    proxy_ssl_trusted_certificate $pki/ca.crt;
_EOC_

# Returns servers for both ports, each with "inside".
sub _servers {
    my ($with, $inside, $in_tls) = @_;
    my @http2 = http2_server();
    my $servers = '';
    $servers .= "    server {\n        listen 127.0.0.1:$with->{port};\n$inside    }\n" if $with->{port};
    $servers .= "    server {\n        listen 127.0.0.1:$with->{tls_port} ssl$http2[0];\n        $http2[1]\n$in_tls$inside    }\n"
        if $with->{tls_port};
    return $servers;
}

# Returns the "http" block of a gateway in which Lua code presents the identities. It speaks HTTP on "port", and
# HTTP/2 as well on "tls_port", where it requests certificates. Requests go to the upstream "pass": "kept" (which
# keeps "kept" connections), "beside", "anew" or "wrong". An argument "depth" verifies to that depth; "more" is added
# to the block.
sub load_gateway {
    my (%with) = @_;
    my $folder = test_folder();
    my $pass = $with{pass} // 'kept';
    my $inside = <<"_EOC_";
        set \$expect "";
        location / {
            access_by_lua_block {
                local identity = identities[ngx.var.uri:sub(7)]
                if identity then
                    assert(kong.service.set_tls_cert_key(identity.chain, identity.key))
                    ngx.var.expect = identity.subject
                end
                local depth = ngx.var.arg_depth
                if depth then
                    assert(kong.service.set_tls_verify(true))
                    assert(kong.service.set_tls_verify_depth(tonumber(depth)))
                end
            }
            proxy_set_header X-Expect \$expect;
            proxy_set_header Connection "";
            proxy_pass https://$pass;
        }
_EOC_
    my $in_tls = <<"_EOC_";
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(authorities)) }
_EOC_
    return <<"_EOC_" . $COMMON . _servers(\%with, $inside, $in_tls) . ($with{more} // '');
    kong_tls_session_cache @{[$with{sessions} // 1024]};
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        local function identity(chain, key, subject)
            return { chain = pki.chain(chain), key = pki.key(key), subject = subject }
        end
        -- OpenSSL refuses a key as short as this one.
        identities = { weak = identity("$pki/client-weak", "$pki/client-weak", "CN=client-weak,O=Test") }
        for number = 1, $count do
            identities[tostring(number)] = identity("$folder/identities/" .. number, "$pki/client1", "CN=load-" .. number)
        end
        authorities = pki.chain("$pki/ca")
    }
    upstream kept { server unix:$folder/service.sock; kong_tls_keepalive @{[$with{kept} // 50]}; }
    upstream beside { server unix:$folder/service.sock; kong_tls_keepalive 20; keepalive 20; }
    upstream anew { server unix:$folder/service.sock; $NOT_KEPT }
    upstream wrong { server unix:$folder/wrong.sock; $NOT_KEPT }
_EOC_
}

# Returns the same without any module: a location for each identity, with "kept" kept connections of its own.
sub load_stock_gateway {
    my (%with) = @_;
    my $folder = test_folder();
    my ($upstreams, $inside) = ('', '');
    my $keepalive = $with{kept} ? "keepalive $with{kept};" : $NOT_KEPT;
    for my $number (1 .. $count) {
        $upstreams .= "    upstream service$number { server unix:$folder/service.sock; $keepalive }\n";
        $inside .= <<"_EOC_";
        location = /load/$number {
            proxy_ssl_certificate $folder/identities/$number.crt;
            proxy_ssl_certificate_key $pki/client1.key;
            proxy_set_header X-Expect "CN=load-$number";
            proxy_set_header Connection "";
            proxy_pass https://service$number;
        }
_EOC_
    }
    return $upstreams . $COMMON . _servers(\%with, $inside, "        ssl_verify_client optional;\n");
}

my $SCRIPT = <<'_EOC_';
local threads = {}
function setup(thread) threads[#threads + 1] = thread end
local paths, requests = {}, {}
local random = math.random
function init()
    counts = ""
    statuses = {}
    math.randomseed(os.time())
    for path in io.lines(os.getenv("LOAD_PATHS")) do
        requests[#requests + 1] = wrk.format("GET", path)
    end
end
function request() return requests[random(#requests)] end
function response(status)
    statuses[status] = (statuses[status] or 0) + 1
    counts = ""
    for one, count in pairs(statuses) do counts = counts .. one .. "=" .. count .. " " end
end
function done()
    for _, thread in ipairs(threads) do print("statuses " .. thread:get("counts")) end
end
_EOC_

# Requests random "paths" at "url" on this many "connections", for "seconds", or as long as "meanwhile" runs. Returns
# the number of answers for each status, and "requests", "errors" (of sockets), "per_second", "p50" and "p99" (in
# milliseconds).
sub wrk {
    my (%with) = @_;
    my $folder = test_folder();
    write_to("$folder/load.lua", $SCRIPT) unless -e "$folder/load.lua";
    local $ENV{LOAD_PATHS} = write_to("$folder/load.paths", join '', map {"$_\n"} @{ $with{paths} });
    my $close = $with{close} ? '-H "Connection: close"' : '';
    my $connections = $with{connections} // 16;
    my $seconds = $with{seconds} // 600;
    my $command = "exec wrk --latency -t1 -c$connections -d${seconds}s --timeout 10s $close -s $folder/load.lua $with{url} 2>&1";
    my $pid = open my $pipe, '-|', $command or die "wrk: $!\n";
    if ($with{meanwhile}) {
        my $done = eval { $with{meanwhile}->(); 1 };
        my $error = $@;
        # wrk then prints what it has seen.
        kill 'INT', $pid;
        die $error if !$done;
    }
    my $said = do { local $/; <$pipe> };
    close $pipe or die $said;

    my %seen = (errors => 0);
    $seen{$1} += $2 while $said =~ /\b(\d{3})=(\d+) /g;
    ($seen{requests}) = $said =~ /(\d+) requests in/ or die $said;
    ($seen{per_second}) = $said =~ m{Requests/sec:\s+(\S+)};
    if ($said =~ /Socket errors: (.*)/) {
        my $errors = $1;
        $seen{errors} += $1 while $errors =~ /(\d+)/g;
        $seen{errors_are} = $errors;
    }
    my %unit = (us => 0.001, ms => 1, s => 1000);
    for my $percent (50, 99) {
        $seen{"p$percent"} = $1 * $unit{$2} if $said =~ /^\s+$percent%\s+([\d.]+)(us|ms|s)$/m;
    }
    return %seen;
}

1;
