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
holds|no|fencing|3 views, seat 1 may leave|-DSTEPS=3 -DEPOCHS=3 -DLEAVES
holds|yes|launches|nodes that overlap, 3 steps|-DSTEPS=3
holds|yes|chains|two chains|-DCHAINS=2
holds|no|chains|3 steps, two given up|-DSTEPS=3 -DGIVE_UPS=2
holds|no|chains|two layers, two steps given up|-DLAYERS=2 -DGIVE_UPS=2
holds|no|chains|two chains, two layers|-DCHAINS=2 -DLAYERS=2
holds|no|chains|two chains in any order|-DCHAINS=2 -DFREE_ORDER
holds|no|chains|3 ranks|-DRANKS=3
holds|no|chains|3 ranks, one gives up twice|-DRANKS=3 -DGIVE_UPS=2 -DFIRST_GIVES_UP
holds|no|chains|a receive left out|-DLAYERS=2 -DSTEPS=1 -DGIVE_UPS=0 -DHOOK_LEFT_OUT
holds|yes|gate|the receiver gives up|-DROWS=0 -DONLY=2
holds|no|gate|a view without a source|-DROWS=0 -DGIVE_UPS=0 -DFAULT
holds|no|gate|a planned view|-DSTEPS=3 -DGIVE_UPS=0 -DPLANNED
holds|no|gate|a lane fails|-DROWS=2 -DGIVE_UPS=0 -DDUPS=1
holds|no|gate|a lane fails, two threads a source|-DGIVE_UPS=0 -DDUPS=1 -DPLACERS=2
holds|yes|colours|two fault views|
holds|no|colours|three fault views|-DGENERATIONS=3
holds|no|colours|three fault views, three colours|-DGENERATIONS=3 -DCOLOURS=3
holds|yes|shapes|2 ranks, 2 shapes|-DRANKS=2
holds|no|shapes|2 ranks, 3 shapes, 4 steps, one given up|-DRANKS=2 -DSHAPES=3 -DSTEPS=4 -DGIVE_UPS=1
holds|yes|shapes|3 ranks, 2 shapes|-DSTEPS=2
holds|no|shapes|3 ranks, 2 shapes, 3 steps|
holds|no|shapes|3 ranks, 3 shapes|-DSHAPES=3
holds|yes|flip|join, a missed deadline|-DJOIN
holds|no|flip|join, a crash|-DJOIN -DDEADLINES=0 -DCRASHES=1
holds|no|flip|leave, a crash|-DLEAVE -DDEADLINES=0 -DCRASHES=1
holds|yes|flip|background repair, a missed deadline and a crash|-DREPAIR -DCRASHES=1
holds|no|flip|join, two missed deadlines: safety|-DJOIN -DDEADLINES=2 -DMAY_HANG
holds|no|flip|leave, two missed deadlines: safety|-DLEAVE -DDEADLINES=2 -DMAY_HANG
weak|no|flip|late twice: ahead of those who have flipped|-DJOIN -DDEADLINES=2
weak|no|flip|only the leaver saw the step end|-DLEAVE
holds|no|flip|the first one, if any newer tag counts|-DJOIN -DDEADLINES=2 -DNEWER_TAG_OF_ANY_STEP
holds|yes|collectives|two numbers, a rank joins|
holds|yes|collectives|two numbers, one leaves and one joins|-DLEAVE
holds|yes|collectives|two numbers, a death, a rank joins|-DFAULTS=1
holds|no|collectives|the leaver dies|-DFAULTS=1 -DLEAVE
holds|no|collectives|three numbers, a death|-DFAULTS=1 -DNUMBERS=3
holds|yes|pairs|3 hosts, two broken ways|-DWAYS=2
holds|no|pairs|3 hosts, three broken ways|
holds|yes|pairs|2 hosts, two broken ways|-DHOSTS=2 -DWAYS=2
holds|yes|forgets|2 ranks, a snapshot is restored|
holds|no|forgets|3 ranks, a snapshot is restored|-DRANKS=3 -DEPOCHS=3
holds|yes|ends|3 processes on two hosts|
holds|no|ends|4 processes on two hosts|-DPROCESSES=4
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
caught|yes|fencing|P7: a fault view keeps the colour|-DSTEPS=3 -DEPOCHS=2 -DKEEP_COLOUR
caught|no|fencing|P7: a colour that a zombie stores into|-DSTEPS=3 -DEPOCHS=3 -DUNCLEAN_COLOUR
caught|yes|fencing|D1: tags without the epoch|-DSTEPS=3 -DEPOCHS=3 -DTAG_WITHOUT_EPOCH
caught|no|fencing|M2: a promise before the step has ended|-DSTEPS=3 -DEPOCHS=3 -DREPORT_BEFORE_DRAINED
caught|no|fencing|M7, P7: a seat is given away too early|-DSTEPS=3 -DEPOCHS=3 -DLEAVES -DNO_SEAT_FENCE
caught|no|fencing|P8: the end of a process is that of its stores|-DSTEPS=3 -DEPOCHS=3 -DEND_OF_PROCESS_FREES
caught|yes|launches|P2: no wait where a step is aborted|-DNO_WAIT_IF_ABORTED
caught|yes|launches|P2: a read before the wait|-DREAD_BEFORE_WAIT
caught|yes|launches|P2: each block stores its counts|-DCOUNTS_BY_EACH_BLOCK
caught|yes|launches|P2: counts though a block aborted|-DCOUNTS_THOUGH_ABORTED
caught|yes|chains|P1: no second look|-DGIVE_UPS=2 -DNO_RECHECK
caught|no|chains|P1: the tags before the second look|-DRANKS=3 -DGIVE_UPS=2 -DFIRST_GIVES_UP -DMAY_ABORT -DRECHECK_AFTER_PUBLISH
caught|no|chains|P1: each lane publishes for itself|-DRANKS=3 -DGIVE_UPS=2 -DFIRST_GIVES_UP -DPUBLISH_PER_LANE
caught|yes|chains|P1: finish judges words of later steps|-DFINISH_JUDGES_LATER_STEPS
caught|yes|chains|D3: the abort word after the next rows|-DWORD_AFTER_ROWS
caught|yes|chains|P4: one scratch for both chains|-DCHAINS=2 -DGIVE_UPS=0 -DSHARED_SCRATCH
caught|no|chains|P4: a send into a live result|-DLAYERS=2 -DSTEPS=1 -DGIVE_UPS=0 -DMAY_ABORT -DHOOK_LEFT_OUT -DSEND_INTO_LIVE_RESULT
caught|no|chains|P3: a step number for each chain|-DCHAINS=2 -DGIVE_UPS=0 -DSTEP_PER_CHAIN
caught|no|chains|P3: one chain ends the step: steps are lost|-DCHAINS=2 -DOWN_STREAMS -DEND_WITH_FIRST_CHAIN
caught|no|chains|P3: one chain ends the step: a wrong token|-DCHAINS=2 -DOWN_STREAMS -DEND_WITH_FIRST_CHAIN -DMAY_ABORT -DDEADLINES_PASS
caught|no|chains|P5: ranks with different sequences|-DCHAINS=2 -DGIVE_UPS=0 -DDIFFERENT_SEQUENCES
caught|yes|gate|N1: the gate knows the epoch only|-DROWS=0 -DONLY=2 -DEPOCH_ONLY
caught|yes|gate|N1: a flag, and nobody waits|-DROWS=0 -DONLY=2 -DFLAG_WITHOUT_QUIESCENCE
caught|no|gate|N1, N2: the gate knows the step only|-DROWS=0 -DGIVE_UPS=0 -DFAULT -DGATE_WITHOUT_VIEW
caught|no|gate|N2: newer is dropped|-DGIVE_UPS=0 -DPLANNED -DNEWER_DROPPED
caught|no|gate|N3: a tag begins a step|-DGIVE_UPS=0 -DBEGIN_BY_TAG
caught|no|gate|N3: a word ends a step that its sender completed|-DROWS=0 -DGIVE_UPS=0 -DWORDS_OVERTAKE_TAGS
caught|no|gate|N4: rows are counted|-DROWS=2 -DGIVE_UPS=0 -DDUPS=1 -DTAG_BY_COUNT
caught|no|gate|N4: two threads place one row|-DGIVE_UPS=0 -DDUPS=1 -DPLACERS=2 -DNO_CLAIM
caught|no|gate|N5: ring memory is used again|-DONLY=0 -DRING_USED_AGAIN
caught|yes|colours|P7: a colour of an unproven generation|-DCOLOUR_OF_UNPROVEN
caught|no|colours|P7: a margin frees a colour|-DMARGIN_FREES
caught|no|colours|P8: the end of a process frees a colour|-DEND_OF_PROCESS_FREES
caught|no|colours|P7: replaced memory is given out again|-DGENERATIONS=3 -DOLD_MEMORY_AGAIN
caught|no|colours|P7, M3: replaced before all have staged|-DGENERATIONS=3 -DREPLACED_BEFORE_STAGED
caught|no|colours|P7, M4: what a void plan mapped stays|-DGENERATIONS=3 -DVOID_PLAN_STAYS
caught|no|colours|P7: no colour is replaced in a pause|-DONLY_WHILE_SERVING
caught|yes|shapes|P6: tags do not name the shape|-DRANKS=2 -DTAG_WITHOUT_SHAPE
caught|no|shapes|P6: words do not name the shape|-DWORD_WITHOUT_SHAPE
caught|no|shapes|P6: a jump tells of no shape|-DSHAPES=3 -DJUMP_WITHOUT_SHAPE
caught|yes|shapes|P6: an aborted step is forgotten|-DRANKS=2 -DNOTHING_IS_KEPT
caught|yes|shapes|P6: nothing is agreed on|-DRANKS=2 -DNOTHING_IS_AGREED
caught|yes|flip|M3: commit before all have staged|-DJOIN -DFLIP_WITHOUT_ACK
caught|yes|flip|T2: stage before the own flip|-DJOIN -DSTAGE_EARLY
caught|yes|flip|M3: flip when the commit is known|-DJOIN -DFLIP_ON_COMMIT
caught|yes|flip|M10: a dead leaver is forgotten|-DLEAVE -DDEADLINES=0 -DCRASHES=1 -DLEAVER_FORGOTTEN
caught|yes|flip|R1: write the slot before the flip|-DREPAIR -DFILL_BEFORE_FLIP
caught|yes|flip|R1: HOLDS before the acknowledgement|-DREPAIR -DHOLDS_WITHOUT_ACK
caught|yes|collectives|P13: taken before the ledger is raised (H50)|-DFAULTS=1 -DTAKE_WITHOUT_LEDGER
caught|yes|collectives|P13: a report names what was taken only|-DFAULTS=1 -DREPORT_WHAT_WAS_TAKEN
caught|yes|collectives|P13: the ledger stays open|-DFAULTS=1 -DNOT_CLOSED
caught|no|collectives|P13: the ledger stays open at a plan (H51)|-DNOT_CLOSED
caught|yes|collectives|P13: bound to its first epoch for ever (H51)|-DBOUND_FOR_EVER
caught|yes|collectives|P13: a contribution is written over|-DWRITE_OVER
caught|yes|pairs|N10: both hosts of a pair go|-DBOTH_ENDS_GO
caught|yes|pairs|N10: decided before those who stay have reported|-DDECIDES_UNHEARD
caught|no|pairs|N10: a host that is gone is waited for|-DNO_BOUND
caught|no|pairs|N10: experts break no tie|-DCOVERAGE_BREAKS_NO_TIE
caught|yes|forgets|N19: what has forgotten is believed|-DBELIEVES
caught|yes|forgets|N19: the first older answer counts|-DFIRST_ANSWER_COUNTS
caught|yes|forgets|N19: views on a store that has forgotten|-DCOMMITS_THOUGH_FORGOTTEN
caught|no|forgets|N19, M3: no member is asked|-DNOBODY_IS_ASKED
caught|yes|ends|N8: a successor elsewhere shows an end|-DA_SUCCESSOR_ELSEWHERE_SHOWS_IT
caught|yes|ends|N9: absence is an end|-DABSENCE_IS_AN_END
caught|yes|ends|N9: any free lock is an end|-DANY_FREE_LOCK_SHOWS_IT
caught|no|collectives|M2: the fault view before the reports|-DFAULTS=1 -DCOMMIT_BEFORE_REPORTS
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
