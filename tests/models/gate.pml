/* SPDX-License-Identifier: Apache-2.0 */
/* Rows through proxies: a receiver's gate, two sources behind rings and lanes, aborted steps, a
 * view change.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - N1: placing is enter, check, write, leave; whoever moves the gate waits until nobody is inside.
 * - N2: older than the gate, or of a closed exchange: dropped. Newer: parked, one layer-0 dispatch
 *   a source. N3: words overtake rows, and name the last step that their sender completed.
 * - N4: a tag is stored when all different rows that it speaks for are placed; a row is claimed
 *   before it is written. N5: ring memory is the lane's until completion; no room: the step aborts.
 * - N7: the gate is the fence, so a fault view needs no other combine copy.
 *
 * Asserted:
 * - S5, S8: a step of the receiver that ends OK has read only rows of its own epoch and step, of
 *   the rank that computes them in this step. There is no second look (D2) and no abort word before
 *   rows (D3): the gate alone does it.
 * - N2: only a dispatch of layer 0 comes before its step.
 * - N3: the receiver's step ends ABORTED only if some rank gave that very step up.
 * - L2: when nothing more can happen, all have ended their last step.
 *
 * Ranks 0 and 1 are sources, rank 2 receives. What a source sends to the receiver lies in its ring
 * and is delivered in any order, at any later moment. A lane that fails sends a second copy, DUPS
 * times. PLACERS threads of the receiver serve each source. Words are seen at once, and so is what
 * the sources tell each other and what the receiver tells them: the most that a slow lane can be
 * behind. In each step each source has ROWS dispatch rows, in places of its own. One combine row
 * has a place that the sources share, and the step decides which of them writes it. A rank may give
 * up a step at each wait, GIVE_UPS times in all.
 *
 * -DFAULT: a view without rank 0, at any moment. Rank 0 goes on under the old one (a zombie).
 * -DPLANNED: step 2 and later steps belong to epoch 2; with GIVE_UPS 0.
 *
 * Left out or coarser: one layer, one chain; whether the device sees a placed row (N4, H9); what
 * the sources consume (chains.pml). What was parked is placed in one go when the gate moves. */
#ifndef STEPS
#define STEPS 2
#endif
#ifndef ROWS
#define ROWS 1
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 1
#endif
#ifndef DUPS
#define DUPS 0
#endif
#ifndef PLACERS
#define PLACERS 1
#endif
#define RECEIVER 2
#ifdef ONLY /* this rank does */
#define MAY_GIVE_UP (give_ups > 0 && me == ONLY)
#else
#define MAY_GIVE_UP (give_ups > 0)
#endif

/* kinds of messages; the first three are rows, and have a bit each */
#define COMBINE_ROW 2
#define DISPATCH_TAG 3
#define COMBINE_TAG 4
#define BIT(kind) (1 << (kind))
#define ALL_ROWS (BIT(ROWS) - 1)
#define ID(e, t) ((e) * 8 + (t))
#define VALUE(id, source) ((id) * 2 + (source))
#define EPOCH_OF(id) ((id) / 8)
#define STEP_OF(id) ((id) % 8)

#ifdef PLANNED
#define EPOCH_FOR(t) ((t) >= 2 -> 2 : 1)
#else
#define EPOCH_FOR(t) e
#endif
#ifdef FAULT
#define WITHOUT_0(e) ((e) == 2)
#else
#define WITHOUT_0(e) false
#endif
#define IN(r, e) ((r) != 0 || !WITHOUT_0(e))
#define WRITER(e, t) (WITHOUT_0(e) -> 1 : (t) % 2)

/* rings and lanes: [source][kind]; a ring has room for one message of each kind */
#define KINDS 5
#define SLOT(source, kind) ((source) * KINDS + (kind))
byte head[2 * KINDS], payload[2 * KINDS], copies[2 * KINDS], busy[2 * KINDS]; /* head: an ID */
byte dups = DUPS, give_ups = GIVE_UPS;

/* the receiver: gate, window, what is parked */
byte gate = ID(1, 0), inside;
bit shut, let_in[2];
byte row[4], shared_row; /* row: [source][0, 1] */
byte tags[4];            /* [source][dispatch, combine] */
byte claimed[2], placed[2], count[2];
bit tag_due[2];
byte parked[2], parked_bits[2];

/* words, and what the sources and the receiver tell each other: steps */
byte begun[3], sent[3], gave_up[3], completed[3];
byte epochs = 1, first, promised[3];
bit reached[3];
bit wedge, given_up[STEPS + 1];

