/* SPDX-License-Identifier: Apache-2.0 */
/* The roles that ask for small numbers: what a fence, an acquire, a node of a graph and a word from
 * block to block cost. Kernels: probe_micro.h. */
#include "tests/gpu/probe/probe_role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUM_SAMPLES = 2000,
    ROOM_WORDS = 1 << 20, /* what stores go to: 8 MiB */
    STORES = 16,          /* of each thread before a fence */
    PASS_LIMIT_S = 4,
    NUM_NODES = 1024,
    STAMP_EVERY = 16, /* nodes: the shared clock goes in steps of up to a microsecond */
    NUM_GAPS = NUM_NODES / STAMP_EVERY,
    NUM_REPLAYS = 20,
};

/* ------------------------------------------------------------------ rows */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static eep_status say_one(probe_role *r, const char *name, const char *what, const char *unit,
                          double value)
{
    char check[PROBE_TEXT_BYTES];

    snprintf(check, sizeof check, "%.200s_%s%s%s", name, what, *unit ? "_" : "", unit);
    return probe_say_row(r, check, value, 1);
}

/* The nearest rank. */
eep_status probe_say_values(probe_role *r, const char *name, const char *unit, double *values,
                            size_t count)
{
    eep_status status = say_one(r, name, "n", "", (double)count);

    if (count == 0 || status != EEP_OK) {
        return status;
    }
    qsort(values, count, sizeof *values, compare_doubles);
    status = say_one(r, name, "p50", unit, values[count / 2]);
    if (status == EEP_OK) {
        status = say_one(r, name, "p99", unit, values[(count * 99) / 100]);
    }
    return status == EEP_OK ? say_one(r, name, "max", unit, values[count - 1]) : status;
}

/* ------------------------------------------------------------------ samples */

static eep_status alloc_device(probe_role *r, size_t bytes, void *memory_out)
{
    return probe_check(r, eep_device_alloc(r->device, EEP_MEMORY_DEVICE, bytes, memory_out),
                       "device memory");
}

static eep_status samples_open(probe_role *r, probe_samples *to)
{
    void *ticks = NULL;
    eep_status status = alloc_device(r, NUM_SAMPLES * sizeof(uint64_t), &ticks);

    if (status == EEP_OK) {
        status = probe_words(r, 2, &to->total);
    }
    to->ticks = ticks;
    to->count = NUM_SAMPLES;
    return status;
}

/* Wait for the kernel, and say its samples in nanoseconds; `divisor` of them are one. Also the mean
 * over the whole kernel, which cannot hide what a sample leaves out. */
static eep_status say_samples(probe_role *r, const probe_samples *from, const char *name,
                              double divisor)
{
    uint64_t *copy = NULL;
    double values[NUM_SAMPLES], ns_per_tick;
    eep_status status = probe_words(r, NUM_SAMPLES, &copy);

    if (status == EEP_OK) {
        status = probe_check(
            r, eep_copy_async(r->stream, copy, from->ticks, NUM_SAMPLES * sizeof *copy), "a copy");
    }
    if (status == EEP_OK) {
        status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), name);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (from->total[0] == 0) {
        return probe_fail(r, EEP_ERR_TIMEOUT, "%s did not come to its end", name);
    }
    ns_per_tick = (double)from->total[1] / (double)from->total[0];
    for (size_t i = 0; i < NUM_SAMPLES; i++) {
        values[i] = (double)copy[i] * ns_per_tick / divisor;
    }
    status = probe_say_values(r, name, "ns", values, NUM_SAMPLES);
    return status == EEP_OK
               ? say_one(r, name, "whole", "ns", (double)from->total[1] / NUM_SAMPLES / divisor)
               : status;
}

/* ------------------------------------------------------------------ fence */

eep_status probe_fence(probe_role *r)
{
    static const struct {
        const char *name;
        uint64_t num_stores;
    } kinds[] = {{"idle", 0}, {"after_16_stores", STORES}};
    probe_fence_args args = {.num_words = ROOM_WORDS};
    void *room = NULL;
    eep_status status = alloc_device(r, ROOM_WORDS * sizeof(uint64_t), &room);

    if (status == EEP_OK) {
        status = samples_open(r, &args.to);
    }
    args.room = room;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && status == EEP_OK; i++) {
        args.num_stores = kinds[i].num_stores;
        args.to.total[0] = 0;
        status = probe_launch(r, r->stream, PROBE_FENCE, &args, sizeof args);
        if (status == EEP_OK) {
            status = say_samples(r, &args.to, kinds[i].name, 1);
        }
    }
    return status == EEP_OK ? probe_say(r) : status;
}

/* ------------------------------------------------------------------ acquire */

