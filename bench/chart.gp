# For gnuplot: the ratios that have a target, as docs/bench.svg.
#
#     gnuplot -c chart.gp RESULTS OUTPUT
#
# RESULTS is the folder where report.pl has left chart-near and chart-far, of lines of
#
#     "label" median quartile quartile target

near = ARG1 . "/chart-near"
far = ARG1 . "/chart-far"

# A background of its own, because a page may be dark.
set terminal svg size 1080,400 font "sans-serif,12" background rgb "white"
set output ARG2
set multiplot

set style fill solid noborder
set boxwidth 0.6
set border 3 linecolor rgb "#444444"
set xtics nomirror scale 0
set ytics nomirror
set grid ytics linecolor rgb "#dddddd" linetype 1
set yrange [0:*]
set tmargin at screen 0.84
set bmargin at screen 0.16
set key at graph 1, screen 0.905 right top horizontal samplen 2 width 1

bar = "#4a7fb5"
spread = "#222222"
goal = "#c0392b"

set lmargin at screen 0.05
set rmargin at screen 0.66
set title "Rate with the module, relative to the same without it" offset 0, 1.2
set yrange [0:1.3]
set xrange [-0.6:10.6]
plot near using 0:2:xticlabels(1) with boxes linecolor rgb bar notitle, \
     near using 0:3:(0):($4-$3) with vectors heads size screen 0.005,90 linewidth 1.3 linecolor rgb spread \
         title "the middle half of the rounds", \
     near using ($0-0.4):5:(0.8):(0) with vectors nohead linewidth 2 linecolor rgb goal \
         title "target", \
     near using 0:(0.06):(sprintf("%.2f", $2)) with labels textcolor rgb "white" notitle

set lmargin at screen 0.71
set rmargin at screen 0.99
set title "Resumed, relative to full handshakes" offset 0, 1.2
set yrange [0:*]
set xrange [-0.6:3.6]
plot far using 0:2:xticlabels(1) with boxes linecolor rgb bar notitle, \
     far using 0:3:(0):($4-$3) with vectors heads size screen 0.005,90 linewidth 1.3 linecolor rgb spread notitle, \
     far using ($0-0.4):5:(0.8):(0) with vectors nohead linewidth 2 linecolor rgb goal notitle, \
     far using 0:(0.3):(sprintf("%.1f", $2)) with labels textcolor rgb "white" notitle
