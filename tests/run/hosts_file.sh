#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eep-run --hosts on the loopback interface: one host, whose worker and agent are processes of their
# own. Every token is right through a kill and a rejoin, and through a host that is killed and comes
# back. A worker serves one run after the other, and one at a time; another key is refused by name; a
# front that is killed takes its ranks with it.
#   tests/run/hosts_file.sh BIN
set -euo pipefail
bin=$1
out=$(mktemp -d /dev/shm/eep-hosts-file-XXXXXX)
children=
trap 'kill $children 2>/dev/null || true; rm -rf "$out"' EXIT
# Below the ports that the kernel chooses, so that no test that runs at the same time gets one of these meanwhile.
mapfile -t port < <(/usr/bin/python3 -c '
import random, socket
first = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
held = []
while len(held) < 3:
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", random.randrange(12000, first) if first > 13000 else 0))
    except OSError:
        continue
    held.append(one)
    print(one.getsockname()[1])')
key() { /usr/bin/python3 -c 'import os; print(os.urandom(32).hex())' >"$1"; chmod 600 "$1"; }
key "$out/key"; key "$out/other"
export EEP_KEY_FILE=$out/key
store="tcp://127.0.0.1:${port[0]}?local=$out/store&key-file=$out/key"
"$bin/eep-store" --path "$store" >"$out/store.txt" 2>&1 & children=$!
for _ in $(seq 600); do [ -S "$out/store" ] && break; sleep 0.05; done
cat >"$out/hosts.yaml" <<TXT
hosts:
  - {name: here, address: "127.0.0.1:${port[1]}", ranks: 3}
TXT
fail() { echo "FAILED: $*"; tail -n 30 "$out"/*.txt; exit 1; }
given=(--quiet --no-picture --hosts "$out/hosts.yaml" --store "$store" --slots 64)
run() { # NAME OPTIONS...
    local name=$1; shift
    timeout 120 "$bin/eep-run" "${given[@]}" --out "$out/$name" "$@" >"$out/$name.txt" 2>&1
}
good() {
    run "$@" || fail "$1"
    grep -q 'GOOD: nothing wrong, nothing lost' "$out/$1.txt" || fail "$1"
}
refused() { # TEXT NAME OPTIONS...
    local text=$1 status=0; shift
    run "$@" || status=$?
    if [ $status -ne 2 ] || ! grep -qF -- "$text" "$out/$1.txt"; then
        fail "$1: status $status, expected 2 and: $text"
    fi
}
ranks() { grep -lsE "^[0-9]+ \([^)]*\) . $worker " /proc/[0-9]*/stat | wc -l; }
started_workers() { # not those of this script
    local all
    all=$({ cat /proc/[0-9]*/cmdline || true; } 2>/dev/null | tr '\0' ' ')
    [[ $all != *"--worker 127.0.0.1:${port[1]}"* ]] || echo some
}

EEP_KEY_FILE=$out/none refused "the key file $out/none: No such file" nokey
EEP_KEY_FILE='' refused "--hosts: EEP_KEY_FILE names no file with the job's key" namesnone
for words in --worker "--worker=127.0.0.1:1" "--worker 127.0.0.1:1 --ranks 2" "--ranks 2 --worker 127.0.0.1:1"; do
    # shellcheck disable=SC2086
    "$bin/eep-run" $words >"$out/words.txt" 2>&1 && fail "$words"
    grep -qF "a worker is started by '--worker ADDRESS:PORT' and nothing else" "$out/words.txt" || fail "$words"
done
run late --requests 5 & late=$! # its worker is started by hand, late
for _ in $(seq 200); do grep -qF "waits up to 60 s for host here: no worker answers at" "$out/late.txt" 2>/dev/null && break; sleep 0.05; done
grep -qF "run 'eep-run --worker 127.0.0.1:${port[1]}' there" "$out/late.txt" || fail late
"$bin/eep-run" --worker "127.0.0.1:${port[1]}" >"$out/worker.txt" 2>&1 & worker=$!
children="$children $worker"
wait $late || fail late
refused "exited with code 5 on host here; the output of its worker says why" nowhere --checkpoint "$out/none"
run repeat --repeat 2 --requests 10 --kill 1@0.3 --rejoin 1@0.6 || fail repeat # other weights in one store
grep -q '2 of 2 runs met' "$out/repeat.txt" || fail repeat
"$bin/eep-store" --forget "$store" || fail forget
cp "$out/hosts.yaml" "$out/by-hand.yaml"
cat >"$out/hosts.yaml" <<TXT
hosts:
  - {name: here, address: "127.0.0.1:${port[1]}", ranks: 3, agent: "127.0.0.1:${port[2]}",
     store: "tcp://127.0.0.1:${port[0]}?local=$out/none/store&key-file=$out/key"}
TXT
refused "host here: its worker refuses: its agent ended with status 1: eep-agent: cannot open $out/none/store" folder
cp "$out/by-hand.yaml" "$out/hosts.yaml"
good kill --requests 30 --keep-busy 6 --kill 1@0.5 --rejoin 1@0.8
good again --requests 30 --keep-busy 6 --stop 2=300ms@0.3
EEP_KEY_FILE=$out/other refused "host here: what answers at 127.0.0.1:${port[1]}: it has another key" stranger

"$bin/eep-run" "${given[@]}" --out "$out/long" --requests 100000 >"$out/long.txt" 2>&1 & front=$! # holds the worker
for _ in $(seq 600); do [ "$(ranks)" -eq 3 ] && break; sleep 0.05; done
[ "$(ranks)" -eq 3 ] || fail "three ranks were not started"
run second --requests 5 & second=$!
sleep 1
kill -KILL "$front"
wait "$front" || true
wait $second || fail "the second front did not go on once the first was gone"
grep -q 'GOOD: nothing wrong, nothing lost' "$out/second.txt" || fail second
grep -q 'the front is gone' "$out/worker.txt" || fail "the worker said nothing of its front's end"
[ "$(ranks)" -eq 0 ] || fail "ranks are left"

# Connections that are reset or silent are made again: no rank ends, no token is lost or doubled.
sed -i "s|127.0.0.1:${port[1]}|127.0.0.1:${port[2]}|" "$out/hosts.yaml"
/usr/bin/python3 "${0%/*}/reset_proxy.py" "${port[2]}" "${port[1]}" & proxy=$!
children="$children $proxy"
run reset --requests 60 --rate 20 --keep-busy 6 --kill 1@3 --rejoin 1@4 & front=$!
for _ in $(seq 600); do [ "$(ranks)" -eq 3 ] && break; sleep 0.05; done
for number in 1 2 3; do
    sleep 1; kill -USR1 $proxy
    for _ in $(seq 100); do [ "$(grep -c 'connection to its worker is back' "$out/reset.txt")" -ge $number ] && break; sleep 0.05; done
done
kill -STOP $proxy; sleep 2.5; kill -CONT $proxy # nothing is heard for so long
wait $front || fail reset
grep -q 'GOOD: nothing wrong, nothing lost' "$out/reset.txt" || fail reset
[ "$(grep -c 'connection to its worker is back' "$out/reset.txt")" -ge 2 ] || fail "reset: not back"
grep -q 'is lost' "$out/reset.txt" && fail "reset: lost"
kill $proxy; wait $proxy 2>/dev/null || true
cp "$out/by-hand.yaml" "$out/hosts.yaml"
run slow --requests 40 --rate 10 --keep-busy 6 & front=$! # its worker has no processor for some seconds
for _ in $(seq 600); do [ "$(ranks)" -eq 3 ] && break; sleep 0.05; done
kill -STOP "$worker"
for _ in $(seq 200); do grep -qF "nothing was heard of it" "$out/slow.txt" && break; sleep 0.05; done
kill -CONT "$worker"
wait $front || fail slow
grep -q 'connection to its worker is back' "$out/slow.txt" || fail "slow: not back"
grep -q 'GOOD: nothing wrong, nothing lost' "$out/slow.txt" || fail slow

sed -i "s|ranks: 3|ranks: 3, agent: '127.0.0.1:${port[2]}', start: '$bin/eep-run --worker 127.0.0.1:${port[1]}'|" "$out/hosts.yaml"
kill $worker; wait $worker || fail "the worker's end"
good host --requests 30 --keep-busy 6 --agent-kill here/300ms@0.3 --host-freeze here/200ms@1
grep -q 'worker ready' "$out/host.txt" || fail "no worker was started"
for _ in $(seq 100); do [ -z "$(started_workers)" ] && break; sleep 0.05; done
[ -z "$(started_workers)" ] || fail "a worker is left that the front had started"
sed -i "s|start: '\(.*\)'|start: 'touch $out/starts; sleep 2; \1; true'|" "$out/hosts.yaml" # interrupted before the worker is reached
"$bin/eep-run" "${given[@]}" --out "$out/cut" >"$out/cut.txt" 2>&1 & front=$!
for _ in $(seq 600); do [ -e "$out/starts" ] && break; sleep 0.05; done
kill -INT "$front"
wait "$front" || true
grep -q 'interrupted while workers were started' "$out/cut.txt" || fail cut
[ -z "$(started_workers)" ] || fail "a worker is left whose front was interrupted"
echo "eep-run --hosts: one host, four runs, other fronts and other keys"
