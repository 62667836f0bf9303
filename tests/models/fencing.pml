/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank reads from its window: tags, late stores, generations, abort words, colours.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - D1: payload first, then the tag, compared for equality. D2, P1: the second look at the tags and
 *   at the abort words, by whoever stores the chain's next tag, behind the rows; finish judges words
 *   of this very step. P4: one buffer for each phase. D3: abort words. D5: a step number is never
 *   used again; jumps.
 * - M2, P7: a fault view takes the other colour of windows. If a generation whose stores have not
 *   ended has that colour in its tables, the view names new memory for it. M3: a planned view is
 *   flipped to behind a step whose headers announced it. M7, P7: a seat's next generation is let in
 *   only after the end of its predecessor was seen, and only into memory that this one cannot store
 *   into. P8: only the end of the stores frees. M8: a step needs every member.
 *
 * Asserted: S5, S12: what passes the second look was written for this epoch, step and layer by the
 * present generation of its source. A step that ends OK here was begun under one view.
 *
 * The model follows graphs/kernels/dispatch.h, combine.h, exchange.h, step_nodes.h,
 * membership/view/view_colour.c and membership/step/step.c. Seat 1 may be expelled while it lives
 * (a zombie, which stores at any later moment), leave by a planned view, and come back as
 * generation 2. Seat 0 stays. A row is one word that says which rank wrote it and for what. A rank
 * reads it at any moment between the two looks, which covers every row of a torn payload. With both
 * seats in the view, rows go both ways. The combine row of a token whose expert was on the other
 * seat is written by that seat. A rank that is alone writes it itself.
 *
 * All that a peer stores into has a colour: rows, headers, tags and abort words. A store goes to the
 * memory that the tables of its epoch name. Once that memory was replaced, nobody reads it.
 *
 * Left out or coarser:
 * - Memory is sequentially consistent: the order that fences give is the order of statements here.
 * - Deadlines pass at any moment. The authority (cores and register: agreement.pml) acts in one
 *   step once the ranks that it keeps have promised. flip.pml has the details of planned views, and
 *   colours.pml those of new memory.
 * - The end of a process and the end of its stores are two moments (P8). A dead process begins no
 *   step and promises nothing. What it had launched goes on storing until the second moment, which
 *   may never come. */
#ifndef STEPS
#define STEPS 4
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef LAYERS
#define LAYERS 1
#endif

/* A tag: epoch, step, layer; phases have arrays of their own. A row also names its writer. */
#define TAG(e, t, l) ((e) * 64 + (t) * 8 + (l) + 1)
#define ROW(tag, generation) ((tag) * 4 + (generation))
#define EPOCH_OF(tag) ((tag) / 64)
#define STEP_OF(tag) (((tag) % 64) / 8)

/* windows: [owner][colour] what the other seat stores there */
#define AT(owner, colour) ((owner) * 2 + (colour))
#define DISPATCH 0
#define COMBINED 1
#define TAGS(phase, owner, colour) tags[(phase) * 4 + (owner) * 2 + (colour)]
short dispatch_row[4];
short combine_row[4];
short tags[8];       /* [phase][owner][colour] */
byte header[4];      /* announced epoch, beside the dispatch row */
short abort_word[4];
byte memory[2];      /* [colour] serial number of the memory that is there now */

/* views */
byte epochs = 1;       /* newest committed */
bit paired[EPOCHS + 1];  /* seat 1 is a member */
byte second[EPOCHS + 1]; /* its generation */
bit colour[EPOCHS + 1];  /* of the windows that its tables name */
byte serial[EPOCHS + 1]; /* of that colour's memory */
bit planned[EPOCHS + 1];
byte first[EPOCHS + 1];
byte gone;     /* out of the view: a bit per generation */
byte last[3];  /* the newest view that each was in: what it may have in its tables (P7) */
bit dead[3], stored[3], started[3]; /* its process has ended; its stores have */

/* what the authority and the ranks tell each other */
bit wedge[2];
byte promised[2], promised_step[2];
byte live[2]; /* epoch of the live bank */

#ifdef END_OF_PROCESS_FREES
#define ENDED(generation) dead[generation]
#else
#define ENDED(generation) stored[generation]
#endif
/* A generation out of the view may still store into the memory that a colour has now. */
#define ONE_STORES(generation, c)                                                                  \
    ((gone >> (generation) & 1) && !ENDED(generation) && colour[last[generation]] == (c) &&        \
     serial[last[generation]] == memory[c])
