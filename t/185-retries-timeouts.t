# SPDX-License-Identifier: Apache-2.0

# kong.service.set_retries and kong.service.set_timeouts: the number of attempts and the timeouts of one request.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestDns;
use TestHarness 'no_plan';

use Errno qw(EINPROGRESS);
use IO::Socket::INET ();

repeat_each(1);
log_level('info');
worker_connections(256);

# ---- peers that do not answer --------------------------------------------------------------------

# Returns a server that accepts nothing. The kernel accepts as many connections for it as `backlog` says: what is sent
# to them is never read.
sub listener {
    my ($backlog) = @_;
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1, ReuseAddr => 1)
        or die "listen: $@\n";
    # Connections inherit the buffer size from the server.
    $socket->setsockopt(Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 65536) or die "setsockopt: $!\n";
    listen $socket, $backlog or die "listen: $!\n";
    return $socket;
}

my $silent = listener(1024);
$ENV{TEST_NGINX_SILENT_PORT} = $silent->sockport;

# Fills the queue of a server: from then on, Linux answers no attempt to connect.
my $full = listener(0);
my @queued;
while (1) {
    die "the queue does not fill\n" if @queued > 16;
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0) or die "socket: $@\n";
    push @queued, $socket;
    connect $socket, $full->sockname or $! == EINPROGRESS or die "connect: $!\n";
    vec(my $connected = '', fileno $socket, 1) = 1;
    last unless select undef, $connected, undef, 0.5;
}
$ENV{TEST_NGINX_FULL_PORT} = $full->sockport;

# ---- blocks --------------------------------------------------------------------------------------

# All locations have this plugin, unless they have their own.
my $PLUGIN = <<'_EOC_';
    access_by_lua_block { require("forward").plugin() }
    header_filter_by_lua_block { require("forward").tell_tries() }
_EOC_

