/* SPDX-License-Identifier: Apache-2.0 */
/* A step with one or two chains (micro-batches), one receive buffer per chain, and sends that
 * publish what they stored.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - P1: the second look (D2) is taken by whoever stores the chain's next tag: all lanes look,
 *   barrier, first tag. For the last combine: finish, abort words of this very step only.
 * - P3: one step number for all chains; what aborts one chain aborts the step, and the step ends
 *   when the nodes of all its chains have ended.
 * - P4: regions and scratch per chain; a send that is not the next of its chain is refused.
 * - P5: the interleaving of the chains is the same on all ranks.
 * - D3: the abort word is stored before any row of a later step. D5: jumps.
 *
 * Asserted:
 * - S5, S9: a step that ends OK has read only rows of its own step, layer and chain. Nor was any
 *   of them computed from other rows: a rank that read a wrong row taints all that it sends.
 * - P1, P3: a step ends ABORTED only if some rank gave up that very step. So a step that nobody
 *   gave up is kept by all.
 * - L2: when nothing more can happen, every rank has ended its last step.
 *
 * The model follows graphs/kernels (dispatch, exchange, combine, finish) as rules P1 to P5 ask for
 * them. Each rank has one token per chain. Its dispatch row goes to every peer. Its combine row is
 * one place that the rank of the expert writes; with three ranks the routing changes from step to
 * step and from layer to layer. Experts may read dispatch rows where they lie, until the chain's
 * next send. A rank may give a step up at each wait and at each publish (a deadline, or its host):
 * GIVE_UPS times in all, at any place.
 *
 * The nodes of all chains are in one stream, in the order of `order`: sends first, or any order if
 * FREE_ORDER (the rank that comes first decides, and all follow). With OWN_STREAMS each chain has
 * a stream of its own.
 *
 * Left out or coarser: memory is sequentially consistent; one row stands for all rows of a send;
 * views, epochs and zombies (fencing.pml); launches that overlap (launches.pml); shapes (P6). */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef CHAINS
#define CHAINS 1
#endif
#ifndef LAYERS
#define LAYERS 1
#endif
#ifndef STEPS
#define STEPS 2
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 1
#endif
#ifdef FIRST_GIVES_UP /* only rank 0 does, in its first chain */
#define MAY_GIVE_UP (give_ups > 0 && me == 0 && c == 0)
#else
#define MAY_GIVE_UP (give_ups > 0)
#endif

#define DISPATCH 0
#define COMBINED 1
#define NOTHING 0
#define TAINTED 255

#ifdef STEP_PER_CHAIN
#define NUMBER(t) ((t) * 2 + c)
#else
#define NUMBER(t) (t)
#endif
#define TAG(number, l) ((number) * 2 + (l) + 1)
#define STEP_OF(tag) ((tag) == 0 -> 0 : ((tag) - 1) / 2)
#define ROW(t, l, c) (((t) * 2 + (l)) * 2 + (c) + 1)

/* windows: what stands in one place for each owner, source and chain */
byte dispatch_row[RANKS * RANKS * CHAINS];
byte combine_row[RANKS * CHAINS]; /* one token of the owner; who has its expert writes it */
byte tags[2 * RANKS * RANKS * CHAINS];
byte abort_word[RANKS * RANKS];
#define AT(owner, source, c) (((owner) * RANKS + (source)) * CHAINS + (c))
#define TAGS(phase, owner, source, c) tags[(phase) * RANKS * RANKS * CHAINS + AT(owner, source, c)]
#define ABORT_WORD(owner, source) abort_word[(owner) * RANKS + (source)]
/* which rank has the expert of `home`'s token */
#if RANKS == 3
#define WRITER(home, t, l) (((home) + 1 + ((t) + (l)) % 2) % 3)
#define EACH_PEER(x) x((me + 1) % 3); x((me + 2) % 3)
#define ANY_PEER(x) (x((me + 1) % 3) || x((me + 2) % 3))
#define SUM_PEERS(x) (x((me + 1) % 3) > x((me + 2) % 3) -> x((me + 1) % 3) : x((me + 2) % 3))
#else
#define WRITER(home, t, l) (1 - (home))
#define EACH_PEER(x) x(1 - me)
#define ANY_PEER(x) (x(1 - me))
#define SUM_PEERS(x) x(1 - me)
#endif

