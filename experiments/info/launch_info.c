/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/info/launch_info.h"

#include "eep/launch.h"

#include <stdio.h>

/* "any", a number, or null where no variable says one. */
static void add_rank(cJSON *launch, int32_t rank)
{
    if (rank == EEP_RANK_ANY) {
        cJSON_AddStringToObject(launch, "rank", "any");
    } else if (rank < 0) {
        cJSON_AddNullToObject(launch, "rank");
    } else {
        cJSON_AddNumberToObject(launch, "rank", rank);
    }
}

static void add_number(cJSON *launch, const char *name, int32_t value, int32_t none)
{
    if (value == none) {
        cJSON_AddNullToObject(launch, name);
    } else {
        cJSON_AddNumberToObject(launch, name, value);
    }
}

int launch_info_collect(cJSON *root)
{
    eep_launch_info it;
    cJSON *launch;

    if (eep_launch_read(EEP_SIZED(&it)) != EEP_OK) {
        fprintf(stderr, "eep-info: %s\n", eep_error_text());
        return 1;
    }
    launch = cJSON_AddObjectToObject(root, "launch");
    add_rank(launch, it.rank);
    add_number(launch, "num_ranks", it.num_ranks, 0);
    add_number(launch, "local_rank", it.local_rank, -1);
    add_number(launch, "local_size", it.local_size, 0);
    cJSON_AddStringToObject(launch, "store", it.store);
    cJSON_AddStringToObject(launch, "address", it.address);
    cJSON_AddStringToObject(launch, "leader", it.leader);
    cJSON_AddStringToObject(launch, "source", it.source);
    return 0;
}

void launch_info_print(const cJSON *launch)
{
    static const char *const texts[] = {"store", "address", "leader"};
    const char *source = cJSON_GetObjectItemCaseSensitive(launch, "source")->valuestring;

    printf("launch    %s\n", source[0] ? source : "no variable of a launcher is set");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = cJSON_GetObjectItemCaseSensitive(launch, texts[i])->valuestring;
        if (text[0]) {
            printf("          %s: %s\n", texts[i], text);
        }
    }
}
