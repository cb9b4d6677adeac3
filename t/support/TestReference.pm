# SPDX-License-Identifier: Apache-2.0

package TestReference;

# The pages of docs/reference, and what the running module says about itself. Some lines of the pages are made from the
# latter: those that begin with "* **Phases:**", "* **Context:**" and so on, and the text between
# "<!-- generated -->" and "<!-- end -->". `scripts/book --generate` writes them.

use strict;
use warnings;

use Exporter 'import';
use File::Temp  ();
use Text::Wrap  ();
use TestHarness ();
use TestKong;

our @EXPORT = qw(reference_page reference_pages sections section_of facts generated nginx_says);

my $FOLDER  = 'docs/reference';
my $COLUMNS = 120;

# ---- pages ---------------------------------------------------------------------------------------

sub reference_pages {
    my @names = sort map {m{([^/]+)\.md\z}} glob "$FOLDER/*.md";
    return @names;
}

sub reference_page { return "$FOLDER/$_[0].md" }

# Returns the sections of a page, in order: each has a level, a title and a text, which ends at the next heading.
sub sections {
    my ($text) = @_;
    my (@sections, $in_code);
    for my $line ($text =~ /^.*\n?/mg) {
        $in_code = !$in_code if $line =~ /^```/;
        if (!$in_code && $line =~ /^(#+) (.*?)\s*$/) {
            push @sections, { level => length $1, title => $2, text => '' };
        }
        elsif (@sections) {
            $sections[-1]{text} .= $line;
        }
    }
    return @sections;
}

# Returns the text below the only heading with this title, without the sections below that.
sub section_of {
    my ($page, $title) = @_;
    my @found = grep { $_->{title} eq $title } sections(slurp(reference_page($page)));
    return @found == 1 ? $found[0]{text} : undef;
}

# ---- nginx ---------------------------------------------------------------------------------------

sub _nginx { return $ENV{TEST_NGINX_BINARY} || 'nginx' }

sub _modules {
    return join '', map {"load_module $_;\n"} split ' ', $ENV{TEST_NGINX_LOAD_MODULES};
}

# Writes a configuration with this content of http {}, and returns the name of the file. It needs no access to nginx's
# usual folders.
sub _configure {
    my ($folder, $http) = @_;
    my $temp = join '', map {"    ${_}_temp_path temp/$_;\n"} qw(client_body proxy fastcgi uwsgi scgi);
    mkdir "$folder/temp";
    return write_to("$folder/nginx.conf", _modules() . <<"_EOC_");
pid nginx.pid;
events {}
http {
    access_log off;
$temp
$http
}
_EOC_
}

# Returns what `nginx -t` prints about a configuration with this content of http {}.
sub nginx_says {
    my ($http) = @_;
    my $folder = File::Temp->newdir;
    my $name = _configure($folder, $http);
    local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
    my $nginx = _nginx();
    return scalar `'$nginx' -t -p '$folder' -e stderr -c '$name' 2>&1`;
}

# ---- what the module says ------------------------------------------------------------------------

# A function for requests throws if it is called while nginx starts. The error lists its phases.
my $INIT = <<'_EOC_';
        local file = assert(io.open("FOLDER/phases", "w"))
        local function say(package, name, called, same)
            local _, err = pcall(called)
            local phases = err:match("only in: ([^)]*)%)")
            if not phases and same then
                return say(package, name, same)
            end
            file:write(package, " ", name, " ", (assert(phases, err)), "\n")
        end
        local pdk = require "resty.kong.pdk"
        for name, called in pairs(pdk.client.tls) do
            say("kong.client.tls", name, called)
        end
        for name, called in pairs(pdk.service) do
            if type(called) == "function" then
                say("kong.service", name, called)
            end
        end
        for name, called in pairs(pdk.service.request) do
            say("kong.service.request", name, called)
        end
        -- The same functions, whose errors may have no phases there.
        local public = require("resty.kong.tls.functions").public
        local low_level = require "resty.kong.tls"
        for name, same in ("LOW_LEVEL"):gmatch("(%S+)=(%S+)") do
            say("resty.kong.tls", name, low_level[name], public(same))
        end
        file:close()
_EOC_

sub _low_level {
    return slurp('src/lua/resty/kong/tls.lua') =~ /^\s+(\w+) = public\("(\w+)"/mg;
}

# Returns the facts of a page by title and label: $facts->{page}{title}{Phases} = "rewrite, access".
my $facts;
sub facts { return $facts //= _facts() }

sub _facts {
    my $folder    = File::Temp->newdir;
    my %low_level = _low_level();
    my $pairs     = join ' ', map {"$_=$low_level{$_}"} sort keys %low_level;
    my $init      = $INIT =~ s/FOLDER/$folder/r =~ s/LOW_LEVEL/$pairs/r;
    my $name      = _configure($folder, <<"_EOC_");
    init_by_lua_block {
$init    }
    server {
        listen unix:$folder/status.sock;
        location / { kong_tls_status; }
    }
_EOC_
    local $ENV{PATH} = "$ENV{PATH}:/usr/local/sbin:/usr/sbin:/sbin";
    my $nginx = _nginx();
    system("'$nginx' -p '$folder' -e '$folder/error.log' -c '$name' >'$folder/start.log' 2>&1") == 0
        or die 'nginx has not started: ' . slurp("$folder/start.log") . slurp("$folder/error.log");
    my $metrics = `curl -s --unix-socket '$folder/status.sock' 'http://localhost/?format=prometheus'`;
    kill 'QUIT', slurp("$folder/nginx.pid") =~ /(\d+)/;

    my %found = (%{ _phases(slurp("$folder/phases")) }, metrics => _metrics($metrics), directives => _directives());
    $found{lua}{Phases}{''} = _by_phase(\%found);
    return \%found;
}

sub _phases {
    my ($text) = @_;
    my %found;
    for (split /\n/, $text) {
        my ($page, $name, $phases) = split / /, $_, 3;
        $found{$page}{$name}{Phases} = $phases;
    }
    return \%found;
}

# Returns the description of each metric, its type, its labels, and the values of its only label, by its name.
sub _metrics {
    my ($text) = @_;
    my %found;
    while ($text =~ /^# (HELP|TYPE) (\w+) (.*)$/mg) {
        $found{$2}{ { HELP => 'Help', TYPE => 'Type' }->{$1} } = $3;
    }
    for my $name (keys %found) {
        $found{$name}{values} = [];
        while ($text =~ /^$name\{(.*)\}/mg) {
            my @labels = $1 =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;
            my @names = @labels[grep { $_ % 2 == 0 } 0 .. $#labels];
            $found{$name}{Label} = join ', ', map {"`$_`"} @names;
            push @{ $found{$name}{values} }, $labels[1] if @names == 1;
        }
    }
    return \%found;
}

# The contexts that nginx accepts each directive in.
my @CONTEXTS = (
    ['`http`',           '%s'],
    ['`server`',         'server { %s }'],
    ['`location`',       'server { location / { %s } }'],
    ['`if in location`', 'server { location / { if ($arg_a) { %s } } }'],
    ['`upstream`',       'upstream u { server 127.0.0.1; %s }'],
);
my %ARGUMENTS = (kong_tls_session_cache => '8', kong_tls_keepalive => '8', kong_tls_status => '');

sub _directives {
    my %found;
    for my $name (slurp('src/directives.rs') =~ /const NAME: &'static CStr = c"(\w+)"/g) {
        my $directive = "$name " . ($ARGUMENTS{$name} // 'on') . ';';
        my $refusal = qq{"$name" directive is not allowed here};
        my @allowed = grep { index(nginx_says(sprintf $_->[1], $directive), $refusal) < 0 } @CONTEXTS;
        $found{$name}{Context} = join ', ', map { $_->[0] } @allowed;
    }
    return \%found;
}

# ---- what is made of it --------------------------------------------------------------------------

# The phases in the order of a request's life, and the directives of the Lua module.
my @PHASES = (
    [client_hello  => 'ssl_client_hello_by_lua*'],
    [certificate   => 'ssl_certificate_by_lua*'],
    [rewrite       => 'rewrite_by_lua*'],
    [access        => 'access_by_lua*'],
    [content       => 'content_by_lua*'],
    [balancer      => 'balancer_by_lua*'],
    [header_filter => 'header_filter_by_lua*'],
    [body_filter   => 'body_filter_by_lua*'],
    [log           => 'log_by_lua*'],
);

# Returns a list of the functions that each phase may call.
sub _by_phase {
    my ($found) = @_;
    my $text = '';
    for (@PHASES) {
        my ($phase, $directive) = @$_;
        my @names;
        for my $page ('kong.client.tls', 'kong.service', 'kong.service.request') {
            my $functions = $found->{$page};
            push @names, map {"[`$page.$_`]($page.md#$_)"}
                grep { $functions->{$_}{Phases} =~ /\b$phase\b/ } _in_order($page, keys %$functions);
        }
        $text .= "\n### $phase\n\n`$directive`\n\n" . join '', map {"* $_\n"} @names;
    }
    return "$text\n";
}

# Returns functions in the order of the sources.
sub _in_order {
    my ($page, @names) = @_;
    my %at;
    my $number = 0;
    $at{$_} = $number++ for slurp('src/lua/functions.rs') =~ /^    (\w+): \w+,/mg;
    @names = sort { $at{$a} <=> $at{$b} } @names;
    return @names;
}

# Returns the text of a page with its generated parts made anew.
sub generated {
    my ($page, $text) = @_;
    my $known = facts()->{$page} or return $text;
    my $made = $text =~ /\A(.*\n)??(?=#)/s ? $1 // '' : '';
    for my $section (sections($text)) {
        my $of_section = $known->{ $section->{title} } // {};
        my $body = $section->{text};
        for my $label (grep {/^[A-Z]/} keys %$of_section) {
            local $Text::Wrap::columns = $COLUMNS + 1;
            local $Text::Wrap::huge    = 'overflow';
            my $line = Text::Wrap::wrap('', '  ', "* **$label:** $of_section->{$label}") . "\n";
            $body =~ s/^\* \*\*\Q$label\E:\*\*.*\n(?:  .*\n)*/$line/m;
        }
        $made .= '#' x $section->{level} . " $section->{title}\n$body";
    }
    my $block = ($known->{Phases} // {})->{''};
    $made =~ s/(<!-- generated -->\n).*?(?=<!-- end -->)/$1$block/s if defined $block;
    return $made;
}

1;
