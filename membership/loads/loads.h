/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of this rank's experts: what the kernels have counted, and what the engine has set. */
#ifndef EEPI_LOADS_H
#define EEPI_LOADS_H

#include "eep/eep.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All but `gather` is under the context's lock. */
struct eepi_loads {
    size_t num;         /* num_layers * num_experts */
    bool wanted, asked; /* by the host, of the running step */
    bool is_set, is_anew;
    uint32_t *set;
    uint64_t *counts;
    struct eepi_gather *gather;
};

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_loads_open(eep_context *context);
void eepi_loads_close(eep_context *context);

/* ---- rank thread, with the lock */

/* The step that begins now is to store its counters where the host reads them. */
bool eepi_loads_begin_step(eep_context *context);
/* It has ended, whatever its result. */
void eepi_loads_end_step(eep_context *context);

/* ---- service thread */

/* Copy what is counted so far to counts_out[num_layers * num_experts], and ask the next step for
 * newer counters. */
void eepi_loads_read(eep_context *context, uint64_t *counts_out);
typedef enum eepi_loads_set_state {
    EEPI_LOADS_MEASURED,
    EEPI_LOADS_SET_AS_BEFORE,
    EEPI_LOADS_SET_ANEW, /* copied to loads_out */
} eepi_loads_set_state;
/* What the engine has set. */
eepi_loads_set_state eepi_loads_read_set(eep_context *context, uint32_t *loads_out);
#endif
