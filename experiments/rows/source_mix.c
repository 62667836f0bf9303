/* SPDX-License-Identifier: Apache-2.0 */
/* Fills and bytes by source. */
#include "experiments/rows/source_mix.h"

#include "experiments/base/run_file.h"

#include <inttypes.h>
#include <stdio.h>

const char *const source_names[NUM_SOURCES] = {"local_reuse", "kept",        "live_replica",
                                               "own_backup",  "node_backup", "other_backup",
                                               "checkpoint"};

source_mix source_mix_of(const eep_counters *c)
{
    return (source_mix){
        .fills = {[SOURCE_LOCAL_REUSE] = c->experts_reused,
                  [SOURCE_KEPT] = c->fills_kept,
                  [SOURCE_LIVE_REPLICA] = c->fills_live_replica,
                  [SOURCE_OWN_BACKUP] = c->fills_own_backup,
                  [SOURCE_NODE_BACKUP] = c->fills_node_backup,
                  [SOURCE_OTHER_BACKUP] = c->fills_other_backup,
                  [SOURCE_CHECKPOINT] = c->fills_file},
        .bytes = {[SOURCE_LIVE_REPLICA] = c->weights_bytes_live_replica,
                  [SOURCE_OWN_BACKUP] = c->weights_bytes_own_backup,
                  [SOURCE_NODE_BACKUP] = c->weights_bytes_own_node - c->weights_bytes_own_backup,
                  [SOURCE_OTHER_BACKUP] =
                      c->weights_bytes_other_rank - c->weights_bytes_live_replica,
                  [SOURCE_CHECKPOINT] = c->weights_bytes_file}};
}

source_mix source_mix_since(const source_mix *now, const source_mix *before)
{
    source_mix since;
    for (int s = 0; s < NUM_SOURCES; s++) {
        since.fills[s] = now->fills[s] - before->fills[s];
        since.bytes[s] = now->bytes[s] - before->bytes[s];
    }
    return since;
}

void source_mix_add(source_mix *self, const source_mix *other)
{
    for (int s = 0; s < NUM_SOURCES; s++) {
        self->fills[s] += other->fills[s];
        self->bytes[s] += other->bytes[s];
    }
}

bool source_mix_is_empty(const source_mix *self)
{
    bool empty = true;
    for (int s = 0; s < NUM_SOURCES; s++) {
        empty = empty && self->fills[s] == 0 && self->bytes[s] == 0;
    }
    return empty;
}

void source_mix_to_json(const source_mix *self, cJSON *root)
{
    cJSON *all = cJSON_AddObjectToObject(root, "sources");
    for (int s = 0; s < NUM_SOURCES; s++) {
        cJSON *one = cJSON_AddObjectToObject(all, source_names[s]);
        run_file_add_count(one, "fills", self->fills[s]);
        run_file_add_count(one, "bytes", self->bytes[s]);
    }
}

void source_mix_print(const source_mix *self)
{
    const char *separator = "  sources    ";
    for (int s = 0; s < NUM_SOURCES; s++) {
        if (self->fills[s] || self->bytes[s]) {
            printf("%s%s %" PRIu64 " (%.1f MB)", separator, source_names[s], self->fills[s],
                   (double)self->bytes[s] / 1e6);
            separator = ", ";
        }
    }
    if (!source_mix_is_empty(self)) {
        puts("");
    }
}
