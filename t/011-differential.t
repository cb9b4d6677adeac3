# SPDX-License-Identifier: Apache-2.0

# An nginx that loads the module, and uses none of it, behaves like an nginx without the module: both get the same
# configurations and the same traffic, and any difference is a failure.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;

use Test::More;

require_program('nginx', 'openssl');

my $pki    = $ENV{TEST_NGINX_PKI};
my $folder = test_folder();

# The gateways by name, with the modules that each loads.
my %LOADED = (with => 1, without => 'others');

# ---- configurations that nginx accepts or refuses ------------------------------------------------

write_to("$folder/empty.pem",   '');
write_to("$folder/garbage.pem", "garbage\n");
write_to("$folder/cut.pem",     substr slurp("$pki/ca.crt"), 0, 300);

my @configurations;

# Readable and unreadable files, with and without verification, for each module that speaks TLS to upstreams.
for my $module (qw(proxy grpc uwsgi)) {
    my $pass = { proxy => 'proxy_pass https://', grpc => 'grpc_pass grpcs://', uwsgi => 'uwsgi_pass suwsgi://' }->{$module};
    for my $directive (qw(trusted_certificate crl)) {
        for my $file ("$folder/missing.pem", map({"$folder/$_.pem"} qw(empty garbage cut)), "$pki/ca.crt", "$pki/ca.key") {
            for my $verify ('', "${module}_ssl_verify on;") {
                my $trust = $verify && $directive eq 'crl' ? "${module}_ssl_trusted_certificate $pki/ca.crt;" : '';
                push @configurations, "$verify $trust ${module}_ssl_$directive $file; server { location / { ${pass}127.0.0.1:1; } }";
            }
        }
    }
}
push @configurations, (
    'server { location / { proxy_pass http://127.0.0.1:1; proxy_pass http://127.0.0.1:2; } }',
    'server { location / { proxy_pass http://127.0.0.1:1; grpc_pass 127.0.0.1:2; } }',
    'server { location / { proxy_pass; } }',
    'server { location / { proxy_pass ftp://127.0.0.1:1; } }',
    'server { location / { proxy_pass https://$kong_unknown_target; } }',
    'server { location ~ x { proxy_pass http://127.0.0.1:1/y; } }',
    'server { location / { limit_except GET { proxy_pass http://127.0.0.1:1; } } }',
    'server { location / { if ($arg_x) { uwsgi_pass 127.0.0.1:1; } } }',
    'upstream u { server 127.0.0.1:1; keepalive 4; least_conn; } server { location / { proxy_pass http://u; } }',
    'upstream u { keepalive 4; server 127.0.0.1:1; hash $uri consistent; } server { location / { proxy_pass http://u; } }',
    'upstream u { } server { location / { proxy_pass http://u; } }',
    'server { listen 127.0.0.1:0; }',
    "server { listen unix:$folder/t.sock ssl; ssl_certificate $pki/gateway.crt; ssl_certificate_key $pki/gateway.key; ssl_verify_client on; }",
    "server { listen unix:$folder/t.sock ssl; ssl_certificate $pki/gateway.crt; ssl_certificate_key $pki/client1.key; }",
    "server { listen unix:$folder/t.sock ssl; }",
    "server { listen unix:$folder/t.sock ssl; ssl_certificate $pki/gateway.crt; ssl_certificate_key $pki/gateway.key; ssl_session_cache builtin:100 shared:x:1m; }",
);

for my $configuration (@configurations) {
    my %accepted = map {
        my ($accepted) = test_nginx('tested', modules => $LOADED{$_}, http => $configuration);
        ($_ => $accepted ? 'accepted' : 'refused')
    } keys %LOADED;
    is $accepted{with}, $accepted{without}, $configuration =~ s/\Q$folder\E|\Q$pki\E/./gr;
}

# ---- the services --------------------------------------------------------------------------------

my ($http2, $http2_on) = http2_server();
my $tls = "ssl_certificate $pki/service.crt; ssl_certificate_key $pki/service.key;";

write_to("$folder/file",  join '', map { sprintf "%07d\n", $_ } 1 .. 8192);
write_to("$folder/page.shtml", join '', map {"<!--# include virtual=\"/ssi/part?$_\" -->"} 1 .. 40);

