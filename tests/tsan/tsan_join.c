/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that waits to join is asked again and again for whom it waits, while its service thread
 * finds that out: no data race between the two. A plain program, for ThreadSanitizer. */
#include "eep/eep.h"
#include "eep/store.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JOINS = 400, MOST_JOINS = 100000 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, eep_error_text());  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static eep_context *open_rank(const char *path, eep_device *device, eep_stream *stream)
{
    eep_config config;
    eep_context *context;
    eep_tensor tensor = {NULL, 64};
    char error[512] = "";

    eep_config_init(&config);
    CHECK(eep_config_profile(&config, EEP_PROFILE_QUICK) == EEP_OK);
    config.rank = 0;
    config.num_ranks = 1;
    config.max_ranks = 2;
    config.store_path = path;
    config.device = device;
    config.num_layers = config.num_experts = config.num_slots = config.top_k = 1;
    config.hidden = 16;
    config.num_max_tokens_per_rank = 1;
    config.kill_fence = config.bind_threads = 0;
    config.log_level = EEP_LOG_NONE;
    config.join_timeout_us = 200;
    CHECK(eep_open(&config, error, sizeof error, &context) == EEP_OK);
    CHECK(eep_slot_alloc(context, 0, 0, &tensor, 1) == EEP_OK);
    CHECK(eep_step_stream(context, stream) == EEP_OK);
    return context;
}

int main(void)
{
    char folder[] = "/tmp/eep-join-XXXXXX", path[64], error[256];
    eepi_seat_holder before, holder = {.pid = (int32_t)getpid(),
                                       .pid_start = eepi_process_start((int32_t)getpid()),
                                       .home = eepi_process_home()};
    eep_context *context;
    eep_device *device;
    eep_stream *stream;
    eep_store *store;
    int num_joins = 0, num_named = 0;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/store", folder);
    CHECK(eep_store_open(path, error, sizeof error, &store) == EEP_OK);
    CHECK(eepi_seat_take(path, 1, 0, &holder, &before) == EEP_OK);
    CHECK(eep_device_open("host", 0, &device) == EEP_OK);
    CHECK(eep_stream_open(device, &stream) == EEP_OK);
    context = open_rank(path, device, stream);
    /* a busy machine may let the service thread run later than all of them */
    for (; num_joins < JOINS || (num_named == 0 && num_joins < MOST_JOINS); num_joins++) {
        CHECK(eep_join(context) == EEP_ERR_TIMEOUT);
        num_named += strstr(eep_last_error(context), "holds seat 1") != NULL;
    }
    CHECK(num_named > 0);
    CHECK(eepi_seat_release(path, 1, &holder) == EEP_OK);
    eep_close(context);
    eep_stream_close(stream);
    eep_device_close(device);
    eep_store_close(store);
    for (int seat = 0; seat < 2; seat++) {
        snprintf(error, sizeof error, "%s.seat%d", path, seat);
        unlink(error);
    }
    CHECK(rmdir(folder) == 0);
    printf("%d of %d joins named the seat\n", num_named, num_joins);
    return 0;
}
