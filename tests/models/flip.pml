/* SPDX-License-Identifier: Apache-2.0 */
/* Planned changes: stage, acknowledge, commit, announce in-band, flip; and what may go wrong
 * meanwhile.
 *
 * Rules covered (docs/PROTOCOL.md, section 4):
 * - T2, T3: two banks and one flip; a bank is staged only while it is idle, and the agreed one
 *   goes live.
 * - M3: staged and acknowledged everywhere, committed, announced in the headers of layer 0,
 *   flipped to at t + 1. A newer tag aborts only a step whose number is not above its own.
 * - M10: a leaver stays until the flip; it may die between commit and flip. M4: a fault view voids
 *   a plan. D5: jumps; a joiner follows its peers' first step.
 * - R1: FILLING before the first byte. The owner writes after a step under that view ended OK
 *   there. HOLDS follows its acknowledgement.
 *
 * Asserted:
 * - All that complete step t have seen the same announcement, under the same view.
 * - A bank that goes live is whole and the agreed one. It is not written while it is live or still
 *   to be flipped to.
 * - No rank computes with a slot that is being written or that holds another expert.
 * - As long as nobody missed a deadline no step is repeated, and nobody waits for its bank.
 * - When nothing more can happen, nobody hangs in a step and nobody stays wedged.
 *
 * The model follows membership/core/core_plan.c, core_rebalance.c, core_facts.c, step.c and
 * actions.c. One of -DJOIN (seat 2 joins), -DLEAVE (seat 2 leaves), -DREPAIR (a slot of seat 0:
 * HOLDS, FILLING, HOLDS). Left out or coarser:
 * - A step: publish to all; complete when all members have; or abort (fencing.pml has the rest).
 * - Proposing and promising (agreement.pml). A fault view is committed in one step once every
 *   living member has reported for the newest document. Evidence is only against the dead.
 * - A rank may miss a deadline although all have published: a tag reaches one window before
 *   another. DEADLINES is how many are missed in all. After that a rank leaves a step only by what
 *   it sees. */
#ifndef STEPS
#define STEPS 4
#endif
#ifndef DEADLINES
#define DEADLINES 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define SEATS 3
#define BIT(i) (1 << (i))

#define HOLDS_OLD 0
#define FILLING 1
#define HOLDS_NEW 2
#define EMPTY 3

#ifdef LEAVE
#define FIRST_MEMBERS 7
#define NEXT_MEMBERS(e) (members[e] & 3)
#endif
#ifdef JOIN
#define FIRST_MEMBERS 3
#define NEXT_MEMBERS(e) (members[e] | (dead & 4 -> 0 : 4))
#endif
#ifdef REPAIR
#define FIRST_MEMBERS 3
#define NEXT_MEMBERS(e) members[e]
#endif

/* documents */
byte committed = 1;
byte members[EPOCHS + 2], first[EPOCHS + 2], slot_state[EPOCHS + 2];
bit planned[EPOCHS + 2];
byte plan;          /* its epoch; 0: none */
byte plan_members, plan_slot, acknowledged;

byte dead, crashes = CRASHES, deadlines = DEADLINES;

/* ranks */
byte known[SEATS], live[SEATS], installed[SEATS]; /* installed: a step under it ended OK */
byte bank[SEATS * 2];                             /* epoch of its content; 0: being written */
bit live_bank[SEATS], staging[SEATS];
byte staged[SEATS];
byte due[SEATS];
bit newer[SEATS], follows[SEATS], wedged[SEATS], in_step[SEATS];
byte step[SEATS], reported[SEATS];
byte tag_epoch[SEATS], tag_step[SEATS]; /* newest that it published */
byte gave_up[SEATS];                    /* epoch * 16 + step */

/* steps: [epoch][step] */
byte published[(EPOCHS + 2) * (STEPS + 1)], announced[(EPOCHS + 2) * (STEPS + 1)];
byte completed_under[STEPS + 1], completed_with[STEPS + 1];
#define AT(e, t) ((e) * (STEPS + 1) + (t))

byte slot;   /* what seat 0's slot holds: HOLDS_OLD, FILLING (torn), HOLDS_NEW */
bit filling;
byte filled; /* the epoch in which it was acknowledged */

#define ALIVE(i) (!(dead & BIT(i)))
#define IN(i, e) (members[e] & BIT(i))
#define BANK(i, which) bank[(i) * 2 + (which)]
#define MISSES(i, j) (IN(j, live[i]) && !(published[AT(live[i], step[i])] & BIT(j)))
#define SEES_GIVE_UP(i, j)                                                                         \
    (i != j && IN(j, live[i]) && gave_up[j] / 16 == live[i] && gave_up[j] % 16 >= step[i])
