# SPDX-License-Identifier: Apache-2.0

# Tests of the test support: NginxTest reports what goes wrong, the certificates are what the other test files take
# them for, and the Lua clients report what happened. A stock nginx is enough.

use lib 't/support';

BEGIN {
    my $folder = '/usr/lib/nginx/modules';
    $ENV{TEST_NGINX_LOAD_MODULES} //= join ' ',
        grep {-f} map {"$folder/$_.so"} qw(ndk_http_module ngx_http_lua_module);
}

use File::Temp ();
use TestKong;
use TestHarness 'no_plan', needs => 'NginxTest itself is tested';
use Time::HiRes ();

require_program('openssl', 'curl');

# ---- test files that are meant to fail -----------------------------------------------------------

my $lib     = project_root() . '/t/lib';
my $support = project_root() . '/t/support';
my $scratch = File::Temp::tempdir(CLEANUP => 1);
my $written = 0;

# Starts perl on a small test file. Its output goes to a file next to the test file.
sub start_child {
    my ($text, %env) = @_;
    my $path = sprintf '%s/%02d.t', $scratch, ++$written;
    open my $file, '>', $path or die $!;
    print {$file} $text;
    close $file;

    my $pid = fork // die $!;
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__);
        my $own = qr/^TEST_NGINX_(?:HTML_DIR|SERV|PORT|ERROR_LOG|USE_|NO_CLEAN|RAND_)/;
        delete @ENV{ grep {/$own/} keys %ENV };
        %ENV = (%ENV, TMPDIR => $scratch, TEST_NGINX_LOG_WAIT => 0.1, %env);
        open STDOUT, '>', "$path.out";
        open STDERR, '>&', \*STDOUT;
        exec $^X, "-I$lib", "-I$support", $path;
    }
    return {pid => $pid, path => $path};
}

# Returns the child's output, its exit status, and the names of the assertions that passed and failed.
sub end_child {
    my ($child) = @_;
    waitpid $child->{pid}, 0;
    my $status = $?;
    open my $file, '<', "$child->{path}.out" or die $!;
    my $output = do { local $/; <$file> };
    return {
        output => $output,
        status => $status,
        passed => [$output =~ /^ok \d+ - (.*)/mg],
        failed => [$output =~ /^not ok \d+ - (.*)/mg],
    };
}

sub child { return end_child(start_child(@_)) }

my $start = "use NginxTest;\n";
my $blank = <<'END';
--- config
    location = /t { return 200 "hello\n"; }
--- request
GET /t
END

my $crash = <<'END';
--- config
    location = /t { content_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int raise(int);"
        ffi.C.raise(11)
    } }
--- request
GET /t
END

# Each block, with those of its assertions that must fail. All others must pass.
my @red = (
    ["wrong status", "$blank--- error_code: 201", 'error_code'],
    ["wrong status by pattern", "$blank--- error_code_like: ^4", 'error_code_like'],
    ["wrong body", "$blank--- response_body\nbye", 'response_body'],
    ["missing newline", "$blank--- response_body chomp\nhello", 'response_body'],
    ["body unlike", "$blank--- response_body_like\n^hallo", 'response_body_like'],
    ["body like", "$blank--- response_body_unlike\nhel+o", 'response_body_unlike'],
    [
        "wrong headers", "$blank--- response_headers\nContent-Length: 7\n! Server\nX-None: 1",
        'response_headers: Content-Length', 'response_headers: no Server',
        'response_headers: X-None',
    ],
    ["headers unlike", "$blank--- response_headers_like\nServer: ngin",
        'response_headers_like: Server'],
    [
        "raw headers",
        "$blank--- raw_response_headers_like: X-N\n--- raw_response_headers_unlike: Serv",
        'raw_response_headers_like', 'raw_response_headers_unlike',
    ],
    ["missing log line", "$blank--- error_log\nno such line\nhttp request line",
        'error_log has a line with "no such line"'],
    ["missing log pattern", "$blank--- error_log eval\nqr/no such \\w+/",
        'error_log has a line with (?^u?:no such \w+)'],
    ["unexpected log line", "$blank--- no_error_log\nhttp request line\nno such line",
        'no_error_log: no line with "http request line"'],
    ["grep finds too little",
        "$blank--- grep_error_log eval\nqr/no such/\n--- grep_error_log_out\nno such",
        'grep_error_log_out'],
    ["grep finds too much",
        "$blank--- grep_error_log chop\nhttp request line\n--- grep_error_log_out",
        'grep_error_log_out'],
    ["access log", "$blank--- access_log: GET /u\n--- no_access_log: GET /t",
        'access_log has a line with "GET /u"', 'no_access_log: no line with "GET /t"'],
    ["one of several requests", <<'END', 'response_body (request 1: POST /t)'],
--- config
    location = /t { return 200 $request_method; }
--- request eval
["GET /t", "POST /t", "PUT /t"]
--- response_body eval
["GET", "GET", "PUT"]
END
    ["alert", <<'END', 'no alerts in the error log'],
--- config
    location = /t { content_by_lua_block { ngx.log(ngx.ALERT, "boo") ngx.say("hello") } }
--- request
GET /t
--- response_body
hello
END
    ["alert after the response", <<'END', 'no alerts in the error log'],
--- config
    location = /t { return 200 ok; log_by_lua_block { ngx.log(ngx.EMERG, "boo") } }
--- request
GET /t
END
    ["logged while ending", <<'END', 'no_error_log: no line with "late"'],
--- http_config
    exit_worker_by_lua_block { ngx.log(ngx.ERR, "late") }
--- config
    location = /t { return 200 ok; }
--- request
GET /t
--- no_error_log
late
END
    ["panic", <<'END', 'no panic or report of a sanitizer'],
--- config
    location = /t { content_by_lua_block {
        io.stderr:write("thread 'x' panicked at lib.rs\n")
        ngx.say("hello")
    } }
--- request
GET /t
END
    ["crash", $crash, 'error_code', 'nginx was killed by signal 11'],
    ["ends by itself", <<'END', 'error_code', 'nginx ended before it was told to'],
--- config
    location = /t { content_by_lua_block { os.exit(0) } }
--- request
GET /t
--- wait: 0.1
END
    ["crash while ending", <<'END', 'nginx was killed by signal 11'],
--- http_config
    exit_worker_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int raise(int);"
        ffi.C.raise(11)
    }
