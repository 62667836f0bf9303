/* A rank that kills or stops itself at an exact place inside a step: VERB_DIE and VERB_FREEZE.
 *
 *     .. dispatch send | STRIKE | exchange | unpack | STRIKE | experts | combine send | STRIKE | ..
 *
 * In the middle layer of the captured graph one node follows each place. It reads a word and does
 * nothing more while that does not name its place: a few nanoseconds per step. Host devices only,
 * where a node can end the process. */
#ifndef EEPX_FAULT_NODE_H
#define EEPX_FAULT_NODE_H

#include "eep/eep.h"
#include "experiments/verbs.h"
#include "graphs/table_layout.h"

#include <stdbool.h>
#include <stdint.h>

/* The captured graph refers to it: it stays where it is until no replay can be in flight. */
typedef struct fault_node {
    uint32_t armed;          /* place + 1, and FAULT_STOPS; 0: none; atomic */
    const eepk_world *world; /* tells whether the step is aborted */
    int32_t victim_layer;
    int32_t layer; /* that is being captured; -1: none yet */
} fault_node;

/* Have the nodes captured with the context's next capture. After eep_open, rank thread.
 * EEP_ERR_UNSUPPORTED: not a host device; nothing is captured. */
EEP_MUST_CHECK eep_status fault_node_init(fault_node *self, eep_context *context,
                                          const eep_device *device, int32_t num_layers);
/* SIGKILL this process, without any cleanup, when the next step gets to that place without having
 * been aborted before. Between steps, rank thread. */
void fault_node_arm(fault_node *self, verb_place place);
/* The same with SIGSTOP: continued, it goes on with the next node, as a zombie would. */
void fault_node_arm_stop(fault_node *self, verb_place place);
int fault_node_is_armed(const fault_node *self);
void fault_node_disarm(fault_node *self);
#endif