#ifdef NEWER_TAG_OF_ANY_STEP
#define SEES_NEWER(i, j) (MISSES(i, j) && tag_epoch[j] > live[i])
#else
#define SEES_NEWER(i, j) (MISSES(i, j) && tag_epoch[j] > live[i] && tag_step[j] >= step[i])
#endif
#define SEES_JUMP(i, j) (MISSES(i, j) && tag_epoch[j] == live[i] && tag_step[j] > step[i])
#define ANY(property, i) (property(i, 0) || property(i, 1) || property(i, 2))
#define NONE_MISSING(i) (!ANY(MISSES, i))

/* M5, and M10's hole: a rank that left by plan counts until this rank has flipped */
#ifdef LEAVER_FORGOTTEN
#define NEEDS(i, j) IN(j, known[i])
#else
#define NEEDS(i, j) (IN(j, known[i]) || (planned[known[i]] && live[i] != 0 && live[i] < known[i] && IN(j, live[i])))
#endif
#define SUSPECTS(i, j) (!ALIVE(j) && NEEDS(i, j))
#define HAS_REPORTED(i, j) (IN(j, known[i]) && reported[j] >= known[i])
#define SILENT(i, j) (IN(j, known[i]) && ALIVE(j) && reported[j] < known[i])

/* the newest step that a peer has begun under the live view, above ours */
#define PEER_STEP(i, j) (i != j && IN(j, live[i]) && tag_epoch[j] == live[i] && tag_step[j] > step[i])

#define LOWEST (members[committed] & 1 & ~dead -> 0 : 1)
#ifdef STAGE_EARLY
#define PLANNER_IS_SETTLED 1
#else
#define PLANNER_IS_SETTLED                                                                         \
    (installed[LOWEST] == committed && live[LOWEST] == committed && !wedged[LOWEST])
#endif
#ifdef REPAIR
#ifdef HOLDS_WITHOUT_ACK
#define MAY_PLAN (slot_state[committed] == HOLDS_OLD || slot_state[committed] == FILLING)
#else
#define MAY_PLAN                                                                                   \
    (slot_state[committed] == HOLDS_OLD || (slot_state[committed] == FILLING && filled == committed))
#endif
#define NEXT_SLOT (slot_state[committed] + 1)
#else
#define MAY_PLAN 1 /* the members change once, then nothing but the epoch does */
#define NEXT_SLOT HOLDS_OLD
#endif
/* i waits for one that only the model's bound on steps has stopped */
#define IS_AT_END(i, j) (i != j && IN(j, live[i]) && ALIVE(j) && step[j] == STEPS)

inline check_slot()
{
    if
    :: i == 0 && slot_state[live[0]] == HOLDS_OLD -> assert(slot == HOLDS_OLD)
    :: i == 0 && slot_state[live[0]] == HOLDS_NEW -> assert(slot == HOLDS_NEW)
    :: else
    fi
}

inline flip()
{
    live_bank[i] = 1 - live_bank[i];
    live[i] = staged[i];
    staged[i] = 0; due[i] = 0; newer[i] = 0;
    assert(BANK(i, live_bank[i]) == live[i]) /* T3: the agreed bank goes live */
}

inline stop_step()
{
    in_step[i] = 0;
    gave_up[i] = live[i] * 16 + step[i]
}

