# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154 # sourced: its caller sets and reads some of the names
# Sourced by ./check --long, with its step, run, say and $root: the measurement campaign and the
# runs that are too long for every check. Rows, summaries and pictures are left in out/long.
out=$root/out/long
[ -n "$only" ] || rm -rf "$out"
mkdir -p "$out"
step_rows=$out/steps.csv
commit=$(git describe --always --dirty=+)
[ -s "$step_rows" ] || echo step,result,seconds,commit >"$step_rows"

measure() {
    local name=$1
    shift
    /usr/bin/python3 "$root/experiments/measure/$name.py" "$@"
}

# long_run NAME OPTIONS...: a run of eep-run whose summary, events and picture are kept, and not its
# hundreds of thousands of step and token rows.
long_run() {
    local name=$1 status=0
    shift
    run "$@" --out "$out/$name" || status=$?
    (cd "$out/$name" && rm -f steps.csv tokens.csv requests.csv trace.json)
    return "$status"
}

window_bar() {
    "$root/build/experiments/eep-info" --sizes --layers 58 --experts 288 --slots 9 --topk 8 \
        --hidden 7168 --tokens 128 --ranks 32 --dtype bf16 --json >"$out/window.json" || return
    /usr/bin/python3 -c '
import json, sys
total = json.load(open(sys.argv[1]))["window"]["total_bytes"]
print(f"{total} bytes = {total / 1e9:.3f} GB, bar 0.2 GB")
sys.exit(total > 0.2e9)' "$out/window.json"
}

