#include "experiments/verbs.h"

#include <string.h>

const verb_info verb_table[NUM_VERBS] = {
    [VERB_KILL] = {"kill", "--kill", true, false, true, VERB_NO_VALUE, "SIGKILL the ranks"},
    [VERB_ABORT] = {"abort", "--abort", true, false, true, VERB_NO_VALUE, "SIGABRT the ranks"},
    [VERB_STOP] = {"stop", "--stop", true, false, true, VERB_DURATION,
                   "SIGSTOP them; for DURATION (400ms, or 0.9x: times expel_us), else for good"},
    [VERB_CONT] = {"cont", "--cont", true, false, false, VERB_NO_VALUE, "SIGCONT them"},
    [VERB_SLOW] = {"slow", "--slow", true, false, true, VERB_FACTOR,
                   "their steps take FACTOR times as long, e.g. 4, or 4/2s: for 2 s; 1 ends it"},
    [VERB_DIE] = {"die", "--die", true, false, true, VERB_PLACE,
                  "they kill themselves in their next step with work: dispatch|experts|combine"},
    [VERB_REJOIN] = {"rejoin", "--rejoin", true, true, false, VERB_NO_VALUE,
                     "start a new process in the seats"},
    [VERB_ADD] = {"add", "--add", true, true, false, VERB_NO_VALUE,
                  "start a process in free seats (vacant:N: the N lowest)"},
    [VERB_DRAIN] = {"drain", "--drain", true, false, false, VERB_NO_VALUE,
                    "they hand their requests back and leave"},
    [VERB_BURN] = {"burn", "--dummy-burn", false, false, false, VERB_SECONDS,
                   "burn one CPU for SECONDS, at a joiner's priority"},
    [VERB_STORE_KILL] = {"store-kill", "--store-kill", false, false, false, VERB_NO_VALUE,
                         "SIGKILL the store"},
    [VERB_STORE_STOP] = {"store-stop", "--store-stop", false, false, false, VERB_DURATION,
                         "SIGSTOP the store, for DURATION if one is given"},
    [VERB_STORE_CONT] = {"store-cont", "--store-cont", false, false, false, VERB_NO_VALUE,
                         "SIGCONT the store"},
    [VERB_STORE_START] = {"store-start", "--store-start", false, false, false, VERB_NO_VALUE,
                          "start the store again, empty"},
};

const char *const place_names[NUM_PLACES] = {"dispatch", "experts", "combine"};

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