# "refusing" has five servers where nobody listens: nginx learns of that later over TCP, and at once for a unix
# socket, before its content handler returns. "waiting" accepts requests, and neither reads nor answers them; at /slow
# it answers after 800 ms.
my $HTTP = <<'_EOC_';
    resolver 127.0.0.1:$TEST_NGINX_DNS_PORT;
    upstream refusing {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.2:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.3:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.4:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.5:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
    upstream refusing-unix {
        server unix:$TEST_NGINX_HTML_DIR/1.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/2.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/3.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/4.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/5.sock max_fails=0;
    }
    upstream waiting {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
    upstream waiting-tls {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
    upstream silent {
        server 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    upstream full {
        server 127.0.0.1:$TEST_NGINX_FULL_PORT;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 rcvbuf=64k;
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 rcvbuf=64k ssl;
        ssl_certificate $TEST_NGINX_PKI/service.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service.key;
        client_max_body_size 30M;
        location / {
            content_by_lua_block { ngx.sleep(60) }
        }
        location /slow {
            content_by_lua_block {
                ngx.sleep(0.8)
                ngx.req.read_body()
                ngx.say("slow")
            }
        }
        # Sends the header at once, and nothing after that.
        location /part {
            lua_http10_buffering off;
            content_by_lua_block {
                ngx.say("part")
                ngx.flush(true)
                ngx.sleep(60)
            }
        }
    }
_EOC_

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('http_config', $block->http_config . $HTTP);
    $block->set_value('config', $PLUGIN . $block->config);
});

my $number = 0;
sub title { return "=== TEST @{[++$number]}: $_[0]\n" }

# ---- retries -------------------------------------------------------------------------------------

# Each form of the pass directive, and the number of servers.
my @WAYS_TO_REFUSAL = (
    ['TCP',                   'proxy_pass http://refusing',               '',                       5],
    ['unix sockets',          'proxy_pass http://refusing-unix',          '',                       5],
    ['TLS over TCP',          'proxy_pass https://refusing',              '&client=client1',        5],
    ['TLS over unix sockets', 'proxy_pass https://refusing-unix',         '&client=client1',        5],
    ['gRPC',                  'grpc_pass grpc://refusing-unix',           '',                       5],
    ['gRPC with TLS',         'grpc_pass grpcs://refusing',               '&client=client1',        5],
    ['set_upstream',          'proxy_pass https://$kong_upstream_target', '&upstream=refusing&client=client1', 5],
    ['a host name',           'proxy_pass http://$kong_upstream_target',
        '&host=many.test&port=$TEST_NGINX_RAND_PORT_3', 3],
    ['a host name, with TLS', 'proxy_pass https://$kong_upstream_target',
        '&host=many.test&port=$TEST_NGINX_RAND_PORT_3&client=client1', 3],
);

sub least { my ($one, $other) = @_; return $one < $other ? $one : $other }

# Each number of retries in a location without a limit, and in one with a limit of 2. Each request with set_retries is
# followed by one without.
my $retries = '';
for (@WAYS_TO_REFUSAL) {
    my ($title, $pass, $arguments, $peers) = @$_;
    my ($directive) = $pass =~ /^(\w+)_pass/;
    my (@uris, @said);
    for my $late ('', ' late') {
        for my $location (qw(unlimited limited)) {
            my $limit = $location eq 'limited' ? 2 : $peers;
            push @uris, "/$location?$arguments$late";
            push @said, $limit;
            for my $n (0, 1, 2, 3, 9) {
                push @uris, "/$location?retries=$n$arguments$late", "/$location?$arguments$late";
                push @said, least($n + 1, $peers), $limit;
            }
        }
    }
    my $list = CORE::join ",\n", map {qq{                "$_"}} @uris;
    my $said = CORE::join '', map {"502 $_\n"} @said;
    $retries .= title("set_retries sets the number of attempts: $title") . <<"_EOC_";
--- http_config
--- config
    location /unlimited {
        $pass;
    }
    location /limited {
        ${directive}_next_upstream_tries 2;
        $pass;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            for _, line in ipairs {
$list
            } do
                local uri, late = line:match("^(%S+)(.*)\$")
                local answer = forward.post(uri, { late = late ~= "" })
                ngx.say(answer.status, " ", answer.tries)
            end
        }
    }
--- request
GET /all
--- response_body
$said
_EOC_
}

# ---- timeouts ------------------------------------------------------------------------------------

# For each timeout: the timeouts of the request, one of them short; nginx's words; the service without TLS and
# with TLS; and the number of bytes that a request sends.
my $LONG = 60_000;
my %KIND = (
    connect => {
        timeouts => "300,$LONG,$LONG",
        words    => 'while connecting to upstream',
        http     => ['full', '$TEST_NGINX_FULL_PORT'],
        https    => ['full', '$TEST_NGINX_FULL_PORT'],
    },
    handshake => {
        timeouts => "300,$LONG,$LONG",
        words    => 'while SSL handshaking to upstream',
        https    => ['silent', '$TEST_NGINX_SILENT_PORT'],
    },
    # More bytes than the buffers of two sockets hold: the peer's buffer is small, due to its `rcvbuf`. With TLS,
    # nginx reads while it sends, and logs that; the timeout is the one for sending.
    write => {
        timeouts => "$LONG,300,$LONG",
        words    => 'while (?:sending request to|reading response header from) upstream',
        http     => ['waiting', '$TEST_NGINX_RAND_PORT_1'],
        https    => ['waiting-tls', '$TEST_NGINX_RAND_PORT_2'],
        bytes    => 8_000_000,
    },
    read => {
        timeouts => "$LONG,$LONG,300",
        words    => 'while reading response header from upstream',
        http     => ['waiting', '$TEST_NGINX_RAND_PORT_1'],
        https    => ['waiting-tls', '$TEST_NGINX_RAND_PORT_2'],
    },
);

my $timeouts = '';
for my $name (sort keys %KIND) {
    my $kind = $KIND{$name};
    my ($locations, @uris, @lines) = ('');
    for my $scheme (grep { $kind->{$_} } qw(http https)) {
        my ($upstream, $port) = @{ $kind->{$scheme} };
        my @ways = (
            ['block',   $upstream,               ''],
            ['static',  "127.0.0.1:$port",       ''],
            ['set',     '$kong_upstream_target', "&upstream=$upstream"],
            ['literal', '$kong_upstream_target', "&host=127.0.0.1&port=$port"],
            ['name',    '$kong_upstream_target', "&host=service.test&port=$port"],
        );
        for (@ways) {
            my ($way, $to, $arguments) = @$_;
            $locations .= "    location /$way/$scheme {\n        proxy_pass $scheme://$to;\n    }\n";
            # A big body never arrives all at once.
            for my $late ($kind->{bytes} ? '' : ('', ' late')) {
                my $path = "/$way/$scheme" . ($late && '/late');
                push @uris, "$path?timeouts=$kind->{timeouts}$arguments$late";
                push @lines, qq{qr{upstream timed out \\(110: [^)]+\\) $kind->{words},.* request: "POST $path\\?}};
            }
        }
    }
    my $bytes = $kind->{bytes} // 10;
    my $list  = CORE::join ",\n", map {qq{                "$_"}} @uris;
    my $lines = CORE::join ",\n", @lines;
    my $said  = CORE::join '', map { /(.*?)\?/ ? "$1: 504\n" : () } @uris;
    $timeouts .= title("set_timeouts sets the timeout: $name") . <<"_EOC_";
--- http_config
--- config
    proxy_connect_timeout 60s;
    proxy_send_timeout 60s;
    proxy_read_timeout 60s;
$locations
    location /all {
        content_by_lua_block {
            require("forward").say_all({
$list
            }, { body = ("x"):rep($bytes) })
        }
    }
--- request
GET /all
--- response_body
$said--- error_log eval
[
$lines
]

_EOC_
}

Test::Base::spec_string(CORE::join "\n\n", $retries, $timeouts, do { local $/; <DATA> });
run_tests();

__DATA__


=== TEST 14: nginx stops trying at the first peer that answers
--- http_config
    upstream fifth {
        server unix:$TEST_NGINX_HTML_DIR/1.sock max_fails=0;
        server 127.0.0.2:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/3.sock max_fails=0;
        server 127.0.0.4:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/service.sock backup;
    }
--- config
    proxy_next_upstream_tries 1;
    location /t {
        proxy_pass https://fifth;
    }
--- exchanges
GET /t?retries=4&client=client1 => {X-Tries: 5}
GET /t?retries=3                => 502 {X-Tries: 4}
GET /t                          => 502 {X-Tries: 1}
GET /t?retries=9                => {X-Tries: 5}



=== TEST 15: set_retries retries only in the cases of proxy_next_upstream
--- http_config
    upstream failing {
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/other.sock max_fails=0;
    }
--- config
    location /fail {
        proxy_pass https://failing;
    }
    location /fail/503 {
        proxy_next_upstream error http_503;
        proxy_pass https://failing;
    }
    location /fail/never {
        proxy_next_upstream off;
        proxy_pass https://refusing;
    }
--- exchanges
GET /fail?retries=1       => 503 {X-Tries: 1}
GET /fail/503?retries=1   => 503 {X-Tries: 2}
GET /fail/503?retries=0   => 503 {X-Tries: 1}
GET /fail/never?retries=1 => 502 {X-Tries: 1}



=== TEST 16: set_retries and set_timeouts are independent, and a later call overrides an earlier one
--- http_config
--- config
    proxy_next_upstream_tries 2;
    proxy_read_timeout 60s;
    location /t {
        access_by_lua_block {
            kong.service.set_retries(4)
            kong.service.set_timeouts(1, 1, 1)
            -- Failed calls change nothing.
            assert(not pcall(kong.service.set_retries, -1))
            assert(not pcall(kong.service.set_timeouts, 1, 1, 0))
            kong.service.set_retries(2)
            kong.service.set_timeouts(60000, 60000, 300)
            assert(not pcall(kong.service.set_retries, 40000))
            assert(not pcall(kong.service.set_timeouts, 2, 2, -1))
        }
        proxy_pass http://$arg_where;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            ngx.say(forward.post("/t?where=refusing").tries)
            forward.say_all { "/t?where=waiting" }
            ngx.say(forward.post("/only/timeouts?timeouts=500,500,500").tries)
        }
    }
    location /only/timeouts {
        proxy_pass http://refusing;
    }
--- request
GET /all
--- response_body
3
/t: 504
2
--- error_log
while reading response header from upstream



=== TEST 17: each attempt has the timeouts of set_timeouts
--- http_config
    upstream twice {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_SILENT_PORT max_fails=0;
        server 127.0.0.1:$TEST_NGINX_FULL_PORT max_fails=0;
    }
--- config
    proxy_connect_timeout 60s;
    proxy_read_timeout 60s;
    proxy_next_upstream error timeout non_idempotent;
    location /t {
        proxy_pass http://twice;
    }
    location /all {
        content_by_lua_block {
            local answer = require("forward").post("/t?timeouts=300,300,300&retries=2")
            ngx.say(answer.status, " ", answer.tries, " ", answer.seconds < 5)
        }
    }
--- request
GET /all
--- response_body
504 3 true
--- grep_error_log eval
qr/upstream timed out \(110: [^)]+\) while (?:connecting|reading response header)/
--- grep_error_log_out
upstream timed out (110: Connection timed out) while reading response header
upstream timed out (110: Connection timed out) while reading response header
upstream timed out (110: Connection timed out) while connecting



