#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/gpu-check, whose machine is there for minutes: its whole flow with the host in the GPU's place,
# and what it does when something fails, hangs or is missing.
#   tests/run/gpu_check.sh PROGRAMS RUNS     PROGRAMS: of gpu-check --compile-only; RUNS: eep-run's folder
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
programs=$(cd "${1:?usage: tests/run/gpu_check.sh PROGRAMS RUNS}" && pwd)
runs=$(cd "${2:?usage: tests/run/gpu_check.sh PROGRAMS RUNS}" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad() { echo "$*"; tail -n 60 "$tmp/said.txt"; exit 1; }
begin=$SECONDS
cd "$root"

mkdir "$tmp/ready"
for name in gpu_smoke gpu_probe model_check eep-bench; do ln -s "$programs/$name" "$tmp/ready"; done
ln -s "$runs/eep-run" "$tmp/ready"

# eep-run's pictures take longer than its runs, and nobody looks at them here.
mkdir "$tmp/python"
echo 'raise ImportError("no pictures")' >"$tmp/python/matplotlib.py"
export PYTHONPATH=$tmp/python

# check STATUS OUT ARGUMENT...: run it; the exit status must be that.
check() {
    local wanted=$1 out=$2 status=0
    shift 2
    OUT=$tmp/$out "$root/tools/gpu-check" --build "$tmp/build" --commit abc "$@" >"$tmp/said.txt" 2>&1 || status=$?
    [ "$status" -eq "$wanted" ] || bad "gpu-check $*: status $status instead of $wanted"
}
has() { # OUT KIND PATTERN
    grep -qE "$3" "$tmp/$1/gpu-abc-$2.csv" || bad "$1: no row $3 in gpu-abc-$2.csv"
}
said() { grep -qE -- "$1" "$tmp/said.txt" || bad "it did not say: $1"; }

# ---- a first call: every phase, every kind of rows, in few files
check 0 first --device host --prebuilt "$tmp/ready"
for name in start smoke bench micro death jobs tools; do
    has first phases "^abc,host,-,$name/[a-z_-]+,[0-9]+,1$"
    said "^== $name: at most [0-9]+ s; [0-9]+ s are left of this call$"
done
[ "$(find "$tmp/first" -type f | wc -l)" -le 8 ] || bad "more than 8 files"
[ -z "$(find "$tmp/first" -mindepth 1 -type d)" ] || bad "rows lie in folders"
for name in log.txt smoke.csv probe.csv bench.csv jobs.csv model.csv; do
    [ -s "$tmp/first/gpu-abc-$name" ] || bad "no gpu-abc-$name"
done
for name in smoke probe jobs model phases; do
    rows=$tmp/first/gpu-abc-$name.csv
    [ "$(head -n 1 "$rows")" = "commit,gpu,driver,check,value,ok" ] || bad "$name: another header"
    [ "$(grep -c '^commit,' "$rows")" = 1 ] || bad "$name: several headers"
    awk -F, 'NR > 1 && (NF != 6 || $1 != "abc" || $2 != "host" || $6 != 1) { exit 1 }' "$rows" ||
        bad "$name: a row of another form, or a failed one"
done
awk -F, '/longest_launch_us/ && $5 > 60e6 { print; exit 1 }' "$tmp/first/gpu-abc-probe.csv" >>"$tmp/said.txt" ||
    bad "a launch of more than a minute"
has first jobs '^abc,host,-,threads/faults/0/pause_ms,[0-9.]+,1$'
has first jobs '^abc,host,-,processes/step_ms/p50,[0-9.]+,1$'
has first jobs '^abc,host,-,network/step_ms/p50,[0-9.]+,1$'
[ "$(grep -c '^case,' "$tmp/first/gpu-abc-bench.csv")" = 1 ] || bad "bench: several headers"
[ "$(grep -c '^# command' "$tmp/first/gpu-abc-bench.csv")" = 5 ] || bad "bench: not the five commands"
for name in ring_of_8_graphs/graphs_waiting_at_once,7 ring_of_8_graphs/copies_beside_them,8 \
    descriptors/own_descriptor_mapped,1 descriptors/pidfd_getfd,1 allocating/busy_alloc_longest_launch_us \
    writer_killed/2/last_store_after_vsize0_us writer_killed/2/last_store_after_Z_us \
    writer_killed/2/last_store_after_pidfd_us writer_killed_beside/most_after_pidfd_us \
    owner_killed_one_keeps/survivor_has_no_error,1 fence/idle_p99_ns fence/after_16_stores_p50_ns \
    pinned/acquire_of_pinned_p50_ns nodes/node_to_node_p99_ns pass/release_to_seen_max_ns \
    calls/malloc_p99_us calls/free_longest_launch_us calls/host_free_kernel_goes_on \
    calls/malloc_async_max_us calls/stream_create_p50_us calls/graph_exec_destroy_p50_us; do
    has first probe "^abc,host,-,$name"
done
echo "a first call: ok, $((SECONDS - begin)) s"

# ---- a second one, into the same files, whose smoke is cut by its limit and leaves the rows it had
begin=$SECONDS
cp -r "$tmp/first" "$tmp/second"
lines=$(wc -l <"$tmp/second/gpu-abc-smoke.csv")
check 1 second --call 2 --device host --prebuilt "$tmp/ready" --only smoke,start,long --limit smoke=2
said '^smoke/gpu_smoke +FAILED +cut after'
said '^long/exchange +ok'
has second phases '^abc,host,-,smoke/gpu_smoke,[0-9]+,0$'
[ "$(wc -l <"$tmp/second/gpu-abc-smoke.csv")" -gt "$lines" ] || bad "a program that was cut left no rows"
[ "$(find "$tmp/second" -type f | wc -l)" -le 8 ] || bad "more than 8 files"
echo "a second call: ok, $((SECONDS - begin)) s"

# ---- programs that do as they are told: what fails does not end the run
begin=$SECONDS
mkdir "$tmp/stubs"
for name in gpu_smoke gpu_probe model_check eep-bench eep-run; do
    cat >"$tmp/stubs/$name" <<'STUB'
#!/bin/bash
[ "${1:-}" != --help ] || exit 0
name=$(basename "$0")
echo "$name finds libraries in ${LD_LIBRARY_PATH:-}"
while [ $# -gt 1 ]; do
    [ "$1" != --csv ] || echo "abc,host,-,$name/ran,1,1" >>"$2"
    shift
done
[ "$name" != "${HANGS:-}" ] || sleep 60
[ "$name" != "${FAILS:-}" ]
STUB
    chmod +x "$tmp/stubs/$name"
done
export LD_LIBRARY_PATH=/of/the/machine
FAILS=gpu_smoke check 1 fails --device host --prebuilt "$tmp/stubs"
said '^smoke/gpu_smoke +FAILED +status 1'
said '^tools/model_check +ok'
has fails phases '^abc,host,-,tools/model_check,[0-9]+,1$'
grep -q "^eep-run finds libraries in $tmp/stubs:$tmp/stubs/lib:/of/the/machine$" "$tmp/fails/gpu-abc-log.txt" ||
    bad "LD_LIBRARY_PATH does not end with the machine's folders: $(grep 'eep-run finds' "$tmp/fails/gpu-abc-log.txt")"
unset LD_LIBRARY_PATH
HANGS=model_check check 1 hangs --device host --prebuilt "$tmp/stubs" --only tools --limit tools=2
said '^tools/model_check +FAILED +cut after'
has hangs model model_check/ran
HANGS=gpu_probe check 1 spent --device host --prebuilt "$tmp/stubs" --limit 2
said '^tools/model_check +FAILED +no time was left'
check 0 only --device host --prebuilt "$tmp/stubs" --only tools --only smoke,micro
[ "$(cut -d, -f4 "$tmp/only/gpu-abc-phases.csv" | tr '\n' ' ')" = \
    "check tools/model_check tools/loopback smoke/gpu_smoke micro/numbers " ] || bad "--only ran something else"
# ended from outside: what runs is ended, and the table is there
HANGS=gpu_smoke OUT=$tmp/ended tools/gpu-check --build "$tmp/build" --commit abc --device host \
    --prebuilt "$tmp/stubs" --only smoke,tools >"$tmp/said.txt" 2>&1 &
check_pid=$!
for _ in $(seq 200); do
    [ ! -s "$tmp/ended/gpu-abc-smoke.csv" ] || break
    sleep 0.05
done
kill -TERM "$check_pid"
status=0
wait "$check_pid" || status=$?
[ "$status" -eq 1 ] || bad "ended from outside: status $status instead of 1"
said '^gpu-check +FAILED +ended from outside'
said '^after [0-9]+ s:$'
check 2 none --only jobz
said 'no phase jobz: there are start smoke bench micro death jobs tools long profile'
for wrong in smoke=soon smoke=0 smoke=09 08 0; do check 2 none --limit "$wrong"; done
check 2 none --call 3
check 2 none --only ""
said 'a value is missing'
check 2 none --prebuilt "$tmp/python"
said 'no gpu_smoke in it'
status=0
OUT=/proc/nowhere tools/gpu-check --device host --prebuilt "$tmp/stubs" >"$tmp/said.txt" 2>&1 || status=$?
[ "$status" -eq 2 ] || bad "OUT that cannot be written: status $status instead of 2"
# more time for a phase is more for its commands; a copy that lost its rights is mended; OUT is the caller's
chmod -x "$tmp"/stubs/*
(cd "$tmp" && OUT=relative "$root/tools/gpu-check" --build "$tmp/build" --commit abc --device host \
    --prebuilt stubs --only smoke,jobs --limit smoke=75 >"$tmp/said.txt" 2>&1) || bad "stubs without rights: status $?"
grep -q 'smoke/gpu_smoke, at most 75 s' "$tmp/relative/gpu-abc-log.txt" || bad "a raised limit raised no command's"
said '^jobs/threads +ok'
# a program that is not here is neither right nor wrong
rm "$tmp/stubs/eep-run"
check 0 skipped --device host --prebuilt "$tmp/stubs" --only jobs
has skipped phases '^abc,host,-,jobs/threads,,skipped$'
# a machine whose driver is too old for the programs says so at once, and one whose nvidia-smi hangs goes on
mkdir "$tmp/machine"
cat >"$tmp/machine/nvidia-smi" <<'STUB'
#!/bin/bash
case "$*" in
-L) echo "GPU 0: a stub" ;;
*driver_version*) echo 550.0 ;;
*name*) echo "a stub" ;;
*compute_cap*) echo 9.0 ;;
esac
STUB
cat >"$tmp/stubs/gpu_probe" <<'STUB'
#!/bin/bash
[ "${1:-}" != --help ] || exit 0
echo "device 0: CUDA driver version is insufficient for CUDA runtime version"
exit 77
STUB
chmod +x "$tmp/machine/nvidia-smi" "$tmp/stubs/gpu_probe"
PATH=$tmp/machine:$PATH NVCC=/nowhere/nvcc check 1 old --prebuilt "$tmp/stubs"
said '^programs +- +driver 550.0 is too old for their CUDA runtime'
said '^GPU +FAILED +no program here can use it'

# ---- what programs are made of: a list of these build files is taken wherever it is, others are passed over
mkdir "$tmp/tree"
find graphs transport membership repair experiments tests/gpu tools \( -name meson.build -o -path 'tools/gpu-*' \) \
    -type f -print0 | tar -c --null -T - | tar -x -C "$tmp/tree"
list_of() { # the list that would be taken in the tree, whose programs are built in its folder "out"
    (cd "$tmp/tree" && mkdir -p out && . tools/gpu-build.sh && gpu_dir=out MESON=/nowhere && gpu_find_list) 2>&1
}
[[ $(list_of || true) == *"run 'meson setup build' here, or bring gpu-runs/gpu-sources.txt"* ]] ||
    bad "without a list and without meson it does not say what to do: $(list_of || true)"
mkdir -p "$tmp/tree/gpu-runs" "$tmp/tree/build/tests/gpu"
(cd "$tmp/tree" && tools/gpu-sources gpu_smoke: "$tmp/tree/tests/gpu/smoke/gpu_smoke.c") >"$tmp/tree/gpu-runs/gpu-sources.txt"
sed 1s/$/0/ "$tmp/tree/gpu-runs/gpu-sources.txt" >"$tmp/tree/build/tests/gpu/gpu-sources.txt"
[ "$(list_of)" = gpu-runs/gpu-sources.txt ] || bad "not the pack's list: $(list_of || true)"
echo >>"$tmp/tree/graphs/meson.build"
[ "$(list_of || true)" != gpu-runs/gpu-sources.txt ] || bad "a list of other build files was taken"

# ---- ncu's table becomes rows
cat >"$tmp/ncu" <<'STUB'
#!/bin/bash
[ "${1:-}" != --version ] || exit 0
echo "==PROF== Connected to process 1"
echo '"ID","Process ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"'
echo '"0","1","eepk_unpack_cuda(args, more)","GPU Speed Of Light","Duration","us","1,234.5"'
STUB
chmod +x "$tmp/ncu"
NCU=$tmp/ncu check 0 profile --call 2 --device host --prebuilt "$tmp/stubs" --only profile
has profile profile '^abc,host,-,unpack/Duration\[us\],1234.5,1$'
echo "what fails, hangs or is missing: ok, $((SECONDS - begin)) s"
