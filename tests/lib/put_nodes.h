/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a step one by one, for tests of what is no whole step. */
#ifndef PUT_NODES_H
#define PUT_NODES_H

#include "tests/lib/context_fixture.h"

/* 'L', 'D', 'C' or 'F': the latch, a layer's dispatch or combine, the finish. */
eep_status step_put_node(rank *r, char node, int32_t layer, eep_stream *stream);
/* Nodes as "L D0 C0 D1 C1 F", all but the last of which are accepted. */
eep_status step_put_nodes(rank *r, const char *nodes, eep_stream *stream);
#endif
