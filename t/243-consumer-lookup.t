# SPDX-License-Identifier: Apache-2.0

# Consumers that a function looks up: in Redis, and in places that fail.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestProcesses;

use IO::Select ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use Test::More;
use Time::HiRes qw(time);

require_program('curl', 'nginx', 'openssl', 'redis-server');

my $folder = test_folder();
my ($pki, $own) = @ENV{qw(TEST_NGINX_PKI TEST_NGINX_CERTIFICATES)};
issue('same', subject => '/O=Test/CN=client-1', issuer => 'other-ca', extensions => ['extendedKeyUsage=clientAuth']);
write_to("$own/cas.pem", slurp("$pki/ca.crt") . slurp("$pki/other-ca.crt"));

sub certificate {
    my ($name) = @_;
    return -e "$own/$name.crt" ? "$own/$name" : "$pki/$name";
}

# ---- Redis ---------------------------------------------------------------------------------------

my ($port) = free_ports(1);
my $redis;
my $parent = $$;

sub redis {
    my (@words) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 5) or return '';
    print $socket '*' . @words . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @words;
    return scalar <$socket> // '';
}

sub start_redis {
    $redis = fork // die $!;
    if (!$redis) {
        open STDOUT, '>', "$folder/redis.log";
        open STDERR, '>&', \*STDOUT;
        exec 'redis-server', '--port', $port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', $folder;
    }
    return wait_until('Redis', sub { redis('PING') =~ /PONG/ });
}

sub stop_redis {
    kill 'CONT', $redis;
    kill 'KILL', $redis;
    waitpid $redis, 0;
    $redis = undef;
    return;
}
END {
    local $?;
    stop_redis() if $redis && $$ == $parent;
}
start_redis();

# ---- a gateway -----------------------------------------------------------------------------------

