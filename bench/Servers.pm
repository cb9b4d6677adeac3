# SPDX-License-Identifier: Apache-2.0

package Servers;

# The servers that scripts/bench measures, and what they need: certificates, gateways and services, each an nginx with
# one worker by default, in a folder of their own, which becomes the current one. Any error ends the script.
#
# A folder that is left after a failure has the logs.

use strict;
use warnings;

use Exporter 'import';
use File::Copy qw(copy);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use FindBin;
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(ask ask_anew control end_of fail make_certificates make_folder openssl_of_nginx output_of
    port_of processes_of progress reload running slurp start start_front start_gateway start_service stop
    url_of wait_for worker write_to);

my $bench = $FindBin::RealBin;
my $modules = '/usr/lib/nginx/modules';

my $folder;
my $parent = $$;
# The processes that run, and the port and the worker of each gateway, by name.
my (%process, %port, %worker);

# ---- start and end -------------------------------------------------------------------------------

my %SIGNALS = (HUP => 1, INT => 2, TERM => 15);
my $interrupted = 0;
for my $name (keys %SIGNALS) {
    $SIG{$name} = sub { $interrupted = 1; exit 128 + $SIGNALS{$name} };
}

END {
    # Not in a child that has not executed its program yet.
    _clean_up() if $$ == $parent;
}

sub _clean_up {
    my $status = $?;
    # A second Ctrl-C must not cut this short.
    local @SIG{ keys %SIGNALS } = ('IGNORE') x keys %SIGNALS;
    kill 'TERM', values %process;
    waitpid $_, 0 for values %process;
    if ($folder) {
        chdir '/';
        if ($status == 0 || $interrupted) {
            remove_tree($folder);
        }
        else {
            progress("the logs are in $folder/logs");
        }
    }
    $? = $status;
    return;
}

sub progress {
    my ($text) = @_;
    print STDERR "==> $text\n";
    return;
}

sub fail {
    my ($text) = @_;
    print STDERR "bench: $text\n";
    exit 1;
}

sub slurp {
    my ($name) = @_;
    open my $file, '<', $name or fail("$name: $!");
    my $text = do { local $/; <$file> };
    return $text // '';
}

sub write_to {
    my ($name, $text) = @_;
    open my $file, '>', $name or fail("$name: $!");
    print {$file} $text;
    close $file or fail("$name: $!");
    return;
}

# Waits until the condition holds, and returns whether it did within this many seconds.
sub wait_for {
    my ($seconds, $condition) = @_;
    my $deadline = time + $seconds;
    until ($condition->()) {
        return 0 if time > $deadline;
        sleep 0.02;
    }
    return 1;
}

# ---- other programs ------------------------------------------------------------------------------

# Returns what a command prints.
sub output_of {
    my (@command) = @_;
    open my $pipe, '-|', @command or fail("$command[0]: $!");
    my $text = do { local $/; <$pipe> } // '';
    close $pipe or fail("failed with status @{[$? >> 8]}: @command");
    return $text;
}

# Starts a command in the background, under a name.
sub start {
    my ($name, $log, @command) = @_;
    my $pid = fork // fail("there can be no other process: $!");
    if (!$pid) {
        open STDIN, '<', '/dev/null'
            and open STDOUT, '>', $log
            and open STDERR, '>&', \*STDOUT
            and exec { $command[0] } @command;
        POSIX::_exit(127);
    }
    $process{$name} = $pid;
    return;
}

# Returns the names of the processes that run.
sub running {
    my @names = sort keys %process;
    return @names;
}

