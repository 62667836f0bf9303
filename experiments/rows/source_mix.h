/* SPDX-License-Identifier: Apache-2.0 */
/* Where weights came from: fills and bytes by source, out of the counters of ranks. */
#ifndef EEPX_SOURCE_MIX_H
#define EEPX_SOURCE_MIX_H

#include "eep/eep.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum source_kind {
    SOURCE_LOCAL_REUSE,  /* experts that another rank still had in a slot: no byte */
    SOURCE_KEPT,         /* slots that had their expert already, from a plan that was given up */
    SOURCE_LIVE_REPLICA, /* slots of other ranks */
    SOURCE_OWN_BACKUP,
    SOURCE_NODE_BACKUP,  /* that another rank of the node put there */
    SOURCE_OTHER_BACKUP, /* of another node */
    SOURCE_CHECKPOINT,
    NUM_SOURCES
} source_kind;
extern const char *const source_names[NUM_SOURCES];

typedef struct source_mix {
    uint64_t fills[NUM_SOURCES], bytes[NUM_SOURCES];
} source_mix;

source_mix source_mix_of(const eep_counters *counters);
/* What came since `before`. */
source_mix source_mix_since(const source_mix *now, const source_mix *before);
void source_mix_add(source_mix *self, const source_mix *other);
bool source_mix_is_empty(const source_mix *self);
/* "sources": {"local_reuse": {"fills": 12, "bytes": 0}, ...} */
void source_mix_to_json(const source_mix *self, cJSON *root);
/* One line of the table: what is not 0. */
void source_mix_print(const source_mix *self);
#endif