/* ranks: the latch, the stream, the scratch */
byte step[RANKS];
bit aborted[RANKS], running[RANKS * CHAINS], tainted[RANKS * CHAINS];
byte position[RANKS], order[4 * LAYERS * CHAINS];
byte scratch[RANKS * CHAINS];
byte word_due[RANKS], ended_ranks;
#ifdef SHARED_SCRATCH
#define SCRATCH scratch[me * CHAINS]
#else
#define SCRATCH scratch[me * CHAINS + c]
#endif
/* what the assertions need */
byte give_ups = GIVE_UPS;
bit given_up[STEPS + 1];
#ifdef HOOK_LEFT_OUT
bit hooks = 1; /* one receive that the engine of rank 0 may leave out */
#endif

#define MY_STEP step[me]
#define NOW TAG(NUMBER(MY_STEP), l)
#define MY_TAINT tainted[me * CHAINS + c]
#define MISSES(p) (TAGS(phase, me, p, c) != NOW)
#define GAVE_UP(p) (ABORT_WORD(me, p) >= MY_STEP)
#if CHAINS == 2
#define AHEAD(p) (STEP_OF(TAGS(DISPATCH, me, p, 0)) > NUMBER(MY_STEP) ||                           \
                  STEP_OF(TAGS(DISPATCH, me, p, 1)) > NUMBER(MY_STEP))
#define NEWEST(p) (STEP_OF(TAGS(DISPATCH, me, p, 0)) > STEP_OF(TAGS(DISPATCH, me, p, 1)) ->        \
                   STEP_OF(TAGS(DISPATCH, me, p, 0)) : STEP_OF(TAGS(DISPATCH, me, p, 1)))
#else
#define AHEAD(p) (STEP_OF(TAGS(DISPATCH, me, p, 0)) > NUMBER(MY_STEP))
#define NEWEST(p) STEP_OF(TAGS(DISPATCH, me, p, 0))
#endif
#define PEER_IS_OVER(p) (MISSES(p) && (GAVE_UP(p) || AHEAD(p)))

/* The nodes of a stream run one after the other. */
#if defined(OWN_STREAMS) || CHAINS == 1
#define TURN true
#define TURN_ENDS skip
#else
#define HERE order[(position[me] + SHIFT) % (4 * LAYERS * CHAINS)]
#ifdef DIFFERENT_SEQUENCES
#define SHIFT (me * 4 * LAYERS)
#else
#define SHIFT 0
#endif
#define TURN (HERE == NOTHING || HERE == c + 1) -> HERE = c + 1
#define TURN_ENDS position[me]++
#endif

/* Rule D3: the words, before anything of a later step. */
#define POST_WORD(p) ABORT_WORD(p, me) = MY_STEP
#define POST_DUE_WORD(p) ABORT_WORD(p, me) = word_due[me]
inline give_up()
{
    aborted[me] = 1;
#ifdef WORD_AFTER_ROWS
    word_due[me] = MY_STEP;
#else
    EACH_PEER(POST_WORD);
#endif
}

#define LOOK(p)                                                                                    \
    if                                                                                             \
    :: MISSES(p) || GAVE_UP(p) -> fails = 1                                                        \
    :: else                                                                                        \
    fi
#define STORE_TAG(p) TAGS(phase, p, me, c) = NOW
#define LOOK_AND_STORE_TAG(p)                                                                      \
    phase = 1 - phase; l = l - lower;                                                              \
    if                                                                                             \
    :: has_read && (MISSES(p) || GAVE_UP(p)) -> phase = 1 - phase; l = l + lower; fails = 1        \
    :: else -> phase = 1 - phase; l = l + lower; TAGS(phase, p, me, c) = NOW                       \
    fi