# Waits for the end of a process that was started, and returns its status.
sub end_of {
    my ($name) = @_;
    waitpid delete $process{$name}, 0;
    return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

sub _has_ended {
    my ($name) = @_;
    delete $process{$name} if waitpid($process{$name}, WNOHANG) != 0;
    return !$process{$name};
}

# ---- files and certificates ----------------------------------------------------------------------

# Creates the folder in which all configurations must be started.
sub make_folder {
    $folder = tempdir('tls-bench.XXXXXX', TMPDIR => 1);
    # The workers of a master that runs as root do not run as root.
    chmod 0755, $folder or fail("$folder: $!");
    chdir $folder or fail("$folder: $!");
    for (qw(logs modules pki tmp)) {
        mkdir $_ or fail("$_: $!");
    }
    for my $from ("$modules/ndk_http_module.so", "$modules/ngx_http_lua_module.so",
        "$bench/../objs/ngx_http_kong_tls_module.so") {
        my ($name) = $from =~ m{([^/]+)\z};
        symlink $from, "modules/$name" or fail("$name: $!");
    }
    for (qw(init.lua calls.lua load.lua)) {
        copy("$bench/$_", $_) or fail("$_: $!");
    }
    write_to('service.conf', _fill('service.conf', CACHE => _cache_of_service()));
    return;
}

# OpenSSL's own cache keeps sessions in the order in which they end. After 3.0 it searches the place of a resumed one
# among all of them, which took up to ten milliseconds here.
sub _cache_of_service {
    return openssl_of_nginx() =~ /^OpenSSL 3[.]0[.]/ ? 'builtin:100000' : 'shared:sessions:256m';
}

# Returns OpenSSL's name and version.
sub openssl_of_nginx {
    my $said = `nginx -V 2>&1`;
    # nginx may be built with one OpenSSL, and run with another.
    my ($openssl) = reverse $said =~ /(?:built|running) with (OpenSSL \S+)/g;
    return $openssl;
}

my $EXTENSIONS = <<'_EOC_';
[req]
distinguished_name=dn
[dn]
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
[service]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:service.test
[client]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
_EOC_

# Creates a certificate. "key" is the type of its key, as openssl takes it, and "signed_by" the path of a CA.
sub _make_certificate {
    my ($path, %with) = @_;
    my @authority = map { (-CA => "$_.crt", -CAkey => "$_.key") } $with{signed_by} // ();
    start('openssl', 'logs/openssl.log', qw(openssl req -x509 -config pki/openssl.conf -days 30 -nodes),
        -extensions => $with{extensions}, -newkey => @{ $with{key} }, -keyout => "$path.key",
        -out => "$path.crt", -subj => "/O=Test/CN=$with{name}", -set_serial => "0x$with{serial}",
        @authority);
    end_of('openssl') == 0 or fail("there is no $path.crt: " . slurp('logs/openssl.log'));
    return;
}

# Creates a CA, a service and its clients, with keys of one type. The clients' names are their serials, which the
# service logs.
sub _make_certificates_of {
    my ($type, $clients, @key) = @_;
    my $pki = "pki/$type";
    mkdir $pki or fail("$pki: $!");
    my %with = (key => \@key, signed_by => "$pki/ca");
    _make_certificate("$pki/ca", key => \@key, name => 'Test Root CA', extensions => 'ca', serial => 1);
    for my $number (1001 .. 1000 + $clients) {
        _make_certificate("$pki/$number", %with, name => "client-$number", extensions => 'client',
            serial => $number);
    }
    _make_certificate("$pki/service", %with, name => 'service.test', extensions => 'service', serial => 2);
    return;
}

# Creates certificates: this many for clients with keys of P-256.
sub make_certificates {
    my ($clients) = @_;
    write_to('pki/openssl.conf', $EXTENSIONS);
    _make_certificates_of('rsa', 1, 'rsa:2048');
    _make_certificates_of('ec', $clients, qw(ec -pkeyopt ec_paramgen_curve:P-256));
    for my $count (99, 299) {
        output_of("$bench/../scripts/pki", '--cas', $count, "pki/others-$count.pem");
    }
    return;
}

# ---- nginx ---------------------------------------------------------------------------------------

# callgrind counts the instructions of its one process, and writes them down whenever that calls this function, which
# the location /mark does and nothing else.
my $MARK = 'getppid';

# Starts an nginx of this name, with the configuration of this name, and returns whether it has started.
sub _start_nginx {
    my ($name, %with) = @_;
    unlink "logs/$name.pid", glob "logs/$name.callgrind*";
    # Not as a daemon, so that its process id is known at once.
    my @nginx = (qw(nginx -p .), -c => "$name.conf", -e => "logs/$name-error.log");
    my @command = $with{callgrind}
        ? (qw(valgrind -q --tool=callgrind), "--callgrind-out-file=logs/$name.callgrind", "--dump-before=$MARK",
        @nginx, -g => 'daemon off; master_process off;')
        : (@nginx, -g => 'daemon off;');
    start($name, "logs/$name-start.log", @command);

    # nginx writes its process id when it listens.
    wait_for(60, sub { -s "logs/$name.pid" || _has_ended($name) })
        or fail("the $name did not start in time");
    return $process{$name} && !_has_ended($name);
}

sub _did_not_start {
    my ($name) = @_;
    print STDERR slurp("logs/$name-start.log");
    fail("the $name did not start");
    return;
}

# Stops an nginx, and fails if it has logged errors: failures are not to be measured.
sub stop {
    my ($name) = @_;
    # Gracefully, so that nginx writes what it has buffered.
    kill 'QUIT', $process{$name};
    my $status = end_of($name);
    $status == 0 or fail("the $name ended with status $status");

    # nginx with OpenSSL 3.2 or later logs that it could not say goodbye to a service that has closed its connection.
    my @errors = grep { !/SSL_shutdown\(\) failed .*Broken pipe/ } split /^/, slurp("logs/$name-error.log");
    if (@errors) {
        print STDERR grep {defined} @errors[0 .. 9];
        fail("the $name has logged errors");
    }
    return;
}

sub url_of {
    my ($name) = @_;
    return "http://127.0.0.1:$port{$name}";
}

# Returns the process id of the worker of a gateway or a front.
sub worker {
    my ($name) = @_;
    return $worker{$name};
}

sub port_of {
    my ($name) = @_;
    return $port{$name};
}

# Returns the process ids of an nginx: its master, and its workers.
sub processes_of {
    my ($name) = @_;
    my $master = $process{$name};
    return $master, split ' ', slurp("/proc/$master/task/$master/children");
}

# Makes an nginx read its configuration again, and waits until there are only new workers.
sub reload {
    my ($name) = @_;
    my ($master, @before) = processes_of($name);
    my %is_old = map { $_ => 1 } @before;
    kill 'HUP', $master;
    wait_for(20, sub { my (undef, @now) = processes_of($name); @now == @before && !grep { $is_old{$_} } @now })
        or fail("the $name has other workers after a reload");
    return;
}

# Starts the services behind the gateways: service.conf.
sub start_service {
    _start_nginx('service') || _did_not_start('service');
    return;
}

# Returns a configuration of this folder, with the words in capitals replaced.
sub _fill {
    my ($template, %with) = @_;
    my $text = slurp("$bench/$template");
    $text =~ s/\@([A-Z]+)\@/$with{$1} \/\/ fail("$template: what is $1?")/ge;
    return $text;
}

# Debian's Lua module comes before the module that is measured, which needs its symbols.
my $LUA = "load_module modules/ndk_http_module.so;\nload_module modules/ngx_http_lua_module.so;";
my %MODULES = (
    none => '',
    lua => $LUA,
    kong => "$LUA\nload_module modules/ngx_http_kong_tls_module.so;",
);

my %KEEPALIVE = (none => '', stock => 'keepalive 1000;', kong => 'kong_tls_keepalive 1000;');

# What a plugin does, in Lua.
my $PICK = 'local identity = identities[ngx.var.arg_n]';
my $SET_DEPTH = 'assert(kong.service.set_tls_verify_depth(tonumber(ngx.var.arg_d)))';
my $SET = 'assert(kong.service.set_tls_cert_key(identity.chain, identity.key))';
my %PLUGIN = (
    none => [],
    pick => [$PICK],
    set => [$PICK, $SET],
    depth => [$PICK, $SET_DEPTH, $SET],
);

# Locations for scripts/bench itself. Without /trim, freed memory would stay with the process.
my $LOCATIONS = <<'_EOC_';
location = /trim {
            content_by_lua_block {
                local ffi = require "ffi"
                ffi.cdef "int malloc_trim(size_t pad);"
                collectgarbage()
                ffi.C.malloc_trim(0)
                ngx.say("trimmed")
            }
        }
        location = /versions {
            content_by_lua_block {
                ngx.say(ngx.config.ngx_lua_version, " ", jit.version)
            }
        }
        location = /mark {
            content_by_lua_block {
                local ffi = require "ffi"
                ffi.cdef "int getppid(void);"
                ffi.C.getppid()
            }
        }
        location = /calls {
            access_by_lua_file calls.lua;
        }
_EOC_

# Returns the text of gateway.conf, with the settings of Workloads.pm.
sub _gateway_text {
    my ($name, %with) = @_;
    my @plugin = @{ $PLUGIN{ $with{plugin} } };
    my (@http, $certificate);
    push @http, "init_by_lua_block {
        dofile(ngx.config.prefix() .. 'init.lua')
        read_identities('pki/$with{key}/')
    }" if @plugin;
    push @http, "kong_tls_session_cache $with{sessions};" if $with{sessions};
    $certificate = "proxy_ssl_certificate pki/$with{key}/1001.crt;
            proxy_ssl_certificate_key pki/$with{key}/1001.key;" if !grep { $_ eq $SET } @plugin;

    my $locations = @plugin ? $LOCATIONS : '';
    $locations .= "        location = /status {\n            kong_tls_status;\n        }\n" if $with{status};
    my $headers = 'add_header X-Reused $kong_upstream_ssl_session_reused; add_header X-Worker $pid;';

    return _fill('gateway.conf',
        NAME => $name,
        WORKERS => $with{workers},
        REUSEPORT => $with{workers} > 1 ? 'reuseport' : '',
        HEADERS => $with{tells} ? $headers : '',
        PORT => $port{$name},
        KEY => $with{key},
        SERVICE => $with{service} || "$with{key}-$with{tls}",
        REUSE => $with{reuse},
        CONNECTION => $with{keepalive} eq 'none' ? 'close' : '',
        MODULES => $MODULES{ $with{modules} },
        HTTP => join("\n    ", @http),
        KEEPALIVE => $KEEPALIVE{ $with{keepalive} },
        ACCESS => @plugin ? "access_by_lua_block { @plugin }" : '',
        CERTIFICATE => $certificate // '',
        LOCATIONS => $locations,
    );
}

