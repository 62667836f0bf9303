/* SPDX-License-Identifier: Apache-2.0 */
/* One event in an instance of several hosts with its register in etcd, and what it costs: a rank is
 * killed, a rank joins, or a host loses power. Times come from unit costs that were measured (see
 * experiments/results/README.md): each write takes its time at the store, one after the other, and
 * documents theirs by the byte. */
#include "tests/sim/wide/wide_parts.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WIRE_US = 355,     /* to the store and back: 1.1 ms for a write, less the write itself, by 2 */
    WRITE_US = 390,    /* a small write at a store of one node, many at once */
    READ_US = 39,      /* a tenth of it: nothing is written */
    DOCUMENT_NS = 128, /* a byte of a document that is written: 136 ms for 1.06 MB */
    FETCH_NS = 152,    /* a byte until another client has it: 152 ms more for 1.06 MB */
    AGENT_US = 20000,  /* between two beats of a host */
    HOST_SILENCE_US = 200000,
    STAGE_US = 1500,
    STEP_US = 20000,
};

const char *const wide_event_names[WIDE_NUM_EVENTS] = {"kill", "join", "host"};

uint64_t wide_host_of(const wide_world *w, int rank)
{
    const int hosts = w->options.num_hosts;

    return hosts ? 1 + (uint64_t)(rank / ((w->num_ranks + hosts - 1) / hosts)) : 0;
}

/* ------------------------------------------------------------------ costs */

uint64_t wide_up_us(wide_world *w, const eepi_input *input, size_t bytes)
{
    const bool is_read =
        input->kind == EEPI_INPUT_VIEW_MISSING || input->kind == EEPI_INPUT_LISTENS;
    const bool is_document = input->kind == EEPI_INPUT_VIEW || input->kind == EEPI_INPUT_PLAN;
    const uint64_t arrives_us = w->now_us + WIRE_US;
    const uint64_t begins_us = arrives_us > w->store_us ? arrives_us : w->store_us;

    w->store_us = begins_us + (is_read ? READ_US : WRITE_US) +
                  (is_document ? (uint64_t)bytes * DOCUMENT_NS / 1000 : 0);
    return w->store_us;
}

uint64_t wide_down_us(const wide_world *w, const eepi_input *input, size_t bytes)
{
    const bool is_document = input->kind == EEPI_INPUT_VIEW || input->kind == EEPI_INPUT_PLAN;

    return w->now_us + WIRE_US + (is_document ? (uint64_t)bytes * FETCH_NS / 1000 : 0);
}

/* ------------------------------------------------------------------ events */

/* Its host-mates see the end at once; the others hear of it with their agents' next beat. */
static void kill_one(wide_world *w, int rank)
{
    const eepi_suspect dead = {rank, 1, EEP_FAULT_EXIT};

    w->rank[rank].alive = false;
    w->rank[rank].is_faulty = true;
    for (int other = 0; other < w->num_ranks; other++) {
        const bool is_mate = wide_host_of(w, other) == wide_host_of(w, rank);
        const uint64_t after_us =
            is_mate ? 100 + wide_draw(w, 1400) : AGENT_US / 2 + wide_draw(w, AGENT_US);
        wide_push(w, WIDE_INPUT, other, w->now_us + after_us,
                  (eepi_input){.kind = EEPI_INPUT_MEMORY_GONE, .suspect = dead});
    }
}

static void lose_host(wide_world *w, uint64_t host)
{
    for (int rank = 0; rank < w->num_ranks; rank++) {
        w->rank[rank].alive &= wide_host_of(w, rank) != host;
        w->rank[rank].is_faulty |= wide_host_of(w, rank) == host;
    }
    for (int other = 0; other < w->num_ranks; other++) {
        const uint64_t at_us = w->now_us + HOST_SILENCE_US + wide_draw(w, AGENT_US);
        for (int rank = 0; rank < w->num_ranks && w->rank[other].alive; rank++) {
            if (wide_host_of(w, rank) == host) {
                wide_push(w, WIDE_INPUT, other, at_us,
                          (eepi_input){.kind = EEPI_INPUT_EVIDENCE,
                                       .suspect = {rank, 1, EEP_FAULT_SILENT}});
            }
        }
    }
}

/* The last rank, in a seat that nobody had. */
static void join_one(wide_world *w)
{
    const int rank = w->num_ranks - 1;
    int32_t experts[] = {-1, -1};
    uint64_t sums[] = {0, 0}, *backup = calloc(EEP_MAX_EXPERTS / 64 + 1, sizeof *backup);
    eepi_member record = {.seat = rank,
                          .generation = 1,
                          .ready = 1,
                          .experts = wide_keep(w, experts, sizeof experts),
                          .checksums = wide_keep(w, sums, sizeof sums),
                          .host = wide_host_of(w, rank)};

    record.backup = wide_keep(w, backup, (EEP_MAX_EXPERTS / 64 + 1) * sizeof *backup);
    free(backup);
    w->rank[rank].alive = true;
    wide_push(w, WIDE_INPUT, rank, w->now_us + 1,
              (eepi_input){.kind = EEPI_INPUT_VIEW, .view = w->view, .revision = w->revision});
    wide_ask(
        w, rank,
        (eepi_input){.kind = EEPI_INPUT_MEMBER, .member = wide_keep(w, &record, sizeof record)});
}

void wide_strike(wide_world *w)
{
    w->cost.num_kills = 1; /* what is counted begins here */
    w->last_fault_us = w->now_us;
    if (w->options.event == WIDE_EVENT_KILL) {
        kill_one(w, w->num_ranks / 2);
    } else if (w->options.event == WIDE_EVENT_JOIN) {
        join_one(w);
    } else {
        lose_host(w, wide_host_of(w, w->num_ranks / 2));
    }
}

/* A plan: it is staged, committed and then flipped to, by all at the end of one step. */
bool wide_perform_plan(wide_world *w, int rank, const eepi_action *action)
{
    const eepi_view *view = action->view;

    switch (action->kind) {
    case EEPI_ACTION_PLAN:
        wide_ask(w, rank,
                 (eepi_input){.kind = EEPI_INPUT_PLAN, .view = wide_keep(w, view, view->bytes)});
        return true;
    case EEPI_ACTION_STAGE:
        wide_push(w, WIDE_INPUT, rank, w->now_us + STAGE_US + wide_draw(w, STAGE_US),
                  (eepi_input){.kind = EEPI_INPUT_STAGED, .digest = view->digest});
        return true;
    case EEPI_ACTION_ANNOUNCE:
        w->flip_us = w->flip_us ? w->flip_us : w->now_us + STEP_US;
        wide_push(w, WIDE_INPUT, rank, (w->flip_us > w->now_us ? w->flip_us : w->now_us) + 100,
                  (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = view->digest});
        return true;
    default:
        return false;
    }
}

void wide_print_row(const wide_options *options, const wide_cost *cost)
{
    printf("%d,%d,%s,%llu,%d,%llu,%llu,%llu,%llu,%.1f\n", cost->num_ranks, options->num_hosts,
           wide_event_names[options->event], (unsigned long long)options->seed, cost->num_views,
           (unsigned long long)cost->messages, (unsigned long long)cost->bytes,
           (unsigned long long)cost->documents, (unsigned long long)cost->document_bytes,
           (double)cost->agreed_us * 1e-3);
}