/* Rule P1: look at what the chain's last receive has read, all lanes; barrier; tags. */
inline look_again()
{
#ifndef NO_RECHECK
    if
    :: has_read ->
        atomic { phase = 1 - phase; l = l - lower };
        EACH_PEER(LOOK);
        atomic { phase = 1 - phase; l = l + lower }
    :: else
    fi;
#endif
    if
    :: atomic { MAY_GIVE_UP && !fails -> give_ups--; given_up[MY_STEP] = 1; fails = 1 }
    :: true
    fi
}

inline publish()
{
#if defined(RECHECK_AFTER_PUBLISH)
    EACH_PEER(STORE_TAG);
    look_again();
#elif defined(PUBLISH_PER_LANE)
    atomic { LOOK_AND_STORE_TAG((me + 1) % RANKS) };
#if RANKS == 3
    atomic { LOOK_AND_STORE_TAG((me + 2) % RANKS) };
#endif
#else
    look_again();
    if
    :: !fails -> EACH_PEER(STORE_TAG)
    :: else
    fi;
#endif
    if
    :: fails -> fails = 0; give_up()
    :: else
    fi
}

/* Every wait ends: by the tags, by a peer that is over, by another chain, or by giving up. */
inline wait_for_tags()
{
    if
    :: !ANY_PEER(MISSES)
    :: ANY_PEER(PEER_IS_OVER) -> give_up()
    :: aborted[me]
    :: atomic { MAY_GIVE_UP && ANY_PEER(MISSES) -> give_ups--; given_up[MY_STEP] = 1 }; give_up()
#ifdef DEADLINES_PASS /* where nothing else can happen any more */
    :: timeout -> given_up[MY_STEP] = 1; give_up()
#endif
    fi
}

#define STORE_ROW(p) dispatch_row[AT(p, me, c)] = row
#define READ_ROW(p)                                                                                \
    if                                                                                             \
    :: dispatch_row[AT(me, p, c)] != ROW(MY_STEP, l, c) -> MY_TAINT = 1                            \
    :: else                                                                                        \
    fi
#define SEND_HOME(p)                                                                               \
    if                                                                                             \
    :: WRITER(p, MY_STEP, l) == me -> combine_row[(p) * CHAINS + c] = row                          \
    :: else                                                                                        \
    fi

proctype chain(byte me; byte c)
{
    byte l = 0, row = 0, phase = 0;
    bit fails = 0, has_read = 0, lower = 0, left_out = 0;

end_between:
    do
    :: running[me * CHAINS + c];
        do
        :: l < LAYERS;
            /* dispatch: send */
            if
            :: atomic { !aborted[me] && TURN; phase = DISPATCH; has_read = l > 0; lower = 1 }
            :: atomic { aborted[me] -> break }
            fi;
#ifndef SEND_INTO_LIVE_RESULT
            if
            :: left_out -> given_up[MY_STEP] = 1; give_up(); break /* P4: it is refused */
            :: else
            fi;
#endif
            row = (MY_TAINT -> TAINTED : ROW(MY_STEP, l, c));
            EACH_PEER(STORE_ROW);
#ifdef WORD_AFTER_ROWS
            if
            :: word_due[me] -> EACH_PEER(POST_DUE_WORD); word_due[me] = 0
            :: else
            fi;
#endif
            publish();
            atomic { row = 0; TURN_ENDS };
            /* dispatch: receive */
            if
            :: atomic { !aborted[me] && TURN }
            :: atomic { aborted[me] -> break }
            fi;
            wait_for_tags();
            atomic {
                SCRATCH = ROW(MY_STEP, l, c);
                TURN_ENDS
            };
            /* combine: send */
            if
            :: atomic { !aborted[me] && TURN; phase = COMBINED; has_read = 1; lower = 0 }
            :: atomic { aborted[me] -> break }
            fi;
            EACH_PEER(READ_ROW);
            atomic {
                if
                :: SCRATCH != ROW(MY_STEP, l, c) -> MY_TAINT = 1 /* the stamp has step and layer */
                :: else
                fi;
                row = (MY_TAINT -> TAINTED : ROW(MY_STEP, l, c))
            };
            EACH_PEER(SEND_HOME);
            publish();
            atomic { row = 0; TURN_ENDS };
            /* combine: receive */
            if
            :: atomic { !aborted[me] && TURN }
            :: atomic { aborted[me] -> break }
            fi;
            if
#ifdef HOOK_LEFT_OUT
            :: atomic { hooks > 0 && me == 0 && l + 1 < LAYERS -> hooks = 0; left_out = 1 }
#endif
            :: true -> wait_for_tags();
                if
                :: !aborted[me] && combine_row[me * CHAINS + c] != ROW(MY_STEP, l, c) -> MY_TAINT = 1
                :: else
                fi
            fi;
            atomic { l++; TURN_ENDS }
        :: l >= LAYERS -> break
        od;
        atomic {
            l = 0; phase = 0; row = 0; has_read = 0; lower = 0; left_out = 0;
            running[me * CHAINS + c] = 0
        }
    od
}

