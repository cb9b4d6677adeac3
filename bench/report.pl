# SPDX-License-Identifier: Apache-2.0

# Prints what measure.pl has measured: as tables in Markdown, or as a chart in SVG of the ratios that say what the
# module costs.
#
#     perl report.pl [--chart] RESULTS

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

my $wants_chart = @ARGV && $ARGV[0] eq '--chart' && shift @ARGV;
@ARGV == 1 or die "usage: report.pl [--chart] RESULTS\n";
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

# ---- tables --------------------------------------------------------------------------------------

# "0.98 (0.97–1.01)"
sub with_spread {
    my ($format, @values) = @_;
    return sprintf "$format ($format–$format)", median(@values), quartiles(@values);
}

# "**0.95** reached"
sub verdict {
    my ($target, $reached) = @_;
    return '' if !defined $target;
    return "**$target** " . ($reached ? 'reached' : 'missed');
}

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

# "8052 (124 µs, 100 % resumed)"
sub rate_cell {
    my ($table, $column, $row) = @_;
    my @names = ($column->{name}, $row->{name});
    my $seen = $results->{seen}{ $column->{name} }{ $row->{name} };
    my $kept = connections_of(settings_of($table, $column, $row)) eq 'kept';
    my $share = $kept ? 1 - $seen->{connections} / $seen->{requests} : $seen->{resumed} / $seen->{connections};
    return sprintf '%.0f (%.0f µs, %.0f %% %s)', median(rates_of(@names)), median(costs_of(@names)),
        $share * 100, $kept ? 'kept' : 'resumed';
}

