# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its caller sets and reads some of the names
# Sourced by ./demo and ./check: installs what is missing (Debian packages), configures, builds.
# Sets BUILD. Uses: $root, $install (yes|no).
packages=(gcc libc6-dev meson ninja-build pkg-config git python3 python3-matplotlib libucx-dev
          libhwloc-dev libibverbs-dev libcjson-dev libsodium-dev libxxhash-dev libcriterion-dev libyaml-dev spin)

# For ./check alone: the linters, the API reference and manual pages, the C++ example, schemas, the
# Python package. With --no-install their steps are left out where they are missing.
check_packages=(clang-format clang-tidy shellcheck codespell doxygen help2man g++ python3-jsonschema python3-yaml
                python3-cffi python3-numpy python3-dev libcurl4-openssl-dev)

# For ./check --hosts alone.
hosts_packages=(iproute2 iptables util-linux etcd-server openssl openmpi-bin slurmctld slurmd slurm-client munge systemd)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

missing_packages() {
    local name
    for name in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -q '^installed$' || printf '%s ' "$name"
    done
}

install_packages() {
    local missing
    command -v dpkg-query >/dev/null || die "this set-up knows Debian packages only; needed: ${packages[*]}"
    missing=$(missing_packages)
    [ -z "$missing" ] && return 0
    [ "$install" = yes ] || die "missing Debian packages: ${missing% } (leave out --no-install to install them)"
    local sudo=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "missing Debian packages: ${missing% }; run as root or install sudo"
        sudo=sudo
    fi
    say "installing: $missing"
    local log; log=$(mktemp)
    if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get failed; its output is in $log"
    fi
    rm -f "$log"
}

# build DIR [meson options...]: configure once, then let ninja decide. `targets`: not all, only these.
build() {
    local dir=$1; shift
    local log; log=$(mktemp)
    # A preset LIBRARY_PATH may point at stub libraries: the build must not need it. A python of
    # somebody's own in front of Debian's would hide Debian's meson modules.
    if [ ! -f "$dir/build.ninja" ]; then
        if ! env -u LIBRARY_PATH /usr/bin/meson setup "$dir" "$root" "$@" >"$log" 2>&1; then
            cat "$log" >&2; rm -f "$log"
            die "meson could not configure $dir"
        fi
    fi
    if ! env -u LIBRARY_PATH ninja -C "$dir" ${targets:-} >"$log" 2>&1; then
        grep -v '^\[' "$log" | head -n 60 >&2; rm -f "$log"
        die "the build failed (ninja -C $dir)"
    fi
    rm -f "$log"
}

# Through sudo the tree belongs to somebody else than git expects; we only read it.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="*"
