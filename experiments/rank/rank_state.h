/* What the two files of a rank share: rank_start.c opens and joins, rank.c serves and ends. */
#ifndef EEPX_RANK_STATE_H
#define EEPX_RANK_STATE_H

#include "experiments/rank/engine.h"
#include "experiments/rank/fault_node.h"
#include "experiments/wire/send_queue.h"
#include "experiments/rank/slowdown.h"
#include "experiments/rank/rank.h"
#include "experiments/rank/rank_strikes.h"
#include "experiments/wire/wire.h"
#include "experiments/base/clock.h"

struct rank {
    rank_config config;
    eep_device *device;
    eep_context *context;
    rank_strikes strikes;
    engine *engine;
    send_queue send_queue;
    bool stop, draining; /* told so; atomic */
    bool gone;           /* the launcher has hung up; atomic */
    bool drain_asked;    /* libeep was told so */
    bool nice;           /* prepares itself at a lower priority */
    bool dies, stops;    /* told to die at a place, or only to stop there */
    verb_place place;
    fault_node fault_node;
    slowdown slowdown;
    uint64_t start_ns, ready_ns, counters_ns, stopped_ns;
    uint64_t captures_at_join;
    int token_capacity;
    wire_step *report; /* with token_capacity tokens behind it */
    uint64_t packet[WIRE_MAX_BYTES / 8];
};

void rank_complain(const rank *self, const char *what, eep_status status, const char *why);
bool rank_is_told_to_stop(const rank *self);
/* There is nobody to serve for. */
bool rank_is_over(const rank *self);
/* To the launcher. Any thread. */
void rank_tell(rank *self, const void *message, size_t bytes);
/* Do what the launcher has told. */
void rank_read_control(rank *self);
/* One of several ranks in a process has halted inside a step; its thread waits for that step. */
bool rank_on_halt(void *user, bool stops);
/* Open the device, the context and the engine, and join. */
eep_status rank_start(rank *self);
#endif
