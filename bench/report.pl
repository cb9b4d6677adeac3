# SPDX-License-Identifier: Apache-2.0

# Prints what measure.pl has measured.
#
#     perl report.pl RESULTS              tables in Markdown
#     perl report.pl --headlines RESULTS  the most important figures, as a list in Markdown
#     perl report.pl --chart RESULTS      a chart in SVG of the ratios that say what the module costs

use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));

use FindBin;
use lib $FindBin::RealBin;
use Workloads;

use JSON::PP;
use List::Util qw(max min);
use POSIX qw(ceil);

my $form = @ARGV && $ARGV[0] =~ /^--(chart|headlines)$/ && shift @ARGV ? $1 : 'tables';
@ARGV == 1 or die "usage: report.pl [--chart|--headlines] RESULTS\n";
open my $file, '<:raw', $ARGV[0] or die "$ARGV[0]: $!\n";
my $results = decode_json(do { local $/; <$file> });

# ---- figures -------------------------------------------------------------------------------------

# Returns the value at a share of the way from the least to the greatest.
sub quantile {
    my ($share, @values) = @_;
    my @sorted = sort { $a <=> $b } @values;
    my $place = $share * $#sorted;
    my $below = $sorted[int $place];
    return $below + ($place - int $place) * ($sorted[min(int $place + 1, $#sorted)] - $below);
}

sub median {
    return quantile(0.5, @_);
}

# Returns the ends of the middle half.
sub quartiles {
    return quantile(0.25, @_), quantile(0.75, @_);
}

# For each round: requests a second, and microseconds of the processor for a request.
sub rates_of {
    my ($column, $row) = @_;
    return map { $_->{requests} / $_->{microseconds} * 1e6 } @{ $results->{runs}{$column}{$row} };
}

sub costs_of {
    my ($column, $row) = @_;
    return map { $_->{nanoseconds} / 1e3 / $_->{requests} } @{ $results->{runs}{$column}{$row} };
}

# Returns the ratio of each round.
sub ratios_of {
    my ($by, $over) = @_;
    return map { $by->[$_] / $over->[$_] } 0 .. $#$by;
}

# Returns the columns of a table that were measured.
sub columns_of {
    my ($table) = @_;
    return grep { $results->{runs}{ $_->{name} } } @{ $table->{columns} };
}

# Returns one ratio in one column: its rates and costs in each round, and its target, if it has one.
sub compared {
    my ($ratio, $column) = @_;
    my $name = $column->{name};
    my ($row, $over) = @{ $ratio->{of} };
    return {
        rates => [ratios_of([rates_of($name, $row)], [rates_of($name, $over)])],
        costs => [ratios_of([costs_of($name, $over)], [costs_of($name, $row)])],
        target => $ratio->{target} // $ratio->{target_of}{$name},
    };
}

# Returns what is compared by a ratio of a table, for each column that was measured.
sub comparisons {
    my ($table, $ratio) = @_;
    return map { { column => $_, %{ compared($ratio, $_) } } } columns_of($table);
}

# ---- headlines -----------------------------------------------------------------------------------

# Returns the medians of a ratio, which compares two rows of a part, from the least to the greatest.
sub medians_of {
    my ($part, $row, $over) = @_;
    my ($table) = grep { $_->{part} eq $part } @RATES;
    my ($ratio) = grep { "@{ $_->{of} }" eq "$row $over" } @{ $table->{ratios} };
    return sort { $a <=> $b } map { median(@{ $_->{rates} }) } comparisons($table, $ratio);
}

# "0.93 to 0.98"
sub from_to {
    my ($format, @values) = @_;
    my ($from, $to) = map { sprintf $format, $_ } min(@values), max(@values);
    return $from eq $to ? $from : "$from to $to";
}

sub print_headlines {
    my @near = medians_of(qw(connections lua static));
    my @far = medians_of(qw(connections lua lua-full));
    my @kept = medians_of(qw(requests lua static));
    my @unused = medians_of(qw(unused with without));
    my %call = map { $_ => median(@{ $results->{calls}{on}{$_} }) } qw(set_tls_verify set_tls_cert_key);
    print
        "* **A certificate for each tenant costs about what one static certificate costs**: new connections at\n  ",
        from_to('%.2f', @near), " of the rate.\n",
        '* **', from_to('%.1f', @far), " times as many new connections** as with full handshakes, which are all that\n",
        "  a patched nginx can do safely.\n",
        "* **Each tenant keeps connections of its own**: requests at ", from_to('%.2f', @kept),
        " of the rate over connections that\n  all tenants share.\n",
        '* **Requests that set nothing** run at ', from_to('%.2f', @unused), " of the rate without the module.\n",
        sprintf("* **A call that sets something** takes %.0f to %.0f ns.\n", min(values %call), max(values %call));
    return;
}

# ---- tables --------------------------------------------------------------------------------------

# Prints rows as a table. The first is the heading; the columns after the first are right aligned.
sub print_table {
    my (@rows) = @_;
    my @width = map { my $column = $_; max(map { length $_->[$column] } @rows) } 0 .. $#{ $rows[0] };
    my $line = sub {
        my ($first, @others) = @_;
        return '| ' . join(' | ', sprintf('%-*s', $width[0], $first),
            map { sprintf '%*s', $width[$_ + 1], $others[$_] } 0 .. $#others) . " |\n";
    };
    my ($heading, @body) = @rows;
    print $line->(@$heading);
    print '|', '-' x ($width[0] + 2), map({ '|' . '-' x ($_ + 1) . ':' } @width[1 .. $#width]), "|\n";
    print $line->(@$_) for @body;
    print "\n";
    return;
}

# The share of the connections that were resumed, or of the requests whose connection was kept.
sub share_of {
    my ($table, $column, $row) = @_;
    my $seen = $results->{seen}{ $column->{name} }{ $row->{name} };
    return connections_of(settings_of($table, $column, $row)) eq 'kept'
        ? 1 - $seen->{connections} / $seen->{requests}
        : $seen->{resumed} / $seen->{connections};
}

# Prints a table with a row for each row of a table of rates, and one number a cell.
sub print_rows {
    my ($table, $title, $format, $number) = @_;
    my @columns = columns_of($table);
    print_table([$title, map { $_->{title} } @columns], map {
        my $row = $_;
        [$row->{title}, map { sprintf $format, $number->($_, $row) } @columns]
    } @{ $table->{rows} });
    return;
}

# Prints which connections were what they should be.
sub print_shares {
    my ($table) = @_;
    my %words = (
        kept => 'Of the requests, %s %% found a kept connection.',
        resumed => 'Of the connections that may be resumed, %s %% were.',
        full => 'Of those with full handshakes, %s %% were resumed.',
    );
    my %shares;
    for my $column (columns_of($table)) {
        push @{ $shares{ connections_of(settings_of($table, $column, $_)) } }, 100 * share_of($table, $column, $_)
            for @{ $table->{rows} };
    }
    my @kinds = sort { $b cmp $a } keys %shares;
    print join(' ', map { sprintf $words{$_}, from_to('%.0f', @{ $shares{$_} }) } @kinds), "\n\n";
    return;
}

sub print_ratios {
    my ($table) = @_;
    my @rows = (['Ratio', map { $_->{title} } columns_of($table)]);
    for my $ratio (@{ $table->{ratios} }) {
        my @compared = comparisons($table, $ratio);
        push @rows, ["**$ratio->{title}**", map { sprintf '%.2f', median(@{ $_->{rates} }) } @compared];
        push @rows, ['its target', map { $_->{target} // '' } @compared] if grep { defined $_->{target} } @compared;
        push @rows, ['the same by processor time', map { sprintf '%.2f', median(@{ $_->{costs} }) } @compared];
    }
    print_table(@rows);
    return;
}

sub print_rates {
    my ($table) = @_;
    columns_of($table) or return;
    print "## $table->{title}\n\n";
    print_ratios($table);
    print_rows($table, 'A second', '%.0f', sub { median(rates_of(map { $_->{name} } @_)) });
    print_rows($table, 'Processor time of the gateway, µs', '%.0f', sub { median(costs_of(map { $_->{name} } @_)) });
    print_shares($table);
    return;
}

sub print_calls {
    return if !$results->{calls};
    print "## Calls from Lua\n\n";
    my $median = sub { my ($jit, $call) = @_; sprintf '%.0f', median(@{ $results->{calls}{$jit}{ $call->{name} } }) };
    print_table(
        ['Nanoseconds', 'compiled', 'JIT compiler off', 'target'],
        map { [$_->{title}, $median->('on', $_), $median->('off', $_), $_->{target} // ''] } @CALLS
    );
    return;
}

sub print_memory {
    return if !$results->{memory};
    my @rows = (['Bytes for one', 'with', 'without', 'more']);
    for my $row (@MEMORY) {
        my ($with, $without) = map { $results->{memory}{ $row->{name} }{ $row->{$_}{name} } } qw(with without);
        push @rows, [$row->{title}, map { sprintf '%.0f', median(@$_) } $with, $without,
            [map { $with->[$_] - $without->[$_] } 0 .. $#$with]];
    }
    print "## Memory\n\n";
    print_table(@rows);
    return;
}

# Prints what is below its target: once, and in words.
sub print_misses {
    my $misses = '';
    for my $table (@RATES) {
        my @missed = map {
            my $ratio = $_;
            map {
                sprintf "* %s: %.2f in place of %s (%s)\n", $_->{column}{title}, median(@{ $_->{rates} }),
                    $_->{target}, $ratio->{title}
            }
                grep { defined $_->{target} && median(@{ $_->{rates} }) < $_->{target} } comparisons($table, $ratio);
        } @{ $table->{ratios} };
        $misses .= join '', $table->{title} =~ s/ a second//r, ":\n\n", @missed, "\n" if @missed;
    }
    my @slow = grep { $_->{target} && median(@{ $results->{calls}{on}{ $_->{name} } }) > $_->{target} }
        $results->{calls} ? @CALLS : ();
    $misses .= join '', "Calls from Lua:\n\n", map {"* $_->{title}\n"} @slow if @slow;
    print "## Targets\n\n", $misses ? "These ratios miss their targets.\n\n$misses" : "All targets are reached.\n";
    return;
}

sub print_tables {
    print "Measured with $results->{versions}.\n",
        "All figures are medians of $results->{rounds} rounds of a second; those of memory, of",
        " $results->{memory_rounds} rounds.\nOther programs took $results->{others} % of the processors meanwhile.\n\n";
    print_rates($_) for @RATES;
    print_calls();
    print_memory();
    print_misses();
    return;
}

# ---- chart ---------------------------------------------------------------------------------------

# Bars lie, one below the other, so that a narrow screen can show them.
my ($WIDTH, $LEFT, $RIGHT, $LINE) = (540, 168, 500, 24);
my %COLOUR = (axis => '#444444', bar => '#4a7fb5', grid => '#dddddd', spread => '#222222', target => '#c0392b');

sub svg_line {
    my ($colour, $width, @points) = @_;
    return sprintf qq(<path d="M%.1f,%.1f L%.1f,%.1f" stroke="%s" stroke-width="%s"/>\n), @points,
        $COLOUR{$colour}, $width;
}

sub svg_text {
    my ($x, $y, $colour, $anchor, $text, @more) = @_;
    return sprintf qq(<text x="%.1f" y="%.1f" fill="%s" text-anchor="%s"%s>%s</text>\n), $x, $y, $colour,
        $anchor, join('', map {" $_"} @more), $text;
}

# Draws what lies between two values, with an end at each.
sub svg_spread {
    my ($y, $from, $to) = @_;
    return join '', svg_line('spread', 1.3, $from, $y, $to, $y),
        map { svg_line('spread', 1.3, $_, $y - 4.5, $_, $y + 4.5) } $from, $to;
}

# Draws one bar below `top`. `x_of` returns where a ratio is.
sub svg_bar {
    my ($bar, $top, $format, $x_of) = @_;
    my $middle = $top + $LINE / 2;
    my ($median, $target) = (median(@{ $bar->{rates} }), $bar->{target});
    my $svg = sprintf qq(<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>\n),
        $LEFT, $top + 3, $x_of->($median) - $LEFT, $LINE - 6, $COLOUR{bar};
    $svg .= svg_text($LEFT - 8, $middle + 4, $COLOUR{axis}, 'end', $bar->{column}{title});
    $svg .= svg_text($LEFT + 8, $middle + 4, 'white', 'start', sprintf $format, $median);
    $svg .= svg_spread($middle, map { $x_of->($_) } quartiles(@{ $bar->{rates} }));
    $svg .= svg_line('target', 2.5, $x_of->($target), $top + 1, $x_of->($target), $top + $LINE - 1)
        if defined $target;
    return $svg;
}

# Draws the ratios of one half of the chart, below `top`; returns where it ends, and the drawing.
sub svg_half {
    my ($half, $top, %with) = @_;
    my @groups = grep { @{ $_->{bars} } } map {
        my $table = $_;
        map { { title => $table->{title} =~ s/ a second//r, bars => [comparisons($table, $_)] } }
            grep { ($_->{chart} // '') eq $half } @{ $table->{ratios} };
    } @RATES;
    return $top, '' if !@groups;

    my $most = max(map { my $bar = $_; median(@{ $bar->{rates} }), quartiles(@{ $bar->{rates} }), $bar->{target} // 0 }
        map { @{ $_->{bars} } } @groups);
    my $scale = max($with{least}, ceil($most / $with{step}) * $with{step});
    my $x_of = sub { my ($value) = @_; $LEFT + $value / $scale * ($RIGHT - $LEFT) };

    my $y = $top + 40;
    my $bars = '';
    for my $group (@groups) {
        $bars .= svg_text(8, $y + 16, 'black', 'start', $group->{title}, 'font-weight="bold"') if @groups > 1;
        $y += $LINE if @groups > 1;
        for my $bar (@{ $group->{bars} }) {
            $bars .= svg_bar($bar, $y, $with{format}, $x_of);
            $y += $LINE;
        }
    }
    my $svg = svg_text(8, $top + 14, 'black', 'start', $with{title}, 'font-size="15"');
    for my $number (0 .. $scale / $with{step} + 1e-6) {
        my $x = $x_of->($number * $with{step});
        $svg .= svg_line('grid', 1, $x, $top + 36, $x, $y);
        $svg .= svg_text($x, $top + 31, $COLOUR{axis}, 'middle', $number * $with{step});
    }
    return $y + 16, $svg . $bars . svg_line('axis', 1.3, $LEFT, $top + 36, $LEFT, $y);
}

sub svg_legend {
    my ($y) = @_;
    return svg_line('target', 2.5, 12, $y - 10, 12, $y + 4) . svg_text(24, $y + 1, 'black', 'start', 'target')
        . svg_spread($y - 3, 90, 114)
        . svg_text(122, $y + 1, 'black', 'start', 'the middle half of the rounds');
}

sub print_chart {
    my ($middle, $near) = svg_half('near', 8, least => 1.2, step => 0.2, format => '%.2f',
        title => 'Rate with the module, relative to the same without it');
    my ($bottom, $far) = svg_half('far', $middle, least => 1, step => 1, format => '%.1f',
        title => 'Resumed, relative to full handshakes');
    my $height = $bottom + 20;
    # Has a background of its own, because a page may be dark.
    print qq(<svg xmlns="http://www.w3.org/2000/svg" width="$WIDTH" height="$height" viewBox="0 0 $WIDTH $height"),
        qq( font-family="sans-serif" font-size="13" fill="none">\n),
        qq(<rect width="$WIDTH" height="$height" fill="white"/>\n), $near, $far, svg_legend($bottom + 8), "</svg>\n";
    return;
}

my %print = (chart => \&print_chart, headlines => \&print_headlines, tables => \&print_tables);
$print{$form}->();
