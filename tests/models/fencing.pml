/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank reads from its window: tags, late stores, generations, abort words, combine copies.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - D1: payload first, then the tag, compared for equality; parity. D2: the second look at the
 *   tags and at the abort words ("Re-checking what was read"). D3: abort words. D5: a step number
 *   is never used again; jumps.
 * - P1, P4 with -DONE_BUFFER: one buffer in the place of two parities. The rows of the combine are
 *   stored before the second look at the dispatch, and finish judges words of this very step.
 * - M2: a fault view switches the combine copy, and the old one is used again only when the stores
 *   of every expelled generation have ended. M3: a planned view is flipped to behind a step whose
 *   headers announced it. M7: a seat's next generation is let in only after the end of its
 *   predecessor was seen. M8: a step needs every member.
 *
 * Asserted: S5, S12: what passes the second look was written for this epoch, step and layer by the
 * present generation of its source. A step that ends OK here was begun under one view.
 *
 * The model follows graphs/kernels/dispatch.h, combine.h, exchange.h, step_nodes.h and
 * membership/step/step.c. Seat 1 may be expelled while it lives (a zombie, which stores at any
 * later moment), and come back as generation 2. Seat 0 stays. A row is one word that says which
 * rank wrote it and for what. A rank reads it at any moment between the two looks, which covers
 * every row of a torn payload. With both seats in the view, rows go both ways. The combine row of
 * a token whose expert was on the other seat is written by that seat. A rank that is alone writes
 * it itself.
 *
 * Left out or coarser:
 * - Memory is sequentially consistent: the order that fences give is the order of statements here.
 * - Deadlines pass at any moment. The authority (cores and register: agreement.pml) acts in one
 *   step once the ranks that it keeps have promised. flip.pml has the details of planned views.
 * - The end of a process and the end of its stores are two moments (P8). A dead process begins no
 *   step and promises nothing. What it had launched goes on storing until the second moment, which
 *   alone frees the copy and the seat. That the margin covers it is taken for granted. */
#ifndef STEPS
#define STEPS 4
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef LAYERS
#define LAYERS 1 /* odd: a step's parity is that of the next but one */
#endif

/* A tag: epoch, step, layer; phases have arrays of their own. A row also names its writer. */
#define TAG(e, t, l) ((e) * 64 + (t) * 8 + (l) + 1)
#define ROW(tag, generation) ((tag) * 4 + (generation))
#define EPOCH_OF(tag) ((tag) / 64)
#define STEP_OF(tag) (((tag) % 64) / 8)
#ifdef ONE_BUFFER
#define PARITY(t, l) 0
#else
#define PARITY(t, l) (((t) * LAYERS + (l)) % 2)
#endif

/* windows: [owner][parity] what the other seat stores there */
#define AT(owner, parity) ((owner) * 2 + (parity))
short dispatch_row[4];
short tags[8];        /* [phase][owner][parity] */
#define DISPATCH 0
#define COMBINED 1
#define TAGS(phase, owner, parity) tags[(phase) * 4 + (owner) * 2 + (parity)]
byte header[4];       /* announced epoch, beside the dispatch row */
short combine_row[8]; /* [owner][copy][parity] */
#define COMBINE(owner, copy, parity) combine_row[(owner) * 4 + (copy) * 2 + (parity)]
short abort_word[2];  /* [owner] */

/* views */
byte epochs = 1;       /* newest committed */
bit paired[EPOCHS + 1];  /* seat 1 is a member */
byte second[EPOCHS + 1]; /* its generation */
bit copy[EPOCHS + 1];
bit planned[EPOCHS + 1];
byte first[EPOCHS + 1];
byte quarantined;      /* expelled, end not observed: a bit per generation */
bit dead[3], stored[3], started[3]; /* its process has ended; its stores have */

/* what the authority and the ranks tell each other */
bit wedge[2];
byte promised[2], promised_step[2];
byte live[2]; /* epoch of the live bank */

