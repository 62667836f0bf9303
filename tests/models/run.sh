#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The protocol models under SPIN: each must hold over all of its states, each mutant must be caught.
# usage: run.sh [--quick] [--jobs N]
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
quick=no
jobs=2
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --jobs) jobs=${2:-}; shift ;;
    *) echo "usage: run.sh [--quick] [--jobs N]" >&2; exit 2 ;;
    esac
    shift
done
case $jobs in ''|*[!0-9]*|0) echo "run.sh: --jobs $jobs: a number from 1 on is needed" >&2; exit 2 ;; esac
for tool in spin gcc; do
    command -v "$tool" >/dev/null || { echo "run.sh: $tool is missing (Debian package $tool)" >&2; exit 2; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# expectation | in --quick | model | what it is about | flags
# holds: no error in any state. caught: a rule taken away, so an error must be found. weak: a history that
# is known to end only by missed deadlines (README.md); without one the note there is out of date.
list() {
    cat <<'TXT'
holds|yes|agreement|3 ranks, a crash and a false alarm|-DSTEPS=0
holds|yes|agreement|3 ranks, and a suspicion is taken back|-DSTEPS=0 -DHEARTBEATS=1
holds|no|agreement|a step, a suspicion is taken back|-DSTEPS=1 -DCRASHES=0 -DHEARTBEATS=1
holds|yes|agreement|4 ranks, a false alarm|-DSTEPS=0 -DRANKS=4 -DCRASHES=0
holds|yes|agreement|4 ranks, a crash|-DSTEPS=0 -DRANKS=4 -DFALSE_ALARMS=0
holds|yes|agreement|steps, a crash|-DSTEPS=2 -DFALSE_ALARMS=0
holds|no|agreement|steps, a false alarm|-DSTEPS=2 -DCRASHES=0
holds|yes|agreement|steps and the sink, a crash|-DSTEPS=2 -DFALSE_ALARMS=0 -DTOKENS
holds|no|agreement|steps and the sink, a false alarm|-DSTEPS=1 -DCRASHES=0 -DTOKENS
holds|yes|fencing|2 views, 3 steps|-DSTEPS=3 -DEPOCHS=2
holds|no|fencing|3 views, a second generation|-DSTEPS=3 -DEPOCHS=3
holds|no|fencing|two layers|-DSTEPS=2 -DEPOCHS=2 -DLAYERS=2
holds|yes|flip|join, a missed deadline|-DJOIN
holds|no|flip|join, a crash|-DJOIN -DDEADLINES=0 -DCRASHES=1
holds|no|flip|leave, a crash|-DLEAVE -DDEADLINES=0 -DCRASHES=1
holds|yes|flip|background repair, a missed deadline and a crash|-DREPAIR -DCRASHES=1
holds|no|flip|join, two missed deadlines: safety|-DJOIN -DDEADLINES=2 -DMAY_HANG
holds|no|flip|leave, two missed deadlines: safety|-DLEAVE -DDEADLINES=2 -DMAY_HANG
weak|no|flip|late twice: ahead of those who have flipped|-DJOIN -DDEADLINES=2
weak|no|flip|only the leaver saw the step end|-DLEAVE
holds|no|flip|the first one, if any newer tag counts|-DJOIN -DDEADLINES=2 -DNEWER_TAG_OF_ANY_STEP
caught|yes|agreement|M4: no answer is taken for a yes|-DSTEPS=0 -DCAS_AMBIGUOUS_BLIND
caught|yes|agreement|M4: the register does not compare|-DSTEPS=0 -DCAS_UNCONDITIONAL
caught|yes|agreement|M2: commit before the reports|-DSTEPS=2 -DCRASHES=0 -DCOMMIT_BEFORE_REPORTS
caught|yes|agreement|M2: a promise is forgotten|-DSTEPS=1 -DCRASHES=0 -DHEARTBEATS=1 -DPROMISE_FORGOTTEN
caught|yes|agreement|D5: a step number is used again|-DSTEPS=1 -DCRASHES=0 -DREUSE_STEP
caught|yes|agreement|S10: an aborted step emits|-DSTEPS=2 -DFALSE_ALARMS=0 -DTOKENS -DABORT_EMITS
caught|yes|agreement|D5: positions go on after an abort|-DSTEPS=2 -DFALSE_ALARMS=0 -DTOKENS -DABORT_ADVANCES
caught|no|agreement|M9: the sink takes what comes|-DSTEPS=2 -DCRASHES=0 -DTOKENS -DSINK_ACCEPTS_ALL
caught|yes|fencing|D2: no second look|-DSTEPS=3 -DEPOCHS=2 -DNO_RECHECK
caught|yes|fencing|D2: a second look at tags only|-DSTEPS=3 -DEPOCHS=2 -DNO_ABORT_WORD_RECHECK
caught|yes|fencing|D3: no abort word|-DSTEPS=3 -DEPOCHS=2 -DNO_ABORT_WORD
caught|yes|fencing|D1: newer tags will do|-DSTEPS=3 -DEPOCHS=2 -DGE_INSTEAD_OF_EQ
caught|yes|fencing|M2: the combine copy stays|-DSTEPS=3 -DEPOCHS=2 -DKEEP_COPY
caught|no|fencing|M2: the old copy while a zombie lives|-DSTEPS=3 -DEPOCHS=3 -DREUSE_COPY
caught|yes|fencing|D1: tags without the epoch|-DSTEPS=3 -DEPOCHS=3 -DTAG_WITHOUT_EPOCH
caught|no|fencing|M2: a promise before the step has ended|-DSTEPS=3 -DEPOCHS=3 -DREPORT_BEFORE_DRAINED
caught|no|fencing|M7: a seat is given away too early|-DSTEPS=3 -DEPOCHS=3 -DNO_GENERATION_FENCE
caught|no|fencing|P8: the end of a process is that of its stores|-DSTEPS=3 -DEPOCHS=3 -DEND_OF_PROCESS_FREES
caught|yes|flip|M3: commit before all have staged|-DJOIN -DFLIP_WITHOUT_ACK
caught|yes|flip|T2: stage before the own flip|-DJOIN -DSTAGE_EARLY
caught|yes|flip|M3: flip when the commit is known|-DJOIN -DFLIP_ON_COMMIT
caught|yes|flip|M10: a dead leaver is forgotten|-DLEAVE -DDEADLINES=0 -DCRASHES=1 -DLEAVER_FORGOTTEN
caught|yes|flip|R1: write the slot before the flip|-DREPAIR -DFILL_BEFORE_FLIP
caught|yes|flip|R1: HOLDS before the acknowledgement|-DREPAIR -DHOLDS_WITHOUT_ACK
TXT
}

# one EXPECTATION MODEL ABOUT FLAGS DIRECTORY: a row of the table; exit status 1: not as expected.
one() {
    local expected=$1 model=$2 about=$3 flags=$4 dir=$5 result=error states seconds verdict=ok
    mkdir -p "$dir" && cd "$dir" || return 1
    # shellcheck disable=SC2086  # flags are words
    if spin -a $flags "$here/$model.pml" >out 2>&1 &&
        gcc -O1 -w -DSAFETY -DCOLLAPSE -DMEMLIM=4000 -o pan pan.c >>out 2>&1; then
        timeout 240 ./pan -m20000 -w22 >out 2>&1
        if grep -q 'errors: 0' out && ! grep -Eq 'Search not completed|search depth too small|out of memory|hash factor' out; then
            result=holds
        elif grep -q 'assertion violated' out && ! grep -q 'base\[i\]+1)<' out; then
            result=caught
        fi
    fi
    case $expected/$result in
    holds/holds | caught/caught | weak/caught) ;;
    *) verdict=UNEXPECTED ;;
    esac
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' out | head -n 1)
    seconds=$(sed -n 's/^pan: elapsed time \([0-9.]*\) .*/\1/p' out)
    printf '%-9s %-49s %10s %7s  %-6s %s\n' "$model" "$about" "${states:--}" "${seconds:--}" "$result" \
        "$([ "$verdict" = ok ] || echo "$verdict: should be $expected; spin -a $flags $model.pml")"
    if [ "$verdict" != ok ]; then
        tail -n 25 out
        touch "$tmp/unexpected"
    fi
    cd "$tmp" && rm -rf "$dir"
}

printf '%-9s %-49s %10s %7s  %s\n' model history states seconds result
number=0
while IFS='|' read -r expected in_quick model about flags; do
    [ "$quick" = no ] || [ "$in_quick" = yes ] || continue
    number=$((number + 1))
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    one "$expected" "$model" "$about" "$flags" "$tmp/$number" &
done < <(list)
wait
if [ -e "$tmp/unexpected" ]; then
    echo "not as expected: see above"
    exit 1
fi
echo "all $number as expected"
