# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Shared by the scripts. To be sourced by a script that has set -euo pipefail.

# What the caller's shell finds programs by.
# shellcheck disable=SC2034
caller_path=$PATH
# Debian keeps nginx where only root's PATH looks, and rustup's installer leaves cargo where the
# PATH of a shell that was open before does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

# Determined now, because the path of this file may be relative to a folder that is left later.
project_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Prints the root of the project, whatever the current folder is.
project_root() {
    printf '%s\n' "$project_folder"
}

# Prints progress, on stderr, because some scripts print output for other programs.
say() {
    printf '==> %s\n' "$*" >&2
}

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# logged LOG COMMAND...
#
# Runs a command with much output, which goes to LOG, and is shown only if the command fails. A long run prints every
# ten seconds how far it is.
logged() {
    local log=$1 started=$SECONDS ticker status=0
    shift
    mkdir -p "$(dirname "$log")"
    : >"$log"

    # `sleep` must not keep our output open: it may outlive us by some seconds. And the loop must not outlive us at
    # all, as it would after a SIGKILL.
    while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        printf '    %s s: %s\n' $((SECONDS - started)) "$(tail -n 1 "$log")" >&2
    done &
    ticker=$!

    "$@" >"$log" 2>&1 </dev/null || status=$?

    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    if ((status != 0)); then
        tail -n 40 "$log" >&2
        fail "failed with status $status: $* (all of its output: $log)"
    fi
}

# wait_for SECONDS COMMAND...
#
# Repeats the command until it succeeds; fails if it has not succeeded in time.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.02
    done
}

# Prints a TCP port of the loopback that nobody listens on: the kernel chooses it. Perl's core is on every Debian.
free_port() {
    perl -MIO::Socket::INET -e '
        my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 0)
            or die "no free port: $@\n";
        print $socket->sockport, "\n";
    '
}

# replace_in PAGE MARKER: puts its input between the markers of this name in a page
replace_in() {
    local page
    page=$(project_root)/$1
    grep -q "^<!-- $2 -->$" "$page" || fail "$1 has no place for $2"
    perl -0pi -e '
        BEGIN { ($marker, $text) = (shift, do { local $/; <STDIN> }) }
        s/^<!-- $marker -->\n.*?^<!-- \/$marker -->$/<!-- $marker -->\n$text<!-- \/$marker -->/ms
    ' "$2" "$page"
    say "updated $1"
}

# ---- Debians in folders --------------------------------------------------------------------------
#
# They need root.