#if CHAINS == 2
#define ALL_ENDED (!running[me * 2] && !running[me * 2 + 1])
#define ANY_TAINT (tainted[me * 2] || tainted[me * 2 + 1])
#else
#define ALL_ENDED (!running[me])
#define ANY_TAINT tainted[me]
#endif
#ifdef END_WITH_FIRST_CHAIN
#define STEP_HAS_ENDED (ALL_ENDED || aborted[me])
#else
#define STEP_HAS_ENDED ALL_ENDED
#endif
#ifdef FINISH_JUDGES_LATER_STEPS
#define IS_JUDGED(p) (ABORT_WORD(me, p) >= MY_STEP)
#else
#define IS_JUDGED(p) (ABORT_WORD(me, p) == MY_STEP)
#endif
#define LAST_TAG_LOST(p)                                                                           \
    (TAGS(COMBINED, me, p, 0) != LAST_TAG || TAGS(COMBINED, me, p, CHAINS - 1) != LAST_TAG)
#define LAST_TAG TAG(MY_STEP, LAYERS - 1)

/* The host of a rank, with latch and finish. */
proctype rank(byte me)
{
    byte t = 0;

    do
    :: t < STEPS ->
        atomic { /* rule D5: the next number, or that of a peer that is ahead */
            t = (SUM_PEERS(NEWEST) > t + 1 -> SUM_PEERS(NEWEST) : t + 1);
            step[me] = t; aborted[me] = 0; position[me] = 0;
            tainted[me * CHAINS] = 0; running[me * CHAINS] = 1;
#if CHAINS == 2
            tainted[me * 2 + 1] = 0; running[me * 2 + 1] = 1
#endif
        };
        STEP_HAS_ENDED;
#ifndef STEP_PER_CHAIN
        atomic {
            if
            :: !aborted[me] && (ANY_PEER(LAST_TAG_LOST) || ANY_PEER(IS_JUDGED)) -> aborted[me] = 1
            :: else
            fi
        };
#endif
        assert(aborted[me] || !ANY_TAINT);     /* S5, S9; P1, P3, P4 */
#ifndef MAY_ABORT
        assert(!aborted[me] || given_up[t]);   /* P1, P3: no good step is thrown away */
#endif
    :: else -> break
    od;
#ifdef WORD_AFTER_ROWS
    if
    :: word_due[me] -> EACH_PEER(POST_DUE_WORD); word_due[me] = 0
    :: else
    fi;
#endif
    ended_ranks++
}

init {
    byte i = 0;

    atomic {
#ifndef FREE_ORDER
#if CHAINS == 2
        do /* of each layer: both sends, both receives, as a decoder with two micro-batches does */
        :: i < 8 * LAYERS ->
#ifdef DIFFERENT_SEQUENCES
            order[i] = 1 + i / (4 * LAYERS); /* one chain after the other; the other rank: the other first */
#else
            order[i] = 1 + i % 2;
#endif
            i++
        :: else -> break
        od;
#endif
#endif
        i = 0;
        do
        :: i < RANKS ->
            run rank(i);
            run chain(i, 0);
#if CHAINS == 2
            run chain(i, 1);
#endif
            i++
        :: else -> break
        od
    };
#ifndef DEADLINES_PASS
    timeout -> assert(ended_ranks == RANKS) /* L2, P5: every rank ends each step */
#endif
}
