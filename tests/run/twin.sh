#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every token and logits digest of a run with faults equals that of its fault-free twin.
set -eu
bin=$1 out=$2 dtype=${3:-fp32}
load="--ranks 8 --requests 100 --rate 50 --input 4:16 --output 12:32 --seed 7 --dtype $dtype"
"$bin/eep-run" --no-picture --quiet $load --no-oracle --out "$out-clean"
"$bin/eep-run" --no-picture --quiet $load --kill 5@0.8 --rejoin 5@1.2 --kill 2@1.8 --out "$out-fault"
"$bin/eep-oracle" --compare "$out-clean" "$out-fault"
