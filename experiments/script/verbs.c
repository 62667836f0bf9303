/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs. */
#include "experiments/script/verbs.h"

#include <string.h>

const verb_info verb_table[NUM_VERBS] = {
    [VERB_KILL] = {"kill", "--kill", .has_seat = true, .doc = "SIGKILL it"},
    [VERB_ABORT] = {"abort", "--abort", .has_seat = true,
                    .doc = "SIGABRT it: it dies as after a failed assertion"},
    [VERB_STOP] = {"stop", "--stop", .has_seat = true, .value = VERB_DURATION,
                   .doc = "SIGSTOP it; SIGCONT after the duration, if one is given"},
    [VERB_CONT] = {"cont", "--cont", .has_seat = true, .doc = "SIGCONT it"},
    [VERB_SLOW] = {"slow", "--slow", .has_seat = true, .value = VERB_FACTOR,
                   .doc =
                       "its steps take that many times as long (/TIME: for so long), by half the "
                       "step deadline at most; 1 ends it"},
    [VERB_DIE] = {"die", "--die", .has_seat = true, .value = VERB_PLACE,
                  .doc = "it kills itself inside its next step: at dispatch, experts or combine "
                         "(dispatch.1 and so on: in the second micro-batch of --chains 2)"},
    [VERB_FREEZE] = {"freeze", "--freeze", .has_seat = true, .value = VERB_PLACE_DURATION,
                     .doc = "it stops itself inside its next step, there; /TIME: SIGCONT after it"},
    [VERB_REJOIN] = {"rejoin", "--rejoin", .has_seat = true, .wants_free = true,
                     .doc = "start a new process in the seat of one that is gone"},
    [VERB_ADD] = {"add", "--add", .has_seat = true, .wants_free = true,
                  .doc = "start a process in a seat that is free then"},
    [VERB_DRAIN] = {"drain", "--drain", .has_seat = true,
                    .doc = "it hands its requests back and leaves"},
    [VERB_PLACEMENT] = {"placement", "--placement", .has_seat = true, .value = VERB_FILE,
                        .doc = "it orders the placement of that JSON file, behind live traffic; "
                               "the highest number that any rank gave counts for all"},
    [VERB_BURN] = {"burn", "--dummy-burn", .value = VERB_SECONDS,
                   .doc = "burn one CPU for so many seconds, at a joiner's priority"},
    [VERB_STORE_KILL] = {"store-kill", "--store-kill", .doc = "SIGKILL the store's process"},
    [VERB_STORE_STOP] = {"store-stop", "--store-stop", .value = VERB_DURATION,
                         .doc = "SIGSTOP it; SIGCONT after the duration, if one is given"},
    [VERB_STORE_CONT] = {"store-cont", "--store-cont", .doc = "SIGCONT it"},
    [VERB_STORE_START] = {"store-start", "--store-start", .doc = "start it again, empty"},
};

const char *const place_names[NUM_PLACES] = {"dispatch",   "experts",   "combine",
                                             "dispatch.1", "experts.1", "combine.1"};

bool verb_is_of_elastic(verb what)
{
    return what == VERB_REJOIN || what == VERB_ADD || what == VERB_DRAIN;
}

bool verb_find(const char *name, verb *verb_out)
{
    for (int v = 0; v < NUM_VERBS; v++) {
        if (strcmp(verb_table[v].name, name) == 0) {
            *verb_out = (verb)v;
            return true;
        }
    }
    return false;
}
