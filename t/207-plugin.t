# SPDX-License-Identifier: Apache-2.0

# docs/guides/writing-a-plugin.md and docs/reference/resty.kong.testing.md: their code is that of the example, and runs
# outside nginx. t/200-documentation.t runs the example in nginx.

use strict;
use warnings;

use lib 't/support';
use TestKong;

use File::Path ();
use File::Temp ();
use Test::More;

require_program('busted', 'lua5.1');

my $root = project_root();
my $folder = File::Temp::tempdir(CLEANUP => 1);

# The blocks of the guide are parts of the example's files.
{
    my $guide = slurp('docs/guides/writing-a-plugin.md');
    my $files = join '', map { slurp("nginx-conf/$_") } qw(tenant.lua tenant_spec.lua plugin.conf);
    my @blocks = $guide =~ /^ *```(?:lua|nginx)\n(.*?)^ *```$/msg;
    # The block of an item of a list.
    s/^  //mg for grep {/\A  --/} @blocks;
    cmp_ok @blocks, '>=', 6, 'the guide has blocks of code';
    for my $block (@blocks) {
        my ($first) = $block =~ /^\s*(.*)/;
        ok index($files, $block) >= 0, "in nginx-conf: $first";
    }
}

sub run { my ($command) = @_; my $said = `cd $folder && { $command; } 2>&1`; return ($? >> 8, $said) }

# Each example of the reference runs, as the plugin of the example would.
{
    my $page = slurp('docs/reference/resty.kong.testing.md');
    my @examples = $page =~ /^```lua\n(.*?)^```$/msg;
    my $source = join '', map { slurp("src/lua/resty/kong/$_.lua") } qw(testing testing/certificates);
    my @functions = $source =~ /^function M\.(\w+)\(/mg;
    my @headings = $page =~ /^## (\w+)$/mg;
    is_deeply [sort @headings], [sort @functions], 'each function has a heading';
    cmp_ok @examples, '>=', @functions, 'each function has an example';
    for my $example (@examples) {
        my ($first) = $example =~ /^(.*)/;
        write_to("$folder/example.lua", <<"_EOC_" . $example);
package.path = "$root/src/lua/?.lua;$root/nginx-conf/?.lua;" .. package.path
testing = require "resty.kong.testing"
testing.install()
_EOC_
        my ($status, $said) = run('lua5.1 example.lua');
        is $status, 0, "the example runs: $first" or diag $said;
    }
}

# What resty.kong.testing does not know, it says, with what to do. Its variables follow from the request.
{
    write_to("$folder/example.lua", <<"_EOC_" . <<'_EOC_');
package.path = "$root/src/lua/?.lua;" .. package.path
_EOC_
local testing = require "resty.kong.testing"
testing.install()

local function show(...)
    local ok, err = pcall(...)
    print((tostring(not ok and err):gsub("^[^ ]*:%d+: ", "")))
end

show(testing.request, { header = {} })
show(testing.phase, "acces")
for _, name in ipairs { "plugins.mtls_auth", "plugins.header_cert_auth", "plugins.services", "plugins.sni", "addresses", "forwarded_certificate",
        "sessions" } do
    show(require, "resty.kong." .. name)
end

testing.request()
print(ngx.var.host, ngx.var.uri, ngx.var.request_method, ngx.var.kong_client_verify, ngx.var.http_x_consumer_username)
testing.request { consumer = "alice", uri = "/a", method = "POST", server_name = "A.test" }
print(ngx.var.host, ngx.var.uri, ngx.var.request_method, ngx.var.http_x_consumer_username,
    ngx.req.get_headers()["X-Consumer-Username"])
testing.request { headers = { Host = "B.test.:8443" }, server_name = "a.test" }
print(ngx.var.host)
assert(not pcall(testing.request, { host = "a.test" }))
_EOC_
    my ($status, $said) = run('lua5.1 example.lua');
    is $status, 0, 'resty.kong.testing says what it does not know';
    is $said, <<'_EOC_', 'and what it knows';
unknown option "header"; options are args, client_certificate, client_certificate_error, client_verify, consumer, enforce_verification, headers, method, phase, server_name, upstreams, uri, var: testing.request
unknown phase "acces"; phases are access, balancer, body_filter, certificate, client_hello, content, exit_worker, header_filter, init, init_worker, log, rewrite, server_rewrite, set, ssl_session_fetch, ssl_session_store, timer
resty.kong.plugins.mtls_auth has no stand-in in resty.kong.testing: say who the client is by testing.request { consumer = ... }
resty.kong.plugins.header_cert_auth has no stand-in in resty.kong.testing: say who the client is by testing.request { consumer = ... }
resty.kong.plugins.services has no stand-in in resty.kong.testing: put your own into package.loaded
resty.kong.plugins.sni has no stand-in in resty.kong.testing: put your own into package.loaded
resty.kong.addresses has no stand-in in resty.kong.testing: put your own into package.loaded
resty.kong.forwarded_certificate has no stand-in in resty.kong.testing: put your own into package.loaded
resty.kong.sessions has no stand-in in resty.kong.testing: put your own into package.loaded
localhost	/	GET	NONE	nil
a.test	/a	POST	alice	alice
b.test
_EOC_
}

# The tests of the example pass with the files where the package installs them.
{
    my ($sources, $installed) = ('src/lua/resty/kong', "$folder/resty/kong");
    File::Path::make_path("$installed/testing/module/tls");
    for my $file (map { s{^$sources/}{}r } map { glob "$sources/$_.lua" } qw(testing testing/* pdk tls x509 tls/*)) {
        my $place = $file =~ /^testing/ ? $file : "testing/module/$file";
        write_to("$installed/$place", slurp("$sources/$file"));
    }
    write_to("$folder/$_", slurp("nginx-conf/$_")) for qw(tenant.lua tenant_spec.lua);
    my ($status, $said) = run('busted -o TAP tenant_spec.lua');
    is $status, 0, 'the tests of the example pass' or diag $said;
    like $said, qr/^ok 7 - /m, 'there are seven of them';

    # They find mistakes.
    my $plugin = slurp('nginx-conf/tenant.lua');
    for my $mistake (
        ['set_tls_verify(true)', 'set_tls_verify("on")', 'argument must be a boolean'],
        ['set_tls_cert_key(tenant.chain, tenant.key)', 'set_tls_cert_key(tenant.chain)', 'key must be a parsed cdata object'],
        ['assert(pdk.service.set_tls_verify_store(self.store))', '', 'Expected objects to be equal'],
        ['return ngx.exit(403)', 'return', 'Expected objects to be equal'],
        ['if ngx.var.http_x_anonymous_consumer then', 'if false then', 'Expected objects to be equal'],
        ['    check(options)', '', 'unknown option'],
    ) {
        my ($right, $wrong, $words) = @$mistake;
        write_to("$folder/tenant.lua", $plugin =~ s/\Q$right\E/$wrong/r);
        ($status, $said) = run('busted -o TAP tenant_spec.lua');
        isnt $status, 0, "$wrong in place of $right: a test fails";
        like $said, qr/\Q$words\E/, "it says: $words";
    }
}

done_testing();