#define IS_FREE(s) (copies[s] == 0 && busy[s] == 0)
/* Rule N5: the row is copied into the ring, or there is no room. */
inline put(kind)
{
    if
    :: over
    :: !over && IS_FREE(SLOT(me, kind)) ->
        head[SLOT(me, kind)] = ID(e, t); payload[SLOT(me, kind)] = ID(e, t);
        copies[SLOT(me, kind)] = 1
    :: !over && !IS_FREE(SLOT(me, kind)) ->
#ifdef RING_USED_AGAIN
        payload[SLOT(me, kind)] = ID(e, t);
#endif
        over = 1; given_up[t] = 1
    fi
}

#ifdef WORDS_OVERTAKE_TAGS
#define IS_OVER(r) (gave_up[r] >= t || begun[r] > t)
#else
#define IS_OVER(r) ((gave_up[r] >= t || begun[r] > t) && completed[r] < t)
#endif
#define MISSES_DISPATCH(r) (IN(r, e) && begun[r] != t)
#define MISSES_COMBINE(r) (IN(r, e) && sent[r] != t)
#define MUST_WEDGE (wedge && me != 0 && promised[me] < epochs && e == epochs)
#define IS_ZOMBIE (me == 0 && e < epochs && WITHOUT_0(epochs))
#define PEER (1 - me)

#define WAIT_FOR_PEERS(misses)                                                                     \
    if                                                                                             \
    :: over                                                                                        \
    :: !over && !misses(PEER) && !misses(RECEIVER)                                                 \
    :: !over && ((misses(PEER) && IS_OVER(PEER)) || (misses(RECEIVER) && IS_OVER(RECEIVER))) ->    \
        over = 1                                                                                   \
    :: !over && (MUST_WEDGE || IS_ZOMBIE) -> over = 1; given_up[t] = 1                             \
    :: !over && MAY_GIVE_UP -> give_ups--; over = 1; given_up[t] = 1                              \
    fi

#define NEWER_STEP(r) (IN(r, e) && begun[r] > t + 1)
inline next_step(a, b)
{
    t = (NEWER_STEP(a) -> begun[a] : (NEWER_STEP(b) -> begun[b] : t + 1));
    e = EPOCH_FOR(t)
}
/* A fault view: e goes up, and the step at least to its first. */
inline install()
{
    e = epochs;
    if
    :: t + 1 < first -> t = first - 1
    :: else
    fi;
    reached[me] = t >= STEPS
}
#define MAY_INSTALL (WITHOUT_0(epochs) && me != 0 && e < epochs)
#define MAY_BEGIN (t < STEPS && promised[me] < e && !(WITHOUT_0(epochs) && me != 0 && e < epochs))

proctype sender(byte me)
{
    byte e = 1, t = 0;
    bit over = 0;

end_between:
    do
    :: atomic { MUST_WEDGE -> promised[me] = e }
    :: atomic { MAY_INSTALL -> install() }
    :: atomic { MAY_BEGIN ->
        next_step(PEER, RECEIVER);
        begun[me] = t;
#if ROWS >= 1
        put(0);
#endif
#if ROWS == 2
        put(1);
#endif
        put(DISPATCH_TAG) };
        atomic {
            WAIT_FOR_PEERS(MISSES_DISPATCH);
            if
            :: WRITER(e, t) == me -> put(COMBINE_ROW)
            :: else
            fi;
            put(COMBINE_TAG);
            if
            :: !over -> sent[me] = t
            :: else
            fi
        };
        atomic {
            WAIT_FOR_PEERS(MISSES_COMBINE);
            if
            :: over -> gave_up[me] = t
            :: else -> completed[me] = t
            fi;
            reached[me] = t >= STEPS;
            over = 0
        }
    od
}

/* How a message stands to the gate. */
#if defined(EPOCH_ONLY)
#define IS_OLDER(id) (EPOCH_OF(id) < EPOCH_OF(gate))
#define IS_NEWER(id) (EPOCH_OF(id) > EPOCH_OF(gate))
#elif defined(GATE_WITHOUT_VIEW)
#define IS_OLDER(id) (STEP_OF(id) < STEP_OF(gate))
#define IS_NEWER(id) (STEP_OF(id) > STEP_OF(gate))
#else
#define IS_OLDER(id) ((id) < gate)
#define IS_NEWER(id) ((id) > gate)
#endif
#define MASK(id, what)                                                                             \
    (what == DISPATCH_TAG -> ALL_ROWS                                                              \
                          : (WRITER(EPOCH_OF(id), STEP_OF(id)) == source -> BIT(COMBINE_ROW) : 0))
