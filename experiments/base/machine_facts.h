/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine is, for whoever reads a run's results elsewhere. */
#ifndef EEPX_MACHINE_FACTS_H
#define EEPX_MACHINE_FACTS_H

#include <stdint.h>

enum { MACHINE_TEXT_BYTES = 128, MACHINE_MAX_GPUS = 16 };

typedef struct machine_facts {
    char cpu[MACHINE_TEXT_BYTES]; /* "": unknown */
    int num_cores;                /* that this process may use */
    uint64_t memory_bytes;
    char kernel[MACHINE_TEXT_BYTES]; /* "Linux 6.1.0-18-amd64" */
    int num_gpus;                    /* that the driver names */
    char gpu[MACHINE_MAX_GPUS][MACHINE_TEXT_BYTES];
} machine_facts;

machine_facts machine_facts_now(void);
#endif