# Returns a TCP port of the loopback that nobody listens on: the kernel chooses it.
sub _free_port {
    my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
        or fail("there is no free port: $@");
    return $socket->sockport;
}

sub start_gateway {
    my ($name, %with) = @_;
    for my $attempt (1 .. 3) {
        $port{$name} = _free_port();
        write_to("$name.conf", _gateway_text($name, %with));
        if (_start_nginx($name, %with)) {
            $worker{$name} = 0 + ask($name, '/pid');
            return;
        }
        # Another program may have taken the port since.
        last if slurp("logs/$name-start.log") !~ /Address already in use/;
        progress("port $port{$name} was taken in the meantime (attempt $attempt)");
    }
    _did_not_start($name);
    return;
}

# Writes a file with this many CAs, and returns its name. Only one CA has clients.
sub _make_authorities {
    my ($count) = @_;
    my $file = "pki/authorities-$count.pem";
    write_to($file, slurp('pki/ec/ca.crt')
        . ($count > 1 ? slurp('pki/others-' . ($count - 1) . '.pem') : ''));
    return $file;
}

# Returns the text of frontend.conf: a server that requests certificates with these CAs, by its configuration or by a
# plugin.
sub _front_text {
    my ($name, $authorities, %with) = @_;
    my $who = $with{front};
    my @ask;
    # The consumer who sends the requests is one in the middle.
    my $policy = $with{consumers} ? "consumers = consumers($with{consumers}, 'client-1001')" : 'skip_consumer_lookup = true';
    return _fill('frontend.conf',
        NAME => $name,
        WORKERS => 1,
        ADDRESS => "unix:front-$name.sock",
        PROTOCOL => "TLSv$with{tls}",
        MODULES => $MODULES{kong},
        HTTP => "init_by_lua_block {
        dofile(ngx.config.prefix() .. 'init.lua')
        plugin = assert(require('resty.kong.plugins.mtls_auth').new { {
            names = { 'service.test' }, ca = { file = '$authorities' }, $policy,
        } })
    }",
        ASK => 'ssl_certificate_by_lua_block { plugin:certificate() }',
        ANSWER => 'access_by_lua_block { plugin:access() }
            empty_gif;',
    ) if $who eq 'consumers';
    push @ask, 'ssl_certificate_by_lua_block {
            local authorities = authorities'
        . ($who eq 'ask' ? '
            assert(kong.client.tls.request_client_certificate(authorities))' : '') . '
        }' if $who ne 'none';
    push @ask, 'ssl_verify_client optional;', "ssl_client_certificate $authorities;" if $who ne 'ask';

    # By a socket of the file system, unless several workers share a port.
    my $address = $with{workers} > 1 ? "127.0.0.1:$port{qq(front-$name)} reuseport" : "unix:front-$name.sock";
    return _fill('frontend.conf',
        NAME => $name,
        WORKERS => $with{workers},
        ADDRESS => $address,
        PROTOCOL => "TLSv$with{tls}",
        MODULES => $MODULES{ $who eq 'none' ? 'none' : 'kong' },
        HTTP => $who eq 'none' ? '' : "init_by_lua_block {
        dofile(ngx.config.prefix() .. 'init.lua')
        read_authorities('$authorities')
    }",
        ASK => join("\n        ", @ask),
        ANSWER => 'if ($ssl_client_verify != SUCCESS) {
                return 403;
            }
            return 200 "hello\n";',
    );
}

