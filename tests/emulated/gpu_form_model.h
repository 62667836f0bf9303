/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GPU_FORM_MODEL_H
#define GPU_FORM_MODEL_H

#include "experiments/model/model_kernels.h"

/* Run a kernel of the model as a GPU would, with every block of num_threads threads; `args` is its
 * argument struct. Returns when all have ended. */
void gpu_form_launch(model_kernel_id id, uint32_t num_blocks, uint32_t num_threads,
                     const void *args);
#endif
