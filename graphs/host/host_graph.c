/* SPDX-License-Identifier: Apache-2.0 */
/* Entries and graphs of host streams. */
#include "graphs/host/host_graph.h"

#include "graphs/base/thread.h"

#include <stdlib.h>
#include <string.h>

void eepi_host_entry_fill(entry *e, const entry_head *head, const void *args, size_t args_bytes)
{
    e->head = *head;
    if (args_bytes) {
        memcpy(e->args, args, args_bytes);
    }
}

void eepi_host_node_run(const entry *e)
{
    if (e->head.kind == ENTRY_COPY) {
        memcpy(e->head.to_or_user, e->head.from, e->head.size);
        return;
    }
    eepi_kernel_begin();
    for (uint32_t block = 0; block < e->head.num_blocks; block++) {
        e->head.run(e->args, (eep_grid){block, e->head.num_blocks, 0, 1});
    }
    eepi_kernel_end();
}

host_graph *eepi_host_graph_open(void)
{
    host_graph *g = calloc(1, sizeof *g);

    if (g) {
        g->refs = 1;
    }
    return g;
}

eep_status eepi_host_graph_append(host_graph *g, const entry_head *head, const void *args,
                                  size_t args_bytes)
{
    if (g->num_nodes == g->capacity) {
        uint32_t capacity = g->capacity ? 2 * g->capacity : 64;
        entry *nodes = realloc(g->nodes, capacity * sizeof *nodes);

        if (!nodes) {
            return g->status = EEP_ERR_NO_MEMORY;
        }
        g->nodes = nodes;
        g->capacity = capacity;
    }
    eepi_host_entry_fill(&g->nodes[g->num_nodes++], head, args, args_bytes);
    return EEP_OK;
}

void eepi_host_graph_close(void *graph)
{
    host_graph *g = graph;

    if (!g || __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    free(g->nodes);
    free(g);
}