#define STORES_INTO(c) (ONE_STORES(1, c) || ONE_STORES(2, c))
#ifdef NO_SEAT_FENCE
#define SEAT_IS_FREE 1
#else
#define SEAT_IS_FREE (dead[1] && !ONE_STORES(1, colour[epochs]))
#endif

/* What is new is all zero. */
inline wipe(owner, c)
{
    dispatch_row[AT(owner, c)] = 0;
    combine_row[AT(owner, c)] = 0;
    TAGS(DISPATCH, owner, c) = 0;
    TAGS(COMBINED, owner, c) = 0;
    header[AT(owner, c)] = 0;
    abort_word[AT(owner, c)] = 0
}

/* The colour is chosen here, and nobody else decides. */
inline commit_fault(members, generation)
{
    d_step {
        epochs++;
        paired[epochs] = members;
        second[epochs] = generation;
#ifdef KEEP_COLOUR
        colour[epochs] = colour[epochs - 1];
#else
        colour[epochs] = 1 - colour[epochs - 1];
        if
#ifndef UNCLEAN_COLOUR
        :: STORES_INTO(colour[epochs]) -> /* new memory, in all windows */
            memory[colour[epochs]]++;
            wipe(0, colour[epochs]);
            wipe(1, colour[epochs])
#endif
        :: else
        fi;
#endif
        serial[epochs] = memory[colour[epochs]];
        first[epochs] = promised_step[0] + 1;
        if
        :: members && promised_step[1] >= first[epochs] -> first[epochs] = promised_step[1] + 1
        :: else
        fi;
        if
        :: members -> last[generation] = epochs
        :: else
        fi;
        wedge[0] = 0;
        wedge[1] = 0
    }
}

/* Members, generation: those of the view before, in its colour. */
inline commit_planned(members, generation)
{
    epochs++;
    paired[epochs] = members;
    second[epochs] = generation;
    colour[epochs] = colour[epochs - 1];
    serial[epochs] = serial[epochs - 1];
    planned[epochs] = 1;
    if
    :: members -> last[generation] = epochs
    :: else
    fi
}

#define NEWEST_IS_PAIR (paired[epochs])
#define ALL_FLIPPED (live[0] == epochs && (!NEWEST_IS_PAIR || live[1] == epochs))

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
                promised[1] == epochs ->
        commit_fault(1, second[epochs]) }
    :: atomic { epochs < EPOCHS && wedge[0] && promised[0] == epochs ->
        if
        :: NEWEST_IS_PAIR -> gone = gone | (1 << second[epochs])
        :: else
        fi;
        commit_fault(0, second[epochs]) }
#ifdef REPORT_BEFORE_DRAINED
    :: atomic { wedge[1] && NEWEST_IS_PAIR && promised[1] != epochs ->
        promised[1] = epochs; promised_step[1] = promised_step[0] }
#endif
    /* planned: somebody joins or leaves, or slots change; staged everywhere is taken for granted */
    :: atomic { epochs < EPOCHS && !wedge[0] && ALL_FLIPPED && !NEWEST_IS_PAIR &&
                !started[2] && SEAT_IS_FREE ->
        commit_planned(1, 2);
        started[2] = 1;
        wipe(1, 0); /* a new process brings a window of its own */
        wipe(1, 1);
        run rank(1, 2) }
    :: atomic { epochs < EPOCHS && !wedge[0] && ALL_FLIPPED && NEWEST_IS_PAIR ->
        commit_planned(1, second[epochs - 1]) }
#ifdef LEAVES
    :: atomic { epochs < EPOCHS && !wedge[0] && ALL_FLIPPED && NEWEST_IS_PAIR ->
        gone = gone | (1 << second[epochs]);
        commit_planned(0, second[epochs - 1]) }
#endif
    od
}

/* One rank. `me` seat, `generation` of its process (1, 2; that in seat 0 is 3). */
#define LIVES (me == 0 || !dead[generation])
#define WRITER generation
#define SOURCE (me == 0 -> second[e] : 3)
/* who leaves runs the old view until it has seen the announcement */
#define LEAVING (planned[epochs] && !paired[epochs] && last[generation] + 1 == epochs)
#define CURRENT                                                                                    \
    (me == 0 || (paired[epochs] && second[epochs] == generation) || LEAVING)
