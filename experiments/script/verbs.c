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
    [VERB_REJOIN] = {"rejoin", "--rejoin", .has_seat = true, .wants_free = true, .value = VERB_HOST,
                     .doc = "start a new process in the seat of one that is gone; =HOST: on that "
                            "host of --hosts"},
    [VERB_ADD] = {"add", "--add", .has_seat = true, .wants_free = true, .value = VERB_HOST,
                  .doc = "start a process in a seat that is free then; =HOST as for --rejoin"},
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
    [VERB_HOST_KILL] = {"host-kill", "--host-kill", .value = VERB_HOSTS, .takes_command = true,
                        .doc = "--hosts: SIGKILL all ranks and the agent of a host, or what the "
                               "file says"},
    [VERB_HOST_START] = {"host-start", "--host-start", .value = VERB_HOSTS, .takes_command = true,
                         .doc = "bring it back: its worker and its agent, without ranks"},
    [VERB_HOST_FREEZE] = {"host-freeze", "--host-freeze", .value = VERB_HOSTS_DURATION,
                          .doc = "SIGSTOP all ranks and the agent of a host; /TIME: host-cont "
                                 "after it"},
    [VERB_HOST_CONT] = {"host-cont", "--host-cont", .value = VERB_HOSTS, .doc = "SIGCONT them"},
    [VERB_AGENT_KILL] = {"agent-kill", "--agent-kill", .value = VERB_HOSTS_DURATION,
                         .doc = "SIGKILL the agent of a host; /TIME: agent-start after it"},
    [VERB_AGENT_START] = {"agent-start", "--agent-start", .value = VERB_HOSTS,
                          .doc = "start it again"},
    [VERB_PARTITION] = {"partition", "--partition", .value = VERB_SIDES, .takes_command = true,
                        .doc = "nothing gets from one side to the other; /TIME: heal after it"},
    [VERB_ONE_WAY] = {"one-way", "--one-way", .value = VERB_SIDES, .takes_command = true,
                      .doc = "nothing gets from the first side to the second"},
    [VERB_DELAY] = {"delay", "--delay", .value = VERB_SIDES_MS, .takes_command = true,
                    .doc = "what one side sends to the other takes so much longer"},
    [VERB_RESET] = {"reset", "--reset", .value = VERB_SIDES, .takes_command = true,
                    .doc = "connections between them are reset and refused"},
    [VERB_HEAL] = {"heal", "--heal", .takes_command = true,
                   .doc = "partition, one-way, delay and reset are over"},
    [VERB_NIC_DOWN] = {"nic-down", "--nic-down", .value = VERB_HOSTS_DURATION,
                       .takes_command = true,
                       .doc = "a host's interface goes down; /TIME: nic-up after it"},
    [VERB_NIC_UP] = {"nic-up", "--nic-up", .value = VERB_HOSTS, .takes_command = true,
                     .doc = "it is up again"},
};

const char *const place_names[NUM_PLACES] = {"dispatch",   "experts",   "combine",
                                             "dispatch.1", "experts.1", "combine.1"};

bool verb_is_of_hosts(verb what)
{
    return what >= VERB_HOST_KILL && what <= VERB_NIC_UP;
}

bool verb_takes_hosts(verb what)
{
    return verb_table[what].value >= VERB_HOST;
}

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