start_nginx('services', http => <<"_EOC_");
    # Answers name the client certificate, whether the session was reused, and the requests on the connection so far.
    map \$ssl_client_s_dn \$who { default \$ssl_client_s_dn; '' nobody; }
    server {
        listen unix:$folder/plain.sock;
        location / { return 200 "plain \$request_method \$uri \$http_connection \$connection_requests\\n"; }
        location /file { root $folder; add_header X-Connection \$connection_requests; }
        location /error { return 503 "error\\n"; }
        location /redirect { add_header X-Accel-Redirect /plain/there; return 200; }
        location /cut { return 444; }
        location /login { return 204; }
        location /refuse { return 403; }
        location /cached { add_header Cache-Control max-age=1; return 200 "cached\\n"; }
        location /ssi/ { return 200 "[\$args]"; }
    }
    server {
        listen unix:$folder/other.sock;
        return 200 "other\\n";
    }
    server {
        listen unix:$folder/tls.sock ssl;
        $tls
        ssl_verify_client optional;
        ssl_client_certificate $pki/ca.crt;
        location / { return 200 "tls \$who \$ssl_server_name \$ssl_session_reused \$connection_requests\\n"; }
        location /cut { return 444; }
    }
    server {
        listen unix:$folder/grpc.sock$http2;
        $http2_on
        location / { add_header Content-Type application/grpc; return 200 "grpc\\n"; }
    }
_EOC_

# ---- handlers ------------------------------------------------------------------------------------

# Handlers of a location and of an `if` in it, then a second `if` or a `limit_except`.
my %PASSES = (
    none     => '',
    proxy    => "proxy_pass http://unix:$folder/plain.sock;",
    other    => "proxy_pass http://unix:$folder/other.sock;",
    tls      => "proxy_pass https://unix:$folder/tls.sock;",
    variable => 'proxy_pass http://$service;',
    grpc     => "grpc_pass unix:$folder/grpc.sock;",
    fastcgi  => "fastcgi_pass unix:$folder/nobody.sock;",
    return   => 'return 200 returned;',
);
my @SECOND = (
    '', 'if ($yes) { }', 'if ($yes) { set $x 1; }', 'if ($no) { }', 'limit_except POST { deny all; }', 'limit_except GET { }',
    'limit_except POST { }', "limit_except POST { $PASSES{other} }",
);

my (@locations, @titles);
for my $outer (sort keys %PASSES) {
    for my $inner ('absent', sort keys %PASSES) {
        for my $second (@SECOND) {
            my $if = $inner eq 'absent' ? '' : "if (\$yes) { $PASSES{$inner} }";
            my $number = push @titles,
                "handler $outer, inside an if: $inner, plus: " . ($second =~ s/\Q$folder\E/./r || 'nothing');
            push @locations, "location /handlers/$number { set \$yes 1; set \$no ''; $if $second $PASSES{$outer} }";
        }
    }
}

# ---- traffic -------------------------------------------------------------------------------------

