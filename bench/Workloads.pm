# SPDX-License-Identifier: Apache-2.0

package Workloads;

# What scripts/bench measures: each row of its tables, with its configuration and its load.

use strict;
use warnings;
use utf8;

use Exporter 'import';

our @EXPORT = qw(connections_of settings_of %LONG %QUICK %THOROUGH %DEFAULTS @RATES @CALLS @MEMORY %SHARING);

# How many rounds, calls and objects there are. `held`, `idle` and `depths` are for memory, and so are `identities`, at
# most 100 for each certificate, which are asked for in so many `passes`. `kept` and `new` are requests under callgrind.
our %THOROUGH = (
    rounds => 11, memory_rounds => 3, calls => 1_000_000, call_rounds => 5,
    held => 1000, idle => 500, depths => 10, certificates => 100, identities => 10_000, passes => 4,
    kept => 1000, new => 60, lock_seconds => 5,
);
our %QUICK = (
    %THOROUGH,
    rounds => 1, memory_rounds => 1, calls => 100_000, call_rounds => 2,
    held => 200, idle => 100, depths => 2, identities => 1000,
    kept => 200, new => 20, lock_seconds => 1,
);
our %LONG = (%THOROUGH, certificates => 1000, identities => 100_000, passes => 1);

# The settings of a gateway, with their defaults.
our %DEFAULTS = (
    key => 'ec',              # or rsa: of all certificates
    tls => '1.3',             # or 1.2
    modules => 'kong',        # what is loaded: the Lua module and this one; `lua`, that alone; or `none`
    plugin => 'pick',         # `pick` selects a certificate and does nothing with it, `set` sets it, `depth`
                              # sets a depth too; or `none`
    keepalive => 'stock',     # keeps connections to the service: `keepalive`; `kong`, kong_tls_keepalive;
                              # or `none`
    reuse => 'on',            # proxy_ssl_session_reuse
    sessions => '',           # kong_tls_session_cache, if there is one
    status => 0,              # whether there is kong_tls_status, at /status
    tells => 0,               # whether answers have the headers X-Reused and X-Worker
    workers => 1,             # more than one share a port by SO_REUSEPORT: the kernel spreads new connections
                              # over them by their ports
    service => '',            # the service; by default the one for the key and the version of TLS

    # The load: wrk requests /?n=1001&d=1, /?n=1002&d=1 and so on, one for each certificate in turn, and then for the
    # next depth.
    at_once => 32,            # requests in flight
    certificates => 1,
    depths => 1,

    # Where client certificates are requested, the gateway is the client of a server of its own.
    front => '',              # who requests them: `none`, nginx alone; `pick`, nginx too, beside a plugin that does
                              # nothing; `ask`, a plugin; `consumers`, mtls_auth
    authorities => 1,         # the number of CAs that it names
    consumers => 0,           # the number of consumers that mtls_auth knows; without any, it lets everybody in
);

my %NEW = (at_once => 32, keepalive => 'none');
# As many requests in flight as there are certificates: all gateways then have about as many connections, however they
# keep them.
my %KEPT = (at_once => 100);

my %STOCK = (modules => 'none', plugin => 'none');
# What kong_tls_session_cache was before workers shared it.
my %OWN = (sessions => '1024');

