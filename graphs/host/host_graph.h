/* SPDX-License-Identifier: Apache-2.0 */
/* What a host stream runs: entries, and graphs, which are arrays of them. */
#ifndef EEPI_HOST_GRAPH_H
#define EEPI_HOST_GRAPH_H

#include "graphs/host/host_progress.h"

#include "eep/device.h"

typedef struct host_graph host_graph;

typedef enum entry_kind {
    ENTRY_LAUNCH,
    ENTRY_COPY,
    ENTRY_CALL,
    ENTRY_WAIT,
    ENTRY_GRAPH
} entry_kind;

typedef struct entry_head {
    entry_kind kind;
    uint32_t num_blocks;
    union {
        void (*run)(const void *args, eep_grid grid); /* LAUNCH */
        void (*call)(void *user);                     /* CALL */
        host_progress *progress;                      /* WAIT: a reference */
        host_graph *graph;                            /* GRAPH */
        const void *from;                             /* COPY */
    };
    void *to_or_user; /* COPY, CALL */
    uint64_t size;    /* COPY: bytes; WAIT: the target */
} entry_head;

typedef struct entry {
    entry_head head;
    _Alignas(16) uint8_t args[EEP_KERNEL_ARGS_MAX_BYTES]; /* LAUNCH */
} entry;

struct host_graph {
    entry *nodes;
    uint32_t num_nodes, capacity;
    eep_status status; /* the first node that could not be recorded */
    uint32_t refs;     /* the handle, and replays that are under way; atomic */
};

void eepi_host_entry_fill(entry *e, const entry_head *head, const void *args, size_t args_bytes);
/* Run a launch or a copy. */
void eepi_host_node_run(const entry *e);

/* A graph without nodes; NULL: no memory. */
host_graph *eepi_host_graph_open(void);
EEP_MUST_CHECK eep_status eepi_host_graph_append(host_graph *g, const entry_head *head,
                                                 const void *args, size_t args_bytes);
/* Give back a reference; NULL is ignored. */
void eepi_host_graph_close(void *graph);
#endif
