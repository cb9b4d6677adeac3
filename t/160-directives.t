# SPDX-License-Identifier: Apache-2.0

# The arguments that the directives accept, and the errors for all others.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

# The program below makes a block of each directive, its arguments, and the end of its error.
my @REFUSED = (
    ['kong_tls_session_cache', '0',           'value "0": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', '-1',          'value "-1": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', '+1',          'value "\+1": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', '1k',          'value "1k": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', 'on',          'value "on": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', '99999999999999999999', 'value "99999999999999999999"'],
    ['kong_tls_session_cache', '""',          'value "": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', 'off timeout=5m', 'value "off"'],
    ['kong_tls_session_cache', '10 timeout=x',   'timeout "x": a time is expected'],
    ['kong_tls_session_cache', '10 timeout=',    'timeout "": a time is expected'],
    ['kong_tls_session_cache', '10 timeout=-1s', 'timeout "-1s": a time is expected'],
    ['kong_tls_session_cache', '10 time=5m',  'parameter "time=5m"'],
    ['kong_tls_session_cache', '10 20',       'parameter "20"'],
    ['kong_tls_session_cache', 'shared',      'value "shared": "shared:name:size", "off" or a number greater than 0 is expected'],
    ['kong_tls_session_cache', 'shared:',     'value "shared:": "shared:name:size" is expected'],
    ['kong_tls_session_cache', 'shared::1m',  'value "shared::1m": "shared:name:size" is expected'],
    ['kong_tls_session_cache', 'shared:name', 'value "shared:name": a size, such as 8m, after the name is expected'],
    ['kong_tls_session_cache', 'shared:name:x', 'value "shared:name:x": a size, such as 8m, after the name is expected'],
    ['kong_tls_session_cache', 'shared:name:1m:2', 'value "shared:name:1m:2": a size, such as 8m, after the name is expected'],
    ['kong_tls_session_cache', 'shared:name:8k', 'value "shared:name:8k": a size of at least 8 pages of memory is expected'],
    ['kong_tls_session_cache', 'shared:name:1m 20', 'parameter "20"'],
    ['kong_tls_strip_headers', 'yes',         'value "yes": "on" or "off" is expected'],
    ['kong_tls_strip_headers', 'off X-Tenant', 'parameter "X-Tenant"'],
    ['kong_tls_strip_headers', 'on X-Tenant:', 'header "X-Tenant:": the name of a header is expected'],
    ['kong_tls_strip_headers', 'on ""',       'header "": the name of a header is expected'],
    ['kong_tls_strip_headers', 'on X-Tenant host', 'header "host": one that nginx itself does not read is expected'],
    ['kong_tls_keepalive',     '0',           'number of connections "0": a number greater than 0 is expected'],
    ['kong_tls_keepalive',     'off',         'number of connections "off": a number greater than 0 is expected'],
    ['kong_tls_keepalive',     '8 timeout=x', 'timeout "x": a time is expected'],
    ['kong_tls_keepalive',     '8 time=x',    'time "x": a time is expected'],
    ['kong_tls_keepalive',     '8 requests=x', 'requests "x": a number is expected'],
    ['kong_tls_keepalive',     '8 requests=-1', 'requests "-1": a number is expected'],
    ['kong_tls_keepalive',     '8 max=1',     'parameter "max=1"'],
    ['kong_tls_keepalive',     '8 timeout',   'parameter "timeout"'],
);
my @DUPLICATE = (['kong_tls_session_cache', '8'], ['kong_tls_keepalive', '8'], ['kong_tls_strip_headers', 'on']);
my @WRONG_PLACE = (
    ['kong_tls_session_cache', 'upstream u { server 127.0.0.1; kong_tls_session_cache 8; }'],
    ['kong_tls_session_cache', 'server { kong_tls_session_cache 8; }'],
    ['kong_tls_strip_headers', 'server { location / { kong_tls_strip_headers on; } }'],
    ['kong_tls_status', 'kong_tls_status;'],
);
my @ACCEPTED = (
    'kong_tls_session_cache off;', 'kong_tls_session_cache 1;', 'kong_tls_session_cache shared:kong_tls:8m timeout=5m;',
    'kong_tls_session_cache shared:other:64k;',
    'kong_tls_session_cache 1000000 timeout=1h;', 'kong_tls_session_cache 8 timeout=500ms;',
    'kong_tls_strip_headers on;', 'kong_tls_strip_headers on X-Tenant x_Other;', 'server { kong_tls_strip_headers off; }',
    'upstream u { server 127.0.0.1; kong_tls_keepalive 1; }',
    'upstream u { kong_tls_keepalive 8 time=1d requests=10 timeout=1m; server 127.0.0.1; }',
    'upstream u { server 127.0.0.1; least_conn; kong_tls_keepalive 8; keepalive 8; }',
    'kong_tls_keepalive 8 timeout=1m; server { kong_tls_keepalive off; location / { kong_tls_keepalive 1; } }',
);

sub in_place {
    my ($name, $arguments, $times) = @_;
    my $directives = "$name $arguments; " x ($times // 1);
    return $name eq 'kong_tls_keepalive' ? "upstream u { server 127.0.0.1; $directives}" : $directives;
}

sub refused {
    my ($title, $http_config, $message) = @_;
    return <<"_EOC_";
=== $title
--- http_config
    $http_config
--- config
--- must_die
--- error_log eval
qr{\\[emerg\\] .*$message.* in \\S+/nginx\\.conf:\\d+}
_EOC_
}

my $number = 0;
my @blocks;
for (@REFUSED) {
    my ($name, $arguments, $message) = @$_;
    push @blocks, refused("TEST @{[++$number]}: $name $arguments is refused", in_place($name, $arguments),
        qq{"$name" directive has invalid $message});
}
for (@DUPLICATE) {
    my ($name, $arguments) = @$_;
    push @blocks, refused("TEST @{[++$number]}: $name may not be given twice", in_place($name, $arguments, 2),
        qq{"$name" directive is duplicate});
}
for (@WRONG_PLACE) {
    my ($name, $http_config) = @$_;
    push @blocks, refused("TEST @{[++$number]}: the context is refused: $http_config", $http_config,
        qq{"$name" directive is not allowed here});
}
for my $http_config (@ACCEPTED) {
    push @blocks, <<"_EOC_";
=== TEST @{[++$number]}: accepted: $http_config
--- http_config
    $http_config
--- config
    location /t { return 204; }
--- request
GET /t
--- error_code: 204
--- no_error_log
[emerg]
[warn]
_EOC_
}

Test::Base::spec_string(join "\n\n\n", @blocks);
run_tests();
