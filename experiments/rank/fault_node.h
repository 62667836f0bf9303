/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that dies or stops at an exact place inside a step: VERB_DIE and VERB_FREEZE.
 *
 *     .. route | HALT | dispatch send | exchange | unpack | HALT | experts | HALT | combine send |
 * ..
 *
 * In the middle layer of the captured graph each chain has one node at each place
 * (fault_kernels.h). The one before a send has stored the send's rows when it halts, and no tag. A
 * node reads a word and does nothing more while that does not name its place: a few nanoseconds per
 * step. Armed for its place, a node halts and says so; a thread on the host hears that and acts, so
 * that it works on every device: not one instruction of the next node runs before the host has
 * acted. */
#ifndef EEPX_FAULT_NODE_H
#define EEPX_FAULT_NODE_H

#include "eep/eep.h"
#include "experiments/model/fault_kernels.h"
#include "experiments/model/model_plugin.h"
#include "experiments/script/verbs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A step has halted; called in a thread of the fault node. `stops`: the rank only stops there, and
 * goes on when it is continued. Returns, if it does, true: the step goes on; false: the step is
 * over, and none of its later nodes does anything. */
typedef bool (*fault_node_on_halt)(void *user, bool stops);

/* The captured graph refers to it: it stays where it is until no replay can be in flight. */
typedef struct fault_node {
    fault_halt_words *words; /* pinned */
    const eepk_world *world;
    eep_device *device;
    const model_plugin *plugin; /* launches the nodes on a GPU; else NULL */
    fault_node_on_halt on_halt;
    void *user;
    uint32_t victim_layer;
    pthread_t watcher;
    bool is_watched, stops;
    bool ends; /* to the watcher; atomic */
} fault_node;

/* Have the nodes captured with the context's next capture. After eep_open, rank thread. `on_halt`
 * NULL: SIGKILL this process, without any cleanup, or SIGSTOP it. fault_node_close in any case. */
EEP_MUST_CHECK eep_status fault_node_init(fault_node *self, eep_context *context,
                                          eep_device *device, int32_t num_layers,
                                          fault_node_on_halt on_halt, void *user);
/* After eep_close, once no replay is in flight; before the device is closed. */
void fault_node_close(fault_node *self);
/* Halt when the next step gets to that place without having been aborted before. Between steps,
 * rank thread. */
EEP_MUST_CHECK eep_status fault_node_arm(fault_node *self, verb_place place, bool stops);
/* False once a step has got there. */
bool fault_node_is_armed(const fault_node *self);
/* Between steps, rank thread: waits for a halt that is under way. */
void fault_node_disarm(fault_node *self);
#endif
