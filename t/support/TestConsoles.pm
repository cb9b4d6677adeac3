# SPDX-License-Identifier: Apache-2.0

package TestConsoles;

# The commands that a page shows, with what they print: blocks like this one.
#
#     <!-- executed by PROGRAM -->
#     ```console
#     $ command
#     expected output
#     ```

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(steps);

# Returns the steps of the blocks that a program executes, in order: for each, its command and the expected output.
sub steps {
    my ($page, $program) = @_;
    my @blocks = $page =~ /executed by \Q$program\E -->\n```console\n(.*?)^```$/msg;
    return map { [split /\n/, $_, 2] } map { /^\$ (.*\n(?:[^\$].*\n)*)/mg } @blocks;
}

1;