/* The combine copy is chosen here, and nobody else decides. */
inline commit_fault(members, generation)
{
    epochs++;
    paired[epochs] = members;
    second[epochs] = generation;
#ifdef KEEP_COPY
    copy[epochs] = copy[epochs - 1];
#else
    copy[epochs] = 1 - copy[epochs - 1];
#endif
    first[epochs] = promised_step[0] + 1;
    if
    :: members && promised_step[1] >= first[epochs] -> first[epochs] = promised_step[1] + 1
    :: else
    fi
}

#define NEWEST_IS_PAIR (paired[epochs])
#define ALL_FLIPPED (live[0] == epochs && (!NEWEST_IS_PAIR || live[1] == epochs))
#ifdef REUSE_COPY
#define OLD_COPY_IS_FREE 1
#else
#define OLD_COPY_IS_FREE ((!(quarantined & 2) || ENDED(1)) && (!(quarantined & 4) || ENDED(2)))
#endif
#ifdef NO_GENERATION_FENCE
#define PREDECESSOR_IS_GONE 1
#else
#define PREDECESSOR_IS_GONE ENDED(1)
#endif
#ifdef END_OF_PROCESS_FREES
#define ENDED(generation) dead[generation]
#else
#define ENDED(generation) stored[generation]
#endif

/* A new process brings a window of its own. */
inline fresh_window()
{
    d_step {
        dispatch_row[AT(1, 0)] = 0; dispatch_row[AT(1, 1)] = 0;
        TAGS(DISPATCH, 1, 0) = 0; TAGS(DISPATCH, 1, 1) = 0;
        TAGS(COMBINED, 1, 0) = 0; TAGS(COMBINED, 1, 1) = 0;
        header[AT(1, 0)] = 0; header[AT(1, 1)] = 0;
        COMBINE(1, 0, 0) = 0; COMBINE(1, 0, 1) = 0; COMBINE(1, 1, 0) = 0; COMBINE(1, 1, 1) = 0;
        abort_word[1] = 0
    }
}

proctype authority()
{
end:
    do
    :: atomic { !dead[1] -> dead[1] = 1 }
    :: atomic { started[2] && !dead[2] -> dead[2] = 1 }
    :: atomic { dead[1] && !stored[1] -> stored[1] = 1 }
    :: atomic { dead[2] && !stored[2] -> stored[2] = 1 }
    /* both are asked to stop; seat 1 may stay silent */
    :: atomic { epochs < EPOCHS && !wedge[0] -> wedge[0] = 1; wedge[1] = NEWEST_IS_PAIR }
    :: atomic { epochs < EPOCHS && wedge[0] && promised[0] == epochs && NEWEST_IS_PAIR &&
                promised[1] == epochs && OLD_COPY_IS_FREE ->
        commit_fault(1, second[epochs]); wedge[0] = 0; wedge[1] = 0 }
    :: atomic { epochs < EPOCHS && wedge[0] && promised[0] == epochs && OLD_COPY_IS_FREE ->
        if
        :: NEWEST_IS_PAIR -> quarantined = quarantined | (1 << second[epochs])
        :: else
        fi;
        commit_fault(0, second[epochs]); wedge[0] = 0; wedge[1] = 0 }
#ifdef REPORT_BEFORE_DRAINED
    :: atomic { wedge[1] && NEWEST_IS_PAIR && promised[1] != epochs ->
        promised[1] = epochs; promised_step[1] = promised_step[0] }
#endif
    /* planned: somebody joins, or slots change; staged everywhere is taken for granted */
    :: atomic { epochs < EPOCHS && !wedge[0] && ALL_FLIPPED && !NEWEST_IS_PAIR &&
                !started[2] && PREDECESSOR_IS_GONE ->
        epochs++;
        paired[epochs] = 1; second[epochs] = 2; copy[epochs] = copy[epochs - 1];
        planned[epochs] = 1; started[2] = 1;
        fresh_window();
        run rank(1, 2) }
    :: atomic { epochs < EPOCHS && !wedge[0] && ALL_FLIPPED && NEWEST_IS_PAIR ->
        epochs++;
        paired[epochs] = 1; second[epochs] = second[epochs - 1]; copy[epochs] = copy[epochs - 1];
        planned[epochs] = 1 }
    od
}

