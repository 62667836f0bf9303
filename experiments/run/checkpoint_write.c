/* SPDX-License-Identifier: Apache-2.0 */
/* The weights of a run's model as a checkpoint. */
#include "experiments/run/checkpoint_write.h"

#include "experiments/model/model_file.h"
#include "experiments/model/model_tensors.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

/* Several shards also of a small model, and none that is larger than is usual. */
enum { LEAST_SHARDS = 4 };
#define MOST_SHARD_BYTES ((uint64_t)4 << 30)

int checkpoint_write(const options *given)
{
    char error[MODEL_FILE_ERROR_BYTES];
    uint64_t bytes = 0, shard_bytes;
    rank_setup setup;

    options_fill_rank(given, &setup);
    const model_config config = {.seed = (uint64_t)setup.seed,
                                 .num_layers = (int32_t)setup.num_layers,
                                 .hidden = (int32_t)setup.hidden,
                                 .inner = (int32_t)setup.inner,
                                 .num_experts = (int32_t)setup.num_experts,
                                 .vocabulary = (int32_t)setup.vocabulary};
    const int64_t num = model_tensors_num(&config);
    for (int64_t i = 0; i < num; i++) {
        const model_tensor tensor = model_tensor_at(&config, i);
        bytes += model_tensor_count(&tensor) * sizeof(float);
    }
    shard_bytes = bytes / LEAST_SHARDS < MOST_SHARD_BYTES ? bytes / LEAST_SHARDS : MOST_SHARD_BYTES;
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error of the write */
    if (model_file_write(&config, given->checkpoint_write, shard_bytes, error) != EEP_OK) {
        fprintf(stderr, "eep-run: --checkpoint-write: %s\n", error);
        return 1;
    }
    if (!given->quiet) {
        printf("%" PRId64 " tensors, %" PRIu64 " bytes: %s\n", num, bytes, given->checkpoint_write);
    }
    return 0;
}
