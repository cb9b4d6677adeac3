# SPDX-License-Identifier: Apache-2.0

# kong_tls_certificate_verify: the configurations that it refuses, and what it does to requests.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestDns;
use TestHarness 'no_plan';

repeat_each(1);
log_level('info');
# Some blocks reload.
master_on();

# ---- configurations ------------------------------------------------------------------------------

# Each configuration is what http {} includes. nginx must refuse it with one line, about the line that ends with "#
# here".

# Title, configuration, location, the directive that is off there, and the pass directive.
my @UNVERIFIED = (
    ['on in http', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
kong_tls_certificate_verify on;
server {
    location /t {
        proxy_pass https://service; # here
    }
}
_EOC_
    ['on in server', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service/path'],
server {
    kong_tls_certificate_verify on;
    location /t {
        proxy_pass https://service/path; # here
    }
}
_EOC_
    ['on in location', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://127.0.0.1:1'],
server {
    location /t {
        kong_tls_certificate_verify on;
        proxy_pass https://127.0.0.1:1; # here
    }
}
_EOC_
    ['on always', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
kong_tls_certificate_verify on always;
server {
    location /t {
        proxy_pass https://service; # here
    }
}
_EOC_
    ['the last of several pass directives', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    location /t {
        kong_tls_certificate_verify on;
        scgi_pass service;
        proxy_pass https://service; # here
    }
}
_EOC_
    ['on at the end of http', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    location /t {
        proxy_pass https://service; # here
        proxy_ssl_verify off;
    }
}
kong_tls_certificate_verify on;
_EOC_
    ['on in location, off in server', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
kong_tls_certificate_verify on;
server {
    kong_tls_certificate_verify off;
    location /off {
        proxy_pass https://service;
    }
    location /t {
        kong_tls_certificate_verify on;
        proxy_pass https://service; # here
    }
}
_EOC_
    ['verification off in location, on in http', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
kong_tls_certificate_verify on;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
server {
    location /on {
        proxy_pass https://service;
    }
    location /t {
        proxy_ssl_verify off;
        proxy_pass https://service; # here
    }
}
_EOC_
    ['proxy_ssl_verify with grpc_pass', <<'_EOC_', '/t', 'grpc_ssl_verify', 'grpc_pass grpcs://grpc'],
kong_tls_certificate_verify on;
proxy_ssl_verify on;
proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
server {
    location /t {
        grpc_pass grpcs://grpc; # here
    }
}
_EOC_
    map({[$_, <<"_EOC_", '/t', 'proxy_ssl_verify', "proxy_pass $_"]}
server {
    kong_tls_certificate_verify on;
    location /t {
        proxy_pass $_; # here
    }
}
_EOC_
        'https://$arg_to', 'https://$kong_upstream_target', 'https://$arg_to/$uri', 'HTTPS://service',
        'hTTps://$arg_to', 'https://service$uri', 'https://unix:/tmp/none.sock:/'),
    map({[$_, <<"_EOC_", '/t', 'grpc_ssl_verify', "grpc_pass $_"]}
server {
    kong_tls_certificate_verify on;
    location /t {
        grpc_pass $_; # here
    }
}
_EOC_
        'grpcs://grpc', 'grpcs://$arg_to', 'GRPCS://grpc'),
    map({[$_, <<"_EOC_", '/t', 'uwsgi_ssl_verify', "uwsgi_pass $_"]}
server {
    kong_tls_certificate_verify on;
    location /t {
        uwsgi_pass $_; # here
    }
}
_EOC_
        'suwsgi://service', 'suwsgi://$arg_to'),
    ['inside if', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    kong_tls_certificate_verify on;
    location /t {
        if ($arg_x) {
            proxy_pass https://service; # here
        }
        proxy_pass http://service;
    }
}
_EOC_
    ['inside limit_except', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    kong_tls_certificate_verify on;
    location /t {
        limit_except GET {
            proxy_pass https://service; # here
        }
    }
}
_EOC_
    ['a nested location', <<'_EOC_', '/t/nested', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    kong_tls_certificate_verify on;
    location /t {
        proxy_pass http://service;
        location /t/nested {
            proxy_pass https://service; # here
        }
    }
}
_EOC_
    ['nested in a location with on', <<'_EOC_', '/t/nested', 'proxy_ssl_verify', 'proxy_pass https://service'],
server {
    location /t {
        kong_tls_certificate_verify on;
        location /t/nested {
            proxy_pass https://service; # here
        }
    }
}
_EOC_
    map({["location $_->[0]", <<"_EOC_", $_->[1], 'proxy_ssl_verify', 'proxy_pass https://service'],}
server {
    kong_tls_certificate_verify on;
    location $_->[0] {
        proxy_pass https://service; # here
    }
}
_EOC_
        ['@named', '@named'], ['~ ^/a\.(b|c)$', '^/a\.(b|c)$'], ['~* /x', '/x'], ['= /exact', '/exact'],
        ['^~ /first', '/first']),
    ['the second server', <<'_EOC_', '/t', 'proxy_ssl_verify', 'proxy_pass https://other'],
server {
    location /t {
        proxy_pass https://service;
    }
}
server {
    server_name second.test;
    kong_tls_certificate_verify on;
    location /t {
        proxy_pass https://other; # here
    }
}
_EOC_
);

# Title and configuration: "on always" can't be turned off.
my @NOT_OFF = (
    ['off in server, below http', <<'_EOC_'],
kong_tls_certificate_verify on always;
server {
    kong_tls_certificate_verify off; # here
}
_EOC_
    ['off in location, below server', <<'_EOC_'],
server {
    kong_tls_certificate_verify on always;
    location /t {
        proxy_pass http://service;
        kong_tls_certificate_verify off; # here
    }
}
_EOC_
    ['off in location, two levels below http', <<'_EOC_'],
kong_tls_certificate_verify on always;
server {
    location /t {
        kong_tls_certificate_verify off; # here
        return 204;
    }
}
_EOC_
    ['off in a nested location', <<'_EOC_'],
kong_tls_certificate_verify on always;
server {
    location /t {
        location /t/nested {
            location /t/nested/more {
                kong_tls_certificate_verify off; # here
            }
        }
    }
}
_EOC_
    ['off nested in a location with always', <<'_EOC_'],
server {
    location /t {
        kong_tls_certificate_verify on always;
        location /t/nested {
            kong_tls_certificate_verify off; # here
        }
    }
}
_EOC_
    ['off in location, on in server, always in http', <<'_EOC_'],
kong_tls_certificate_verify on always;
server {
    kong_tls_certificate_verify on;
    location /t {
        kong_tls_certificate_verify off; # here
    }
}
_EOC_
    ['off where verification is on', <<'_EOC_'],
server {
    location /t {
        kong_tls_certificate_verify off; # here
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
}
kong_tls_certificate_verify on always;
_EOC_
);

# Title, configuration and nginx's error.
my $VALUE     = '"kong_tls_certificate_verify" directive has invalid value';
my $PARAMETER = '"kong_tls_certificate_verify" directive has invalid parameter';
my @INVALID   = (
    map({["twice in $_->[0]", $_->[1], '"kong_tls_certificate_verify" directive is duplicate']}
        ['http', "kong_tls_certificate_verify on;\nkong_tls_certificate_verify on; # here\n"],
        ['server', "server {\nkong_tls_certificate_verify off;\nkong_tls_certificate_verify on; # here\n}\n"],
        ['location', "server { location /t {\nkong_tls_certificate_verify on always;\n"
            . "kong_tls_certificate_verify on; # here\n} }\n"]),
    map({["$_->[0]", "kong_tls_certificate_verify $_->[0]; # here\n", "$_->[1] is expected"]}
        ['true', qq{$VALUE "true": "on" or "off"}], ['ON', qq{$VALUE "ON": "on" or "off"}],
        ['always', qq{$VALUE "always": "on" or "off"}], ['""', qq{$VALUE "": "on" or "off"}],
        ['$x', qq{$VALUE "\$x": "on" or "off"}], ['1 always', qq{$VALUE "1": "on" or "off"}]),
    map({["$_->[0]", "kong_tls_certificate_verify $_->[0]; # here\n", $_->[1]]}
        ['off always', qq{$PARAMETER "always"}], ['on never', qq{$PARAMETER "never"}],
        ['on ""', qq{$PARAMETER ""}], ['on Always', qq{$PARAMETER "Always"}]),
    map({["'$_'", "kong_tls_certificate_verify$_; # here\n",
        'invalid number of arguments in "kong_tls_certificate_verify" directive']} '', ' on always always'),
    map({[$_, "$_ # here\n", '"kong_tls_certificate_verify" directive is not allowed here']}
        'upstream u { server 127.0.0.1; kong_tls_certificate_verify on; }',
        'server { if ($arg_x) { kong_tls_certificate_verify on; } }',
        'server { location / { if ($arg_x) { kong_tls_certificate_verify off; } } }',
        'server { location / { limit_except GET { kong_tls_certificate_verify off; } } }'),
);

# Title and configuration: nginx accepts them.
my @ACCEPTED = (
    map({[$_, "server { kong_tls_certificate_verify on; location /t { $_ } }"]}
        'proxy_pass http://service;', 'proxy_pass http://$arg_to;', 'proxy_pass HTTP://service;',
        'proxy_pass $arg_to;', 'proxy_pass $arg_scheme://service;', 'proxy_pass ${arg_scheme}s://service;',
        'proxy_pass http$arg_s://service;', 'grpc_pass grpc://grpc;', 'grpc_pass grpc;',
        'grpc_pass $arg_scheme://grpc;', 'uwsgi_pass uwsgi://service;', 'uwsgi_pass service;',
        'uwsgi_pass $arg_to;', 'fastcgi_pass service;', 'scgi_pass service;',
        'set $memcached_key a; memcached_pass service;', 'return 204;', 'empty_gif;',
        # The last of several directives applies.
        'proxy_pass https://service; empty_gif;', 'proxy_pass https://service; scgi_pass service;',
        'if ($arg_x) { proxy_pass http://service; }',
        'if ($arg_x) { set $y 1; } proxy_pass $arg_scheme://service;'),
    ['on always, with verification on', <<'_EOC_'],
kong_tls_certificate_verify on always;
server {
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    grpc_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    uwsgi_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    location /t {
        proxy_ssl_verify on;
        proxy_pass https://service;
        location /t/inherited {
            proxy_pass https://$arg_to;
        }
        if ($arg_x) {
            proxy_pass https://other;
        }
        limit_except GET {
            proxy_pass https://other;
        }
    }
    location /grpc {
        grpc_ssl_verify on;
        grpc_pass grpcs://grpc;
    }
    location /uwsgi {
        uwsgi_ssl_verify on;
        uwsgi_pass suwsgi://service;
    }
}
_EOC_
    ['off in location and in server, on in http', <<'_EOC_'],
kong_tls_certificate_verify on;
server {
    location /t {
        kong_tls_certificate_verify off;
        proxy_pass https://service;
        location /t/nested {
            proxy_pass https://service;
        }
        if ($arg_x) {
            proxy_pass https://other;
        }
    }
}
server {
    server_name off.test;
    kong_tls_certificate_verify off;
    location /t {
        proxy_pass https://service;
    }
}
_EOC_
    ['off in a server, always in another', <<'_EOC_'],
server {
    kong_tls_certificate_verify on always;
}
server {
    server_name second.test;
    kong_tls_certificate_verify off;
    location /t {
        kong_tls_certificate_verify off;
        proxy_pass https://service;
    }
    location /always {
        kong_tls_certificate_verify on always;
        location /always/nested {
            kong_tls_certificate_verify on;
        }
        location /always/always {
            kong_tls_certificate_verify on always;
        }
    }
}
_EOC_
    ['off in http', <<'_EOC_'],
kong_tls_certificate_verify off;
server {
    location /t {
        proxy_pass https://service;
    }
}
_EOC_
);

my ($number, @blocks) = (0);
sub title { return "TEST @{[++$number]}: $_[0]" }

# Makes a configuration listen on a socket of its own. The lines keep their numbers.
sub listening { return $_[0] =~ s/server \{/server { listen unix:\$TEST_NGINX_HTML_DIR\/case.sock;/gr }

sub refused {
    my ($title, $case, $message) = @_;
    my @lines = grep { (split /\n/, $case)[$_ - 1] =~ /# here$/ } 1 .. $case =~ tr/\n//;
    die "$title: not one line\n" unless @lines == 1;
    push @blocks, <<"_EOC_";
=== @{[title($title)]}
--- http_config
    include \$TEST_NGINX_HTML_DIR/case.conf;
--- config
--- user_files
>>> case.conf
@{[listening($case)]}
--- must_die
--- grep_error_log eval
qr/\\[emerg\\] \\d+#\\d+: \\K.*/
--- grep_error_log_out eval
q{$message in } . "\$ENV{TEST_NGINX_HTML_DIR}/case.conf:$lines[0]\\n"
--- error_log
[emerg]
_EOC_
    return;
}

for (@UNVERIFIED) {
    my ($title, $case, $location, $verify, $pass) = @$_;
    refused("https without verification is refused: $title", $case,
        qq{"kong_tls_certificate_verify" is on, but "$verify" is off for "$pass" in location "$location"});
}
for (@NOT_OFF) {
    my ($title, $case) = @$_;
    refused("on always can't be turned off: $title", $case,
        '"kong_tls_certificate_verify off" is not allowed here: a block around it has '
            . '"kong_tls_certificate_verify on always"');
}
refused("invalid use is refused: $_->[0]", $_->[1], $_->[2]) for @INVALID;

for (@ACCEPTED) {
    my ($title, $case) = @$_;
    push @blocks, <<"_EOC_";
=== @{[title("accepted: $title")]}
--- http_config
    include \$TEST_NGINX_HTML_DIR/case.conf;
--- config
    location /started { return 204; }
--- user_files
>>> case.conf
@{[listening($case)]}
--- request
GET /started
--- error_code: 204
--- no_error_log
[emerg]
[warn]
_EOC_
}

# ---- locations with a variable scheme ------------------------------------------------------------

# How a block keeps idle connections. "address" and "name" have no block: a variable has an address, or a name for the
# resolver.
my %KINDS = (
    nothing            => '',
    keepalive          => 'keepalive 4;',
    kong_tls_keepalive => 'kong_tls_keepalive 4;',
    both               => 'keepalive 4; kong_tls_keepalive 4;',
    address            => undef,
    name               => undef,
);
my %PORTS = (service => 1, wrong => 2, plain => 3);

for my $version (qw(TLSv1.2 TLSv1.3)) {
    for my $kind (sort keys %KINDS) {
        my $keepalive = $KINDS{$kind};
        my ($upstreams, $places) = ('', '');
        for my $name (sort keys %PORTS) {
            my $address = "127.0.0.1:\$TEST_NGINX_RAND_PORT_$PORTS{$name}";
            $upstreams .= "    upstream the-$name {\n        server $address;\n        $keepalive\n    }\n"
                if defined $keepalive;
            my $place = defined $keepalive ? "the-$name" : $address;
            $place =~ s/127\.0\.0\.1/a.test/ if $kind eq 'name';
            $places .= "        $name $place;\n";
        }
        # The number of the second request on its connection: without TLS, with TLS in a location that enforces
        # nothing, and with TLS in a location that enforces verification.
        my $keepers    = TestService::keeps_by_default() ? 'kong_tls_keepalive|keepalive|both' : 'keepalive|both';
        my $kept_plain = $kind =~ /\A(?:$keepers)\z/ ? 2 : 1;
        my $kept       = $kind =~ /\A(?:keepalive|kong_tls_keepalive|both)\z/ ? 2 : 1;
        my $kept_own   = $kind =~ /\A(?:kong_tls_keepalive|both)\z/ ? 2 : 1;
        my $again      = sub { $_[0] == 2 ? 'connection=2 ' : 'connection=1 reused=r' };
        # Request, status, answer, $kong_upstream_ssl_verify.
        my @steps = (
            ['/with?scheme=http&to=plain', 200, 'plain connection=1', ''],
            ['/with?scheme=http&to=plain', 200, "plain connection=$kept_plain", ''],
            ['/without?scheme=https&to=service', 200, 'client=CN=client-1,O=Test connection=1 reused=\\.', 'NONE'],
            ['/without?scheme=https&to=service', 200, !defined $keepalive ? 'connection=1 ' : $again->($kept),
                'NONE'],
            # Uses neither the session nor the idle connection of the requests before.
            ['/with?scheme=https&to=service', 200, 'client=CN=client-1,O=Test connection=1 reused=\\.', 'SUCCESS'],
            # Another block checks the variable for a kept connection.
            ['/with?scheme=https&to=service', 200, $again->($kept_own), $kept_own == 2 ? undef : 'SUCCESS'],
            ['/without?scheme=https&to=service', 200, 'client=', 'NONE'],
            ['/without?scheme=https&to=wrong', 200, 'client=CN=client-1,O=Test', 'NONE'],
            ['/with?scheme=https&to=wrong', 502, '502 Bad Gateway',
                'FAILED:unable to get local issuer certificate'],
            ['/set?scheme=https&to=wrong', 200, 'client=CN=client-1,O=Test', 'NONE'],
            ['/with?scheme=https&to=wrong', 502, '502 Bad Gateway',
                'FAILED:unable to get local issuer certificate'],
            ['/with?scheme=http&to=plain', 200, 'plain connection=', ''],
        );
        my $column = sub {
            my ($index, $prefix) = @_;
            return CORE::join ",\n", map { defined $_->[$index] ? "    '$prefix$_->[$index]'" : "    ''" } @steps;
        };
        push @blocks, <<"_EOC_";
=== @{[title("a variable scheme is verified: $kind, $version")]}
--- http_config
    resolver 127.0.0.1:\$TEST_NGINX_DNS_PORT;
$upstreams
    map \$arg_to \$place {
$places
    }
    server {
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_2 ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate \$TEST_NGINX_PKI/\$certificate.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/\$certificate.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate \$TEST_NGINX_PKI/ca.crt;
        return 200 "client=\$ssl_client_s_dn connection=\$connection_requests reused=\$ssl_session_reused\\n";
    }
    map \$server_port \$certificate {
        default                   service;
        \$TEST_NGINX_RAND_PORT_2 service-other;
    }
    server {
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_3;
        return 200 "plain connection=\$connection_requests\\n";
    }
--- config
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_protocols $version;
    proxy_ssl_trusted_certificate \$TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_certificate \$TEST_NGINX_PKI/client1.crt;
    proxy_ssl_certificate_key \$TEST_NGINX_PKI/client1.key;
    add_header X-Verify \$kong_upstream_ssl_verify always;
    location /with {
        kong_tls_certificate_verify on;
        proxy_pass \$arg_scheme://\$place;
    }
    location /without {
        proxy_pass \$arg_scheme://\$place;
    }
    location /set {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_pass \$arg_scheme://\$place;
    }
--- request eval
[
@{[$column->(0, 'GET ')]}
]
--- error_code eval
[
@{[$column->(1, '')]}
]
--- response_body_like eval
[
@{[$column->(2, '')]}
]
--- response_headers eval
[
@{[$column->(3, 'X-Verify: ')]}
]
--- grep_error_log eval
qr/\\[error\\]
    |upstream\\ SSL\\ certificate\\ .*(?=\\ while\\ SSL\\ handshaking\\ to\\ upstream)
    |SSL_do_handshake\\(\\)\\ failed(?=.*\\ while\\ SSL\\ handshaking,\\ client:\\ )/x
--- grep_error_log_out eval
# The wrong service sees a handshake that was aborted, and gets no certificate of the client.
CORE::join '', map {"\$_\\n"} (
    '[error]', 'upstream SSL certificate verify error: (20:unable to get local issuer certificate)',
    'SSL_do_handshake() failed'
) x 2
_EOC_
    }
}

Test::Base::spec_string(CORE::join "\n\n\n", @blocks, do { local $/; <DATA> });
run_tests();

__DATA__


=== TEST 93: set_tls_verify(false) is refused, and the service is still verified
--- http_config
    init_worker_by_lua_block {
        function try_off()
            local said = {}
            for _, set in ipairs { kong.service.set_tls_verify, tls.set_upstream_ssl_verify } do
                local ok, err = set(false)
                said[#said + 1] = tostring(ok) .. " " .. tostring(err)
            end
            said[#said + 1] = tostring(kong.service.set_tls_verify(true))
            if ngx.var.arg_last == "off" then
                kong.service.set_tls_verify(false)
            end
            ngx.ctx.said = table.concat(said, ", ")
        end
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_to .. ".sock"))
            try_off()
        }
    }
--- config
    kong_tls_certificate_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_verify on;
    header_filter_by_lua_block { ngx.header["X-Said"] = ngx.ctx.said }
    location /rewrite {
        rewrite_by_lua_block { try_off() }
        proxy_pass https://$arg_to;
    }
    location /access {
        access_by_lua_block { try_off() }
        proxy_pass https://$arg_to;
    }
    location /variable {
        access_by_lua_block { try_off() }
        proxy_ssl_verify off;
        proxy_pass $arg_scheme://$arg_to;
    }
    location /balancer {
        proxy_pass https://lua;
    }
    location /balancer/variable {
        proxy_ssl_verify off;
        proxy_pass $arg_scheme://lua;
    }
--- exchanges
for $said ("TLS certificate verification is enforced")
    for $way (rewrite access variable balancer balancer/variable)
        for $more (&scheme=https &scheme=https&last=off)
            for $to, $status (service 200  other 502)
                GET /$way?to=$to$more => $status {X-Said: nil $said, nil error while setting upstream ssl verify mode: $said, true}
--- grep_error_log eval
qr/\[error\]|upstream SSL certificate verify error(?=: \(\d+:.*\) while SSL handshaking to upstream)/
--- grep_error_log_out eval
"[error]\nupstream SSL certificate verify error\n" x 10



=== TEST 94: the service is verified without settings, and after a refused set_tls_verify(false)
--- config
    kong_tls_certificate_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /nothing {
        proxy_ssl_verify on;
        proxy_pass https://$arg_to;
    }
    location /refused {
        access_by_lua_block { assert(not kong.service.set_tls_verify(false)) }
        proxy_ssl_verify on;
        proxy_pass https://$arg_to;
    }
    location /variable {
        access_by_lua_block { assert(not kong.service.set_tls_verify(false)) }
        proxy_pass $arg_scheme://$arg_to;
    }
    location /certificate {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_pass $arg_scheme://$arg_to;
    }
    location /store {
        access_by_lua_block { assert(kong.service.set_tls_verify_store(pki.store("other-ca"))) }
        proxy_pass $arg_scheme://$arg_to;
    }
    location /untrusted {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
        proxy_pass $arg_scheme://$arg_to;
    }
    location /name {
        proxy_ssl_name wrong.test;
        proxy_pass $arg_scheme://$arg_to;
    }
    location /if {
        if ($arg_scheme) {
            proxy_pass $arg_scheme://$arg_to;
        }
    }
    location /late {
        proxy_pass $arg_scheme://$arg_to;
    }
--- exchanges
for $way, $service, $other (
    nothing      200  502
    refused      200  502
    variable     200  502
    certificate  200  502
    store        502  200
    untrusted    502  200
    name         502  502
    if           200  502
    late         200  502
)
    GET /$way?scheme=https&to=service => $service
    GET /$way?scheme=https&to=other   => $other
--- grep_error_log eval
qr/\[error\]|upstream SSL certificate (?:verify error|does not match "wrong.test")/
--- grep_error_log_out eval
CORE::join '', map {"[error]\nupstream SSL certificate $_\n"}
    ('verify error') x 6, 'does not match "wrong.test"', ('verify error') x 3



=== TEST 95: no service is accepted without trusted certificates
--- config
    kong_tls_certificate_verify on;
    location /t {
        proxy_pass $arg_scheme://$arg_to;
    }
--- request
GET /t?scheme=https&to=service
--- error_code: 502
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream



=== TEST 96: a variable scheme is verified with grpc_pass and uwsgi_pass
--- config
    kong_tls_certificate_verify on;
    grpc_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    grpc_ssl_name service.test;
    uwsgi_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    uwsgi_ssl_name service.test;
    add_header X-Verify $kong_upstream_ssl_verify always;
    location /good {
        grpc_pass $arg_scheme://$arg_to;
    }
    location /wrong {
        grpc_ssl_name wrong.test;
        grpc_pass $arg_scheme://$arg_to;
    }
    location /uwsgi {
        uwsgi_pass $arg_scheme://$arg_to;
    }
--- exchanges
GET /good?scheme=grpcs&to=grpc    => {X-Verify: SUCCESS}
GET /wrong?scheme=grpcs&to=grpc   => 502 {X-Verify: FAILED:hostname mismatch}
GET /uwsgi?scheme=suwsgi&to=other => 502 {X-Verify: FAILED:unable to get local issuer certificate}
--- error_log
upstream SSL certificate does not match "wrong.test" while SSL handshaking to upstream
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream



=== TEST 97: a request with an earlier set_tls_verify(false) is refused where verification is enforced
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 4;
    }
    upstream kept-by-nginx {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 4;
    }
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    keeps_connections;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /unverified {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_pass https://$arg_to/connection;
    }
    location /exec {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
            ngx.exec(ngx.var.arg_there, ngx.var.args)
        }
    }
    location /page {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        error_page 502 = /verified?$args;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/none.sock;
    }
    location /on/again {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
            ngx.exec("/on/there", ngx.var.args)
        }
    }
    location /verified {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_pass https://$arg_to/connection;
    }
    location /variable {
        kong_tls_certificate_verify on;
        proxy_pass $arg_scheme://$arg_to/connection;
    }
    location @named {
        kong_tls_certificate_verify on;
        proxy_pass $arg_scheme://$arg_to/connection;
    }
    location /on/there {
        kong_tls_certificate_verify on;
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass $arg_scheme://$arg_to/connection;
    }
--- exchanges
for $to (service kept kept-by-nginx two)
    GET /unverified?&scheme=https&to=$to          => 200
    GET /verified?&scheme=https&to=$to            => 200
    GET /exec?there=/verified&scheme=https&to=$to => 502
    GET /exec?there=/variable&scheme=https&to=$to => 502
    GET /exec?there=@named&scheme=https&to=$to    => 502
    GET /on/again?&scheme=https&to=$to            => 200
    GET /verified?&scheme=https&to=$to            => 200
    GET /variable?&scheme=https&to=$to            => 200
    GET /unverified?&scheme=https&to=$to          => 200
--- grep_error_log eval
qr/\[error\]|upstream TLS handshake refused, could not apply .*(?= while SSL handshaking to upstream)/
--- grep_error_log_out eval
"[error]\nupstream TLS handshake refused, could not apply verification: TLS certificate verification is enforced\n" x 12



=== TEST 98: a request with an earlier set_tls_verify(false) is refused after error_page
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /page {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        error_page 502 = @there;
        kong_tls_allow_plaintext on;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/none.sock;
    }
    location /page/uri {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        error_page 502 = /there?$args;
        kong_tls_allow_plaintext on;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/none.sock;
    }
    location @there {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_pass https://service;
    }
    location /there {
        kong_tls_certificate_verify on;
        proxy_pass $arg_scheme://service;
    }
--- exchanges
GET /page                  => 502
GET /page/uri?scheme=https => 502
--- grep_error_log eval
qr/upstream TLS handshake refused, could not apply .*(?= while SSL handshaking to upstream)/
--- grep_error_log_out eval
"upstream TLS handshake refused, could not apply verification: TLS certificate verification is enforced\n" x 2



=== TEST 99: verification that is enforced in one location is not enforced after a redirect to another
--- config
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /t {
        kong_tls_certificate_verify on;
        error_page 502 = @fallback;
        proxy_pass $arg_scheme://other;
    }
    location @fallback {
        proxy_pass https://other;
    }
--- request
GET /t?scheme=https
--- response_body_like: ^client= reused=



=== TEST 100: a location that enforces verification uses no unverified connection of kong_tls_keepalive
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        kong_tls_keepalive 4;
    }
--- config
    keeps_connections;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /without {
        proxy_pass https://kept/connection;
    }
    location /with {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_pass https://kept/connection;
        location /with/variable {
            proxy_pass $arg_scheme://kept/connection;
        }
    }
--- exchanges
GET /without                    => 200
GET /with                       => 502
GET /without                    => 200
GET /with/variable?scheme=https => 502
GET /without                    => 200



=== TEST 101: a location that enforces verification uses no unverified connection of keepalive
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        keepalive 4;
    }
    upstream kept-by-both {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        keepalive 4;
        kong_tls_keepalive 4;
    }
--- config
    keeps_connections;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /without {
        proxy_pass https://$arg_to/connection;
    }
    location /with {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_pass https://$arg_to/connection;
        location /with/variable {
            proxy_pass $arg_scheme://$arg_to/connection;
        }
    }
--- exchanges
for $to (kept kept-by-both)
    GET /without?to=$to                    => 200
    GET /with?to=$to                       => 502
    GET /without?to=$to                    => 200
    GET /with/variable?scheme=https&to=$to => 502



=== TEST 102: a location that enforces verification resumes no session of one that trusts another CA
--- config
    proxy_ssl_name service.test;
    location /without {
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
        proxy_pass https://other;
    }
    location /with {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://other;
    }
--- exchanges
GET /without => 200
GET /with    => 502



=== TEST 103: a location that enforces verification is not refused because of a session without verification
--- config
    proxy_ssl_name service.test;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    location /without {
        proxy_pass https://service;
    }
    location /with {
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_pass https://service;
    }
--- exchanges
GET /without => 200
GET /with    => 200



=== TEST 104: $kong_upstream_ssl_verify of a kept connection has the result of its handshake
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 4;
    }
--- config
    keeps_connections;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    add_header X-Verify $kong_upstream_ssl_verify;
    location /enforced {
        kong_tls_certificate_verify on;
        proxy_pass $arg_scheme://kept/connection;
    }
    location /set {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://kept/connection;
    }
--- exchanges
GET /enforced?scheme=https => {X-Verify: SUCCESS} /connection=1/
GET /enforced?scheme=https => {X-Verify: SUCCESS} /connection=2/
GET /set x 2               => {X-Verify: SUCCESS} /connection=/



=== TEST 105: a reload that violates kong_tls_certificate_verify is refused, and the old configuration stays
# Under valgrind there is one process, which can't reload while it answers.
--- skip_eval: 5: $ENV{TEST_NGINX_USE_VALGRIND}
--- config
    include $TEST_NGINX_HTML_DIR/case.conf;
    location /loaded {
        content_by_lua_block { ngx.print(loaded) }
    }
    location /reload {
        content_by_lua_block {
            local client = require "client"
            local base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
            local file = io.open("$TEST_NGINX_SERVER_ROOT/logs/nginx.pid")
            local master = file:read("*n")
            file:close()

            local function read(name)
                local file = assert(io.open(name))
                local text = file:read("*a")
                file:close()
                return text
            end
            local function refusals()
                local _, count = read("$TEST_NGINX_SERVER_ROOT/logs/error.log"):gsub("%[emerg%]", "")
                return count
            end
            -- All requests use one connection, so that one worker answers: which configuration it has, and the status
            -- of each location.
            local function ask()
                local args = { "-w", "\n%{http_code}\n" }
                for _, name in ipairs { "loaded", "service", "other", "target" } do
                    args[#args + 1] = base .. "/" .. name
                end
                local out = client.curl(args).out
                local answers = {}
                for status in out:gmatch("\n(%d%d%d)\n") do
                    answers[#answers + 1] = status
                end
                return out:match("^(.-)\n"), table.concat(answers, " ", 2)
            end
            local function wait_until(condition)
                local deadline = ngx.now() + 10
                while not condition() do
                    assert(ngx.now() < deadline, "not reloaded")
                    ngx.sleep(0.02)
                end
            end
            -- Prints whether a configuration was loaded, and the status of each location after that. Workers of an
            -- earlier configuration may answer for a while.
            local current = ask()
            local known = { [current] = true }
            local function reload(case)
                local count = refusals()
                local file = assert(io.open("$TEST_NGINX_HTML_DIR/case.conf", "w"))
                file:write(case)
                file:close()
                assert(client.run({ "kill", "-HUP", master }).code == 0)
                local what, answers
                wait_until(function()
                    local was_refused = refusals() > count
                    local loaded
                    loaded, answers = ask()
                    if not known[loaded] then
                        current, known[loaded] = loaded, true
                        what = "loaded"
                    elseif was_refused and loaded == current then
                        what = "refused"
                    end
                    return what
                end)
                ngx.say(what, ": ", answers)
            end

            local locations = read("$TEST_NGINX_HTML_DIR/case.conf")
            local verified = "proxy_ssl_verify on;\n" .. locations
            reload("kong_tls_certificate_verify on;\n" .. locations)
            reload("kong_tls_certificate_verify on always;\n" .. verified
                   .. "location /off { kong_tls_certificate_verify off; }\n")
            reload(verified .. "nonsense on;\n")
            reload("kong_tls_certificate_verify on;\n" .. verified)
            reload("kong_tls_certificate_verify on;\n" .. locations)
            reload(locations)
            reload("kong_tls_certificate_verify on always;\n" .. verified)
        }
    }
--- user_files
>>> case.conf
proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
proxy_ssl_name service.test;
location /service {
    proxy_pass https://service;
}
location /other {
    proxy_pass https://other;
}
location /target {
    proxy_pass https://$kong_upstream_target;
}
--- request
GET /reload
--- response_body
refused: 200 200 503
refused: 200 200 503
refused: 200 200 503
loaded: 200 502 503
refused: 200 502 503
loaded: 200 200 503
loaded: 200 502 503
--- error_log eval
[
    qr/\[emerg\] .* but "proxy_ssl_verify" is off for "proxy_pass https:\S+" in location "\S+" in \S+\/case\.conf:\d+/,
    qr/\[emerg\] .*"kong_tls_certificate_verify off" is not allowed here/,
    qr/\[emerg\] unknown directive "nonsense"|\[emerg\] .*unknown directive "nonsense"/,
]
