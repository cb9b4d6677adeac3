# SPDX-License-Identifier: Apache-2.0

package Workloads;

# What scripts/bench measures: each row of its tables, with its configuration and its load.

use strict;
use warnings;
use utf8;

use Exporter 'import';

our @EXPORT = qw(connections_of settings_of %QUICK %THOROUGH %DEFAULTS @RATES @CALLS @MEMORY);

# How many rounds, calls and objects there are. `held`, `idle` and `depths` are for memory.
our %THOROUGH = (
    rounds => 15, memory_rounds => 3, calls => 1_000_000, call_rounds => 5,
    held => 1000, idle => 500, depths => 10,
);
our %QUICK = (
    rounds => 1, memory_rounds => 1, calls => 100_000, call_rounds => 2,
    held => 200, idle => 100, depths => 2,
);

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
    service => '',            # the service; by default the one for the key and the version of TLS

    # The load: wrk requests /?n=1001, /?n=1002 and so on, one for each certificate in turn.
    at_once => 32,            # requests in flight
    certificates => 1,

    # Where client certificates are requested, the gateway is the client of a server of its own.
    front => '',              # who requests them: `none`, nginx alone; `pick`, nginx too, beside a plugin that does
                              # nothing; `ask`, a plugin
    authorities => 1,         # the number of CAs that it names
);

my %NEW = (at_once => 32, keepalive => 'none');
# As many requests in flight as there are certificates: all gateways then have about as many connections, however they
# keep them.
my %KEPT = (at_once => 100);

my %STOCK = (modules => 'none', plugin => 'none');

# Each entry is a table. In a column, all rows get the same load, and differ in their own settings; `ratios` are the
# rows that compare two of these. `chart` is the half of the chart that a ratio is in. A `target` is the least ratio.
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
            },
            {
                name => 'lua', title => 'certificate set by the plugin',
                with => { plugin => 'set' },
            },
            {
                name => 'lua-full', title => 'certificate set by the plugin, `proxy_ssl_session_reuse off`',
                with => { plugin => 'set', reuse => 'off' },
            },
        ],
        ratios => [
            {
                title => 'set by the plugin / static with a plugin',
                of => [qw(lua static)], target => 0.95, chart => 'near',
            },
            {
                title => 'set by the plugin / nginx alone',
                of => [qw(lua stock)],
            },
            {
                title => 'resumed / full handshakes, both set by the plugin',
                of => [qw(lua lua-full)], chart => 'far',
                target_of => { 'connections-rsa-1.2' => 4.5, 'connections-rsa-1.3' => 4.5 },
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
            { name => 'requests-1', title => '1 certificate' },
            {
                name => 'requests-100', title => '100 certificates',
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
            },
            {
                name => 'lua', title => 'certificate set by the plugin, `kong_tls_keepalive`',
                with => { plugin => 'set', keepalive => 'kong' },
            },
        ],
        ratios => [
            {
                title => 'set by the plugin / static with a plugin',
                of => [qw(lua static)], target => 0.95, chart => 'near',
            },
            {
                title => 'set by the plugin / nginx alone',
                of => [qw(lua stock)],
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