# Each feature: its location's name, the location's contents, other contents of the server, and the paths to request.
my @features = (
    ['keepalive',      'proxy_pass http://kept;', '', map {"/$_"} 1 .. 5],
    ['tls',            'proxy_pass https://tls;', '', map {"/$_"} 1 .. 3],
    ['tls-resumed',    "proxy_ssl_certificate $pki/client1.crt; proxy_ssl_certificate_key $pki/client1.key; proxy_pass https://tls;", '', map {"/$_"} 1 .. 3],
    ['tls-shared',     'proxy_pass https://tls;', '', map {"/$_"} 1 .. 2],
    ['tls-kept',       "proxy_ssl_certificate $pki/client2.crt; proxy_ssl_certificate_key $pki/client2.key; proxy_pass https://tls-kept;", '', map {"/$_"} 1 .. 3],
    ['tls-kept-other', 'proxy_pass https://tls-kept;', '', map {"/$_"} 1 .. 3],
    ['tls-verified',   "proxy_ssl_verify on; proxy_ssl_name service.test; proxy_ssl_server_name on; proxy_ssl_trusted_certificate $pki/ca.crt; proxy_pass https://tls;", '', map {"/$_"} 1 .. 3],
    ['tls-refused',    "proxy_ssl_verify on; proxy_ssl_name service.test; proxy_ssl_trusted_certificate $pki/other-ca.crt; proxy_pass https://tls;", '', '/1', '/2'],
    ['variables',      'proxy_pass https://$service_with_tls;', '', '/1', '/2'],
    ['certificate-by-variable', "proxy_ssl_certificate $pki/\$arg_c.crt; proxy_ssl_certificate_key $pki/\$arg_c.key; proxy_pass https://tls;", '', map {"/?c=$_"} qw(client1 client2 client1 nobody)],
    ['next',           'proxy_next_upstream error http_503; proxy_next_upstream_tries 3; proxy_pass http://failing/error;', '', '/1', '/2'],
    ['cut',            'proxy_pass http://kept/cut;', '', '/1', '/2'],
    ['cut-tls',        'proxy_pass https://tls-kept/cut;', '', '/1', '/2'],
    ['redirect',       'proxy_pass http://kept/redirect;', '', '/1'],
    ['error-page',     'proxy_intercept_errors on; error_page 503 = @there; proxy_pass http://kept/error;', 'location @there { proxy_pass https://tls; }', '/1'],
    ['slice',          'slice 1k; proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://kept/file;', '', ''],
    ['ssi-page',       "ssi on; root $folder; rewrite ^ /page.shtml break;", 'location /ssi/ { proxy_pass http://kept; }', '/1'],
    ['mirror',         'mirror /mirrored; proxy_pass http://kept;', 'location = /mirrored { internal; proxy_pass https://tls; }', '/1', '/2'],
    ['auth',           'auth_request /login; proxy_pass http://kept;', 'location = /login { internal; proxy_pass http://kept/login; }', '/1'],
    ['auth-refused',   'auth_request /refuse; proxy_pass http://kept;', 'location = /refuse { internal; proxy_pass http://kept/refuse; }', '/1'],
    ['cached',         'proxy_cache cache; proxy_cache_use_stale updating; proxy_cache_background_update on; proxy_pass http://kept/cached; add_header X-Cache $upstream_cache_status;', '', map {"/$_"} 1, 1, 1, 2],
    ['lua',            'content_by_lua_block { ngx.say(ngx.location.capture("/captured").body, ngx.location.capture("/captured/2").body) }', 'location /captured { proxy_pass https://tls; }', '/1'],
    ['exec',           'rewrite_by_lua_block { ngx.exec("/captured/exec") }', '', '/1'],
    ['named',          'try_files /none @named;', 'location @named { proxy_pass http://kept; }', '/1'],
    ['grpc',           "grpc_pass grpc://unix:$folder/grpc.sock;", '', '/1'],
    ['nobody',         "proxy_pass http://unix:$folder/nobody.sock;", '', '/1'],
    ['least-conn',     'proxy_pass http://least;', '', map {"/$_"} 1 .. 3],
    ['hash',           'proxy_pass http://hashed;', '', map {"/$_"} 1 .. 3],
    # nginx resumes no sessions of a Lua balancer, while the module does, as documented. Hence session reuse is off.
    ['balancer',       'proxy_ssl_session_reuse off; proxy_pass https://balanced;', '', map {"/$_"} 1 .. 3],
    ['headers',        'proxy_set_header X-Consumer-Username $http_x_consumer_username; proxy_pass http://kept; add_header X-Seen "$http_x_consumer_username $host $remote_addr";', '', '/1'],
    ['variables-of-clients', 'return 200 "$ssl_client_verify $ssl_protocol $https $scheme\n";', '', '/1'],
);

# Where servers keep the sessions of their clients.
my %CACHES = (
    tickets => 'ssl_session_tickets on;',
    builtin => 'ssl_session_cache builtin:1000; ssl_session_tickets off;',
    shared  => 'ssl_session_cache shared:sessions:1m; ssl_session_tickets off;',
    off     => 'ssl_session_cache off; ssl_session_tickets off;',
    none    => 'ssl_session_cache none; ssl_session_tickets off;',
);

my @servers;
for my $cache (sort keys %CACHES) {
    for my $server (['a.test', 'ssl_verify_client optional;'], ['b.test', ''], ['c.test', 'ssl_verify_client on;']) {
        my ($name, $verify) = @$server;
        push @servers, <<"_EOC_";
    server {
        listen unix:$folder/\@NAME\@-$cache.sock ssl;
        server_name $name;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate $pki/gateway.crt;
        ssl_certificate_key $pki/gateway.key;
        ssl_client_certificate $pki/ca.crt;
        $CACHES{$cache}
        $verify
        return 200 "$name \$ssl_client_verify \$ssl_client_s_dn \$ssl_session_reused\\n";
    }
_EOC_
    }
}