--- config
    location = /t { return 200 ok; }
--- request
GET /t
END
    ["does not end", <<'END', 'nginx did not end on QUIT'],
--- config
    location = /t { return 200 ok; log_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int raise(int);"
        ffi.C.raise(19)
    } }
--- request
GET /t
END
    ["does not start", <<'END', 'nginx starts (it exited with status 1)'],
--- config
    no_such_directive;
--- request
GET /t
END
    ["does not refuse to start", <<'END', 'nginx refuses to start (it is running)'],
--- config
--- must_die
END
    ["refuses with another status", <<'END', 'nginx refuses to start, with status 2'],
--- config
    no_such_directive;
--- must_die: 2
--- error_log
unknown directive "no_such_directive"
END
    ["refuses for another reason", <<'END', 'error_log has a line with "no such reason"'],
--- config
    no_such_directive;
--- must_die
--- error_log
no such reason
END
    ["crashes instead of refusing", <<'END', 'nginx refuses to start (it was killed by signal 11)'],
--- http_config
    init_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int raise(int);"
        ffi.C.raise(11)
    }
--- config
--- must_die
END
    ["no answer in time", <<'END', 'the response comes in time', 'error_code'],
--- config
    location = /t { content_by_lua_block { ngx.sleep(10) } }
--- request
GET /t
--- timeout: 50ms
END
    ["no connection with curl", <<'END', 'the request is answered', 'error_code'],
--- config
    location = /t { return 200 ok; }
--- request
GET /t
--- curl_protocol: https
END
    ["another error of curl", <<'END', 'curl_error'],
--- config
    location = /t { return 200 ok; }
--- request
GET /t
--- curl_error: no such error
END
);

sub data {
    my (@blocks) = @_;
    return "__DATA__\n" . join '', map {"\n=== TEST: $_->[0]\n$_->[1]\n"} @blocks;
}

# Runs the bad blocks between good ones. Each bad block must fail for the right reason.
my @green = map { [$_, $blank] } 'good before', 'good after';
my $red_child = start_child($start . "run_tests();\n" . data($green[0], @red, $green[1]),
    TEST_NGINX_STOP_WAIT => 1);

my $master_child = start_child(
    $start . "workers(2); run_tests();\n" . data(['good', $blank], ['crash', $crash]));

# ---- mistakes in a test file ---------------------------------------------------------------------

my @mistakes = (
    ["$blank--- respone_body\nhello", qr/unknown section 'respone_body'/],
    ["$blank--- error_log\na\n--- error_log\nb", qr/section 'error_log' is given twice/],
    ["$blank--- no_error_log", qr/section 'no_error_log' is empty/],
    ["$blank--- error_log eval\n('a', 'b')", qr/section 'error_log' is a list/],
    ["$blank--- response_body eval\ndie 'oops'", qr/eval: oops/],
    ["$blank--- grep_error_log: a", qr/'grep_error_log' and 'grep_error_log_out' go together/],
    ["--- request\nGET /t", qr/needs a 'config' section/],
    ["--- config\n", qr/needs a 'request' section/],
    ["--- config\nset \$x \$TEST_NGINX_UNSET;\n--- request\nGET /t", qr/no TEST_NGINX_UNSET/],
    ["--- config\n--- request eval\n['GET /', 'GET /']\n--- error_code: 403", qr/array of as many/],
    ["--- config\n--- request\n/t", qr{not a request: '/t'}],
);
my @mistaken =
    map { start_child($start . "run_tests();\n" . data(['mistake', $_->[0]])) } @mistakes;

