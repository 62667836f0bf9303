/* SPDX-License-Identifier: Apache-2.0 */
/* A placement that ranks are told to order, as a file (docs/SCENARIOS.md). */
#ifndef EEPX_PLACEMENT_FILE_H
#define EEPX_PLACEMENT_FILE_H

#include "eep/eep.h"
#include "experiments/script/verbs.h"

#include <stddef.h>
#include <stdint.h>

enum { PLACEMENT_ERROR_BYTES = 768, PLACEMENT_MAX_FIRST = 8 };

/* What slots there are. Experts that are given to no slot must find one in seats below
 * `num_members`. */
typedef struct placement_shape {
    int num_layers, max_ranks, num_slots, num_experts, num_members;
} placement_shape;

/* Both [num_layers, max_ranks, num_slots]: what eep_placement_set takes. */
typedef struct placement_order {
    uint64_t number;
    int32_t *experts; /* -1: libeep decides */
    uint8_t *pinned;
} placement_order;

/* The files that ranks of a first view order before their weights; the last one for a rank counts.
 */
typedef struct placement_first {
    int num;
    struct {
        int seat; /* -1: all */
        char file[VERB_FILE_BYTES];
    } of[PLACEMENT_MAX_FIRST];
} placement_first;

/* Read the text of the file `name`. EEP_ERR_INVALID: `error` is a line that names the file, the
 * place in it, and what is allowed. EEP_ERR_NO_MEMORY. placement_free after EEP_OK. */
EEP_MUST_CHECK eep_status placement_parse(const char *name, const char *text, size_t bytes,
                                          const placement_shape *shape, placement_order *order_out,
                                          char error[PLACEMENT_ERROR_BYTES]);
/* The same of the file itself. EEP_ERR_SYSTEM: it cannot be read. */
EEP_MUST_CHECK eep_status placement_load(const char *file, const placement_shape *shape,
                                         placement_order *order_out,
                                         char error[PLACEMENT_ERROR_BYTES]);
void placement_free(placement_order *self);

/* The file that the seat's rank begins with; NULL: none. */
const char *placement_first_of(const placement_first *self, int seat);
#endif