#ifdef TAG_BY_COUNT
#define ROWS_ARE_PLACED(id, what)                                                                  \
    (what == DISPATCH_TAG -> count[source] >= ROWS                                                 \
                          : (placed[source] & MASK(id, what)) == MASK(id, what))
#else
#define ROWS_ARE_PLACED(id, what) ((placed[source] & MASK(id, what)) == MASK(id, what))
#endif
#ifdef GATE_WITHOUT_VIEW
#define IS_LET_IN(source) true
#else
#define IS_LET_IN(source) let_in[source]
#endif
/* Something of this kind can be handled. A tag waits for its rows. */
#define IS_READY(kind)                                                                             \
    (copies[SLOT(source, kind)] > 0 &&                                                             \
     (kind < DISPATCH_TAG || IS_OLDER(head[SLOT(source, kind)]) ||                                 \
      IS_NEWER(head[SLOT(source, kind)]) || ROWS_ARE_PLACED(head[SLOT(source, kind)], kind)))
#define ID_HERE head[SLOT(source, kind)]
#define TAG(what) tags[source * 2 + (what == COMBINE_ROW || what == COMBINE_TAG -> 1 : 0)]
#ifdef NO_CLAIM
#define IS_CLAIMED false
#elif defined(TAG_BY_COUNT)
#define IS_CLAIMED false
#else
#define IS_CLAIMED (kind < DISPATCH_TAG && (claimed[source] & BIT(kind)))
#endif

/* Rule N2: one layer-0 dispatch a source; a later step replaces it. */
inline park()
{
    assert(kind != COMBINE_ROW && kind != COMBINE_TAG); /* N2 */
#ifndef NEWER_DROPPED
    if
    :: parked[source] < ID_HERE -> parked[source] = ID_HERE; parked_bits[source] = 0
    :: else
    fi;
    if
    :: parked[source] == ID_HERE -> parked_bits[source] = parked_bits[source] | BIT(kind)
    :: else
    fi
#endif
}

inline leave()
{
    busy[SLOT(source, kind)]--; inside--;
    if
    :: IS_FREE(SLOT(source, kind)) -> ID_HERE = 0; payload[SLOT(source, kind)] = 0
    :: else
    fi;
    kind = 0
}

proctype placer(byte source)
{
    byte kind = 0;
    bit writes = 0;

end:
    do
    :: atomic { /* enter, check; what is not to be written leaves at once */
        !shut && (IS_READY(0) || IS_READY(1) || IS_READY(2) || IS_READY(3) || IS_READY(4)) ->
        if
        :: IS_READY(0)
        :: IS_READY(1) -> kind = 1
        :: IS_READY(2) -> kind = 2
        :: IS_READY(3) -> kind = 3
        :: IS_READY(4) -> kind = 4
        fi;
        busy[SLOT(source, kind)]++; inside++;
        if
        :: copies[SLOT(source, kind)]--
        :: dups > 0 -> dups-- /* the lane failed: it is sent again */
        fi;
        if
        :: IS_OLDER(ID_HERE) || !IS_LET_IN(source)
        :: !IS_OLDER(ID_HERE) && IS_LET_IN(source) && IS_NEWER(ID_HERE) -> park()
        :: else ->
            writes = TAG(kind) != ID_HERE && !IS_CLAIMED;
            if
            :: writes && kind < DISPATCH_TAG -> claimed[source] = claimed[source] | BIT(kind)
            :: else
            fi
        fi;
        if
        :: !writes -> leave()
        :: else
        fi };
        if
        :: atomic { writes -> /* write, leave */
            if
            :: kind < COMBINE_ROW ->
                row[source * 2 + kind] = VALUE(payload[SLOT(source, kind)], source)
            :: kind == COMBINE_ROW -> shared_row = VALUE(payload[SLOT(source, kind)], source)
            :: else -> TAG(kind) = ID_HERE
            fi;
            if
            :: kind < DISPATCH_TAG ->
                placed[source] = placed[source] | BIT(kind);
#ifdef TAG_BY_COUNT
                count[source] = count[source] + (kind < COMBINE_ROW -> 1 : 0);
#endif
                if
                :: tag_due[source] && ROWS_ARE_PLACED(gate, DISPATCH_TAG) ->
                    tags[source * 2] = gate; tag_due[source] = 0
                :: else
                fi
            :: else
            fi;
            writes = 0; leave() }
        :: else
        fi
    od
}