# make_debian SUITE FOLDER LOG: makes a small Debian that gets its packages as this machine does
make_debian() {
    logged "$3" twice debootstrap --variant=minbase "$1" "$2" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    cp /etc/resolv.conf "$2/etc/"
    cp /etc/apt/apt.conf.d/* "$2/etc/apt/apt.conf.d/"
    echo 'Acquire::Retries "3";' >"$2/etc/apt/apt.conf.d/80retries"
}

# twice COMMAND...: runs a command once more if it fails, which may be due to the network
twice() {
    "$@" || "$@"
}

# in_debian FOLDER [FROM:TO]... -- COMMAND...
#
# Runs a command in a Debian, with folders of this machine mounted there. The mounts end with the command.
in_debian() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private bash -euc '
        debian=$1
        shift
        mount -t proc proc "$debian/proc"
        for folder in /sys /dev; do
            mount --rbind "$folder" "$debian$folder"
        done
        while [[ $1 != -- ]]; do
            mkdir -p "$debian${1#*:}"
            mount --bind "${1%%:*}" "$debian${1#*:}"
            shift
        done
        shift
        exec chroot "$debian" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' in "$@"
}

# ---- what has to be installed --------------------------------------------------------------------

# To build: bindgen needs libclang; the openssl crate needs OpenSSL's headers, and pkg-config to find
# them; rustc links with gcc.
# shellcheck disable=SC2034
build_packages=(ca-certificates gcc libc6-dev libclang-dev libssl-dev make pkg-config)
# For the tests, in addition to what they load into nginx. procps: a small Debian has only the kill of its shells.
# shellcheck disable=SC2034
test_packages=(apache2-bin binutils caddy curl dnsmasq-base faketime gcc haproxy libtest-base-perl lua-busted
    lua-nginx-redis lua5.1 nghttp2-client opensc openssl perl procps prometheus redis-server softhsm2 valgrind wrk)

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo "$@"
    fi
}

is_installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@"
}

# Fetches new lists of packages only if there are none, as in a fresh container, or if what they name is gone from the
# mirrors.
apt_update_and_install() {
    if apt-cache show --no-all-versions "$@" && apt_install "$@"; then
        return
    fi
    as_root apt-get update && apt_install "$@"
}

# require_root_rights MESSAGE: fails with this message if nothing can be done as root
require_root_rights() {
    ((EUID == 0)) || command -v sudo >/dev/null || fail "$1"
}

update_package_lists() {
    require_root_rights "packages may have to be installed, and that needs root or sudo"
    say "fetching the lists of packages"
    logged "$(project_root)/target/apt.log" as_root apt-get update
}

# install_packages PACKAGE...
#
# Installs those that are missing.
install_packages() {
    local missing=() package
    if ! command -v apt-get >/dev/null; then
        say "not Debian: what these packages have must be installed already: $*"
        return
    fi
    for package; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0

    require_root_rights "these packages are missing, and installing them needs root or sudo: ${missing[*]}"
    say "installing ${missing[*]}"
    logged "$(project_root)/target/apt.log" apt_update_and_install "${missing[@]}"
}

# ---- Rust ----------------------------------------------------------------------------------------

# Prints the version of cargo or of rustc, whichever is older. Prints nothing if one of them is missing.
rust_version() {
    local program versions=()
    for program in cargo rustc; do
        # "rustc 1.85.0 (4d91de4e4 2025-02-17)"
        versions+=("$({ "$program" --version 2>/dev/null || true; } | cut -d ' ' -f 2)")
    done
    [[ " ${versions[*]} " == *'  '* ]] || printf '%s\n' "${versions[@]}" | sort -V | head -n 1
}

# has_rust VERSION: whether there is this version of Rust or a later one
has_rust() {
    local version
    version=$(rust_version)
    [[ -n $version ]] && printf '%s\n' "$1" "$version" | sort -C -V
}

# rust_packages VERSION
#
# Prints the packages with this version of Rust or a later one. Debian 12 has a newer Rust beside its own, in packages
# of other names. They contain /usr/bin/cargo and /usr/bin/rustc too, and replace Debian's own.
rust_packages() {
    local suffix candidate
    for suffix in '' -web; do
        candidate=$(LC_ALL=C apt-cache policy "rustc$suffix" 2>/dev/null | sed -n 's/^  Candidate: //p')
        if [[ $candidate == [0-9]* ]] && dpkg --compare-versions "$candidate" ge "$1"; then
            printf '%s\n' "cargo$suffix" "rustc$suffix"
            return
        fi
    done
    return 1
}

# Prints the package that lets OpenSSL use keys in tokens. An OpenSSL without engines needs another one.
token_package() {
    local engine=libengine-pkcs11-openssl
    apt-cache show --no-all-versions "$engine" >/dev/null 2>&1 && echo "$engine" || echo pkcs11-provider
}

# Makes sure that there is the Rust that the module needs.
require_rust() {
    require_rust_version "$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(project_root)/Cargo.toml")"
}

# require_rust_version VERSION
#
# Makes sure that there is this version of Rust or a later one, and installs Debian's if there is none.
require_rust_version() {
    local needed=$1 version old packages=()
    ! has_rust "$needed" || return 0

    version=$(rust_version)
    say "Rust $needed or later is needed, and here is ${version:-none}"
    # What rustup has installed comes first in PATH, and its owner updates it.
    ! command -v rustup >/dev/null || fail '"rustup default stable && rustup update stable" gets it'
    if command -v apt-get >/dev/null; then
        rust_packages "$needed" >/dev/null || update_package_lists
        mapfile -t packages < <(rust_packages "$needed")
        for old in cargo rustc; do
            [[ " ${packages[*]} " != *" $old-web "* ]] || ! is_installed "$old" ||
                say "$old-web replaces the package $old, which will be removed"
        done
        ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
    fi
    has_rust "$needed" || fail "no package has it: https://rustup.rs says how to get it"
}

# require_component COMMAND COMPONENT PACKAGE WEB-PACKAGE
#
# Makes sure that cargo has this command. COMPONENT is rustup's name for it, the others are Debian's.
require_component() {
    ! cargo "$1" --version >/dev/null 2>&1 || return 0
    if is_installed rustc-web; then
        install_packages "$4"
    elif is_installed rustc; then
        install_packages "$3"
    fi
    cargo "$1" --version >/dev/null 2>&1 ||
        fail "cargo $1 is not installed: \"rustup component add $2\" installs it"
}

# Makes sure that there is the Rust that the tools of install_tool need: mdbook 0.5.4 says that it needs this one, and
# emmylua_check 0.25.1 uses its syntax (let chains).
require_rust_for_tools() {
    require_rust_version 1.88
}

# install_tool CRATE VERSION
#
# Installs the programs of a crate in target/tools, and lets them be found. Compiles them without optimization, which is
# fast enough here: that takes a minute each.
install_tool() {
    local tools
    tools=$(project_root)/target/tools
    PATH=$tools/bin:$PATH
    if ! cargo install --root "$tools" --list | grep -qx "$1 v$2:"; then
        require_rust_for_tools
        say "installing $1 $2"
        logged "$tools/$1.log" cargo install --debug --locked --root "$tools" --version "$2" "$1"
    fi
}