my $http = <<"_EOC_";
    proxy_cache_path $folder/cache-\@NAME\@ keys_zone=cache:1m;
    upstream kept { server unix:$folder/plain.sock; keepalive 2; }
    upstream tls { server unix:$folder/tls.sock; }
    upstream tls-kept { server unix:$folder/tls.sock; keepalive 4; }
    upstream failing { server unix:$folder/plain.sock; server unix:$folder/nobody.sock backup; }
    upstream least { least_conn; zone least 64k; server unix:$folder/plain.sock; server unix:$folder/other.sock; }
    upstream hashed { hash \$uri; server unix:$folder/plain.sock; server unix:$folder/other.sock; }
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block { assert(require("ngx.balancer").set_current_peer("unix:$folder/tls.sock")) }
    }
    map x \$service { default "unix:$folder/plain.sock:"; }
    map x \$service_with_tls { default tls; }
    log_format traffic '\$uri \$status \$upstream_status \$upstream_addr \$bytes_sent';
@servers
    server {
        listen unix:$folder/\@NAME\@.sock;
        access_log $folder/\@NAME\@-access.log traffic;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
@{[join "\n", @locations]}
@{[map {"location /$_->[0]/ { $_->[1] }\n$_->[2]\n"} @features]}
    }
_EOC_

for my $name (sort keys %LOADED) {
    start_nginx($name, modules => $LOADED{$name}, http => $http =~ s/\@NAME\@/$name/gr);
}

# Returns the answer to a request, without the headers that differ from one request to the next.
sub answer {
    my ($name, $uri) = @_;
    my ($status, $headers, $body) = http_get("$folder/$name.sock", $uri);
    $headers =~ s/\r\n(?:Date|Last-Modified|ETag): [^\r]*//g if defined $headers;
    return join '|', map { $_ // '' } $status, $headers, $body;
}

for my $number (1 .. @titles) {
    my %answers = map { ($_ => answer($_, "/handlers/$number")) } keys %LOADED;
    is $answers{with}, $answers{without}, $titles[ $number - 1 ];
}
for my $feature (@features) {
    my ($name, undef, undef, @paths) = @$feature;
    $_ ||= '/' for @paths;
    my %answers = map { my $gateway = $_; ($gateway => [map { answer($gateway, "/$name$_") } @paths]) } keys %LOADED;
    is_deeply $answers{with}, $answers{without}, $name or diag explain \%answers;
}
# ---- clients -------------------------------------------------------------------------------------

# Runs openssl s_client, and returns whether the session was new or reused, the status, and the body. Each session is
# later offered for another server name, or for none.
sub session {
    my ($name, $cache, $version, $file, $sni, $host) = @_;
    my $said = `printf 'GET / HTTP/1.0\\r\\nHost: $host\\r\\n\\r\\n' | timeout 20 openssl s_client \\
        -unix $folder/$name-$cache.sock $version $sni $file -cert $pki/client1.crt -key $pki/client1.key -ign_eof 2>&1`;
    my ($how) = $said =~ /^(New|Reused), /m;
    my ($status, $body) = $said =~ m{HTTP/1.1 (\d+).*?\r\n\r\n([^\n]*)}ms;
    return join ' ', map { $_ // '-' } $how, $status, $body;
}

for my $cache (sort keys %CACHES) {
    for my $version ('-tls1_2', '-tls1_3') {
        for my $other ('-servername a.test', '-servername b.test', '-servername c.test', '-noservername') {
            for my $host (qw(a.test b.test)) {
                my %seen = map {
                    my $file = "$folder/$_.session";
                    unlink $file;
                    my $first  = session($_, $cache, $version, "-sess_out $file", '-servername a.test', 'a.test');
                    my $second = session($_, $cache, $version, (-e $file ? "-sess_in $file" : ''), $other, $host);
                    ($_ => "$first, then $second")
                } keys %LOADED;
                like $seen{without}, qr/^New 200 .*, then (?:New|Reused) /,
                    "both connections are answered without the module";
                is $seen{with}, $seen{without}, "session cache $cache, $version, second connection $other, Host: $host";
            }
        }
    }
}

is slurp("$folder/with-access.log"), slurp("$folder/without-access.log"),
    'the access logs with and without the module are the same';

# The only difference is a warning about a file that a request may need and that can't be read.
my ($accepted, $said) = test_nginx('tested', modules => 1,
    http => "proxy_ssl_trusted_certificate $folder/missing.pem;\nserver { location / { proxy_pass https://127.0.0.1:1; } }");
like $said, qr{\[warn\] cannot load "proxy_ssl_trusted_certificate" "\S+/missing\.pem": X509_load_cert_file\(\) failed \(No such file or directory.*\); requests that want the service verified are refused in \S+/tested\.conf:\d+$}m,
    'an unreadable proxy_ssl_trusted_certificate is logged as a warning';

done_testing();
