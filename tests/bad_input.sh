#!/usr/bin/env bash
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
if "$bin/eep-info" | grep -q "cuda: not usable"; then # what is missing is said once, before any rank is started
    expect "--device cuda cannot be used: " "$bin/eep-run" --device cuda --out "$tmp/a"
    [ ! -e "$tmp/a" ] || { echo "a run that cannot begin left a folder"; bad=1; }
fi
expect "--bogus" "$bin/eep-info" --bogus
expect "--topk" "$bin/eep-info" --sizes --topk x
expect "--bogus" "$bin/eep-store" --bogus
expect "cannot open" "$bin/eep-oracle" "$tmp/none"
exit $bad