# The functions: by the number of calls that each has had in a worker.
start_nginx('gateway', modules => 1, workers => 2, log => 'info', connections => 8192, main => 'worker_rlimit_nofile 16384;',
    http => <<"_EOC_");
    lua_shared_dict calls 1m;
    lua_check_client_abort on;
    keepalive_requests 100000;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local function read(path)
            local file = assert(io.open(path))
            local text = file:read("*a")
            file:close()
            return text
        end
        local function count(name)
            return ngx.shared.calls:incr(name, 1, 0)
        end
        -- Sleeps until the test says so.
        local function hold(name)
            while not ngx.shared.calls:get("go " .. name) do
                ngx.sleep(0.01)
            end
        end
        -- As Debian has it, or OpenResty.
        local is_debian, library = pcall(require, "nginx.redis")
        library = is_debian and library or require "resty.redis"
        local functions = {}
        function functions.redis(certificate)
            local redis = library:new()
            redis:set_timeout(20000)
            local ok, err = redis:connect("127.0.0.1", $port)
            if not ok then
                return nil, "Redis: " .. err
            end
            local name, wrong = redis:get(certificate.common_name)
            if wrong then
                return nil, "Redis: " .. wrong
            end
            redis:set_keepalive(10000, 10)
            if name == ngx.null or name == nil then
                return nil
            end
            return { username = name, id = certificate:fingerprint():sub(1, 8), groups = { "live" }, created_at = 1 }
        end
        function functions.slow(certificate)
            count("slow")
            hold("slow")
            return { name = "slow " .. certificate.common_name }
        end
        function functions.quick(certificate)
            return { name = "n" .. count("quick") }
        end
        functions.never = functions.quick
        function functions.nobody() count("nobody") return nil end
        function functions.pinned()
            return { name = "alice", ca_certificate = read("$pki/ca.crt") }
        end
        -- What goes wrong.
        function functions.throws() error("a\\nb") end
        function functions.throws_table() error({}) end
        function functions.says() return nil, "no\\nwhere" end
        function functions.says_both() return { name = "a" }, "and an error" end
        function functions.is_true() return true end
        function functions.is_false() return false end
        function functions.is_text() return "alice" end
        function functions.is_null() return ngx.null end
        function functions.is_empty() return {} end
        function functions.has_lines() return { name = "a\\r\\nX-Consumer-ID: root" } end
        function functions.has_comma() return { name = "a", groups = { "a, admin" } } end
        function functions.has_number() return { name = "a", id = 1 } end
        function functions.has_metatable()
            return setmetatable({}, { __index = function() error("gotcha") end })
        end
        function functions.changes()
            local times = 0
            return setmetatable({}, { __index = function(_, field)
                times = times + 1
                return field == "name" and (times > 1 and "a\\nb" or "a") or nil
            end })
        end
        function functions.yields_in_field()
            return setmetatable({}, { __index = function(_, field)
                ngx.sleep(0.001)
                return field == "name" and "late" or nil
            end })
        end
        function functions.exits() ngx.exit(ngx.OK) end
        function functions.reads() return { name = ngx.var.arg_user } end
        function functions.sets() ngx.req.set_header("X-Consumer-Username", "root") end
        function functions.recurses() return functions.recurses() and 1 or 1 end

        local function policy(lookup, more)
            local options = {
                ca = { file = "$own/cas.pem" }, header = "X-Client-Cert", encoding = "url", trusted = { "unix:" }, lookup = lookup,
            }
            for name, value in pairs(more or {}) do
                options[name] = value
            end
            return assert(require("resty.kong.plugins.header_cert_auth").new(options))
        end
        policies = {}
        for name, lookup in pairs(functions) do
            policies[name] = policy(lookup, name ~= "slow" and name ~= "nobody" and { anonymous = "guest", default_consumer = "visitor" } or nil)
        end
        policies.redis = policy(functions.redis, { cache_ttl = 1, negative_ttl = 0.2 })
        policies.never = policy(functions.quick, { cache_ttl = 0 })
        policies.nobody = policy(functions.nobody, { negative_ttl = 0.2 })
        policies.unpinned = policy(functions.pinned)
        for number = 1, 70 do
            policies["stuck" .. number] = policy(function() ngx.sleep(1e6) end)
        end
        policies.fresh = policy(functions.quick)
        policies.held = policy(function() count("held") hold("held") return { name = "held" } end)
        certificates = {}
        for name, path in pairs { client1 = "$pki/client1", client2 = "$pki/client2", same = "$own/same" } do
            certificates[name] = ngx.escape_uri(read(path .. ".crt"):match("%-%-%-%-%-BEGIN.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-"))
        end
        handshake = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "a.test" }, ca = { file = "$own/cas.pem" }, lookup = functions.redis, cache_ttl = 1 } })
    }
    server {
        listen unix:$folder/gateway.sock backlog=4096;
        location /t {
            rewrite_by_lua_block { ngx.req.set_header("X-Client-Cert", certificates[ngx.var.arg_client or "client1"]) }
            access_by_lua_block { policies[ngx.var.arg_policy]:access() }
            content_by_lua_block {
                local headers = ngx.req.get_headers()
                ngx.print(headers["X-Consumer-Username"], "|", headers["X-Consumer-ID"], "|", headers["X-Authenticated-Groups"])
            }
        }
        location /calls {
            content_by_lua_block {
                local calls = ngx.shared.calls
                if ngx.var.arg_go then
                    calls:set("go " .. ngx.var.arg_go, true)
                end
                if ngx.var.arg_patience then
                    require("resty.kong.plugins.consumers").PATIENCE = tonumber(ngx.var.arg_patience)
                end
                ngx.print(calls:get(ngx.var.arg_of) or 0)
            }
        }
    }
    server {
        listen unix:$folder/tls.sock ssl;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_certificate_by_lua_block { handshake:certificate() }
        location / {
            access_by_lua_block { handshake:access() }
            content_by_lua_block { ngx.print(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
    }
_EOC_
my ($first, $second) = workers('gateway');

# Asks a worker, or any.
sub ask {
    my ($policy, $client, $worker) = @_;
    my $ask = sub {
        my ($status, undef, $body) = http_get("$folder/gateway.sock", "/t?policy=$policy&client=$client");
        return $status eq '200' ? $body : $status;
    };
    return $worker ? scalar alone('gateway', $worker, $ask) : $ask->();
}

sub said {
    my ($path) = @_;
    return (http_get("$folder/gateway.sock", $path))[2];
}

sub log_of { return slurp("$folder/gateway.log") }

# ---- Redis ---------------------------------------------------------------------------------------

is ask('redis', 'client1', $_), '401', "worker $_: Redis knows nobody" for $first, $second;
redis('SET', 'client-1', 'alice');
for my $worker ($first, $second) {
    wait_until('alice', sub { ask('redis', 'client1', $worker) ne '401' });
    like ask('redis', 'client1', $worker), qr/\Aalice\|[0-9a-f]{8}\|live\z/, "worker $worker: alice is known by now";
}
is ask('redis', 'client2'), '401', 'another client is nobody';

sub by_handshake {
    my $said = `curl -sk --unix-socket $folder/tls.sock --cert $pki/client1.crt --key $pki/client1.key -w ' %{http_code}' https://a.test/`;
    return $said =~ s/<html>.*<\/html>\s*//sr;
}
is by_handshake(), 'alice 200', 'alice is known by her handshake, too';

redis('DEL', 'client-1');
my $removed = time;
for my $worker ($first, $second) {
    wait_until('the end of what was kept', sub { ask('redis', 'client1', $worker) eq '401' });
    cmp_ok time - $removed, '<', 2, "worker $worker: alice is refused soon after she was removed";
}

# Redis is slow: requests wait, and have their answer.
redis('SET', 'client-1', 'bob');
kill 'STOP', $redis;
{
    # Another certificate of this name, which was not looked up yet.
    my $pid = open my $answer, '-|' or do { print ask('redis', 'same'); exit };
    ok !IO::Select->new($answer)->can_read(0.5), 'a request waits while Redis is slow';
    kill 'CONT', $redis;
    like scalar <$answer>, qr/\Abob\|/, 'and gets its answer';
}
stop_redis();
for my $worker ($first, $second) {
    wait_until('the end of what was kept', sub { ask('redis', 'client1', $worker) !~ /\|/ });
    is ask('redis', 'client1', $worker), '500', "worker $worker: without Redis, the answer is 500";
}
wait_until('the end of what was kept', sub { by_handshake() !~ /200/ });
is by_handshake() =~ s/\A\s+//r, '500', 'also by the handshake';
like log_of(), qr/\[error\].*header_cert_auth: lookup: Redis: connection refused, client/, 'the log says why';
start_redis();
redis('SET', 'client-1', 'bob');
like ask('redis', 'client1', $_), qr/\Abob\|/, "worker $_: what has failed is not kept" for $first, $second;

# ---- one call at a time --------------------------------------------------------------------------

# Opens this many connections, each with a request.
sub open_requests {
    my ($count, $policy, $client) = @_;
    return map {
        my $socket = IO::Socket::UNIX->new(Peer => "$folder/gateway.sock") or die "connection $_: $!\n";
        print $socket "GET /t?policy=$policy&client=$client HTTP/1.0\r\nHost: x\r\n\r\n";
        $socket;
    } 1 .. $count;
}

sub answers {
    my (@sockets) = @_;
    my %seen;
    for my $socket (@sockets) {
        local $/;
        my $answer = <$socket> // '';
        $seen{ $answer =~ m{\AHTTP/1.1 200.*\r\n\r\n(.*)}s ? $1 : $answer =~ m{\AHTTP/\S+ (\d+)} ? $1 : "none" }++;
    }
    return \%seen;
}

alone('gateway', $first, sub {
    my @sockets = open_requests(1000, 'slow', 'client1');
    # The first call was made by the first request, which goes away: others still get the answer.
    wait_until('a call', sub { said('/calls?of=slow') == 1 });
    close shift @sockets;
    my $other = (open_requests(1, 'slow', 'client2'))[0];
    wait_until('a call for another certificate', sub { said('/calls?of=slow') == 2 });
    is said('/calls?of=slow&go=slow'), 2, '1000 requests make one call for each certificate';
    is_deeply answers(@sockets), { 'slow client-1|nil|nil' => 999 }, 'all others have the answer';
    is_deeply answers($other), { 'slow client-2|nil|nil' => 1 }, 'another certificate has its own';
    is said('/calls?of=slow'), 2, 'there was no other call';
    return;
});

is ask('quick', 'client1', $first), 'n1|nil|nil', 'an answer';
is ask('quick', 'client1', $first), 'n1|nil|nil', 'is kept';
is ask('never', 'client1', $first), 'n2|nil|nil', 'cache_ttl = 0';
is ask('never', 'client1', $first), 'n3|nil|nil', 'keeps none';
is ask('nobody', 'client1', $first), '401', 'nobody' for 1 .. 2;
is said('/calls?of=nobody'), 1, 'is kept as well';
wait_until('the end of negative_ttl', sub { ask('nobody', 'client1', $first); said('/calls?of=nobody') == 2 });

is ask('pinned',   'client1'), 'alice|nil|nil',   'a consumer of its CA';
is ask('pinned',   'same'),    'visitor|nil|nil', 'a certificate of another CA is not hers: default_consumer';
is ask('unpinned', 'same'),    '401',             'or it is refused';

# ---- what goes wrong -----------------------------------------------------------------------------

my %wrong = (
    throws       => 'it threw: .*a b',
    throws_table => 'it threw: a table',
    says         => 'no where',
    says_both    => 'and an error',
    is_true      => 'it must return a table or nil: given a boolean',
    is_false     => 'it must return a table or nil: given a boolean',
    is_text      => 'it must return a table or nil: given a string',
    is_null      => 'it must return a table or nil: given a userdata',
    is_empty     => 'its answer: name must be a string',
    has_lines    => 'its answer: name has a control character, or begins or ends with a space',
    has_comma    => 'its answer: group 1 has a comma',
    has_number   => 'its answer: id must be a string',
    has_metatable => 'it threw: .*gotcha',
    reads        => 'it threw: .*API disabled in the current context',
    sets         => 'it threw: .*API disabled in the current context',
    recurses     => 'it threw: .*stack overflow',
);
for my $name (sort keys %wrong) {
    my $before = length log_of();
    is ask($name, 'client1'), '500', "$name: 500, whatever anonymous and default_consumer";
    my @lines = grep {/\[error\]/} split /\n/, substr log_of(), $before;
    is scalar(@lines), 1, "$name: there is one line of the log";
    like $lines[0], qr/header_cert_auth: lookup: (?:$wrong{$name}), client/, "$name: it says why";
    is ask($name, 'client1'), '500', "$name: and again";
}
is ask('changes', 'client1'), 'a|nil|nil', 'a field that changes is read once';
is ask('yields_in_field', 'client1'), 'late|nil|nil', 'a field may yield';

# A function that never answers, and one that ends its own thread.
alone('gateway', $first, sub {
    said('/calls?of=x&patience=0.3');
    is_deeply answers(open_requests(5, 'exits', 'client1')), { 500 => 5 }, 'ngx.exit in the function lets nobody in';
    return;
});
like log_of(), qr/lookup: it has not answered within 0\.3 seconds, client/, 'the log says that there was no answer';

# More calls that never end than are made at a time: others go on after a while.
alone('gateway', $first, sub {
    is_deeply answers(map { open_requests(1, "stuck$_", 'client1') } 1 .. 70), { 500 => 70 }, 'calls that never end';
    like answers_of('fresh'), qr/\An\d+\|/, 'others are made';
    is_deeply answers(map { open_requests(1, "stuck$_", 'client1') } 1 .. 70), { 500 => 70 }, 'and those once more';
    like answers_of('fresh'), qr/\An\d+\|/, 'what is known needs no call';
    return;
});
sub answers_of { return join ' ', keys %{ answers(open_requests(1, $_[0], 'client1')) } }

# A worker that ends still makes calls for its requests.
{
    alone('gateway', $second, sub { said('/calls?of=x&patience=60') });
    my ($held) = alone('gateway', $second, sub {
        my @sockets = open_requests(2, 'held', 'client1');
        wait_until('a call', sub { said('/calls?of=held') == 1 });
        return @sockets;
    });
    kill 'HUP', master('gateway');
    my %old = ($first => 1, $second => 1);
    # The worker that is asked to end waits for its requests.
    wait_until('new workers', sub { 2 <= grep { !$old{$_} } workers('gateway') });
    is said('/calls?of=held&go=held'), 1, 'one call of a worker that ends';
    is_deeply answers($held), { 'held|nil|nil' => 1 }, 'has its answer';
}

unlike log_of(), qr/\[(?:alert|crit|emerg)\]/, 'no entries of level alert, crit or emerg are logged';

done_testing();