/* One rank. `me` seat, `generation` of its process (1, 2; that in seat 0 is 3). */
#define LIVES (me == 0 || !dead[generation])
#define WRITER generation
#define SOURCE (me == 0 -> second[e] : 3)
#define CURRENT (me == 0 || (paired[epochs] && second[epochs] == generation))
#define TAG_STEP(p) (EPOCH_OF(TAGS(DISPATCH, me, p)) == e -> STEP_OF(TAGS(DISPATCH, me, p)) : 0)
#define PEER_STEP (TAG_STEP(0) > TAG_STEP(1) -> TAG_STEP(0) : TAG_STEP(1))
#define GAVE_UP                                                                                    \
    (EPOCH_OF(abort_word[me]) == e && abort_word[me] != 0 && STEP_OF(abort_word[me]) >= t)
#ifdef ONE_BUFFER /* rule P1: finish judges words of this very step */
#define JUDGED (GAVE_UP && (l + 1 < LAYERS || STEP_OF(abort_word[me]) == t))
#else
#define JUDGED GAVE_UP
#endif
#define NEWER_TAG(p) (TAGS(DISPATCH, me, p) != 0 && EPOCH_OF(TAGS(DISPATCH, me, p)) > e &&     \
                      STEP_OF(TAGS(DISPATCH, me, p)) >= t)
#define AHEAD_TAG(p) (TAGS(DISPATCH, me, p) != 0 && EPOCH_OF(TAGS(DISPATCH, me, p)) == e &&    \
                      STEP_OF(TAGS(DISPATCH, me, p)) > t)
#if defined(GE_INSTEAD_OF_EQ)
#define ARRIVED(phase) (TAGS(phase, me, p) >= tag)
#elif defined(TAG_WITHOUT_EPOCH)
#define ARRIVED(phase) (TAGS(phase, me, p) != 0 && TAGS(phase, me, p) % 64 == tag % 64)
#else
#define ARRIVED(phase) (TAGS(phase, me, p) == tag)
#endif

/* Rule D1: publish, then wait; every wait ends. A rank that aborts says so, and does no more in
 * this step. */
inline exchange(phase)
{
    TAGS(phase, you, p) = tag;
    wait_for(phase)
}

inline wait_for(phase)
{
    if
    :: atomic { ARRIVED(phase) -> skip }
    :: atomic { !ARRIVED(phase) && GAVE_UP -> aborted = 1 }
    :: atomic { !ARRIVED(phase) && !GAVE_UP && (NEWER_TAG(0) || NEWER_TAG(1)) ->
        aborted = 1; newer = 1 }
    :: atomic { !ARRIVED(phase) && !GAVE_UP && (AHEAD_TAG(0) || AHEAD_TAG(1)) -> aborted = 1 }
    :: atomic { !ARRIVED(phase) -> aborted = 1 } /* deadline, or our own abort word */
    fi
}

#ifdef NO_ABORT_WORD
#define POST_ABORT skip
#else
#define POST_ABORT abort_word[you] = tag
#endif

/* Rule D2, second half: look at the tags and abort words again; then what was read counts. */
inline look_again(phase, gave_up)
{
#ifndef NO_RECHECK
    if
    :: !ARRIVED(phase) -> aborted = 1
#ifndef NO_ABORT_WORD_RECHECK
    :: gave_up -> aborted = 1
#endif
    :: else
    fi;
#endif
    assert(aborted || seen == wanted); /* S5, S12: nothing stale, nothing of a predecessor */
    seen = 0;
    wanted = 0
}