# The run by script that README.md shows: each of its events comes about.
readme_run() {
    local -a shown
    read -ra shown <<<"$(sed -n 's/^    eep-run \(--ranks .*\) --out DIR$/\1/p' "$root/README.md" | head -n 1)"
    [ ${#shown[@]} -gt 0 ] && long_run readme "${shown[@]}" && /usr/bin/python3 -c '
import json, sys
script = json.load(open(sys.argv[1]))["script"]
print(script)
sys.exit(any(script[name] for name in ("never_due", "waiting", "struck_nobody")))' "$out/readme/summary.json"
}

show=yes
show_lines=24
conversation=(--ranks 8 --trace "$out/conversation.jsonl")
step "window memory of the large shape" window_bar
step "pause: 3 x 30 kills over all seats" measure pause --runs 3 --kills 30 --out "$out"
step "picture of the pauses" /usr/bin/python3 "$root/paper-figs/pauses.py" "$out/pause.csv"
step "join: p99 step beside a CPU burner" measure join --rounds 10 --out "$out"
step "one kill, elastic and as a full restart" measure restart --rounds 3 --out "$out"
step "a conversation-like trace is made" \
    measure make_trace --requests 400 --seed 1 "$out/conversation.jsonl"
step "conversation-like trace, no fault" \
    long_run conversation "${conversation[@]}" --scale-lengths 1/64 --scale-time 1/3
step "conversation-like trace, three kills and two rejoins" \
    long_run conversation-faults "${conversation[@]}" --scale-lengths 1/64 --scale-time 1/3 \
    --kill 3@5 --rejoin 3@8 --kill lowest@15 --rejoin lowest@18 --kill proposer@30
step "conversation-like trace, four times longer requests, bf16, one kill and rejoin" \
    long_run conversation-bf16 "${conversation[@]}" --first 150 --scale-lengths 1/16 \
    --scale-time 1/2 --dtype bf16 --kill random@5 --rejoin random@9
step "the run by script that README.md shows" readme_run
step "8 ranks, 100 kills and rejoins" long_run cycles --ranks 8 --kills 100 --kill-every 700
step "2,000 kills and rejoins in one run: nothing is left of a process that is gone" measure cycles --out "$out"
step "odd circumstances, signals at 40 moments" bash tests/run/circumstances.sh "$root/build/experiments" "$root/build/tests/libwrong_clock.so" long
step "with the defaults, ranks that pause for 4 s survive" \
    env EEP_TEST_PAUSE_DIVISOR=1 "$root/build/tests/test_context_pauses" --filter '*/*four_seconds*'
step "a faulted run has the bits of its fault-free twin, in fp32" \
    bash tests/run/twin.sh "$root/build/experiments" "$out/twin" fp32
step "the long scenarios" bash tests/run/scenarios.sh "$root/build/experiments" long
step "all scenarios, weights in shared memory" bash tests/run/scenarios.sh "$root/build/experiments" all
step "all scenarios, weights over UCX" env EEP_BULK=ucx bash tests/run/scenarios.sh "$root/build/experiments" all
step "copies over a newer UCX than the one that libeep was built with" bash tests/run/ucx_newer.sh "$root/build"
step "any k of 8 ranks at once" bash tests/run/any_k.sh "$root/build/experiments/eep-run" 8 "$out/any-8.csv" 1800
step "any k of 16 ranks at once" bash tests/run/any_k.sh "$root/build/experiments/eep-run" 16 "$out/any-16.csv" 900
step "weights in shared memory and over UCX, in turns" "$root/build/experiments/eep-bench-bulk" --csv "$out/bulk.csv"
for carrier in tcp ucx; do
    step "hosts that one machine plays, over $carrier: all runs" \
        env EEP_NETWORK=$carrier EEP_NETWORK_INTERFACE=lo bash tests/run/hosts_of.sh "$root/build/experiments/eep-run"
done
step "chaos of hosts: 200 random faults of ranks, hosts and the network" \
    /usr/bin/python3 tests/hosts/network_chaos.py "$root/build" "$out/network-chaos" 200 1
step "chaos: 200 random faults" "$root/build/experiments/eep-chaos" --minutes 40 --total 200 --seed 1 --out "$out/chaos"
python_package() { # NAME: into out/python, unless Python has it
    /usr/bin/python3 -c "import $1" 2>/dev/null && return
    /usr/bin/python3 -m pip install --quiet --no-deps --target "$root/out/python" "$1"
}
step "Python's package safetensors reads what eep-run writes" bash -c "$(declare -f python_package); root='$root'
    python_package safetensors && /usr/bin/python3 tests/python/test_safetensors.py '$root/build/experiments' --package '$root/out/python'"
step "200,000 mutated headers of safetensors files" env EEP_TEST_HEADERS=200000 "$root/build/tests/test_checkpoint" --filter "*/mutated*"
step "a release of another protocol is refused by name" bash tests/run/another_release.sh "$root/build/experiments"
step "parsers of bytes from outside under a fuzzer, a minute each" "$root/tools/fuzz.sh" --seconds 60
step "the planner against brute force, 10,000 small instances" env EEP_TEST_CASES=10000 "$root/build/tests/test_plan_makespan"
step "100,000 random instances are planned, and again after faults" env EEP_TEST_CASES=100000 "$root/build/tests/test_plan_properties"
step "large plans, in full size, beside the lower bound" env EEP_TEST_CASES=8 "$root/build/tests/test_plan_large"
step "placement: 30,000 random layers, and as many pins" env EEP_TEST_CASES=30000 "$root/build/tests/test_placement_layer" --filter "place_layer/*"
step "detection of kills and stops by all survivors" measure detect --out "$out"
step "the store is killed for 60 s" measure store_outage --out "$out"
step "etcd is away for 60 s, and leases lapse: no step is lost, nobody is left out" \
    env EEP_TEST_AWAY_S=60 EEP_TEST_AWAY_CSV="$out/etcd-away.csv" \
    /usr/bin/python3 tests/hosts/test_leases.py "$root/build" etcd_is_away
step "30 minutes of 16 ranks under full load: nobody is expelled" measure soak --minutes 30 --ranks 16 --out "$out"
step "protocol models, all of them" bash tests/models/run.sh
step "shellcheck, codespell, clang-tidy on every file" "$root/tools/lint.sh" "$root/build" --all
step "20,000 seeds of the simulator" "$root/build/tests/eep-sim" --seeds 1..20000
sanitized() {
    (targets="tests/eep-sim tests/test_core" build "$root/build-asan" -Dbuildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false) || return
    env ASAN_OPTIONS=abort_on_error=1 "$root/build-asan/tests/$1" "${@:2}"
}
step "bells for 30 minutes, through forks, ends of threads, stops and debuggers" "$root/build/tests/bell-soak" 1800
step "1,000 wide histories of membership" "$root/build/tests/eep-sim" --wide --seeds 1..1000
step "messages of a kill at 1,024 ranks" "$root/build/tests/eep-sim" --wide --plain --ranks 1024 --seeds 1..3
step "the simulator under ASan and UBSan" sanitized eep-sim --seeds 1..1000
step "the simulator under ASan and UBSan, windows in two parts" sanitized eep-sim --discrete --seeds 1..400
step "the simulator under ASan and UBSan, 64 ranks" sanitized eep-sim --seeds 1..3 --ranks 64
step "background repair: 30,000 documents" env EEP_TEST_CASES=7500 "$root/build/tests/test_background"
step "20,000 histories of the membership core under ASan and UBSan" sanitized test_core --filter 'core_holes/histories*'
show_lines=60
step "mutants of the product: each is caught" bash tests/mutants/run.sh "$root/build"
show=
threaded() {
    (targets="experiments/eep-run experiments/eep-oracle tests/tsan_join" build "$root/build-tsan" -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dcuda=disabled \
        -Dwerror=false -Dc_args=-Wno-tsan) && env UCX_MEM_EVENTS=no TSAN_OPTIONS=exitcode=66 "$@"
}
step "ranks as threads under ThreadSanitizer: no data race" threaded bash tests/tsan/tsan_threads.sh "$root/build-tsan/experiments"
step "a join that waits under ThreadSanitizer: no data race" threaded "$root/build-tsan/tests/tsan_join"
say "rows, summaries and pictures: out/long"