proctype rank(byte i)
{
    byte j = 0;

end:
    do
    /* ---- the service thread: stage into the idle bank, acknowledge */
#ifdef STAGE_EARLY
    :: atomic { ALIVE(i) && plan != 0 && !(acknowledged & BIT(i)) && !staging[i] && !wedged[i] &&
                (plan_members & BIT(i)) ->
#else
    :: atomic { ALIVE(i) && plan != 0 && !(acknowledged & BIT(i)) && !staging[i] && !wedged[i] &&
                (plan_members & BIT(i)) && known[i] == committed &&
                (!IN(i, committed) || installed[i] == committed) ->
#endif
        /* neither agreed on already nor committed: nobody may flip to it */
        assert(due[i] == 0 && (staged[i] == 0 || staged[i] == plan || !planned[staged[i]]));
        staging[i] = 1; staged[i] = 0; BANK(i, 1 - live_bank[i]) = 0 }
    :: atomic { ALIVE(i) && staging[i] ->
        staging[i] = 0;
        if
        :: plan != 0 && !wedged[i] ->
            BANK(i, 1 - live_bank[i]) = plan; staged[i] = plan;
            acknowledged = acknowledged | BIT(i)
        :: else
        fi }
    :: atomic { ALIVE(i) && plan != 0 && IN(i, committed) && !(plan_members & BIT(i)) &&
                !(acknowledged & BIT(i)) && known[i] == committed && installed[i] == committed ->
        acknowledged = acknowledged | BIT(i) }
    /* the register: what is committed is announced from now on */
    :: atomic { ALIVE(i) && known[i] < committed && !staging[i] ->
        known[i] = committed;
        if
        :: live[i] == 0 && IN(i, committed) && planned[committed] && staged[i] == committed ->
            follows[i] = 1; flip() /* a joiner */
        :: else
        fi }
#ifdef FLIP_ON_COMMIT
    :: atomic { ALIVE(i) && !wedged[i] && !in_step[i] && live[i] != 0 && known[i] > live[i] &&
                staged[i] == known[i] -> flip() }
#endif
    /* ---- the rank thread: flip behind the step that agreed on it */
    :: atomic { ALIVE(i) && !wedged[i] && !in_step[i] && due[i] != 0 && staged[i] == due[i] -> flip() }
    :: atomic { ALIVE(i) && !wedged[i] && !in_step[i] && due[i] == 0 && newer[i] &&
                known[i] > live[i] && IN(i, known[i]) && staged[i] == known[i] -> flip() }
    :: atomic { ALIVE(i) && !wedged[i] && !in_step[i] && live[i] != 0 && known[i] > live[i] &&
                !IN(i, known[i]) && (due[i] == known[i] || newer[i]) ->
        live[i] = 0; due[i] = 0; newer[i] = 0 } /* it has left */
    :: atomic { ALIVE(i) && !wedged[i] && !in_step[i] && live[i] != 0 && due[i] == 0 &&
                !newer[i] && step[i] < STEPS && (!follows[i] || ANY(PEER_STEP, i)) ->
        step[i]++;
        if
        :: PEER_STEP(i, 0) -> step[i] = tag_step[0]
        :: else
        fi;
        if
        :: PEER_STEP(i, 1) -> step[i] = tag_step[1]
        :: else
        fi;
        if
        :: PEER_STEP(i, 2) -> step[i] = tag_step[2]
        :: else
        fi;
        follows[i] = 0; in_step[i] = 1;
        tag_epoch[i] = live[i]; tag_step[i] = step[i];
        published[AT(live[i], step[i])] = published[AT(live[i], step[i])] | BIT(i);
        if
        :: known[i] > live[i] && planned[known[i]] -> announced[AT(live[i], step[i])] = known[i]
        :: else
        fi;
        check_slot() }
    :: atomic { ALIVE(i) && in_step[i] && NONE_MISSING(i) && !ANY(SEES_GIVE_UP, i) ->
        check_slot();
        assert(BANK(i, live_bank[i]) == live[i]);
        assert(completed_under[step[i]] == 0 || completed_under[step[i]] == live[i]);
        assert(completed_under[step[i]] == 0 ||
               completed_with[step[i]] == announced[AT(live[i], step[i])]);
        completed_under[step[i]] = live[i];
        completed_with[step[i]] = announced[AT(live[i], step[i])];
        due[i] = announced[AT(live[i], step[i])];
        /* nobody waits for a bank */
        assert(due[i] == 0 || staged[i] == due[i] || !IN(i, due[i]) || wedged[i]);
        installed[i] = live[i];
        in_step[i] = 0 }
    :: atomic { ALIVE(i) && in_step[i] && ANY(SEES_NEWER, i) ->
        assert(deadlines < DEADLINES || crashes < CRASHES); /* healthy ranks repeat no step */
        stop_step(); newer[i] = 1 }
    :: atomic { ALIVE(i) && in_step[i] && (ANY(SEES_GIVE_UP, i) || ANY(SEES_JUMP, i)) ->
        assert(deadlines < DEADLINES || crashes < CRASHES);
        stop_step() }
    :: atomic { ALIVE(i) && in_step[i] && (wedged[i] || deadlines > 0) ->
        if
        :: !wedged[i] -> deadlines--
        :: else
        fi;
        stop_step() }
#ifdef REPAIR
    /* ---- R1: the owner, and nobody else, writes its slot */
#ifdef FILL_BEFORE_FLIP
    :: atomic { i == 0 && ALIVE(0) && !wedged[0] && slot_state[known[0]] == FILLING &&
#else
    :: atomic { i == 0 && ALIVE(0) && !wedged[0] && slot_state[known[0]] == FILLING &&
                installed[0] == known[0] && live[0] == known[0] &&
#endif
                !filling && filled != known[0] ->
        filling = 1; slot = FILLING;
        assert(!in_step[0] || slot_state[live[0]] == FILLING) }
    :: atomic { i == 0 && ALIVE(0) && filling ->
        filling = 0;
        if
        :: !wedged[0] && slot_state[known[0]] == FILLING -> slot = HOLDS_NEW; filled = known[0]
        :: else /* cancelled */
        fi }
#endif
    /* ---- faults */
    :: atomic { ALIVE(i) && crashes > 0 -> crashes--; dead = dead | BIT(i); in_step[i] = 0 }
    :: atomic { ALIVE(i) && !wedged[i] && live[i] != 0 && IN(i, known[i]) &&
                (ANY(SUSPECTS, i) || ANY(HAS_REPORTED, i)) ->
        wedged[i] = 1; staged[i] = 0; due[i] = 0; newer[i] = 0 }
    :: atomic { ALIVE(i) && wedged[i] && !in_step[i] && reported[i] < known[i] && IN(i, known[i]) &&
                (planned[known[i]] || reported[i] == known[i] || known[i] == live[i] ||
                 ANY(SUSPECTS, i)) ->
        reported[i] = known[i] }
    :: atomic { ALIVE(i) && wedged[i] && reported[i] == committed && known[i] == committed &&
                !ANY(SILENT, i) && committed < EPOCHS + 1 ->
        committed++;
        plan = 0; plan_members = 0; plan_slot = 0; acknowledged = 0;
        members[committed] = members[committed - 1] & ~dead;
        slot_state[committed] = (slot_state[committed - 1] == FILLING ->
                                 (filled == committed - 1 -> HOLDS_NEW : EMPTY) :
                                 slot_state[committed - 1]);
        j = 0;
        first[committed] = first[committed - 1];
        do
        :: j < SEATS ->
            if
            :: IN(j, committed) && step[j] >= first[committed] -> first[committed] = step[j] + 1
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0 }
    :: atomic { ALIVE(i) && wedged[i] && !in_step[i] && !staging[i] && known[i] > live[i] &&
                !planned[known[i]] && IN(i, known[i]) && reported[i] < known[i] &&
                !ANY(SUSPECTS, i) && !(i == 0 && filling) ->
        wedged[i] = 0;
        BANK(i, 1 - live_bank[i]) = known[i]; staged[i] = known[i];
        installed[i] = known[i];
        flip();
        if
        :: step[i] + 1 < first[live[i]] -> step[i] = first[live[i]] - 1
        :: else
        fi }
    od
}

/* the lowest member: makes a plan when it runs the newest view, commits it when all have staged it */
proctype planner()
{
end:
    do
    :: atomic { plan == 0 && committed < EPOCHS && PLANNER_IS_SETTLED && MAY_PLAN ->
        plan = committed + 1;
        acknowledged = 0;
        plan_members = NEXT_MEMBERS(committed);
        plan_slot = NEXT_SLOT }
#ifdef FLIP_WITHOUT_ACK
    :: atomic { plan != 0 ->
#else
    :: atomic { plan != 0 && ((plan_members | members[committed]) & ~acknowledged) == 0 ->
#endif
        committed = plan;
        members[plan] = plan_members; slot_state[plan] = plan_slot; planned[plan] = 1;
        first[plan] = first[plan - 1];
        plan = 0; plan_members = 0; plan_slot = 0; acknowledged = 0 }
    /* somebody died before it acknowledged: the plan lapses */
    :: atomic { plan != 0 && (plan_members & dead) -> plan = 0; plan_members = 0; plan_slot = 0; acknowledged = 0 }
    od
}

proctype monitor()
{
    byte i = 0;

    timeout;
    do
    :: i < SEATS ->
        assert(!ALIVE(i) || !wedged[i] || !IN(i, committed) || committed > EPOCHS);
#ifndef MAY_HANG /* until missed deadlines count as evidence, M5 */
        assert(!ALIVE(i) || !in_step[i] || ANY(IS_AT_END, i));
#endif
        i++
    :: else -> break
    od
}

init {
    byte i = 0;

    atomic {
        members[1] = FIRST_MEMBERS; first[1] = 1;
        do
        :: i < SEATS ->
            if
            :: IN(i, 1) -> known[i] = 1; live[i] = 1; installed[i] = 1; BANK(i, 0) = 1; run rank(i)
#ifdef JOIN
            :: else -> known[i] = 1; run rank(i)
#else
            :: else
#endif
            fi;
            i++
        :: else -> break
        od;
        run planner();
        run monitor()
    }
}