# Each entry is a table. In a column, all rows get the same load, and differ in their own settings; `ratios` are the
# rows that compare two of these. `chart` is the half of the chart that a ratio is in. A `target` is the least ratio.
#
# Rows with `instructions` are measured by these too, under callgrind. They do not depend on who else uses the machine,
# so where a ratio has them, they decide whether it misses its target: `instructions_target` is the least ratio of
# them, and `most_more` the most instructions that the first row may need more for a request.
our @RATES = (
    {
        part => 'connections',
        title => 'New connections to the service a second',
        with => \%NEW,
        columns => [
            {
                name => 'connections-rsa-1.2', title => 'RSA-2048, TLS 1.2',
                with => { key => 'rsa', tls => '1.2' },
            },
            {
                name => 'connections-rsa-1.3', title => 'RSA-2048, TLS 1.3',
                with => { key => 'rsa' },
            },
            {
                name => 'connections-ec-1.2', title => 'P-256, TLS 1.2',
                with => { tls => '1.2' },
            },
            {
                name => 'connections-ec-1.3', title => 'P-256, TLS 1.3',
            },
        ],
        rows => [
            {
                name => 'stock', title => 'nginx alone, static certificate',
                with => \%STOCK,
            },
            {
                name => 'static', title => 'static certificate, a plugin in Lua that sets nothing',
                instructions => 1,
            },
            {
                name => 'lua', title => 'certificate set by the plugin',
                with => { plugin => 'set' }, instructions => 1,
            },
            {
                name => 'lua-own', title => "certificate set by the plugin, `kong_tls_session_cache $OWN{sessions}`",
                with => { plugin => 'set', %OWN }, instructions => 1,
            },
            {
                name => 'lua-full', title => 'certificate set by the plugin, `proxy_ssl_session_reuse off`',
                with => { plugin => 'set', reuse => 'off' },
            },
        ],
        ratios => [
            {
                title => 'set by the plugin / static with a plugin',
                of => [qw(lua static)], target => 0.95, chart => 'near', instructions_target => 0.99,
            },
            {
                title => 'set by the plugin / nginx alone',
                of => [qw(lua stock)],
            },
            {
                title => "sessions that all workers share / a worker's own, both set by the plugin",
                of => [qw(lua lua-own)], target => 0.97, instructions_target => 0.97,
            },
            {
                # With TLS 1.3, nginx itself gains less than that.
                title => 'resumed / full handshakes, both set by the plugin',
                of => [qw(lua lua-full)], chart => 'far',
                target_of => { 'connections-rsa-1.2' => 4.5 },
            },
            {
                title => 'the same of a static certificate: what nginx itself gains',
                of => [qw(static lua-full)],
            },
        ],
    },
    {
        part => 'requests',
        title => 'Requests a second over kept connections',
        with => \%KEPT,
        columns => [
            {
                name => 'requests-1-1.2', title => '1 certificate, TLS 1.2',
                with => { tls => '1.2' },
            },
            { name => 'requests-1', title => '1 certificate, TLS 1.3' },
            {
                name => 'requests-100', title => '100 certificates, TLS 1.3',
                with => { certificates => 100 },
            },
        ],
        rows => [
            {
                name => 'stock', title => 'nginx alone, one static certificate, `keepalive`',
                with => \%STOCK,
            },
            {
                name => 'static', title => 'the same, a plugin in Lua that sets nothing',
                instructions => 1,
            },
            {
                name => 'lua', title => 'certificate set by the plugin, `kong_tls_keepalive`',
                with => { plugin => 'set', keepalive => 'kong' }, instructions => 1,
            },
        ],
        ratios => [
            {
                title => 'set by the plugin / static with a plugin',
                of => [qw(lua static)], target => 0.95, chart => 'near', most_more => 2000,
            },
            {
                title => 'set by the plugin / nginx alone',
                of => [qw(lua stock)],
            },
        ],
    },
    {
        part => 'zone',
        title => 'New connections that resume what only shared memory has, a second',
        # So many identities in turn that a worker has no decoded copy any more when it needs one: it keeps 1024.
        with => { %NEW, plugin => 'depth', certificates => 100, depths => 40, status => 1 },
        columns => [
            {
                name => 'zone-1.2', title => 'P-256, TLS 1.2',
                with => { tls => '1.2' },
            },
            { name => 'zone-1.3', title => 'P-256, TLS 1.3' },
        ],
        rows => [
            {
                name => 'own', title => '`kong_tls_session_cache 8000`',
                with => { sessions => '8000' },
            },
            {
                name => 'zone', title => '`kong_tls_session_cache shared:bench:64m`',
                with => { sessions => 'shared:bench:64m' },
            },
        ],
        ratios => [
            {
                title => "read from shared memory / a worker's own",
                of => [qw(zone own)], target => 0.85,
            },
        ],
    },
    {
        part => 'clients',
        title => 'Handshakes with clients that present certificates a second',
        # The clients are all alike; the servers in front of them are measured.
        with => { %NEW, %STOCK, reuse => 'off' },
        columns => [
            { name => 'clients-1', title => '1 authority' },
            {
                name => 'clients-100', title => '100 authorities',
                with => { authorities => 100 },
            },
            {
                name => 'clients-300', title => '300 authorities',
                with => { authorities => 300 },
            },
        ],
        rows => [
            {
                name => 'stock', title => 'nginx alone, `ssl_client_certificate`',
                with => { front => 'none' },
            },
            {
                name => 'static', title => 'the same, a plugin in Lua that sets nothing',
                with => { front => 'pick' },
            },
            {
                name => 'lua', title => 'authorities set by the plugin',
                with => { front => 'ask' },
            },
        ],
        ratios => [
            {
                title => 'set by the plugin / nginx alone',
                of => [qw(lua stock)], target => 0.97, chart => 'near',
            },
            {
                title => 'set by the plugin / static with a plugin',
                of => [qw(lua static)],
            },
        ],
    },
    {
        part => 'consumers',
        title => 'Requests of clients that mtls_auth knows a second',
        # The clients are all alike, and their connections are kept.
        with => { %KEPT, %STOCK, keepalive => 'stock', front => 'consumers' },
        columns => [
            { name => 'consumers', title => 'kept connections' },
        ],
        rows => [
            {
                name => 'none', title => '`skip_consumer_lookup`',
            },
            {
                name => 'one', title => '1 consumer',
                with => { consumers => 1 },
            },
            {
                name => 'many', title => '10,000 consumers',
                with => { consumers => 10_000 },
            },
        ],
        ratios => [
            {
                title => '10,000 consumers / 1 consumer',
                of => [qw(many one)], target => 0.97,
            },
            {
                title => '1 consumer / `skip_consumer_lookup`',
                of => [qw(one none)],
            },
        ],
    },
    {
        part => 'unused',
        title => 'Requests a second that set nothing',
        with => { plugin => 'none' },
        columns => [
            {
                name => 'unused-requests', title => 'kept connections',
                with => \%KEPT,
            },
            {
                name => 'unused-connections', title => 'new connections',
                with => \%NEW,
            },
        ],
        rows => [
            {
                name => 'without', title => 'without `load_module` of this module',
                with => { modules => 'lua' },
            },
            {
                name => 'with', title => 'with it',
            },
        ],
        ratios => [
            {
                title => 'with / without',
                of => [qw(with without)], chart => 'near',
            },
        ],
    },
);

