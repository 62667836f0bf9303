#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A release whose protocol is one version on, built from a copy of this tree, meets an instance of this
# build: its ranks are refused by name, and the instance that is there loses nothing.
#
#   tests/run/another_release.sh BUILD/experiments
set -euo pipefail
ours=$(cd "${1:?usage: tests/run/another_release.sh BUILD/experiments}" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
store=
cleanup() {
    [ -z "$store" ] || kill "$store" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "another_release: $*" >&2; exit 1; }

mkdir "$work/tree"
(cd "$root" && git ls-files -z | xargs -0 cp --parents -t "$work/tree")
header=$work/tree/membership/context/records.h
version=$(sed -n 's/^ *EEPI_PROTOCOL_VERSION = \([0-9]*\),$/\1/p' "$header")
[ -n "$version" ] || fail "no version of the protocol is in records.h"
sed -i "s/EEPI_PROTOCOL_VERSION = $version,/EEPI_PROTOCOL_VERSION = $((version + 1)),/" "$header"
(cd "$work/tree" && env -u LIBRARY_PATH /usr/bin/meson setup build -Dcuda=disabled -Ddocs=disabled -Dtests=false &&
    env -u LIBRARY_PATH ninja -C build experiments/eep-run experiments/eep-oracle) >"$work/build.log" 2>&1 ||
    { tail -n 30 "$work/build.log"; fail "the other release does not build"; }
theirs=$work/tree/build/experiments

"$ours/eep-store" --path "$work/store" >"$work/store.log" 2>&1 &
store=$!
for _ in $(seq 600); do
    [ ! -S "$work/store" ] || break
    sleep 0.1
done
load=(--quiet --no-picture --ranks 2 --slots 32 --rate 8 --input 4:16 --output 8:24 --store "$work/store")
"$ours/eep-run" "${load[@]}" --requests 2000 --out "$work/first" >"$work/first.log" 2>&1 &
first=$!
for _ in $(seq 600); do
    ! ls "$work/first"/control.* >/dev/null 2>&1 || break
    sleep 0.1
done
"$ours/eep-ctl" --out "$work/first" --timeout 60 wait settled || fail "the first release does not serve"
if timeout 60 "$theirs/eep-run" "${load[@]}" --requests 4 --out "$work/second" >"$work/second.log" 2>&1; then
    fail "ranks of another release were let in"
fi
grep -q "the version of libeep's protocol is $((version + 1)) here and $version in the instance" "$work/second.log" ||
    { cat "$work/second.log"; fail "the other release was not named"; }
"$ours/eep-ctl" --out "$work/first" finish >/dev/null
wait "$first" || { cat "$work/first.log"; fail "the instance that was there did not end well"; }
grep -q "GOOD" "$work/first.log" || fail "the instance that was there lost something"
echo "protocol $((version + 1)) was refused by name in an instance of $version, which lost nothing"
