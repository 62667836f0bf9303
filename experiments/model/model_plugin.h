/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA bodies of the laboratory's kernels, the model's and those of faults (fault_kernels.h).
 * They are a library of their own, libeep_model_cuda.so, which is opened only for a CUDA device: no
 * program needs CUDA to start. The library launches them through a CUDA runtime of its own into
 * eep_stream_native, as any program launches its kernels: the runtime of libeep_cuda.so knows only
 * the kernels that were linked into it. */
#ifndef EEPX_MODEL_PLUGIN_H
#define EEPX_MODEL_PLUGIN_H

#include "eep/device.h"
#include "experiments/model/fault_kernels.h"
#include "experiments/model/model_kernels.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up with every change of the struct below or of the kernels' argument structs. */
enum {
    MODEL_PLUGIN_VERSION = 3,
    /* A plugin numbers the model's kernels as model_kernel_id does, then fault_kernel_id's. */
    MODEL_PLUGIN_FIRST_FAULT = MODEL_NUM_KERNELS,
    MODEL_PLUGIN_NUM_KERNELS = (int)MODEL_NUM_KERNELS + (int)FAULT_NUM_KERNELS
};
#define MODEL_PLUGIN_FILE   "libeep_model_cuda.so"
#define MODEL_PLUGIN_SYMBOL "eep_model_cuda_plugin" /* const model_plugin *(*)(void) */

typedef struct model_plugin {
    uint32_t version, num_kernels;
    /* Load all kernels, which may synchronise the device: before any rank waits on it. NULL, or why
     * not. Leaves the device as the thread's current one. */
    const char *(*load)(int ordinal);
    /* Put a kernel into a cudaStream_t of that device; `args` are read now. NULL,
     * or why not. Capture-safe; any thread. */
    const char *(*launch)(int ordinal, void *native_stream, uint32_t kernel, uint32_t num_blocks,
                          uint32_t num_threads, const void *args);
} model_plugin;

/* Look where the loader looks, then beside the program, and load the kernels on the device. It
 * stays open. NULL: the reason is in why_out (why_bytes). Any thread. */
const model_plugin *model_plugin_open(int ordinal, char *why_out, size_t why_bytes);

/* The two bodies of a kernel: the CUDA body's number in the plugin, the host body's table. */
typedef struct model_bodies {
    uint32_t number;
    const eep_kernel *host;
} model_bodies;
/* Put a kernel into a stream of the device with that number: by the plugin or, if that is NULL, by
 * eep_launch; shown to the capture check either way. `why_out` is set on failure. */
EEP_MUST_CHECK eep_status model_plugin_put(const model_plugin *plugin, int ordinal,
                                           eep_stream *stream, model_bodies kernel,
                                           uint32_t num_blocks, uint32_t num_threads,
                                           const void *args, size_t args_bytes,
                                           const char **why_out);

#ifdef __cplusplus
}
#endif
#endif
