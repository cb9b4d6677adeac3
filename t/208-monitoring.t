# SPDX-License-Identifier: Apache-2.0

# What docs/operations has for Prometheus and Grafana is valid, and uses metrics that the module has.

use lib 't/support';
use TestKong;
use TestHarness 'no_plan';

use File::Temp;
use JSON::PP;

repeat_each(1);
require_program('promtool');

# Returns the exit status of promtool, and what it printed.
sub promtool {
    my (@arguments) = @_;
    my $said = `cd docs/operations && promtool @arguments 2>&1`;
    return ($? >> 8, $said);
}

for my $arguments ('check config prometheus.yml', 'check rules alerts.yml', 'test rules alerts-test.yml') {
    my ($status, $said) = promtool($arguments);
    is($status, 0, "promtool $arguments") or diag($said);
}

# The page shows what is in the files.
my $page = slurp('docs/operations/monitoring.md');
my ($scrape) = $page =~ /^```yaml\n(.*?)^```$/ms;
ok(index(slurp('docs/operations/prometheus.yml'), $scrape) >= 0, 'prometheus.yml has what the page shows');
my $target = slurp('nginx-conf/target.conf');
for my $fragment ($page =~ /^```nginx\n(.*?)^```$/msg) {
    ok(index($target, $fragment) >= 0, 'target.conf has what the page shows');
}

# The queries of the dashboard, and of the alerts, by where they are.
my $dashboard = decode_json(slurp('docs/operations/grafana-dashboard.json'));
my %queries;
for my $panel (@{ $dashboard->{panels} }) {
    $queries{"panel $panel->{id}, $_->{refId}"} = $_->{expr} for @{ $panel->{targets} };
}
cmp_ok(keys %queries, '>', 10, 'the dashboard has more than 10 queries');
for my $variable (@{ $dashboard->{templating}{list} }) {
    $queries{"variable $variable->{name}"} = $1 if ref $variable->{query} && $variable->{query}{query} =~ /\((\w+),/;
}
my %on_dashboard = %queries;

# Prometheus understands each query of the dashboard: as a rule, with values for Grafana's variables.
{
    my $rules = File::Temp->new(SUFFIX => '.yml');
    print $rules "groups:\n  - name: dashboard\n    rules:\n";
    for my $name (sort keys %queries) {
        my $query = $queries{$name} =~ s/\$__rate_interval/5m/gr =~ s/\$instance/.*/gr;
        my $quoted = encode_json([$query]) =~ s/\A\[|\]\z//gr;
        printf $rules "      - record: a:%s\n        expr: %s\n", $name =~ s/\W/_/gr, $quoted;
    }
    close $rules or die $!;
    my ($status, $said) = promtool("check rules $rules");
    is($status, 0, 'the queries of the dashboard are valid') or diag($said);
}

my $alerts = slurp('docs/operations/alerts.yml');
while ($alerts =~ /- alert: (\w+)\n(.*?)^        labels:/msg) {
    my ($name, $body) = ($1, $2);
    ($queries{"alert $name"}) = $body =~ /^        expr: (.*)/ms;
}

# Each alert has a test in which it fires, and one in which it does not, and is on the page.
my $tests = slurp('docs/operations/alerts-test.yml');
my @alerts = map { /^alert (\w+)$/ ? $1 : () } sort keys %queries;
cmp_ok(@alerts, '>', 5, 'there are more than 5 alerts');
for my $alert (@alerts) {
    like($tests, qr/alertname: $alert\n        exp_alerts:/, "$alert fires in a test");
    like($tests, qr/alertname: $alert\n(?!        exp_alerts)/, "$alert does not fire in a test");
    like($page, qr/^\* `$alert`/m, "the page has $alert");
}

# Compares the metrics and labels of all queries with those of a real gateway.
add_response_body_check(sub {
    my ($block, $body) = @_;
    my %labels = map { $_ => {} } $body =~ /^# TYPE (\w+)/mg;
    while ($body =~ /^(\w+)\{(.*?)\} /mg) {
        my ($metric, $selector) = ($1, $2);
        $labels{$metric}{$1}{$2} = 1 while $selector =~ /(\w+)="([^"]*)"/g;
    }
    # A reason appears once it was counted.
    $labels{kong_tls_upstream_verification_failures_total}{reason} //= {};
    my %of_prometheus = map { $_ => 1 } qw(job instance);
    my %all = map { $_ => 1 } keys %of_prometheus, map { keys %$_ } values %labels;
    for my $name (sort keys %queries) {
        my $query = $queries{$name} =~ s/^\s*#.*//mgr;
        while ($query =~ /\b(kong_tls_\w+)(?:\{(.*?)\})?/g) {
            my ($metric, $selector) = ($1, $2 // '');
            ok($labels{$metric}, "$name: the module has $metric") or next;
            while ($selector =~ /(\w+)=~?"([^"]*)"/g) {
                my ($label, $value) = ($1, $2);
                next if $of_prometheus{$label};
                ok($labels{$metric}{$label}{$value}, "$name: $metric has $label=\"$value\"");
            }
        }
        while ($query =~ /\b(?:by|on) \(([\w, ]+)\)/g) {
            ok(!(grep { !$all{$_} } split /, /, $1), "$name: the labels $1 are known");
        }
    }
    for my $metric (sort keys %labels) {
        ok(scalar(grep {/\b$metric\b/} values %on_dashboard), "the dashboard has $metric");
    }
});

run_tests();

__DATA__

=== TEST 1: the metrics of a gateway
--- config
    location = /status {
        kong_tls_status;
    }
--- request
GET /status?format=prometheus
--- response_body_like: kong_tls_
--- no_error_log
[error]
