/* SPDX-License-Identifier: Apache-2.0 */
/* How one rank splits the tokens of an expert over its replicas. Pure.
 *
 * Every member is taken to send as many tokens of the expert as any other. Then each replica gets
 * its share of all of them, and within that as much as possible stays near:
 *   1. a rank with a replica keeps its own tokens, as far as that replica's share reaches;
 *   2. what the ranks of a node have left goes to what its replicas have left, all alike;
 *   3. the rest of all ranks goes to the rest of all replicas, all alike.
 * So locality never breaks balance. Each rank computes its own row of this table. */
#ifndef EEPI_SPLIT_H
#define EEPI_SPLIT_H

#include "graphs/kernels/table_layout.h"
#include "membership/view/view.h"

/* Which ranks send. */
typedef struct eepi_split_sources {
    int32_t source, ranks_per_node; /* this rank; 0: all are on one node */
    uint32_t num_active;
    uint16_t in_node[EEP_MAX_RANKS]; /* members on each node */
} eepi_split_sources;

/* `source` is a member of the view. */
void eepi_split_sources_fill(const eepi_view *view, int source, eepi_split_sources *sources_out);
/* `replicas[num]`, at least one, are all of an expert's on members, in order of seat, each with the
 * slot's share as `from`; all 0: all alike. They become those that the source sends to, in the same
 * order, with `from` as the kernels read it. Returns how many. Linear in num. */
uint32_t eepi_split_expert(const eepi_split_sources *sources, eepk_replica *replicas, uint32_t num);
#endif
