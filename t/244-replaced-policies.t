# SPDX-License-Identifier: Apache-2.0

# mtls_auth:replace and header_cert_auth:replace: other policies at run time, in all workers.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use IPC::Open3 qw(open3);
use Test::More;

require_program('curl', 'nginx', 'openssl');

my $folder = test_folder();
my $pki    = $ENV{TEST_NGINX_PKI};

sub gateway {
    my ($name, $dict) = @_;
    return <<"_EOC_";
    lua_shared_dict policies $dict;
    lua_shared_dict small 64k;
    keepalive_timeout 600;
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        mtls_auth, header_cert_auth = require "resty.kong.plugins.mtls_auth", require "resty.kong.plugins.header_cert_auth"
        function policy(names, consumer, more)
            local one = { names = names, ca = { file = "$pki/ca.crt" }, consumers = { { name = consumer, common_name = "client-1" } } }
            for name, value in pairs(more or {}) do
                one[name] = value
            end
            return one
        end
        function header(consumer, more)
            local one = policy(nil, consumer, more)
            one.header, one.encoding, one.trusted = "X-Client-Cert", "url", { "unix:" }
            return one
        end
        by_handshake = assert(mtls_auth.new({ policy({ "a.test" }, "$name") }, { dict = "policies" }))
        by_header = assert(header_cert_auth.new(header("$name", { dict = "policies" })))
        fixed = assert(mtls_auth.new { policy({ "a.test" }, "fixed") })
        in_small = assert(mtls_auth.new({ policy({ "small.test" }, "$name") }, { dict = "small" }))
        local file = assert(io.open("$pki/client1.crt"))
        certificate = ngx.escape_uri(file:read("*a"):match("%-%-%-%-%-BEGIN.-%-%-%-%-%-END CERTIFICATE%-%-%-%-%-"))
        file:close()
        -- What a call returns, or throws.
        function told(ok, result, err)
            return ok and tostring(result) .. " " .. tostring(err) or "throws " .. result
        end
    }
    server {
        listen unix:$folder/tls.sock ssl;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:1m;
        ssl_certificate_by_lua_block { by_handshake:certificate() }
        location / {
            access_by_lua_block { by_handshake:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
        location /named {
            access_by_lua_block { by_handshake:access { policy = "named" } }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
    }
    server {
        listen unix:$folder/header.sock;
        location / {
            rewrite_by_lua_block { ngx.req.set_header("X-Client-Cert", certificate) }
            access_by_lua_block { by_header:access() }
            content_by_lua_block { ngx.say(ngx.req.get_headers()["X-Consumer-Username"]) }
        }
    }
    server {
        listen unix:$folder/run.sock;
        client_body_buffer_size 1m;
        location / {
            content_by_lua_block {
                ngx.req.read_body()
                ngx.print(tostring(assert(loadstring(ngx.req.get_body_data()))()))
            }
        }
    }
_EOC_
}

sub curl {
    my (@words) = @_;
    open my $out, '-|', 'curl', '-sk', '-m', 20, '-w', '%{http_code}', @words or die "curl: $!\n";
    my $said = do { local $/; <$out> };
    close $out;
    return $said =~ s/<html>.*<\/html>\s*//sr =~ s/\n/ /r;
}
sub lua {
    my ($worker, $code) = @_;
    my $run = sub { curl('--unix-socket', "$folder/run.sock", '-H', 'Expect:', '--data-binary', $code, 'http://a/') =~ s/200\z//r };
    return $worker ? scalar alone('gateway', $worker, $run) : $run->();
}
my @client = ('--cert', "$pki/client1.crt", '--key', "$pki/client1.key");
sub visit {
    my ($worker, $name, @words) = @_;
    @words = @client if !@words;
    my $visit = sub { curl('--unix-socket', "$folder/tls.sock", @words, "https://$name.test/") };
    return scalar alone('gateway', $worker, $visit);
}
sub by_header {
    my ($worker) = @_;
    return scalar alone('gateway', $worker, sub { curl('--unix-socket', "$folder/header.sock", 'http://a/') });
}

start_nginx('gateway', modules => 1, workers => 2, log => 'info', http => gateway('first', '200k'));
my ($one, $two) = workers('gateway');

# ---- a connection that outlives its policy -------------------------------------------------------

# A client that stays on its connection with the first worker.
my ($to, $from);
alone('gateway', $one, sub {
    my $pid = open3($to, $from, undef, 'openssl', 's_client', '-unix', "$folder/tls.sock", '-servername', 'a.test', '-quiet',
        '-cert', "$pki/client1.crt", '-key', "$pki/client1.key");
    return;
});
sub on_connection {
    print $to "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    my ($status, $body);
    while (my $line = <$from>) {
        ($status) = $line =~ m{\AHTTP/1.1 (\d+)} if !$status;
        last if $line =~ /\A\r\n\z/ && $status;
    }
    # The body is a chunk, or a page.
    while (my $line = <$from>) {
        $body .= $line;
        last if $line =~ /\A0\r\n/ || $line =~ m{</html>};
    }
    $from->getline if $body =~ /\A[0-9a-f]+\r\n/;
    return $status . ($body =~ /\A[0-9a-f]+\r\n(\w+)\n/ ? " $1" : '');
}
STDOUT->autoflush;
$to->autoflush;
is on_connection(), '200 first', 'a connection is of the policy that there is first';

# ---- replaced by one worker, for all -------------------------------------------------------------

is visit($_, 'a'), 'first 200', "worker $_ has the first policies" for $one, $two;
is visit($_, 'b'), 'nil 200', "worker $_ has no policy for b.test" for $one, $two;
is lua($one, 'return told(pcall(by_handshake.replace, by_handshake, { policy({ "a.test" }, "second"), policy({ "b.test" }, "third", '
    . '{ name = "named" }) }))'), 'true nil', 'one worker replaces the policies';
is visit($_, 'a'), 'second 200', "worker $_ has the second policies" for $one, $two;
is visit($_, 'b'), 'third 200', "worker $_ asks clients of b.test" for $one, $two;
is on_connection(), '200 second', 'so does the connection of before';
is visit($one, 'b', '-k'), '401', 'b.test is for consumers only';
is alone('gateway', $two, sub { curl('--unix-socket', "$folder/tls.sock", @client, 'https://b.test/named') }), 'third 200',
    'the names of the policies are replaced, too';

is by_header($_), 'first 200', "worker $_, header: the first options" for $one, $two;
is lua($two, 'return told(pcall(by_header.replace, by_header, header("second")))'), 'true nil', 'header: the options are replaced';
is by_header($_), 'second 200', "worker $_, header: the second options" for $one, $two;

# A consumer is taken away.
is lua($two, 'return told(pcall(by_handshake.replace, by_handshake, { policy({ "a.test" }, "x", { consumers = {} }) }))'), 'true nil',
    'nobody is a consumer any more';
is visit($_, 'a'), '401', "worker $_ refuses who was one" for $one, $two;
is on_connection(), '401', 'also on a connection of before';
is visit($_, 'b'), 'nil 200', "worker $_ has no policy for b.test any more" for $one, $two;

# ---- sessions ------------------------------------------------------------------------------------

for my $version ('1_2', '1_3') {
    my $connect = sub {
        my ($name, @words) = @_;
        return scalar `printf 'GET / HTTP/1.0\\r\\nHost: $name\\r\\n\\r\\n' | openssl s_client -unix $folder/tls.sock -servername $name \\
            -tls$version -ign_eof @words 2>&1`;
    };
    my $file = "$folder/session-$version";
    my @cert = ('-cert', $client[1], '-key', $client[3]);
    lua($one, 'by_handshake:replace { policy({ "a.test" }, "its-first") }');
    # What the client says of the session may be in the midst of the answer.
    like $connect->('a.test', @cert, '-sess_out', $file), qr/its-first/, "TLS $version: a session of a client that was asked";
    lua($one, 'by_handshake:replace { policy({ "a.test" }, "its-second") }');
    like $connect->('a.test', '-sess_in', $file), qr/^Reused, .*its-second/ms, "TLS $version: resumed, it is judged by what there is now";
    lua($one, 'by_handshake:replace { policy({ "a.test" }, "x", { consumers = {} }) }');
    like $connect->('a.test', '-sess_in', $file), qr{^Reused, .*HTTP/1.1 401}ms, "TLS $version: and refused";
}

# ---- what can't be used --------------------------------------------------------------------------

lua($one, 'by_handshake:replace { policy({ "a.test" }, "good") }');
for my $case (
    ['nil', 'nil options must be a table: given nil'],
    ['{}', 'nil policies must be a list: given an empty table: mtls_auth.new'],
    ['{ policy({ "a b" }, "x") }', 'nil policy 1: "a b" is not the name of a host'],
    ['{ policy({ "a.test" }, "x", { ca = { file = "/nowhere" } }) }',
        'nil policy 1: ca: file "/nowhere": No such file or directory (os error 2)'],
    ['{ policy({ "a.test" }, "x", { depth = -1 }) }',
        'nil policy 1: depth must be an integer, and not negative: given -1: mtls_auth.new'],
    ['{ policy({ "a.test" }, "x", { unknown = 1 }) }', qr/\Anil policy 1: unknown option "unknown"; options are /],
    ['{ policy({ "a.test" }, "x\n") }', 'nil policy 1: consumer 1: name has a control character, or begins or ends with a space'],
    ['{ policy({ "a.test" }, "x", { consumers = nil, lookup = print }) }',
        'nil options[1].lookup is a function, which can\'t be sent to other workers'],
    ['{ policy({ "a.test" }, "x", { anonymous = ngx.null }) }',
        'nil options[1].anonymous is a userdata, which can\'t be sent to other workers'],
    ['(function() local one = {} one[1] = one return one end)()', qr/\Anil options.*: tables are too deep in one another\z/],
) {
    my ($policies, $expected) = @$case;
    my $said = lua($one, "return told(pcall(by_handshake.replace, by_handshake, $policies))");
    ref $expected ? like $said, $expected, "replace($policies)" : is $said, $expected, "replace($policies)";
    is visit($_, 'a'), 'good 200', "worker $_: nothing has changed" for $one, $two;
}
is lua($one, 'return told(pcall(fixed.replace, fixed, { policy({ "a.test" }, "x") }))'),
    'nil without the option dict, other workers would not know', 'without a dict';
is lua($one, 'return told(pcall(mtls_auth.new, { policy({ "a.test" }, "x") }, { dict = "nowhere" }))'),
    'nil there is no lua_shared_dict "nowhere"', 'a dict that is not there';
is lua($one, 'return told(pcall(mtls_auth.new, { policy({ "a.test" }, "x") }, { dict = 1 }))'),
    'throws dict must be the name of a lua_shared_dict: given 1: mtls_auth.new', 'a dict that is no name';
is lua($one, 'return told(pcall(mtls_auth.new, { policy({ "a.test" }, "x") }, { dct = "a" }))'),
    'throws unknown option "dct"; options are dict: mtls_auth.new', 'an unknown option';
is lua($one, 'return told(pcall(by_handshake.replace))') =~ s/.*(replace must)/$1/r,
    'replace must be called with a colon, as a method: mtls_auth:replace(...)', 'a dot in place of the colon';

# Options that only differ in functions would be taken for the same.
is lua($one, <<'_EOC_'), 'true nil nil', 'policies with functions share a dict with their own kind only';
    local function of(lookup)
        local one = policy({ "lookup.test" }, "x")
        one.consumers, one.lookup = nil, lookup
        return mtls_auth.new({ one }, { dict = "small" })
    end
    local function finds() return { name = "found" } end
    local one, another = of(finds), of(function() return { name = "other" } end)
    local same = of(finds)
    return tostring(one ~= nil and same ~= nil) .. " " .. told(true, another)
_EOC_
like lua($one, 'local one = policy({ "lookup.test" }, "x") one.consumers, one.lookup = nil, print
    return told(true, mtls_auth.new({ one }, { dict = "small" }))'),
    qr/\Anil lua_shared_dict "small": other options for it differ from these in functions only/, 'the error says why';

# A dict without room.
is lua($one, 'return told(pcall(in_small.replace, in_small, { policy({ "small.test" }, "small") }))'), 'true nil', 'a little fits';
my $large = '{ policy({ "small.test" }, ("x"):rep(60000)) }';
is lua($one, "return told(pcall(in_small.replace, in_small, $large))"), 'nil lua_shared_dict "small": no memory', 'much does not';
is lua($_, 'return in_small.exact["small.test"].common.list.records[1].username'), 'small', 'what was there stays' for $one;
is lua($one, 'return told(pcall(in_small.replace, in_small, { policy({ "small.test" }, "again") }))'), 'true nil', 'and may be replaced';

# Large policies.
is lua($one, 'local many = {} for i = 1, 1000 do many[i] = { name = "n" .. i, common_name = "c" .. i } end
    many[1001] = { name = "last", common_name = "client-1" }
    return told(pcall(by_handshake.replace, by_handshake, { policy({ "a.test" }, nil, { consumers = many }) }))'), 'true nil', '1001 consumers';
is visit($_, 'a'), 'last 200', "worker $_ has them" for $one, $two;
my $free = lua($one, 'return ngx.shared.policies:free_space()');
lua($one, 'by_handshake:replace { policy({ "a.test" }, "small") }');
lua($one, 'by_handshake:replace { policy({ "a.test" }, "n' . $_ . '") }') for 1 .. 30;
is visit($_, 'a'), 'n30 200', "worker $_ has the last of many" for $one, $two;
cmp_ok lua($one, 'return #ngx.shared.policies:get_keys(0)'), '<=', 4, 'what was replaced is gone from the dict';

# ---- other workers, and other configurations -----------------------------------------------------

kill 'KILL', $two;
wait_until('another worker', sub { my @now = workers('gateway'); @now == 2 && !grep { $_ == $two } @now });
(undef, my $three) = sort { ($a == $one ? 0 : 1) <=> ($b == $one ? 0 : 1) } workers('gateway');
is visit($three, 'a'), 'n30 200', 'a worker that was started later has what has replaced them';
close $to;
reload('gateway');
($one, $two) = workers('gateway');
is visit($_, 'a'), 'n30 200', "after a reload, worker $_ has it, too" for $one, $two;
write_to("$folder/gateway.conf", slurp("$folder/gateway.conf") =~ s/"first"/"edited"/gr);
reload('gateway');
($one, $two) = workers('gateway');
is visit($_, 'a'), 'edited 200', "other policies in the configuration count in worker $_" for $one, $two;
is by_header($_), 'edited 200', "other options, too, in worker $_" for $one, $two;
is lua($one, 'return told(pcall(by_handshake.replace, by_handshake, { policy({ "a.test" }, "fresh") }))'), 'true nil', 'they are replaced';
is visit($_, 'a'), 'fresh 200', "in worker $_" for $one, $two;

# ---- a dict that others use ----------------------------------------------------------------------

# A worker that can't read what has replaced the policies lets nobody in.
lua($one, 'for _, key in ipairs(ngx.shared.policies:get_keys(0)) do if key:find("^text") then ngx.shared.policies:delete(key) end end');
kill 'KILL', $two;
wait_until('another worker', sub { my @now = workers('gateway'); @now == 2 && !grep { $_ == $two } @now });
(undef, $three) = sort { ($a == $one ? 0 : 1) <=> ($b == $one ? 0 : 1) } workers('gateway');
is visit($one, 'a'), 'fresh 200', 'who has read it goes on';
is visit($three, 'a'), '000', 'who has not lets nobody in: no handshake';
like slurp("$folder/gateway.log"),
    qr/mtls_auth: lua_shared_dict "policies": options that were replaced: they are missing in it: is it too small, or was it emptied\?/,
    'the log says why';
lua($one, 'ngx.shared.policies:flush_all()');
is visit($_, 'a'), '000', "the dict was emptied: no handshake in worker $_" for $one, $three;
is by_header($_), '500', "and no request in worker $_" for $one, $three;
is lua($one, 'return told(pcall(by_handshake.replace, by_handshake, { policy({ "a.test" }, "mended") }))'), 'true nil', 'replace mends it';
is visit($_, 'a'), 'mended 200', "in worker $_" for $one, $three;

my $log = slurp("$folder/gateway.log");
unlike $log =~ s/.*(?:exited on signal 9|SSL_do_handshake|shared memory zone "policies" was locked|ignore long locked).*//gr, qr/\[(?:alert|crit|emerg)\]/,
    'no entries of level alert, crit or emerg are logged';

done_testing();