eep_status probe_pinned(probe_role *r)
{
    probe_load_args args = {.word = NULL};
    uint64_t *pinned = NULL;
    void *own = NULL;
    eep_status status = samples_open(r, &args.to);

    if (status == EEP_OK) {
        status = probe_words(r, 1, &pinned);
    }
    if (status == EEP_OK) {
        status = alloc_device(r, sizeof(uint64_t), &own);
    }
    for (int kind = 0; kind < 2 && status == EEP_OK; kind++) {
        args.word = kind == 0 ? pinned : own;
        args.to.total[0] = 0;
        status = probe_launch(r, r->stream, PROBE_LOAD, &args, sizeof args);
        if (status == EEP_OK) {
            status = say_samples(r, &args.to,
                                 kind == 0 ? "acquire_of_pinned" : "acquire_of_device_memory", 1);
        }
    }
    return status == EEP_OK ? probe_say(r) : status;
}

/* ------------------------------------------------------------------ block to block */

/* Two blocks of two launches: no block waits for another of its own launch. Half of there and back.
 */
eep_status probe_pass(probe_role *r)
{
    probe_pass_args first = {.limit_ns = PASS_LIMIT_S * 1000000000ull, .is_first = 1}, second;
    eep_stream *stream = NULL;
    uint64_t *words = NULL;
    void *memory = NULL;
    eep_status status = samples_open(r, &first.to);

    if (status == EEP_OK) {
        status = alloc_device(r, 4096, &memory);
    }
    if (status == EEP_OK) {
        status = probe_check(r, eep_stream_open(r->device, &stream), "a second stream");
    }
    if (status != EEP_OK) {
        return status;
    }
    words = memory; /* lines of their own: the two words, the two bells with their waiters */
    first.own = &words[0];
    first.other = &words[64];
    first.own_bell = (uint32_t *)&words[128];
    first.other_bell = (uint32_t *)&words[192];
    second = first;
    second.own = first.other;
    second.other = first.own;
    second.own_bell = first.other_bell;
    second.other_bell = first.own_bell;
    second.is_first = 0;
    status = probe_launch(r, stream, PROBE_PASS, &second, sizeof second);
    if (status == EEP_OK) {
        status = probe_launch(r, r->stream, PROBE_PASS, &first, sizeof first);
    }
    if (status == EEP_OK) {
        status = say_samples(r, &first.to, "release_to_seen", 2);
    }
    eep_stream_close(stream);
    return status == EEP_OK ? probe_say(r) : status;
}

/* ------------------------------------------------------------------ nodes */

/* A graph of small nodes, each 16th of which notes the time. */
static eep_status capture_nodes(probe_role *r, uint64_t *stamps, int early, eep_graph **graph_out)
{
    eep_status status = probe_check(r, eep_capture_begin(r->stream), "eep_capture_begin"), ended;

    if (status != EEP_OK) {
        return status;
    }
    for (size_t i = 0; i <= NUM_NODES && status == EEP_OK; i++) {
        probe_stamp_args args = {i % STAMP_EVERY == 0 ? &stamps[i / STAMP_EVERY] : NULL};
        status = early ? probe_launch_early(r, r->stream, &args)
                       : probe_launch(r, r->stream, PROBE_STAMP, &args, sizeof args);
    }
    ended = eep_capture_end(r->stream, graph_out);
    return status == EEP_OK ? probe_check(r, ended, "eep_capture_end") : status;
}

/* The mean gap of 16 nodes at a time, over all replays. */
static eep_status say_gaps(probe_role *r, eep_graph *graph, const uint64_t *stamps, uint64_t *copy,
                           const char *name)
{
    static double values[NUM_REPLAYS * NUM_GAPS];
    size_t count = 0;
    eep_status status = EEP_OK;

    for (int replay = 0; replay <= NUM_REPLAYS && status == EEP_OK; replay++) {
        status = probe_check(r, eep_graph_replay(graph, r->stream), "eep_graph_replay");
        if (status == EEP_OK) {
            status = probe_check(
                r, eep_copy_async(r->stream, copy, stamps, (NUM_GAPS + 1) * sizeof *copy),
                "a copy");
        }
        if (status == EEP_OK) {
            status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), name);
        }
        for (int i = 0; i < NUM_GAPS && replay > 0; i++) { /* the first one warms up */
            values[count++] = (double)(copy[i + 1] - copy[i]) / STAMP_EVERY;
        }
    }
    return status == EEP_OK ? probe_say_values(r, name, "ns", values, count) : status;
}

eep_status probe_nodes(probe_role *r)
{
    uint64_t *copy = NULL;
    void *stamps = NULL;
    eep_status status = alloc_device(r, (NUM_GAPS + 1) * sizeof(uint64_t), &stamps);

    if (status == EEP_OK) {
        status = probe_words(r, NUM_GAPS + 1, &copy);
    }
    for (int early = 0; early <= r->is_cuda && status == EEP_OK; early++) {
        eep_graph *graph = NULL;
        status = capture_nodes(r, stamps, early, &graph);
        if (status == EEP_OK) {
            status = say_gaps(r, graph, stamps, copy, early ? "launched_early" : "node_to_node");
        }
        eep_graph_close(graph);
    }
    return status == EEP_OK ? probe_say(r) : status;
}