=== TEST 18: the read timeout of set_timeouts applies in the middle of a response
--- http_config
--- config
    proxy_read_timeout 60s;
    location /part {
        proxy_pass http://waiting;
    }
    location /unbuffered {
        proxy_buffering off;
        proxy_pass http://waiting/part;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            local answers = forward.all({
                "/part?timeouts=60000,60000,300", "/unbuffered?timeouts=60000,60000,300",
            }, forward.post)
            for _, answer in ipairs(answers) do
                ngx.say(answer.status, " ", answer.seconds < 5)
            end
        }
    }
--- request
GET /all
--- response_body
200 true
200 true
--- error_log eval
[qr{timed out .* while reading upstream,.* "POST /part}, qr{timed out .* while reading upstream,.* "POST /unbuffered}]



=== TEST 19: set_timeouts applies to fastcgi, uwsgi, scgi and grpc, and inside if and limit_except
--- http_config
--- config
    location /fastcgi {
        fastcgi_read_timeout 60s;
        fastcgi_pass 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /uwsgi {
        uwsgi_read_timeout 60s;
        uwsgi_pass 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /scgi {
        scgi_read_timeout 60s;
        scgi_pass 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /grpc {
        grpc_read_timeout 60s;
        grpc_pass grpc://127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /grpcs {
        grpc_connect_timeout 60s;
        grpc_pass grpcs://127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /suwsgi {
        uwsgi_connect_timeout 60s;
        uwsgi_pass suwsgi://silent;
    }
    location /unbuffered {
        proxy_request_buffering off;
        proxy_read_timeout 60s;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /if {
        proxy_read_timeout 60s;
        if ($arg_timeouts) {
            proxy_pass http://waiting;
        }
    }
    location /inside {
        proxy_read_timeout 60s;
        if ($arg_timeouts) {
            set $x 1;
        }
        proxy_pass http://waiting;
    }
    location /limited {
        limit_except GET {
            deny 192.0.2.1;
        }
        proxy_read_timeout 60s;
        proxy_pass http://waiting;
    }
    location /all {
        content_by_lua_block {
            local uris = {}
            for _, name in ipairs {
                "fastcgi", "uwsgi", "scgi", "grpc", "unbuffered", "if", "inside", "limited",
            } do
                uris[#uris + 1] = "/" .. name .. "?timeouts=60000,60000,300"
                uris[#uris + 1] = "/" .. name .. "/late?timeouts=60000,60000,300 late"
            end
            for _, name in ipairs { "grpcs", "suwsgi" } do
                uris[#uris + 1] = "/" .. name .. "?timeouts=300,60000,60000"
                uris[#uris + 1] = "/" .. name .. "/late?timeouts=300,60000,60000 late"
            end
            require("forward").say_all(uris)
        }
    }
--- request
GET /all
--- response_body eval
CORE::join '', map { ("/$_: 504\n", "/$_/late: 504\n") }
    qw(fastcgi uwsgi scgi grpc unbuffered if inside limited grpcs suwsgi)
--- error_log eval
[
    map({qr{timed out .* while reading response header from upstream,.* "POST /$_\?}}
        qw(fastcgi uwsgi scgi grpc unbuffered if inside limited)),
    map {qr{timed out .* while SSL handshaking to upstream,.* "POST /$_\?}} qw(grpcs suwsgi)
]



=== TEST 20: set_timeouts and set_retries apply to memcached
--- http_config
--- config
    location /t {
        set $memcached_key a;
        memcached_read_timeout 60s;
        memcached_pass 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    }
    location /tries {
        set $memcached_key a;
        memcached_pass refusing;
    }
--- exchanges
GET /t?timeouts=60000,60000,300 => 504 {X-Tries: 1}
GET /tries?retries=2            => 502 {X-Tries: 3}
--- error_log
while reading response header from upstream



=== TEST 21: long timeouts of set_timeouts don't change the location's short timeouts for other requests
# nginx needs a patch for a handshake that waits, which Debian's and OpenResty's nginx have.
--- skip_eval: 3: $ENV{TEST_NGINX_NO_WAIT_IN_HANDSHAKE}
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4 ssl;
        certificate service;
        # A slow handshake, for which the connect timeout applies.
        ssl_certificate_by_lua_block { ngx.sleep(0.8) }
        return 200 "handshake\n";
    }
--- config
    location /read {
        proxy_read_timeout 300ms;
        proxy_pass http://waiting/slow;
    }
    location /read/tls {
        proxy_read_timeout 300ms;
        proxy_pass https://$kong_upstream_target/slow;
    }
    location /write {
        proxy_send_timeout 300ms;
        proxy_pass http://waiting/slow;
    }
    location /handshake {
        proxy_connect_timeout 300ms;
        proxy_ssl_session_reuse off;
        proxy_pass https://127.0.0.1:$TEST_NGINX_RAND_PORT_4;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            local big = ("x"):rep(8000000)
            for _, case in ipairs {
                { "/read", "?" }, { "/read/tls", "?host=127.0.0.1&port=$TEST_NGINX_RAND_PORT_2&" },
                { "/read/tls", "?upstream=waiting-tls&client=client1&" },
                { "/write", "?", big }, { "/handshake", "?client=client1&" },
            } do
                local path, arguments, body = unpack(case)
                local short = path .. arguments
                local long = short .. "timeouts=20000,20000,20000"
                local options = { body = body }
                forward.say_all({ long, short, long, short, long .. " late", short .. " late" }, options)
                forward.say_all({ short }, options)
            end
        }
    }
--- request
GET /all
--- response_body eval
CORE::join '', map { ("$_: 200\n", "$_: 504\n") x 3, "$_: 504\n" } qw(/read /read/tls /read/tls /write /handshake)



=== TEST 22: set_retries does not change the location's limit for concurrent requests
--- http_config
    upstream slow-then-refusing {
        server 127.0.0.1:$TEST_NGINX_SILENT_PORT max_fails=0;
        server 127.0.0.2:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
        server unix:$TEST_NGINX_HTML_DIR/3.sock max_fails=0 backup;
    }
--- config
    proxy_next_upstream error timeout non_idempotent;
    proxy_next_upstream_tries 2;
    proxy_read_timeout 300ms;
    location /t {
        proxy_pass http://slow-then-refusing;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            -- Each request waits for the first server while the others begin.
            local uris = { "/t?retries=2", "/t", "/t?retries=0", "/t", "/t?retries=2", "/t" }
            local answers = forward.all(uris, forward.post)
            for i, uri in ipairs(uris) do
                ngx.say(uri, " ", answers[i].tries)
            end
        }
    }
--- request
GET /all
--- response_body
/t?retries=2 3
/t 2
/t?retries=0 1
/t 2
/t?retries=2 3
/t 2



=== TEST 23: internal redirects keep set_retries and set_timeouts
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/accel.sock;
        location / {
            add_header X-Accel-Redirect /there/accel?$args;
            return 200;
        }
    }
--- config
    proxy_next_upstream_tries 1;
    proxy_read_timeout 60s;
    location /exec {
        access_by_lua_block {
            require("forward").plugin()
            ngx.exec("/there/exec", ngx.var.args)
        }
    }
    location /exec/named {
        access_by_lua_block {
            require("forward").plugin()
            ngx.exec("@there")
        }
    }
    location /exec/content {
        content_by_lua_block { ngx.exec("/there/exec", ngx.var.args) }
    }
    location /page {
        error_page 502 504 = @there;
        proxy_pass http://refusing;
    }
    location /page/uri {
        error_page 502 504 = /there/page?$args;
        proxy_pass http://refusing-unix;
    }
    # Redirects to itself, before its content handler has returned.
    location /self {
        error_page 502 504 = /self/again?$args;
        proxy_pass http://$arg_where;
    }
    location /accel {
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/accel.sock;
    }
    # Locations without the plugin.
    location /there {
        access_by_lua_block { }
        proxy_pass http://$arg_where;
    }
    location @there {
        access_by_lua_block { }
        proxy_pass http://$arg_where;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            for _, path in ipairs {
                "/exec", "/exec/named", "/exec/content", "/page", "/page/uri", "/accel",
            } do
                for _, late in ipairs { false, true } do
                    local answer = forward.post(path .. "?where=refusing&retries=2", { late = late })
                    ngx.say(path, " ", answer.status, " ", answer.tries)
                end
                forward.say_all { path .. "?where=waiting&timeouts=60000,60000,300" }
            end
            ngx.say(forward.post("/self?where=refusing-unix&retries=2").tries)
            ngx.say(forward.post("/self?where=refusing-unix").tries)
            ngx.say(forward.post("/there?where=refusing").tries)
        }
    }
--- request
GET /all
--- response_body eval
CORE::join '', map({; "$_ 502 3\n", "$_ 502 3\n", "$_: 504\n" }
    qw(/exec /exec/named /exec/content /page /page/uri /accel)), "3\n1\n1\n"



=== TEST 24: subrequests have the retries and timeouts of their location
--- http_config
--- config
    location /slow {
        proxy_read_timeout 300ms;
        proxy_pass http://waiting;
    }
    location /refusing {
        proxy_next_upstream_tries 2;
        proxy_pass http://refusing;
    }
    location /t {
        content_by_lua_block {
            ngx.say(ngx.location.capture("/slow").status)
            ngx.say(ngx.location.capture("/refusing").header["X-Tries"])
        }
    }
--- request
GET /t?timeouts=60000,60000,60000&retries=4
--- response_body
504
2



=== TEST 25: timeouts of a Lua balancer override set_timeouts, and set_retries limits the attempts of the balancer
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local var = ngx.var
            assert(balancer.set_current_peer("127.0.0.1", tonumber(var.arg_to)))
            if var.arg_balancer then
                local connect, send, read = var.arg_balancer:match("^([%d.]*),([%d.]*),([%d.]*)$")
                assert(balancer.set_timeouts(tonumber(connect), tonumber(send), tonumber(read)))
            end
            if var.arg_more and not balancer.get_last_failure() then
                assert(balancer.set_more_tries(tonumber(var.arg_more)))
            end
        }
    }
--- config
    location /short {
        proxy_connect_timeout 60s;
        proxy_read_timeout 60s;
        proxy_pass http://lua/;
    }
    location /long {
        proxy_connect_timeout 300ms;
        proxy_read_timeout 300ms;
        proxy_pass http://lua/slow;
    }
    location /tries {
        proxy_next_upstream_tries 5;
        proxy_pass http://lua/;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            local waiting, full = "&to=$TEST_NGINX_RAND_PORT_1", "&to=$TEST_NGINX_FULL_PORT"
            for _, late in ipairs { "", " late" } do
                forward.say_all {
                    "/short/read?timeouts=60000,60000,60000&balancer=60,60,0.3" .. waiting .. late,
                    "/short/connect?timeouts=60000,60000,60000&balancer=0.3,60,60" .. full .. late,
                    "/long/read?timeouts=300,300,300&balancer=20,20,20" .. waiting .. late,
                    -- Timeouts that the balancer leaves out are those of the request.
                    "/short/read?timeouts=60000,60000,300&balancer=60,60," .. waiting .. late,
                    "/short/connect?timeouts=300,60000,60000&balancer=,60,60" .. full .. late,
                    "/long/read?timeouts=20000,20000,20000&balancer=0.3,," .. waiting .. late,
                    -- Requests without set_timeouts, and without timeouts of the balancer.
                    "/long/read?balancer=20,20,20" .. waiting .. late,
                    "/long/none?x" .. waiting .. late,
                }
            end
            local refusing = "&to=$TEST_NGINX_RAND_PORT_3"
            for _, late in ipairs { false, true } do
                for _, uri in ipairs {
                    "/tries?more=2", "/tries?more=9", "/tries?retries=1&more=9", "/tries?retries=0&more=9",
                    "/tries?retries=9&more=7", "/tries?x",
                } do
                    ngx.say(uri, " ", forward.post(uri .. refusing, { late = late }).tries)
                end
            end
        }
    }
--- request
GET /all
--- response_body eval
<<'_EOC_' x 2 . <<'_EOC_' x 2
/short/read: 504
/short/connect: 504
/long/read: 200
/short/read: 504
/short/connect: 504
/long/read: 200
/long/read: 200
/long/none: 504
_EOC_
/tries?more=2 3
/tries?more=9 5
/tries?retries=1&more=9 2
/tries?retries=0&more=9 1
/tries?retries=9&more=7 8
/tries?x 1
_EOC_



=== TEST 26: set_retries, set_timeouts and settings for TLS apply together
--- http_config
    upstream first-is-wrong {
        server unix:$TEST_NGINX_HTML_DIR/other.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/other.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0 backup;
    }
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_connect_timeout 60s;
    proxy_read_timeout 60s;
    proxy_next_upstream_tries 1;
    location /verify {
        access_by_lua_block {
            local forward = require "forward"
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(ngx.var.arg_verify == "on"))
            end
            forward.plugin()
        }
        location /verify/off {
            proxy_pass https://$arg_to;
        }
        location /verify/on {
            proxy_ssl_verify on;
            proxy_pass https://$arg_to;
        }
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            for _, late in ipairs { "", " late" } do
                forward.say_all {
                    "/verify/off/service?verify=on&to=service&timeouts=20000,20000,20000" .. late,
                    "/verify/off/other?verify=on&to=other&timeouts=20000,20000,20000" .. late,
                    "/verify/off/silent?verify=on&to=silent&timeouts=300,60000,60000" .. late,
                    "/verify/off/waiting?verify=on&to=waiting-tls&timeouts=60000,60000,300" .. late,
                    "/verify/on/other?verify=off&to=other&timeouts=20000,20000,20000" .. late,
                    "/verify/on/waiting?verify=off&to=waiting-tls&timeouts=60000,60000,300" .. late,
                    "/verify/on/service?to=service&timeouts=20000,20000,20000" .. late,
                    "/verify/on/other?to=other&timeouts=20000,20000,20000" .. late,
                    "/verify/off/other?to=other&timeouts=20000,20000,20000" .. late,
                }
            end
            for _, late in ipairs { false, true } do
                for _, uri in ipairs {
                    "/verify/off?verify=on&retries=2", "/verify/off?verify=on&retries=1", "/verify/off?verify=on",
                    "/verify/off?retries=2", "/verify/on?retries=2", "/verify/on?verify=off&retries=2",
                } do
                    local answer = forward.post(uri .. "&to=first-is-wrong", { late = late })
                    ngx.say(uri, " ", answer.status, " ", answer.tries)
                end
            end
        }
    }
--- request
GET /all
--- response_body eval
<<'_EOC_' x 2 . <<'_EOC_' x 2
/verify/off/service: 200
/verify/off/other: 502
/verify/off/silent: 504
/verify/off/waiting: 504
/verify/on/other: 200
/verify/on/waiting: 504
/verify/on/service: 200
/verify/on/other: 502
/verify/off/other: 200
_EOC_
/verify/off?verify=on&retries=2 200 3
/verify/off?verify=on&retries=1 502 2
/verify/off?verify=on 502 1
/verify/off?retries=2 200 1
/verify/on?retries=2 200 3
/verify/on?verify=off&retries=2 200 1
_EOC_



=== TEST 27: an attempt after a failed verification has the settings of the request and the location
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/named-otherwise.sock ssl;
        certificate gateway;
    }
    # The second server has the required name, and an issuer that is not trusted.
    upstream second-has-the-name {
        server unix:$TEST_NGINX_HTML_DIR/named-otherwise.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/other.sock backup;
    }
--- config
    proxy_next_upstream_tries 1;
    location /t {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
            require("forward").plugin()
        }
        proxy_pass https://second-has-the-name;
    }
    location /all {
        content_by_lua_block {
            local forward = require "forward"
            for _, uri in ipairs { "/t?retries=1", "/t?retries=1&timeouts=20000,20000,20000", "/t" } do
                for _, late in ipairs { false, true } do
                    local answer = forward.post(uri, { late = late })
                    ngx.say(answer.status, " ", answer.tries)
                end
            end
        }
    }
--- request
GET /all
--- response_body
200 2
200 2
200 2
200 2
502 1
502 1
--- error_log
upstream SSL certificate carries none of the accepted names: host "second-has-the-name", DNS name "service.test"