# ---- counting, skipping, choosing ----------------------------------------------------------------

{
    my $body = <<'END';
--- config
    location = /t { add_header X-A b; return 200 "hello\n"; }
--- request
GET /t
--- error_code: 200
--- response_body
hello
--- response_body_like: h
--- response_headers
X-A: b
! X-B
--- error_log
http request line
generic phase
--- no_error_log
[alert]
[error]
END
    my $refuse = "--- config\nbad;\n--- must_die\n--- error_log\nunknown directive";
    my $result = child("use NginxTest tests => 3 * (9 + 2 + 3 + 1);\n"
            . "repeat_each(3);\nrun_tests();\n"
            . data(
                ['all', $body],
                ['refused', $refuse],
                ['skipped by eval', "$body--- skip_eval: 3: 1"],
                ['skipped by version', "$body--- skip_nginx\n1: >= 1.2.3 and < 99.0"],
                ['marked', "$body--- SKIP"],
            ));
    is($result->{status}, 0, 'the number of assertions is the one planned, for each repetition')
        or diag($result->{output});
    is(scalar(() = $result->{output} =~ /^ok \d+ # skip/mg), 12,
        'skipped blocks skip the number of assertions that they state');

    $result = child($start . "run_tests();\n"
            . data(['first', $blank], ['second', "$blank--- ONLY"], ['third', $blank]));
    is("@{ $result->{passed} }", 'TEST: second - error_code', 'only the block with ONLY runs');

    $result = child($start . "run_tests();\n"
            . data(['first', $blank], ['second', "$blank--- LAST"], ['third', $blank]));
    is(scalar @{ $result->{passed} }, 2, 'no block after LAST runs');

    $result = child($start . "run_tests();\n"
            . data(['version', "$blank--- skip_nginx: 1: < 1.22.0"],
                   ['openssl', "$blank--- skip_openssl: 1: <= 1.1.1h"]));
    is(scalar @{ $result->{passed} }, 2, 'a version condition that does not hold skips nothing');
}

{
    my $result = child($start . "add_response_body_check(sub {\n"
            . "    my (\$block, \$body, \$index) = \@_;\n"
            . "    is(\$body, \"hello\\n\", 'checked: ' . \$block->name . \" \$index\") });\n"
            . "run_tests();\n"
            . data(['good', $blank], ['ignored', "$blank--- ignore_response"],
                   ['bad', <<'END']));
--- config
    location = /t { return 200 $request_method; }
--- request eval
["GET /t", "PUT /t"]
END
    is_deeply(
        [grep {/checked/} @{ $result->{passed} }], ['checked: TEST: good 0'],
        'a check of response bodies can pass');
    is_deeply($result->{failed}, ['checked: TEST: bad 0', 'checked: TEST: bad 1'],
        'a check of response bodies can fail, once for each request') or diag($result->{output});
}

# ---- cleaning up ---------------------------------------------------------------------------------

# Waits up to 3 seconds for the process to end, and returns whether it has.
sub gone {
    my ($pid) = @_;
    for (1 .. 300) {
        return 1 if !kill 0, $pid;
        Time::HiRes::sleep(0.01);
    }
    return 0;
}

sub read_text {
    my ($path) = @_;
    open my $file, '<', $path or return '';
    local $/;
    return scalar <$file> // '';
}

sub write_text {
    my ($path, $text) = @_;
    mkdir $path =~ s{/[^/]*\z}{}r;
    open my $file, '>', $path or die $!;
    print {$file} $text;
    return;
}

{
    my $slow = <<'END';
--- config
    location = /t { content_by_lua_block { ngx.sleep(20) } }
--- request
GET /t
--- timeout: 20
END
    my $root  = "$scratch/root";
    my $child = start_child($start . "run_tests();\n" . data(['slow', $slow]),
        TEST_NGINX_SERVROOT => $root, TEST_NGINX_LOG_LEVEL => 'debug');
    my $nginx = '';
    for (1 .. 500) {
        $nginx = read_text("$root/logs/nginx.pid") =~ s/\s+\z//r;
        last if $nginx && read_text("$root/logs/error.log") =~ /http request line/;
        Time::HiRes::sleep(0.01);
    }
    like($nginx, qr/\A\d+\z/, 'TEST_NGINX_SERVROOT sets the server root');
    kill INT => $child->{pid};
    isnt(end_child($child)->{status}, 0, 'an interrupted test file fails');
    ok(gone($nginx), 'an interrupted test file leaves no nginx behind');

    my $result = child($start . "run_tests();\nprint STDERR 'root=', server_root(), qq{\\n};\n"
            . data(['good', $blank]));
    my ($folder) = $result->{output} =~ /root=(\S+)/;
    ok(defined $folder && !-e $folder, 'a server root without a failure is removed');

    $result = child($start . "add_block_preprocessor(sub { die 'oops' if shift->name =~ /bad/ });\n"
            . "run_tests();\n" . data(['good', $blank], ['bad', $blank]));
    isnt($result->{status}, 0, 'a test file that dies fails');

    write_text("$scratch/mine/precious", 'x');
    $result = child($start . "run_tests();\n" . data(['good', $blank]),
        TEST_NGINX_SERVROOT => "$scratch/mine");
    like($result->{output}, qr/^Bail out!.*neither empty nor a server root/m,
        'a folder that no test made is refused as server root');
    ok(-e "$scratch/mine/precious", 'the refused folder is left alone');

    my $log = "$scratch/all.log";
    child($start . "run_tests();\n" . data(['first', $blank], ['second', $blank]),
        TEST_NGINX_ERROR_LOG => $log);
    is(scalar(() = read_text($log) =~ /http request line/g), 2,
        'TEST_NGINX_ERROR_LOG collects the error logs of all blocks');
}

# ---- the PKI -------------------------------------------------------------------------------------

sub verify {
    my ($pki, $name, $ca, $purpose) = @_;
    my @chain = -e "$pki/$name-chain.crt" ? ('-untrusted', "$pki/$name-chain.crt") : ();
    my $line = join ' ', map {"'$_'"} 'openssl', 'verify', '-no-CApath', '-CAfile', "$pki/$ca.crt",
        '-purpose', $purpose, @chain, "$pki/$name.crt";
    my $output = `$line 2>&1`;
    return $? == 0 ? 'OK' : $output =~ /^error \d+ at \d+ depth lookup: (.*)/m ? $1 : $output;
}

# Returns what `openssl x509` prints about a certificate.
sub facts {
    my ($pki, $name, $which) = @_;
    return scalar `openssl x509 -in '$pki/$name.crt' -noout $which`;
}

{
    my $pki = $ENV{TEST_NGINX_PKI};
    my %ca  = ('service-other' => 'other-ca', 'client-other' => 'other-ca',
        'service-self' => 'service-self');
    for my $name (qw(service service-intermediate service-deep service-other service-self gateway)) {
        my $ca = $ca{$name} || 'ca';
        is(verify($pki, $name, $ca, 'sslserver'), 'OK', "$name is a server certificate issued by $ca");
        like(verify($pki, $name, $ca, 'sslclient'), qr/purpose/, "$name is not a client certificate");
    }
    for my $name (qw(client1 client1-renewed client2 client-rsa client-weak client-intermediate client-deep
        client-other)) {
        my $ca = $ca{$name} || 'ca';
        is(verify($pki, $name, $ca, 'sslclient'), 'OK', "$name is a client certificate issued by $ca");
        like(verify($pki, $name, $ca, 'sslserver'), qr/purpose/, "$name is not a server certificate");
    }
    is(verify($pki, 'client-expired', 'ca', 'sslclient'), 'certificate has expired',
        'client-expired has expired');
    is(verify($pki, 'service-expired', 'ca', 'sslserver'), 'certificate has expired',
        'service-expired has expired');
    like(verify($pki, 'client-other', 'ca', 'sslclient'), qr/unable to get local issuer/,
        'client-other was not issued by ca');
    is(verify($pki, 'client-other', 'bundle', 'sslclient'), 'OK', 'client-other was issued by a CA in bundle');
    is(verify($pki, 'client1', 'bundle', 'sslclient'), 'OK', 'client1 was issued by a CA in bundle');

    for my $name (map {s{.*/|\.key\z}{}gr} glob "$pki/*.key") {
        next if $name eq 'client-encrypted';
        is(`openssl pkey -in '$pki/$name.key' -pubout`,
            `openssl x509 -in '$pki/$name.crt' -noout -pubkey`, "the private key of $name belongs to its certificate");
    }
    is(facts($pki, 'client1', '-subject -pubkey'), facts($pki, 'client1-renewed', '-subject -pubkey'),
        'client1-renewed has the subject and the key of client1');
    isnt(facts($pki, 'client1', '-serial'), facts($pki, 'client1-renewed', '-serial'),
        'client1-renewed has another serial number than client1');
    my $plain = `openssl pkey -in '$pki/client1.key'`;
    is(`openssl pkey -in '$pki/client-encrypted.key' -passin pass:secret`, $plain,
        'client-encrypted.key is the key of client1');
    `openssl pkey -in '$pki/client-encrypted.key' -passin pass:wrong 2>&1`;
    isnt($?, 0, 'client-encrypted.key needs its passphrase');
    like(`openssl x509 -in '$pki/client-weak.crt' -noout -text`, qr/Public-Key: \(1024 bit\)/,
        'client-weak has a weak key');
    like(`openssl x509 -in '$pki/service.crt' -noout -ext subjectAltName`,
        qr{DNS:service\.test, DNS:\*\.wild\.test, URI:spiffe://test/service, IP Address:127\.0\.0\.1},
        'service has its subject alternative names');

    is(`scripts/pki '$scratch/pki' 2>&1`, '', 'scripts/pki prints nothing when it creates a PKI');
    write_text("$scratch/pki/mark", '');
    is(`scripts/pki '$scratch/pki' 2>&1`, '', 'scripts/pki prints nothing for a current PKI');
    ok(-e "$scratch/pki/mark", 'scripts/pki leaves a current PKI alone');
    write_text("$scratch/pki/.complete", (split ' ', read_text("$scratch/pki/.complete"))[0] . " 1\n");
    `scripts/pki '$scratch/pki'`;
    ok(!-e "$scratch/pki/mark" && -e "$scratch/pki/ca.crt", 'scripts/pki creates an outdated PKI again');
    is(join(' ', glob "$scratch/pki?*"), '', 'scripts/pki leaves no other files');

    is(`scripts/pki --cas 12 '$scratch/cas.pem' 2>&1`, '', 'scripts/pki --cas prints nothing');
    my %names = map { $_ => 1 }
        `openssl crl2pkcs7 -nocrl -certfile '$scratch/cas.pem' | openssl pkcs7 -print_certs -noout`
        =~ /^subject=(.*)/mg;
    is(scalar keys %names, 12, 'scripts/pki --cas creates as many different CAs as requested');
}

# ---- results of the test files that are meant to fail --------------------------------------------

{
    my $result = end_child($red_child);
    for my $case (@red) {
        my ($name, undef, @expected) = @$case;
        my @failed = map {/^TEST: \Q$name\E - (.*)/} @{ $result->{failed} };
        s/\(\?\^u?:/(?^u?:/ for @failed;    # perls show patterns in different ways
        is(join("\n", @failed), join("\n", @expected), "$name is reported");
    }
    is(scalar(grep {/^TEST: good/} @{ $result->{passed} }), 2, 'good blocks between bad ones pass');
    isnt($result->{status}, 0, 'a file with bad blocks fails');

    my ($kept) = $result->{output} =~ /server root kept: (\S+)/;
    ok(defined $kept && -s "$kept/failed/1/error.log", 'the logs of a failed block are kept');
    like($result->{output}, qr/end of its error log:\n.*boo/s, 'the end of the error log of a failed block is shown');
    like($result->{output}, qr/printed by nginx:\n.*unknown directive/s,
        'the output of nginx is shown for a failed block');
}

for my $index (0 .. $#mistakes) {
    my $result = end_child($mistaken[$index]);
    my $what = $mistakes[$index][1];
    like($result->{output}, qr/^Bail out!.*$what/m, "a mistake in a block ends the test file: $what");
    is($result->{status} >> 8, 255, 'a test file with a mistake exits with status 255');
}

{
    my $result = end_child($master_child);
    is(join("\n", @{ $result->{failed} }),
        "TEST: crash - error_code\nTEST: crash - no alerts in the error log",
        'the crash of a worker is reported');
    is(scalar(grep {/^TEST: good/} @{ $result->{passed} }), 1, 'a block with two workers passes');
}

# ---- blocks that must pass -----------------------------------------------------------------------

$ENV{TEST_NGINX_GREETING} = 'hello from the environment';
$ENV{FROM_OUTSIDE} = 'passed on';
env_to_nginx('FROM_OUTSIDE', 'SET_HERE=two words');

# Adds TLS servers to every block that has no http_config.
add_block_preprocessor(sub {
    my ($block) = @_;
    return if defined $block->http_config;
    $block->set_value(http_config => <<'END');
    lua_package_path "$TEST_NGINX_SUPPORT/?.lua;;";

    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl http2;
        listen unix:$TEST_NGINX_HTML_DIR/tls.sock ssl;
        server_name service.test;

        ssl_certificate        $TEST_NGINX_PKI/service.crt;
        ssl_certificate_key    $TEST_NGINX_PKI/service.key;
        ssl_protocols          TLSv1.2 TLSv1.3;
        ssl_client_certificate $TEST_NGINX_PKI/bundle.crt;
        ssl_verify_client      optional;
        ssl_verify_depth       3;
        ssl_session_cache      shared:one:1m;

        location / {
            return 200 "$ssl_protocol $ssl_server_name $ssl_client_verify $ssl_client_s_dn\n";
        }
    }

    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 ssl;
        ssl_certificate     $TEST_NGINX_PKI/service-deep.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service-deep.key;
        ssl_protocols       TLSv1.2;
        ssl_session_tickets off;
        ssl_session_cache   off;

        location = /none {
            return 204;
        }
    }
END
});

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: each request of a block gets its own headers and checks
--- config
    location = /t {
        client_max_body_size 1m;
        content_by_lua_block {
            ngx.req.read_body()
            ngx.header["X-Many"] = { "a", "b" }
            ngx.status = tonumber(ngx.var.arg_status or 200)
            ngx.say(ngx.req.get_method(), " ", ngx.req.http_version(), " ",
                    ngx.var.http_host, " ", tostring(ngx.var.http_x_foo), " ",
                    tostring(ngx.req.get_body_data()))
        }
    }
--- request eval
["GET /t", "# with a comment\nPOST /t?status=201\nsome\nlines", "GET /t?status=404 HTTP/1.0",
 "HEAD /t", ["PUT /t\nin ", "two ", { value => "pieces", delay_before => 0.01 }]]
--- more_headers eval
["X-Foo: one", "X-Foo: two\nHost: other", "", "", "Connection: keep-alive"]
--- error_code eval
[200, 201, 404, 200, 200]
--- response_body eval
["GET 1.1 localhost one nil\n", "POST 1.1 other two some\nlines\n", "GET 1 localhost nil nil\n", "",
 "PUT 1.1 localhost nil in two pieces\n"]
--- response_headers eval
[("X-Many: a, b\nContent-Type: text/plain\n! X-Few\nX-None:") x 5]
--- response_headers_like eval
[("Server: nginx/[\\d.]+") x 5]
--- raw_response_headers_like eval
["^HTTP/1.1 200 OK\r\n", qr/201 Created/, " 404 ", "X-Many: a\r\nX-Many: b\r\n",
 "Connection: keep-alive\r\n"]
--- no_error_log
[error]



=== TEST 2: error_log, no_error_log, grep_error_log and access_log check the logs
--- config
    location = /t {
        access_by_lua_block {
            ngx.log(ngx.ERR, "seen (once)")
            -- This line is logged some time after the response.
            ngx.timer.at(0.1, function() ngx.log(ngx.WARN, "number ", 12) end)
        }
        content_by_lua_block { ngx.say("ok") }
    }
--- request
GET /t
--- error_log eval
["seen (once)", qr/number \d+/]
--- no_error_log
[crit]
Seen (once)
--- grep_error_log eval
qr/seen \(\w+\)|number \d+/
--- grep_error_log_out eval
["seen (once)\nnumber 12\n", "seen (once)\nnumber 12\n"]
--- access_log
GET /t HTTP/1.1
--- no_access_log
POST



=== TEST 3: an alert that error_log names is accepted
--- config
    location = /t {
        content_by_lua_block {
            ngx.log(ngx.ALERT, "boo")
            ngx.say("hello")
        }
    }
--- request
GET /t
--- response_body
hello
--- error_log
boo
--- shutdown_error_log
exit
--- no_shutdown_error_log
boo



=== TEST 4: TEST_NGINX variables and env_to_nginx reach the configuration
--- user_files eval
[["a/b.txt", "deep\n"]]
--- main_config
    env TEST_NGINX_GREETING=$TEST_NGINX_SERVER_PORT;
--- http_config
    map $uri $port {
        default $TEST_NGINX_SERVER_PORT;
    }
--- config
    location = /t {
        content_by_lua_block {
            local ports = { ${TEST_NGINX_RAND_PORT_1}, $TEST_NGINX_RAND_PORT_2,
                            $TEST_NGINX_RAND_PORT_2, $TEST_NGINX_SERVER_PORT }
            ngx.say(ports[1] ~= ports[2], ports[2] == ports[3], ports[1] ~= ports[4])
            ngx.say(ngx.var.port == ngx.var.server_port)
            ngx.say("$TEST_NGINX_HTML_DIR" == "$TEST_NGINX_SERVER_ROOT/html")
            ngx.say(os.getenv("TEST_NGINX_GREETING") == ngx.var.port)
            ngx.say(os.getenv("FROM_OUTSIDE"), " ", os.getenv("SET_HERE"))
            ngx.print(ngx.location.capture("/a/b.txt").body)
        }
    }
--- request
GET /t
--- response_body
truetruetrue
true
true
true
passed on two words
deep



=== TEST 5: user_files creates files in the HTML folder
--- user_files
>>> one.html
first $TEST_NGINX_GREETING
>>> two.html 199801171935.33
second
--- config
--- request eval
["GET /one.html", "GET /two.html", "GET /three.html"]
--- error_code eval
[200, 200, 404]
--- response_body_like eval
["^first hello from the environment\n\$", "^second\n\$", "Not Found"]



=== TEST 6: must_die passes for a configuration that nginx refuses
--- config
    no_such_directive;
--- must_die: 1
--- error_log
unknown directive "no_such_directive"
--- no_error_log
[alert]



=== TEST 7: must_die passes when init_by_lua fails
--- http_config
    init_by_lua_block { error("not today") }
--- config
--- must_die
--- error_log
not today



=== TEST 8: abort and ignore_response accept a response that does not end in time
--- config
    location = /t {
        content_by_lua_block {
            ngx.say("part")
            ngx.flush(true)
            ngx.sleep(5)
        }
    }
--- request
GET /t
--- timeout: 50ms
--- abort
--- ignore_response
--- no_error_log
[error]



=== TEST 9: raw_request sends its bytes unchanged
--- config
    location = /t { return 200 "ok\n"; }
--- raw_request eval
["GET /t HTTP/1.1\r\nHost: a", ".test\r\nConnection: close\r\n\r\n"]
--- response_body
ok
--- log_level: info
--- no_error_log
[debug]



=== TEST 10: curl sends the request and the options of a block
--- config
    location = /t {
        content_by_lua_block {
            ngx.req.read_body()
            ngx.say(ngx.req.get_method(), " ", ngx.req.http_version(), " ", ngx.var.http_host, " ",
                    tostring(ngx.var.http_x_a), " ", tostring(ngx.var.content_type), " ",
                    tostring(ngx.req.get_body_data()), " ", tostring(ngx.var.http_x_b))
        }
    }
--- request eval
["GET /t", "POST /t HTTP/1.0\nbody", "PATCH /t\na\nb"]
--- more_headers eval
["X-A: x", "Host: a.test\nContent-Type: a/b", "X-A: z"]
--- curl
--- curl_options: -H 'X-B: $TEST_NGINX_GREETING'
--- response_body eval
["GET 1.1 localhost x nil nil hello from the environment\n",
 "POST 1 a.test nil a/b body hello from the environment\n",
 "PATCH 1.1 localhost z nil a\nb hello from the environment\n"]
--- response_headers eval
[("Content-Type: text/plain") x 3]



=== TEST 11: curl speaks TLS and HTTP/2
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3 ssl http2;
    ssl_certificate     $TEST_NGINX_PKI/service.crt;
    ssl_certificate_key $TEST_NGINX_PKI/service.key;

    location = /t {
        add_header X-Protocol $server_protocol;
        return 204;
    }
--- request
GET /t
--- curl_protocol: https
--- http2
--- curl_options
--cacert $TEST_NGINX_PKI/ca.crt --connect-to ::127.0.0.1:$TEST_NGINX_RAND_PORT_3
--- error_code: 204
--- response_headers
X-Protocol: HTTP/2.0



=== TEST 12: curl_error matches the error of curl
--- config
--- request
GET /t
--- curl_protocol: https
--- curl_error
SSL routines



=== TEST 13: client.run runs programs without blocking the worker
--- config
    location = /t {
        content_by_lua_block {
            local client = require "client"
            local function show(res)
                ngx.say(res.code, " ", res.timeout, " [", res.out, "] [", res.err, "]")
            end

            show(client.run({ "sh", "-c", "cat; echo bad >&2; exit 3" }, { stdin = "in" }))
            show(client.run({ "true" }))
            show(client.run({ "sh", "-c", "kill -9 $$" }))
            show(client.run({ "sh", "-c", "echo a; sleep 20" }, { timeout = 0.1 }))
            show(client.run({ "/no/such/program" }))

            local big = string.rep("0123456789", 100000)
            ngx.say(client.run({ "cat" }, { stdin = big }).out == big)

            -- Programs run at the same time.
            local began = ngx.now()
            local threads = {}
            for i = 1, 4 do
                threads[i] = ngx.thread.spawn(client.run, { "sleep", "0.3" })
            end
            for i = 1, 4 do
                ngx.thread.wait(threads[i])
            end
            ngx.update_time()
            ngx.say(ngx.now() - began < 1)
        }
    }
--- request
GET /t
--- response_body
3 false [in] [bad
]
0 false [] []
137 false [] []
124 true [a
] []
127 false [] [can't run /no/such/program: No such file or directory
]
true
true
--- no_error_log
[error]



=== TEST 14: client.s_client reports what openssl s_client prints
--- config
    location = /t {
        content_by_lua_block {
            local client = require "client"

            local function show(opts)
                opts.port = opts.port or $TEST_NGINX_RAND_PORT_1
                local res = client.s_client(opts)
                ngx.say(tostring(res.protocol), " reused=", res.reused, " tickets=", res.tickets,
                        " id=", #res.session_id, " alpn=", tostring(res.alpn),
                        " asked=", res.cert_requested, " cas=", #res.acceptable_cas,
                        " alert=", tostring(res.alert), " ", tostring(res.alert_name),
                        " code=", res.code, " status=", tostring(res.status))
                ngx.print(res.body)
                return res
            end

            local session = "$TEST_NGINX_SERVER_ROOT/tmp/session"
            for _, version in ipairs({ "1.2", "1.3" }) do
                local first = show({ tls = version, servername = "service.test", ca = "ca",
                                     cert = "client-deep", sess_out = session })
                ngx.say(table.concat(first.acceptable_cas, "; "), " verify=", first.verify)
                show({ tls = version, servername = "service.test", sess_in = session })
                show({ tls = version, cert = "client1", key = "client-encrypted", pass = "secret",
                       alpn = "h3,http/1.1", request = "HEAD /x HTTP/1.0\r\n\r\n" })
                show({ tls = version, port = $TEST_NGINX_RAND_PORT_2,
                       unix = "$TEST_NGINX_HTML_DIR/tls.sock" })
            end

            -- The server on this port requests no client certificate and keeps no sessions.
            show({ port = $TEST_NGINX_RAND_PORT_2, request = "GET /none HTTP/1.0\r\n\r\n" })
            show({ port = $TEST_NGINX_RAND_PORT_2, ca = "ca", request = false })
            show({ port = $TEST_NGINX_RAND_PORT_2, tls = "1.3" })
            ngx.say(show({ ca = "other-ca" }).verify)
            show({ args = { "-verify_hostname", "nobody.test" }, ca = "ca" })
        }
    }
--- request
GET /t
--- response_body
TLSv1.2 reused=false tickets=1 id=64 alpn=nil asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.2 service.test SUCCESS CN=client-deep,O=Test
O=Test, CN=Test Root CA; O=Test, CN=Other Root CA verify=0
TLSv1.2 reused=true tickets=1 id=64 alpn=nil asked=false cas=0 alert=nil nil code=0 status=200
TLSv1.2 service.test SUCCESS CN=client-deep,O=Test
TLSv1.2 reused=false tickets=1 id=64 alpn=http/1.1 asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.2 reused=false tickets=1 id=64 alpn=nil asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.2  NONE 
TLSv1.3 reused=false tickets=2 id=64 alpn=nil asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.3 service.test SUCCESS CN=client-deep,O=Test
O=Test, CN=Test Root CA; O=Test, CN=Other Root CA verify=0
TLSv1.3 reused=true tickets=1 id=64 alpn=nil asked=false cas=0 alert=nil nil code=0 status=200
TLSv1.3 service.test SUCCESS CN=client-deep,O=Test
TLSv1.3 reused=false tickets=2 id=64 alpn=http/1.1 asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.3 reused=false tickets=2 id=64 alpn=nil asked=true cas=2 alert=nil nil code=0 status=200
TLSv1.3  NONE 
TLSv1.2 reused=false tickets=0 id=0 alpn=nil asked=false cas=0 alert=nil nil code=0 status=204
TLSv1.2 reused=false tickets=0 id=0 alpn=nil asked=false cas=0 alert=nil nil code=0 status=nil
nil reused=false tickets=0 id=0 alpn=nil asked=false cas=0 alert=70 protocol version code=1 status=nil
TLSv1.3 reused=false tickets=0 id=0 alpn=nil asked=true cas=2 alert=nil nil code=1 status=nil
20
TLSv1.3 reused=false tickets=0 id=0 alpn=nil asked=true cas=2 alert=nil nil code=1 status=nil
--- no_error_log
[error]



=== TEST 15: pki creates OpenSSL chains, keys and stores
--- config
    location = /t {
        content_by_lua_block {
            local ffi = require "ffi"
            local pki = require "pki"
            ffi.cdef [[
                typedef struct stack_st_X509_OBJECT OPENSSL_STACK;
                OPENSSL_STACK *X509_STORE_get0_objects(X509_STORE *);
                int OPENSSL_sk_num(const OPENSSL_STACK *);
                unsigned long ERR_peek_error(void);
            ]]
            local function size(store)
                return ffi.C.OPENSSL_sk_num(ffi.C.X509_STORE_get0_objects(store.ctx))
            end

            ngx.say(type(pki.chain("client-deep")), " ", type(pki.key("client-deep")))
            local store = pki.store("ca", "other-ca")
            ngx.say(ffi.istype("X509_STORE *", store.ctx), " ", size(store))
            pki.grow(store, "intermediate")
            ngx.say(size(store), " ", size(pki.store("bundle")), " ", size(pki.store()))
            ngx.say(pcall(pki.grow, store, "client1.key"))
            ngx.say((pcall(pki.store, pki.path("client1", ".key"))))
            collectgarbage()
            ngx.say(tonumber(ffi.C.ERR_peek_error()))
        }
    }
--- request
GET /t
--- response_body_like
^cdata cdata
true 2
3 2 0
false.*client1\.key\.crt: No such file or directory
false
0
$
--- no_error_log
[error]