sub ratio_rows {
    my ($ratio, @columns) = @_;
    my @compared = map { compared($ratio, $_) } @columns;
    my @verdicts = map { verdict($_->{target}, median(@{ $_->{rates} }) >= ($_->{target} // 0)) } @compared;
    my @rows = (["**$ratio->{title}**", map { with_spread('%.2f', @{ $_->{rates} }) } @compared]);
    push @rows, ['… target', @verdicts] if grep {length} @verdicts;
    push @rows, ['… by processor time of the gateway',
        map { sprintf '%.2f', median(@{ $_->{costs} }) } @compared];
    return @rows;
}

sub print_rates {
    my ($table) = @_;
    my @columns = columns_of($table) or return;
    my @rows = ([map { $_->{title} } $table, @columns]);
    for my $row (@{ $table->{rows} }) {
        push @rows, [$row->{title}, map { rate_cell($table, $_, $row) } @columns];
    }
    push @rows, ratio_rows($_, @columns) for @{ $table->{ratios} };
    print_table(@rows);
    return;
}

sub print_calls {
    return if !$results->{calls};
    my @rows = (['One call from Lua', 'nanoseconds', 'with the JIT compiler off', 'target']);
    for my $call (@CALLS) {
        my ($on, $off) = map { $results->{calls}{$_}{ $call->{name} } } qw(on off);
        push @rows, [
            $call->{title}, with_spread('%.0f', @$on), with_spread('%.0f', @$off),
            verdict($call->{target}, median(@$on) <= ($call->{target} // 0))
        ];
    }
    print_table(@rows);
    return;
}

sub print_memory {
    return if !$results->{memory};
    my @rows = (['Memory for one, bytes', 'with', 'without', 'more']);
    for my $row (@MEMORY) {
        my ($with, $without) = map { $results->{memory}{ $row->{name} }{ $row->{$_}{name} } } qw(with without);
        push @rows, [
            $row->{title}, map({ sprintf '%.0f', median(@$_) } $with, $without),
            with_spread('%.0f', map { $with->[$_] - $without->[$_] } 0 .. $#$with)
        ];
    }
    print_table(@rows);
    return;
}

sub print_tables {
    print "Measured with $results->{versions}. Medians of $results->{rounds} rounds of a second, of memory"
        . " $results->{memory_rounds}; in brackets after a ratio, the middle half of the rounds. In"
        . " brackets after a rate, the time that a request takes of the gateway's processor. Other programs"
        . " took $results->{others} % of the processors meanwhile.\n\n";
    print_rates($_) for @RATES;
    print_calls();
    print_memory();
    return;
}

# ---- chart ---------------------------------------------------------------------------------------

my ($TOP, $BOTTOM) = (64, 336);
my %COLOUR = (axis => '#444444', bar => '#4a7fb5', grid => '#dddddd', spread => '#222222', target => '#c0392b');

sub svg_line {
    my ($colour, $width, @points) = @_;
    return sprintf qq(<path d="M%.1f,%.1f L%.1f,%.1f" stroke="%s" stroke-width="%s"/>\n), @points,
        $COLOUR{$colour}, $width;
}

sub svg_text {
    my ($x, $y, $colour, $anchor, $text) = @_;
    return sprintf qq(<text x="%.1f" y="%.1f" fill="%s" text-anchor="%s">%s</text>\n), $x, $y, $colour,
        $anchor, $text;
}

# Draws what lies between two values, with an end at each.
sub svg_spread {
    my ($x, $from, $to, $end) = @_;
    return join '', svg_line('spread', 1.3, $x, $from, $x, $to),
        map { svg_line('spread', 1.3, $x - $end, $_, $x + $end, $_) } $from, $to;
}

# Returns the ratios of one half of the chart, with the columns that they are in.
sub charted {
    my ($half) = @_;
    my @bars;
    for my $table (@RATES) {
        for my $ratio (grep { ($_->{chart} // '') eq $half } @{ $table->{ratios} }) {
            push @bars, map { { name => $_->{bar}, %{ compared($ratio, $_) } } } columns_of($table);
        }
    }
    return @bars;
}

# Draws one bar, in a slot from `left` on. `y_of` returns where a ratio is.
sub svg_bar {
    my ($bar, %with) = @_;
    my ($left, $slot, $y_of) = @with{qw(left slot y_of)};
    my $middle = $left + $slot / 2;
    my @rates = @{ $bar->{rates} };
    my ($median, $target) = (median(@rates), $bar->{target});
    my @lines = split /\|/, $bar->{name};
    my $svg = sprintf qq(<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>\n),
        $left + 0.2 * $slot, $y_of->($median), 0.6 * $slot, $BOTTOM - $y_of->($median), $COLOUR{bar};
    $svg .= svg_spread($middle, (map { $y_of->($_) } quartiles(@rates)), 4.5);
    $svg .= svg_line('target', 2, $left + 0.1 * $slot, $y_of->($target), $left + 0.9 * $slot, $y_of->($target))
        if defined $target;
    $svg .= svg_text($middle, $BOTTOM - 9, 'white', 'middle', sprintf $with{format}, $median);
    $svg .= svg_text($middle, $BOTTOM + 22 + 18 * $_, $COLOUR{axis}, 'middle', $lines[$_]) for 0 .. $#lines;
    return $svg;
}

# Draws one half of the chart, between `left` and `right`.
sub svg_half {
    my ($half, %with) = @_;
    my ($left, $right, $step) = @with{qw(left right step)};
    my @bars = charted($half) or return '';
    my $most = max(map { median(@{ $_->{rates} }), quartiles(@{ $_->{rates} }), $_->{target} // 0 } @bars);
    my $height = max($with{height}, ceil($most / $step) * $step);
    my $y_of = sub { my ($value) = @_; $BOTTOM - $value / $height * ($BOTTOM - $TOP) };
    my $slot = ($right - $left) / @bars;

    my $svg = svg_text(($left + $right) / 2, 19, 'black', 'middle', $with{title});
    for my $number (0 .. $height / $step + 1e-6) {
        my $y = $y_of->($number * $step);
        $svg .= svg_line('grid', 1, $left, $y, $right, $y);
        $svg .= svg_text($left - 8, $y + 4, $COLOUR{axis}, 'end', $number * $step);
    }
    for my $number (0 .. $#bars) {
        $svg .= svg_bar($bars[$number], left => $left + $slot * $number, slot => $slot, y_of => $y_of,
            format => $with{format});
    }
    $svg .= svg_line('axis', 1.3, $left, $TOP, $left, $BOTTOM);
    $svg .= svg_line('axis', 1.3, $left, $BOTTOM, $right, $BOTTOM);
    return $svg;
}

sub svg_legend {
    my ($right) = @_;
    my $y = 47;
    return svg_text($right - 40, $y, 'black', 'end', 'target')
        . svg_line('target', 2, $right - 34, $y - 4, $right - 8, $y - 4)
        . svg_text($right - 148, $y, 'black', 'end', 'the middle half of the rounds')
        . svg_spread($right - 136, $y - 10, $y + 2, 4.5);
}

sub print_chart {
    # Has a background of its own, because a page may be dark.
    print qq(<svg xmlns="http://www.w3.org/2000/svg" width="1080" height="400" viewBox="0 0 1080 400"),
        qq( font-family="sans-serif" font-size="12" fill="none">\n),
        qq(<rect width="1080" height="400" fill="white"/>\n),
        svg_half('near', left => 54, right => 713, height => 1.3, step => 0.2, format => '%.2f',
            title => 'Rate with the module, relative to the same without it'),
        svg_legend(713),
        svg_half('far', left => 767, right => 1069, height => 1, step => 1, format => '%.1f',
            title => 'Resumed, relative to full handshakes'),
        "</svg>\n";
    return;
}

$wants_chart ? print_chart() : print_tables();
