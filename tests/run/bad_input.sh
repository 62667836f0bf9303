#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bad input must end with exit status 2 and a message that names the cause.
set -u
bin=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0
# expect TEXT COMMAND...: exit 2 and TEXT in the message.
expect() {
    local text=$1 status; shift
    "$@" >"$tmp/out" 2>&1; status=$?
    if [ $status -ne 2 ] || ! grep -qF -- "$text" "$tmp/out"; then
        echo "expected exit 2 and '$text', got $status from: $*"; cat "$tmp/out"; bad=1
    fi
}
printf '{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp": 1, "input_length": -3, "output_length": 5}\n' >"$tmp/negative.jsonl"
printf '{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp": 1, "input_length" 4}\n' >"$tmp/syntax.jsonl"
expect "--nonsense" "$bin/eep-run" --nonsense
expect "--ranks" "$bin/eep-run" --ranks 0
expect "--ranks" "$bin/eep-run" --ranks eight
expect "--max-ranks" "$bin/eep-run" --ranks 9 --max-ranks 8 --out "$tmp/a"
expect "--slots" "$bin/eep-run" --ranks 2 --slots 3 --out "$tmp/a"
expect "--topk" "$bin/eep-run" --topk 32 --experts 16 --out "$tmp/a"
expect "--kill" "$bin/eep-run" --kill 99@1 --out "$tmp/a"
expect "--rejoin" "$bin/eep-run" --rejoin 1@1 --out "$tmp/a"
expect "$tmp/absent" "$bin/eep-run" --trace "$tmp/absent" --out "$tmp/a"
expect "negative.jsonl:2:" "$bin/eep-run" --trace "$tmp/negative.jsonl" --out "$tmp/a"
expect "syntax.jsonl:2:" "$bin/eep-run" --trace "$tmp/syntax.jsonl" --out "$tmp/a"
expect "--ballast-mb" "$bin/eep-run" --threads --ballast-mb 5 --out "$tmp/a"
expect "--scale-lengths" "$bin/eep-run" --trace "$tmp/negative.jsonl" --scale-lengths 1/0 --out "$tmp/a"
at_etcd=(--store 'etcd://127.0.0.1:2379?local=/run/eep' --out "$tmp/a") # nobody connects to it
printf 'hosts:\n  - {name: h1, address: "10.0.0.1:7800", ranks: 2}\n' >"$tmp/hosts.yaml"
changed() { # TEXT WITH EXPECTED: the file of hosts, changed
    sed "s/$1/$2/" "$tmp/hosts.yaml" >"$tmp/changed.yaml"
    expect "changed.yaml:2:$3" "$bin/eep-run" --hosts "$tmp/changed.yaml" "${at_etcd[@]}"
}
changed ranks rank "42: unknown key 'rank'"
changed h1 'h 1' "12: 'h 1': a host's name has letters"
changed :7800 '' "25: '10.0.0.1' is not of the form ADDRESS:PORT"
changed '2}' '0}' "3: no host has a rank"
changed '2}' '2, environment: {LD_PRELOAD: x}}' "66: 'LD_PRELOAD': variables begin with EEP_ or UCX_"
changed '2}' '2, environment: {UCX_GDB_COMMAND: x}}' "66: 'UCX_GDB_COMMAND': variables begin with EEP_ or UCX_ here, and none makes UCX start"
expect "$tmp/absent: No such file" "$bin/eep-run" --hosts "$tmp/absent" "${at_etcd[@]}"
expect "give --store etcd://" "$bin/eep-run" --hosts "$tmp/hosts.yaml" --out "$tmp/a"
expect "is of one host" "$bin/eep-run" --hosts "$tmp/hosts.yaml" --store "$tmp/socket" --out "$tmp/a"
expect "lacks local=PATH" "$bin/eep-run" --hosts "$tmp/hosts.yaml" --store etcd://127.0.0.1 --out "$tmp/a"
expect "the hosts of --hosts have 2" "$bin/eep-run" --hosts "$tmp/hosts.yaml" --ranks 3 "${at_etcd[@]}"
expect "its ranks share one process" "$bin/eep-run" --hosts "$tmp/hosts.yaml" --threads "${at_etcd[@]}"
expect "of the form ADDRESS:PORT" "$bin/eep-run" --worker 7800
expect "a worker is started by '--worker ADDRESS:PORT' and nothing else" "$bin/eep-run" --worker 127.0.0.1:7800 --out "$tmp/a"
launched() { # TEXT VARIABLES AND OPTIONS...: as process 0 of 2, where these do not say otherwise
    local text=$1; shift
    local words=(EEP_KEY_FILE="$tmp/key" EEP_NETWORK_INTERFACE=lo EEP_RANK=0 EEP_SIZE=2)
    while [ $# -gt 0 ] && [ "${1#*=}" != "$1" ]; do words+=("$1"); shift; done
    expect "$text" env "${words[@]}" "$bin/eep-run" --launched --ranks 4 --slots 32 "$@"
}
launched "no launcher's variable says which process this is" EEP_RANK= EEP_SIZE= "${at_etcd[@]}"
launched "no launcher's variable says how many processes" EEP_RANK= EEP_SIZE= PMIX_RANK=0 "${at_etcd[@]}"
launched "RANK says 1 and OMPI_COMM_WORLD_RANK says 0" EEP_RANK= OMPI_COMM_WORLD_RANK=0 RANK=1 LOCAL_RANK=1 "${at_etcd[@]}"
launched 'EEP_RANK is "any"' EEP_RANK=any "${at_etcd[@]}"
launched "process 0 of 1 (rank 0 from EEP_RANK, 1 ranks from EEP_SIZE): 2 to 64 are possible" EEP_SIZE=1 "${at_etcd[@]}"
launched "4 ranks are fewer than the 5 hosts" EEP_SIZE=5 "${at_etcd[@]}"
launched "EEP_NETWORK_INTERFACE names no interface" EEP_NETWORK_INTERFACE= "${at_etcd[@]}"
launched "EEP_KEY_FILE names no file" EEP_KEY_FILE= "${at_etcd[@]}"
launched "give --store etcd://" EEP_STORE= --out "$tmp/a"
launched "--launched: the store '$tmp/socket' is of one host" EEP_STORE="$tmp/socket" --out "$tmp/a"
launched "the launcher says which hosts there are" --hosts "$tmp/hosts.yaml" "${at_etcd[@]}"
launched "its workers end with a run" --repeat 2 "${at_etcd[@]}"
launched "its ranks share one process" --threads "${at_etcd[@]}"
launched "'host2' is no host of --launched" --host-kill host2@1 "${at_etcd[@]}"
launched "--launched has no command for partition" --partition 'host0|host1@1' "${at_etcd[@]}"
gzip -c "$tmp/negative.jsonl" >"$tmp/packed.jsonl"
expect "packed.jsonl:1: a gzip file" "$bin/eep-run" --trace "$tmp/packed.jsonl" --out "$tmp/a"
printf '\377\376{\0' >"$tmp/wide.jsonl"
expect "wide.jsonl:1: UTF-16" "$bin/eep-run" --trace "$tmp/wide.jsonl" --out "$tmp/a"
expect "--rate: --trace says when" "$bin/eep-run" --trace "$tmp/negative.jsonl" --rate 5 --out "$tmp/a"
expect "--same-seed needs --repeat" "$bin/eep-run" --same-seed --out "$tmp/a"
largest=9007199254740992 # of --seed, and of those that --repeat counts up to
expect "--repeat: seed $largest and 1 more are above $largest, the largest" "$bin/eep-run" --seed $largest --repeat 2 --out "$tmp/a"
expect "--repeat: seed 9007199254740990 and 3 more" "$bin/eep-run" --seed 9007199254740990 --repeat 4 --out "$tmp/a"
expect "this is no option: 'foo'" "$bin/eep-run" foo
expect "this is no option: '--'" "$bin/eep-run" -- --ranks 2
for program in run chaos ctl info oracle bench bench-bulk plan store; do
    "$bin/eep-$program" --version | grep -qE "^eep-$program [0-9]+[.][0-9]+$" || { echo "eep-$program --version"; bad=1; }
done
for seconds in 0x10 " 5" +5 nan; do
    expect "--timeout: '$seconds' is not a number from 0 to 86400" "$bin/eep-ctl" --timeout "$seconds" wait settled
done
expect "--rounds: '2x' is not a whole number" "$bin/eep-bench-bulk" --rounds 2x
mkdir "$tmp/rows"; mkfifo "$tmp/rows/requests.csv"
run_json() { printf '{"seed": 1, "num_layers": %s, "hidden": 8, "inner": 8, "num_experts": 4, "top_k": 2, "vocabulary": 16, "dtype": "fp32"}' "$1" >"$tmp/rows/run.json"; }
run_json 1; expect "requests.csv: cannot open: it is no regular file" timeout 5 "$bin/eep-oracle" "$tmp/rows"
sed -i 's/"seed": 1,/"seed": 9007199254740993,/' "$tmp/rows/run.json" # a double holds another one
expect "\"seed\" is neither a whole number below 2^53 nor a decimal string" timeout 5 "$bin/eep-oracle" "$tmp/rows"
run_json 1e9; expect "\"num_layers\" is missing or not a whole number from 1 to 255" "$bin/eep-oracle" "$tmp/rows"
if "$bin/eep-info" | grep -q "cuda: not usable"; then # what is missing is said once, before any rank is started
    expect "--device cuda cannot be used: " "$bin/eep-run" --device cuda --out "$tmp/a"
    [ ! -e "$tmp/a" ] || { echo "a run that cannot begin left a folder"; bad=1; }
fi
expect "descriptors: limit 24 (hard limit 24), and with 8 ranks eep-run needs at least 86" \
    bash -c "ulimit -n 24; exec '$bin/eep-run' --ranks 8 --out '$tmp/a'"
expect "descriptors: limit 37 (hard limit 37), and with 2 ranks eep-run needs at least 38" \
    bash -c "ulimit -n 37; exec '$bin/eep-run' --ranks 2 --out '$tmp/a'"
expect "descriptors: limit 91 (hard limit 91), and with 4 ranks their process needs at least 92" \
    bash -c "ulimit -n 91; exec '$bin/eep-run' --threads --ranks 4 --out '$tmp/a'"
# Each names the line, the value and what to do.
head='name: x\nabout: y\n'
scenario() { printf "$head$2" >"$tmp/s.yaml"; expect "$1" "$bin/eep-run" --check-only "$tmp/s.yaml"; }
scenario "s.yaml:6:16: rank 1 is twice in the list" 'events:\n  - at: {time: 1s}\n    do: kill\n    ranks: [1, 1]\n'
scenario "s.yaml:4:19: " 'expect:\n  tokens_wrong: > 0\n'
scenario 'must be quoted, as "> 0"' 'expect:\n  tokens_wrong: > 0\n'
scenario 'must be quoted, as "> 0"' 'expect:\n  tokens_wrong: >5\n'
printf 'name: %03000d\nabout: y\n' 0 >"$tmp/long.yaml"
expect "long.yaml:1:7: a text of more than 64 characters" "$bin/eep-run" --check-only "$tmp/long.yaml"
scenario "'.nan' is no value" 'expect:\n  tokens_wrong: .nan\n'
scenario "s.yaml:4:1: " 'events:\n\t- at: {time: 1s}\n'
scenario "a tab; YAML is indented with spaces" 'events:\n\t- at: {time: 1s}\n'
scenario "s.yaml:4:9: 'at' has time and step" 'events:\n  - at: {time: 1s, step: 5}\n    do: kill\n    ranks: 1\n'
scenario "'at' has step and state" 'events:\n  - at: {state: ready, step: 5}\n    do: kill\n    ranks: 1\n'
scenario "summary.json has no 'tokens_rong' there; it has schema" 'expect:\n  tokens_rong: 0\n'
scenario "summary.json has no 'pause' there; it has rank" 'expect:\n  faults[0].pause: 0\n'
scenario "s.yaml:4:22: " 'expect:\n  tokens_wrong.more: 0\n'
scenario "it is one of kill, abort, stop, die, exit, slow, killed, expelled, and never 'kil'" 'expect:\n  faults[*].kind: kil\n'
scenario "it is one of done, struck nobody, never due, waiting, withdrawn, and never 'good'" 'expect:\n  events[0].outcome: good\n'
scenario "it is true or false, and never 'yes'" 'expect:\n  faults[0].expelled: yes\n'
scenario "it is a number, and never 'none'" 'expect:\n  faults.length: none\n'
scenario "it is a number, and never 'true'" 'expect:\n  tokens_wrong: true\n'
scenario "at most 64 ranks" "instance: {ranks: 100}\nevents:\n  - at: {time: 1s}\n    do: kill\n    ranks: [$(seq -s, 0 64)]\n"
expect "'1,1' in '1,1@1': a rank is twice in the list" "$bin/eep-run" --kill 1,1@1 --out "$tmp/a"
expect "a list has at most 64 ranks" "$bin/eep-run" --ranks 100 --kill "$(seq -s, 0 64)@1" --out "$tmp/a"
printf '{"timestamp": 1700000000000, "input_length": 5, "output_length": 5}\n' >"$tmp/late.jsonl"
expect "late.jsonl:1: \"timestamp\" is 1700000000000 ms after the start" "$bin/eep-run" --trace "$tmp/late.jsonl" --trace-start 0 --out "$tmp/a"
expect "--trace-start first" "$bin/eep-run" --trace "$tmp/late.jsonl" --trace-start 0 --out "$tmp/a"
expect "--trace-start" "$bin/eep-run" --trace-start 0 --out "$tmp/a"
printf '\xef\xbb\xbf[[0,1],[0,-9]]\n' >"$tmp/mark.json" # read past the mark: it is the plan that is refused
expect "mark.json: phase 2, entry 2: rank 9 cannot die" "$bin/eep-run" --plan "$tmp/mark.json" --out "$tmp/a"
if grep -q "is not a plan" "$tmp/out"; then echo "the mark of UTF-8 is refused in a plan"; bad=1; fi
expect "--bogus" "$bin/eep-info" --bogus
expect "--topk" "$bin/eep-info" --sizes --topk x
expect "--bogus" "$bin/eep-store" --bogus
expect "cannot open" "$bin/eep-oracle" "$tmp/none"
exit $bad
