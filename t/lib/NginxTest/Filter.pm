# SPDX-License-Identifier: Apache-2.0

package NginxTest::Filter;

# Filters of sections: those of Test::Base, but for `eval`.

use strict;
use warnings;

use NginxTest::Util qw(bail_out);
use Test::Base::Filter ();

our @ISA = ('Test::Base::Filter');

# An expression that dies must not become the text of its own error message.
sub eval {    ## no critic (ProhibitBuiltinHomonyms): it is what test files call it
    my ($self, @values) = @_;
    my @results = $self->SUPER::eval(@values);
    bail_out($self->current_block->name, ": eval: $@") if $@;
    return @results;
}

1;