#ifdef FLAG_WITHOUT_QUIESCENCE
#define QUIET true
#else
#define QUIET (inside == 0)
#endif
/* What was parked for this step is placed. */
inline unpark(source)
{
    claimed[source] = 0; placed[source] = 0; count[source] = 0; tag_due[source] = 0;
    if
    :: parked[source] == gate && IS_LET_IN(source) ->
        placed[source] = parked_bits[source] & 7;
        claimed[source] = placed[source];
        count[source] = (placed[source] & 1) + (placed[source] & 2) / 2;
        if
        :: placed[source] & 1 -> row[source * 2] = VALUE(gate, source)
        :: else
        fi;
        if
        :: placed[source] & 2 -> row[source * 2 + 1] = VALUE(gate, source)
        :: else
        fi;
        if
        :: !(parked_bits[source] & BIT(DISPATCH_TAG))
        :: parked_bits[source] == (ALL_ROWS | BIT(DISPATCH_TAG)) -> tags[source * 2] = gate
        :: else -> tag_due[source] = 1
        fi
    :: else
    fi;
    if
    :: parked[source] <= gate -> parked[source] = 0; parked_bits[source] = 0
    :: else
    fi
}

#define MISSES_TAG(phase, r) (IN(r, e) && tags[(r) * 2 + (phase)] != ID(e, t))
inline wait_for_tags(phase)
{
    if
    :: over
    :: !over && !MISSES_TAG(phase, 0) && !MISSES_TAG(phase, 1)
    :: !over && ((MISSES_TAG(phase, 0) && IS_OVER(0)) || (MISSES_TAG(phase, 1) && IS_OVER(1))) ->
        over = 1
    :: atomic { !over && MUST_WEDGE -> over = 1; given_up[t] = 1 }
    :: atomic { !over && MAY_GIVE_UP -> give_ups--; over = 1; given_up[t] = 1 }
    fi
}

#if ROWS == 2
#define IS_WRONG(r) (row[(r) * 2] != VALUE(ID(e, t), r) || row[(r) * 2 + 1] != VALUE(ID(e, t), r))
#elif ROWS == 1
#define IS_WRONG(r) (row[(r) * 2] != VALUE(ID(e, t), r))
#else
#define IS_WRONG(r) false
#endif
#ifdef BEGIN_BY_TAG
#define IS_CALLED (STEP_OF(tags[0]) > t || STEP_OF(tags[2]) > t)
#else
#define IS_CALLED true
#endif

proctype receiver()
{
    byte me = RECEIVER, e = 1, t = 0;
    bit over = 0, wrong = 0;

end_between:
    do
    /* wedged: the own gate is shut, nobody is inside; then the promise (N1, N6) */
    :: atomic { MUST_WEDGE && QUIET -> shut = 1; promised[me] = e }
    :: atomic { MAY_INSTALL -> install() }
    :: atomic { MAY_BEGIN && IS_CALLED && (QUIET || !over) ->
        over = 0; wrong = 0;
        next_step(0, 1);
        gate = ID(e, t); shut = 0; let_in[0] = IN(0, e); let_in[1] = 1;
        unpark(0); unpark(1);
        begun[me] = t };
        wait_for_tags(0);
        if
        :: !over && IN(0, e) && IS_WRONG(0) -> wrong = 1
        :: else
        fi;
        if
        :: !over && IS_WRONG(1) -> wrong = 1
        :: else
        fi;
        if
        :: !over -> sent[me] = t
        :: else
        fi;
        wait_for_tags(1);
        if
        :: !over && shared_row != VALUE(ID(e, t), WRITER(e, t)) -> wrong = 1
        :: else
        fi;
        atomic {
            assert(over || !wrong);         /* S5, S8: N1, N2, N4, N5 */
            assert(!over || given_up[t]);   /* N3 */
            if
            :: over -> gave_up[me] = t
            :: else -> completed[me] = t
            fi;
            reached[me] = t >= STEPS
        }
    od
}

/* The members that stay have promised; one step stands for register and proposer. */
proctype authority()
{
end:
    do
#ifdef FAULT
    :: atomic { epochs == 1 && !wedge -> wedge = 1 }
    :: atomic { epochs == 1 && wedge && promised[1] == 1 && promised[2] == 1 ->
        first = (begun[1] > begun[2] -> begun[1] : begun[2]) + 1;
        epochs = 2; wedge = 0 }
#else
    :: false
#endif
    od
}

init {
    atomic {
        let_in[0] = 1; let_in[1] = 1;
        run sender(0); run sender(1); run receiver(); run authority();
        run placer(0); run placer(1);
#if PLACERS == 2
        run placer(0); run placer(1)
#endif
    };
    timeout -> assert(reached[0] && reached[1] && reached[2]) /* L2: all have ended their last step */
}