# Starts the server that a gateway of this name is a client of: "front-" and the name.
sub start_front {
    my ($name, %with) = @_;
    my $authorities = _make_authorities($with{authorities});
    $port{"front-$name"} = _free_port();
    write_to("front-$name.conf", _front_text($name, $authorities, %with));
    _start_nginx("front-$name") || _did_not_start("front-$name");
    return if $with{workers} > 1;
    $worker{"front-$name"} = 0 + output_of(qw(curl -q -sS -f -k --max-time 10),
        '--unix-socket' => "front-$name.sock", 'https://service.test/pid');
    return;
}

# ---- requests that are not measured --------------------------------------------------------------

# Returns what a gateway answers.
sub ask {
    my ($name, $path) = @_;
    return output_of(qw(curl -q -sS -f --noproxy * --max-time 120), url_of($name) . $path);
}

# Returns the head and the body of what a gateway answers to a request over a new connection.
sub ask_anew {
    my ($name, $path) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{$name}, Timeout => 10)
        or fail("there is no connection to the $name: $@");
    print {$socket} "GET $path HTTP/1.0\r\n\r\n";
    my $answer = do { local $/; <$socket> } // '';
    $answer =~ m{\AHTTP/1\.\d 200 } or fail("the $name has answered $path with: $answer");
    return split /\r\n\r\n/, $answer, 2;
}

# Returns what the service answers, without a gateway.
sub control {
    my ($path) = @_;
    my $said = output_of(qw(curl -q -sS -f --max-time 10 --unix-socket control.sock), "http://service$path");
    chomp $said;
    return $said;
}

1;
