/* SPDX-License-Identifier: Apache-2.0 */
/* One rank as an object. Private to rank_link.c, rank_start.c and rank.c. */
#ifndef EEPX_RANK_STATE_H
#define EEPX_RANK_STATE_H

#include "experiments/rank/engine.h"
#include "experiments/rank/fault_node.h"
#include "experiments/wire/send_queue.h"
#include "experiments/rank/slowdown.h"
#include "experiments/rank/rank.h"
#include "experiments/rank/rank_signals.h"
#include "experiments/wire/wire.h"

enum { RANK_MAX_ORDERED = 8 };

struct rank {
    rank_config config;
    eep_device *device;
    eep_context *context;
    rank_signals signals;
    engine *engine;
    send_queue send_queue;
    bool stop, draining; /* told so; atomic */
    bool hung_up;        /* the launcher has hung up; atomic */
    bool is_cut_off;     /* membership is fixed, and a member was lost; atomic */
    bool drain_asked;    /* libeep was told so */
    bool nice;           /* prepares itself at a lower priority */
    bool dies, stops;    /* told to die at a place, or only to stop there */
    verb_place place;
    fault_node fault_node;
    slowdown slowdown;
    wire_startup startup;
    uint64_t start_ns, ready_ns, counters_ns, stopped_ns;
    uint64_t captures_at_join;
    char ordered[RANK_MAX_ORDERED][WIRE_FILE_BYTES]; /* placements that it was told to order */
    int num_ordered;
    wire_placement placement; /* as it was told last */
    uint64_t placement_epoch; /* of the step behind which it was looked at last */
    int token_capacity;
    wire_step *report; /* with token_capacity tokens behind it */
    uint64_t packet[WIRE_MAX_BYTES / 8];
};

#endif
