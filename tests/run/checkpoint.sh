#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# checkpoint.sh BUILD/experiments: ranks start from a checkpoint that eep-run wrote. A process that
# starts from a cut, changed, missing or foreign file is refused by name while the others serve on,
# and one that starts from the right file is let in. Where the file is an expert's only source it is
# repaired from there, and nobody serves on a file that has changed. A rank whose own file has changed
# is repaired from the file of another one. Every token is checked.
set -u
bin=$1
tmp=$(mktemp -d)
run=
trap 'kill $run 2>/dev/null; wait $run 2>/dev/null; rm -rf "$tmp"' EXIT
fail() { echo "checkpoint.sh: $*"; [ -f "$tmp/log" ] && cat "$tmp/log"; exit 1; }
ctl() { "$bin/eep-ctl" --out "$tmp/out" "$@"; }
model=(--layers 2 --hidden 64 --inner 48 --experts 16 --topk 4)
load=(--slots 8 --input 4:8 --output 8:16)
"$bin/eep-run" --quiet "${model[@]}" --checkpoint-write "$tmp/weights" || fail "no checkpoint was written"
cp -r "$tmp/weights" "$tmp/right"
shard=$(basename "$(ls "$tmp"/weights/model-00002-of-*.safetensors)")

# ---- refused at the start: nothing has been served
refused() { # TEXT: a run ends with it
    if "$bin/eep-run" --no-picture --quiet "${model[@]}" "${load[@]}" --ranks 4 --requests 5 --checkpoint "$tmp/weights" \
        --force --out "$tmp/none" >"$tmp/log" 2>&1; then
        fail "a run with bad weights was good: $1"
    fi
    grep -qF -- "$1" "$tmp/log" || fail "'$1' is not said"
}
mv "$tmp/weights/$shard" "$tmp/away"
refused "$shard: it cannot be opened: No such file or directory"
mv "$tmp/away" "$tmp/weights/$shard"

# ---- refused beside others that serve
start() { # OPTIONS...: a run that is controlled, and serves
    rm -rf "$tmp/out"
    "$bin/eep-run" --no-picture --quiet "${model[@]}" "${load[@]}" --requests 20 --rate 40 --keep-busy 6 \
        --serve --out "$tmp/out" "$@" >"$tmp/log" 2>&1 &
    run=$!
    for _ in $(seq 600); do [ -S "$tmp/out/control.sock" ] && break; sleep 0.05; done
    ctl wait settled --timeout 30 >/dev/null || fail "it never served"
}
finish() { # it ends, and every token was right
    ctl finish >/dev/null || fail "it does not finish"
    wait $run || fail "the run was not good"
    run=
    grep -q "GOOD" "$tmp/log" || fail "the run was not good"
}
rejoin() { ctl rejoin "$last" >/dev/null && ctl wait settled --timeout 30 >/dev/null; }
# rejoin_is_refused TEXT: a new process in seat 3 ends with that text
rejoin_is_refused() {
    rejoin && grep -qF -- "$1" "$tmp/log" || fail "a rejoin is not refused with '$1'"
    cp "$tmp"/right/* "$tmp/weights"
}
change_weights() { # a bit of the first number of each expert's tensors is another one
    /usr/bin/python3 - "$tmp/weights" <<'PYTHON'
import json, pathlib, struct, sys
for path in pathlib.Path(sys.argv[1]).glob("*.safetensors"):
    data = bytearray(path.read_bytes())
    length, = struct.unpack("<Q", data[:8])
    for name, tensor in json.loads(data[8:8 + length]).items():
        if ".experts." in name:
            data[8 + length + tensor["data_offsets"][0]] ^= 1
    path.write_bytes(data)
PYTHON
}
last=3
start --ranks 4 --checkpoint "$tmp/weights"
ctl kill 3 >/dev/null && ctl wait settled --timeout 30 >/dev/null || fail "rank 3 was not killed"
truncate -s -100 "$tmp/weights/$shard"
rejoin_is_refused "the file is truncated"
sed -i 's/"F32"/"I32"/' "$tmp/weights/$shard" # numbers of the same size
rejoin_is_refused "is I32"
change_weights
rejoin_is_refused "holds other weights of layer 0 expert"
rejoin || fail "the right file is refused"
ctl status --json >"$tmp/status" && grep -q '"seat":3,"generation":5,"state":"joined"' "$tmp/status" || { cat "$tmp/status"; fail "rank 3 did not come back"; }
finish

# ---- the only source that is left: of three ranks each has experts that no other has
last=2
uncovered() { # there are such experts, and nobody serves
    for _ in $(seq 200); do
        ctl status --json >"$tmp/status" && ! grep -q '"uncovered":0' "$tmp/status" && return 0
        sleep 0.02
    done
    cat "$tmp/status"; fail "no expert is uncovered"
}
killed() { ctl kill 2 >/dev/null || fail "rank 2 was not killed"; }
start --ranks 3 --backups 0
killed
uncovered # without a file
rejoin || fail "rank 2 does not heal"
finish
start --ranks 3 --backups 0 --checkpoint "$tmp/weights"
killed
ctl wait settled --timeout 30 >/dev/null || fail "the file does not repair"
finish
grep -q "placement: every death stops" "$tmp/log" && fail "the file is not counted on"
/usr/bin/python3 -c '
import json, sys
moved = json.load(open(sys.argv[1]))["faults"][0]["weights_bytes_in_pause"]
sys.exit(0 if moved > 0 else "no bytes came from the file")' "$tmp/out/summary.json" || fail "no repair"
start --ranks 3 --backups 0 --checkpoint "$tmp/weights"
change_weights # while ranks serve: what is read then has other checksums
killed
named='repair failed.*the checkpoint: bytes do not match'
for _ in $(seq 400); do grep -q "$named" "$tmp/log" && break; sleep 0.02; done
grep -q "$named" "$tmp/log" || fail "the bad file is not named"
uncovered
cp "$tmp"/right/* "$tmp/weights"
rejoin || fail "rank 2 does not heal"
finish

# ---- a file that has changed for one rank alone: another rank reads its own for it
last=0
start --ranks 3 --backups 0 --checkpoint "$tmp/weights"
rm -r "$tmp/weights" && cp -r "$tmp/right" "$tmp/weights" # the others keep theirs open
ctl kill 0 >/dev/null && ctl wait settled --timeout 30 >/dev/null || fail "rank 0 was not killed"
rejoin || fail "rank 0 does not come back"
change_weights
killed
ctl wait settled --timeout 30 >/dev/null || fail "the file of another rank does not repair"
finish
/usr/bin/python3 - "$tmp/out/sources.csv" <<'PYTHON' || fail "rank 0 was not filled from the file of rank 1"
import csv, sys
rows = [line for line in open(sys.argv[1]) if not line.startswith("#")]
read = [row for row in csv.DictReader(rows) if row["source"] == "checkpoint" and row["tier"] == "pause"]
expert = min(int(row["bytes"]) / int(row["fills"]) for row in read)
twice = [row for row in read if int(row["bytes"]) == 2 * int(row["fills"]) * expert]  # the own file, then that of rank 1
sys.exit(0 if [row["seat"] for row in twice] == ["0"] else f"{read}")
PYTHON
