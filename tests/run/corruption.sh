#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A seeded corruption of the product must make the oracle, and so the run, fail.
set -eu
bin=$1 kind=$2 out=$3
status=0
"$bin/eep-run" --no-picture --quiet --ranks 8 --requests 40 --rate 80 --input 4:12 --output 12:20 --corrupt "$kind" --out "$out" || status=$?
wrong=$(/usr/bin/python3 -c 'import json,sys; s=json.load(open(sys.argv[1])); print((s["tokens_wrong"] or 0)+(s.get("digests_wrong") or 0))' "$out/summary.json")
echo "corruption $kind: exit $status, $wrong wrong tokens or digests found"
[ "$status" -eq 1 ] && [ "$wrong" -gt 0 ]