#define MINE AT(me, colour[e])
#define THEIRS AT(you, colour[e])
#define MY_TAG(phase) TAGS(phase, me, colour[e])
#define PEER_STEP                                                                                  \
    (EPOCH_OF(MY_TAG(DISPATCH)) == e -> STEP_OF(MY_TAG(DISPATCH)) : 0)
#define GAVE_UP                                                                                    \
    (EPOCH_OF(abort_word[MINE]) == e && abort_word[MINE] != 0 && STEP_OF(abort_word[MINE]) >= t)
/* rule P1: finish judges words of this very step */
#define JUDGED (GAVE_UP && (l + 1 < LAYERS || STEP_OF(abort_word[MINE]) == t))
#define NEWER_TAG                                                                                  \
    (MY_TAG(DISPATCH) != 0 && EPOCH_OF(MY_TAG(DISPATCH)) > e && STEP_OF(MY_TAG(DISPATCH)) >= t)
#define AHEAD_TAG                                                                                  \
    (MY_TAG(DISPATCH) != 0 && EPOCH_OF(MY_TAG(DISPATCH)) == e && STEP_OF(MY_TAG(DISPATCH)) > t)
#if defined(GE_INSTEAD_OF_EQ)
#define ARRIVED(phase) (MY_TAG(phase) >= tag)
#elif defined(TAG_WITHOUT_EPOCH)
#define ARRIVED(phase) (MY_TAG(phase) != 0 && MY_TAG(phase) % 64 == tag % 64)
#else
#define ARRIVED(phase) (MY_TAG(phase) == tag)
#endif
/* Into the memory that the tables of this epoch name; that of old is read by nobody. */
#define PUT(cell, value) cell = (serial[e] == memory[colour[e]] -> (value) : cell)

/* Rule D1: publish, then wait; every wait ends. A rank that aborts says so, and does no more in
 * this step. */
inline exchange(phase)
{
    PUT(TAGS(phase, you, colour[e]), tag);
    wait_for(phase)
}

inline wait_for(phase)
{
    if
    :: atomic { ARRIVED(phase) -> skip }
    :: atomic { !ARRIVED(phase) && GAVE_UP -> aborted = 1 }
    :: atomic { !ARRIVED(phase) && !GAVE_UP && NEWER_TAG -> aborted = 1; newer = 1 }
    :: atomic { !ARRIVED(phase) && !GAVE_UP && AHEAD_TAG -> aborted = 1 }
    :: atomic { !ARRIVED(phase) -> aborted = 1 } /* deadline, or our own abort word */
    fi
}

#ifdef NO_ABORT_WORD
#define POST_ABORT skip
#else
#define POST_ABORT PUT(abort_word[THEIRS], tag)
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
    byte e = 1, t = 0, l = 0, due = 0, or = 0;
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
                promised[me] < epochs && !wedge[me] && (me == 0 || paired[epochs]) ->
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
            tag = TAG(e, t, l);
            PUT(combine_row[MINE], ROW(tag, WRITER)) };
            atomic { seen = combine_row[MINE]; assert(seen == ROW(tag, WRITER)); seen = 0; l++ }
        :: atomic { l < LAYERS && paired[e] -> /* send */
            tag = TAG(e, t, l);
            PUT(dispatch_row[THEIRS], ROW(tag, WRITER));
            PUT(header[THEIRS], or) };
            exchange(DISPATCH);
            if
            :: atomic { aborted -> POST_ABORT }; break
            :: atomic { !aborted -> /* unpack */
                seen = dispatch_row[MINE];
                wanted = ROW(tag, SOURCE);
                if
                :: l == 0 && header[MINE] > or -> or = header[MINE]
                :: else
                fi }
            fi;
            /* rule P1: whoever stores the next tag looks, behind the rows */
            PUT(combine_row[THEIRS], ROW(tag, WRITER));
            atomic { look_again(DISPATCH, GAVE_UP) };
            if
            :: atomic { aborted -> POST_ABORT }; break
            :: atomic { !aborted -> skip }
            fi;
            exchange(COMBINED);
            if
            :: atomic { aborted -> POST_ABORT }; break
            :: atomic { !aborted -> /* reduce */
                seen = combine_row[MINE];
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
            or = 0; tag = 0; l = 0; aborted = 0
        }
    od
    } unless { me == 1 && stored[generation] }
}

init {
    atomic {
        paired[1] = 1; second[1] = 1; first[1] = 1; live[0] = 1; live[1] = 1; last[1] = 1;
        run rank(0, 3);
        run rank(1, 1);
        run authority()
    }
}
