/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions of host memory, element by element. */
#ifndef EEPI_COLLECTIVE_REDUCE_H
#define EEPI_COLLECTIVE_REDUCE_H

#include "eep/collectives.h"

#include <stdbool.h>

/* Bytes of an element; 0 for a foreign value. */
size_t eepi_reduce_type_bytes(eep_reduce_type type);
/* It is an operation on that type. */
bool eepi_reduce_is_possible(eep_reduce_type type, eep_reduce_op op);
/* to[i] = to[i] op from[i]. */
void eepi_reduce(void *to, const void *from, size_t count, eep_reduce_type type, eep_reduce_op op);
#endif
