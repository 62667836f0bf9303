/* SPDX-License-Identifier: Apache-2.0 */
/* What CUDA reads of the environment, once: in the first call that a process makes of it, by
 * whichever of its runtimes. So a program that may use a GPU sets it before it has threads and
 * makes such a call; the plugin does it again for programs that do not know of this.
 *
 * 32 hardware queues: ranks that wait on one device must not stand behind each other in one queue.
 * Eager loading: a kernel that is loaded at its first launch synchronises the device, behind the
 * kernels that wait. */
#ifndef EEPI_CUDA_ENVIRONMENT_H
#define EEPI_CUDA_ENVIRONMENT_H

#include <stdlib.h>

#define EEPI_CUDA_QUEUES_VARIABLE "CUDA_DEVICE_MAX_CONNECTIONS"
enum { EEPI_CUDA_DEFAULT_QUEUES = 8, EEPI_CUDA_MOST_QUEUES = 32 };

/* What the user has set stays. Before the process has a second thread. */
static inline void eepi_cuda_environment_set(void)
{
    setenv(EEPI_CUDA_QUEUES_VARIABLE, "32", 0);
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}
#endif