proctype rank(byte me; byte generation)
{
    byte e = 1, t = 0, l = 0, p = 0, due = 0, or = 0;
    bit aborted = 0, newer = 0, follows = 0;
    short tag = 0, seen = 0, wanted = 0;
    byte you = 1 - me;

    atomic {
        if
        :: generation == 2 -> /* it follows its peers' first step */
            e = epochs; follows = 1; live[me] = e; promised[me] = 0; wedge[me] = 0;
        :: else
        fi
    }
    {
end_between:
    do
    /* the promise; a zombie may never give it */
    :: atomic { LIVES && CURRENT && wedge[me] && promised[me] != epochs ->
        promised[me] = epochs; promised_step[me] = t; due = 0; newer = 0 }
    /* a fault view: e goes up, and the step at least to its first */
    :: atomic { LIVES && CURRENT && e < epochs && !planned[epochs] && promised[me] < epochs &&
                (me == 0 || (paired[epochs] && second[epochs] == generation)) ->
        e = epochs; live[me] = e; due = 0; newer = 0; follows = 0;
        if :: t + 1 < first[e] -> t = first[e] - 1 :: else fi }
    /* a planned view: behind the step that announced it, or after meeting its tags */
    :: atomic { LIVES && CURRENT && e + 1 == epochs && planned[epochs] && (due == epochs || newer) &&
                promised[me] < epochs && !wedge[me] ->
        e = epochs; live[me] = e; due = 0; newer = 0 }
    :: atomic { LIVES && CURRENT && t < STEPS && !newer && due == 0 && promised[me] < e &&
                (!follows || PEER_STEP > 0) ->
        t = (PEER_STEP > t -> PEER_STEP : t + 1);
        follows = 0;
        aborted = 0; or = 0; l = 0;
        /* what this rank knows to be committed it announces */
        if
        :: !wedge[me] && planned[epochs] && e + 1 == epochs -> or = epochs
        :: true
        fi };
        do
        :: atomic { l < LAYERS && !paired[e] -> /* alone: its own rows, among a zombie's */
            p = PARITY(t, l); tag = TAG(e, t, l);
            COMBINE(me, copy[e], p) = ROW(tag, WRITER) };
            atomic { seen = COMBINE(me, copy[e], p); assert(seen == ROW(tag, WRITER)); seen = 0; l++ }
        :: atomic { l < LAYERS && paired[e] -> /* send */
            p = PARITY(t, l); tag = TAG(e, t, l);
            dispatch_row[AT(you, p)] = ROW(tag, WRITER);
            header[AT(you, p)] = or };
            exchange(DISPATCH);
            if
            :: atomic { aborted -> POST_ABORT }; break
            :: atomic { !aborted -> /* unpack */
                seen = dispatch_row[AT(me, p)];
                wanted = ROW(tag, SOURCE);
                if
                :: l == 0 && header[AT(me, p)] > or -> or = header[AT(me, p)]
                :: else
                fi }
            fi;
#ifdef ONE_BUFFER /* rule P1: whoever stores the next tag looks, behind the rows */
            COMBINE(you, copy[e], p) = ROW(tag, WRITER);
#endif
            atomic { look_again(DISPATCH, GAVE_UP) };
            if
            :: atomic { aborted -> POST_ABORT }; break
#ifdef ONE_BUFFER
            :: atomic { !aborted -> skip }
#else
            :: atomic { !aborted -> COMBINE(you, copy[e], p) = ROW(tag, WRITER) }
#endif
            fi;
            exchange(COMBINED);
            if
            :: atomic { aborted -> POST_ABORT }; break
            :: atomic { !aborted -> /* reduce */
                seen = COMBINE(me, copy[e], p);
                wanted = ROW(tag, SOURCE) }
            fi;
            atomic {
                look_again(COMBINED, JUDGED);
                l++;
                if
                :: aborted && l < LAYERS -> POST_ABORT /* behind the last one nobody posts */
                :: else
                fi
            };
            if
            :: aborted -> break
            :: else
            fi
        :: l == LAYERS -> break
        od;
        atomic {
            if
            :: !aborted -> due = or
            :: else
            fi;
            or = 0; tag = 0; p = 0; l = 0; aborted = 0
        }
    od
    } unless { me == 1 && stored[generation] }
}

init {
    atomic {
        paired[1] = 1; second[1] = 1; first[1] = 1; live[0] = 1; live[1] = 1;
        run rank(0, 3);
        run rank(1, 1);
        run authority()
    }
}
