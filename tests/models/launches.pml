/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of one rank's step whose launches overlap: each may begin before the node before it has
 * ended, as dependent launches of a GPU do, or as two nodes that are fused into one.
 *
 * Rule covered (docs/PROTOCOL.md): P2. A node waits for the whole node before it ahead of its first
 * read, also when the step is aborted. Counts of slots become non-zero only by the last block of
 * unpack, if no block has aborted.
 *
 * Asserted:
 * - S5, S8: an engine's experts, which look at counts alone, find all rows of this step, or none.
 * - P3: what a step has stored is complete when the host hears that it has ended. So nothing of it
 *   comes into the next step.
 * - L2: when nothing more can happen, every step has ended.
 *
 * A step has these nodes: unpack (a block per source, which waits for that source's tag and may miss
 * its deadline), experts, send, finish. The host begins the next step when finish has ended: its
 * latch takes the abort back and empties the counts. No kernel of libeep overlaps another one today;
 * the model says what those that do so have to keep.
 *
 * Left out: peers, who only store tags; the memory model: a node that has waited sees all stores. */
#ifndef STEPS
#define STEPS 2
#endif
#define SOURCES 2

byte latched;       /* the running step */
bit aborted;        /* sticky until the next latch (D3) */
byte row[SOURCES];  /* of which step the unpacked row is */
byte count[SOURCES]; /* 0, or the step that it was stored in */
byte blocks_out;    /* device memory: blocks that have counted themselves out */
byte unpack_ended[STEPS + 1], experts_ended[STEPS + 1], send_ended[STEPS + 1];
byte finished;      /* steps that the host has heard of */

/* A dependent node's wait: the whole node before it has ended. */
#ifdef NO_WAIT_IF_ABORTED
#define WAIT(ended)                                                                                \
    if                                                                                             \
    :: aborted -> skip                                                                             \
    :: ended -> skip                                                                               \
    fi
#else
#define WAIT(ended) ended
#endif

proctype unpack_block(byte t; byte source)
{
    if
    :: row[source] = t /* its tag came */
#ifdef COUNTS_BY_EACH_BLOCK
        ; count[source] = t
#endif
    :: aborted = 1 /* its deadline has passed */
    fi;
    atomic {
        blocks_out++;
        if
        :: blocks_out == SOURCES ->
            blocks_out = 0;
#ifndef COUNTS_BY_EACH_BLOCK
            if
#ifdef COUNTS_THOUGH_ABORTED
            :: true -> count[0] = t; count[1] = t
#else
            :: !aborted -> count[0] = t; count[1] = t
            :: else
#endif
            fi
#endif
        :: else
        fi;
        unpack_ended[t]++
    }
}

/* The engine's: it knows nothing of aborted steps, and finds no rows where counts are zero. */
proctype experts(byte t)
{
    byte seen[SOURCES];

#ifndef READ_BEFORE_WAIT
    WAIT(unpack_ended[t] == SOURCES);
#endif
    seen[0] = count[0];
    assert(seen[0] == 0 || row[0] == t);
    seen[1] = count[1];
    assert(seen[1] == 0 || row[1] == t);
    assert(seen[0] == seen[1] && (seen[0] == 0 || seen[0] == t));
#ifdef READ_BEFORE_WAIT
    WAIT(unpack_ended[t] == SOURCES);
#endif
    experts_ended[t] = 1
}

/* libeep's: it does nothing in an aborted step, and waits all the same. */
proctype send(byte t)
{
    WAIT(experts_ended[t]);
    assert(aborted || (row[0] == t && row[1] == t));
    send_ended[t] = 1
}

proctype finish(byte t)
{
    WAIT(send_ended[t]);
    assert(unpack_ended[t] == SOURCES && experts_ended[t]); /* P3 */
    finished = t
}

init
{
    do
    :: atomic { latched < STEPS && finished == latched -> /* the host has read the last status */
        latched++;
        aborted = 0;
        count[0] = 0;
        count[1] = 0;
        run unpack_block(latched, 0);
        run unpack_block(latched, 1);
        run experts(latched);
        run send(latched);
        run finish(latched) }
    :: finished == STEPS -> break
    od
}