# The calls of calls.lua, by their names there; a `target` is the most nanoseconds, with the JIT compiler.
our @CALLS = (
    { name => 'set_tls_verify', title => '`set_tls_verify`', target => 100 },
    { name => 'set_tls_cert_key', title => '`set_tls_cert_key`', target => 400 },
    { name => 'set_tls_cert_key-100', title => '`set_tls_cert_key`, 100 certificates in turn' },
    { name => 'set_tls_cert_key-objects', title => '... as objects of `resty.kong.x509`' },
    { name => 'set_tls_verify_store', title => '`set_tls_verify_store`' },
    # By mlua, like all functions of objects; the others use FFI.
    { name => 'contain', title => '`addresses:contain`' },
);

# Each row compares two gateways that have many of something, `without` first. The first two rows have no sessions,
# since it is up to chance which connections share these.
my %HELD = (service => 'memory', reuse => 'off');
my %EACH = (service => 'memory', plugin => 'depth', keepalive => 'none');
our @MEMORY = (
    {
        # Requests that the service does not answer yet.
        name => 'held', title => 'request in flight: certificate set by the plugin / static',
        without => { name => 'static', with => \%HELD },
        with => { name => 'lua', with => { %HELD, plugin => 'set', keepalive => 'kong' } },
    },
    {
        # The connections that such requests leave.
        name => 'idle', title => 'idle connection: `kong_tls_keepalive` / `keepalive`',
        without => { name => 'static', with => \%HELD },
        with => { name => 'lua', with => { %HELD, plugin => 'set', keepalive => 'kong' } },
    },
    {
        # New connections with 100 certificates, each with some depths.
        name => 'sessions', title => 'session of another identity: cache / no cache',
        without => { name => 'off', with => { %EACH, sessions => 'off' } },
        with => { name => 'on', with => { %EACH, sessions => '2000' } },
    },
);

# What workers share: who is asked for 100 identities, 8 times each in random order, over new connections; and who has
# sessions of many identities.
my %PASSING = (plugin => 'set', keepalive => 'none', tells => 1, status => 1);
our %SHARING = (
    workers => [1, 4, 16],
    times => 8,
    caches => [
        { name => 'shared', title => 'shared', with => { %PASSING } },
        { name => 'own', title => "a worker's own", with => { %PASSING, %OWN } },
    ],
    # Rounds, with the least share that must be resumed: each identity has no session at first.
    rounds => [
        { name => 'first', title => 'first round', target => 0.87 },
        { name => 'second', title => 'second round', target => 0.99 },
        { name => 'reload', title => 'after a reload', target => 0.99 },
    ],
    clients => 8,
    # The most bytes of a session in shared memory.
    most_bytes => 3072,
    many => { %PASSING, plugin => 'depth', service => 'memory', at_once => 256 },
    lock => { %PASSING, sessions => 'shared:bench:64m', at_once => 256, certificates => 100 },
);

# Returns the settings of a gateway: later ones override earlier ones.
sub settings_of {
    my (@described) = @_;
    my %settings = (%DEFAULTS, map { %{ $_->{with} // {} } } @described);
    for (keys %settings) {
        die "there is no setting $_\n" if !exists $DEFAULTS{$_};
    }
    return %settings;
}

# Returns what the connections of a gateway should be: `kept`; or new, and `resumed` or with `full` handshakes.
sub connections_of {
    my (%settings) = @_;
    return 'kept' if $settings{keepalive} ne 'none';
    return $settings{reuse} eq 'on' ? 'resumed' : 'full';
}

1;
