/* SPDX-License-Identifier: Apache-2.0 */
/* eep-info: whether network cards reach a GPU's memory, found out by handing some to each. */
#ifndef GPU_DIRECT_INFO_H
#define GPU_DIRECT_INFO_H

#include "eep/device.h"

#include <cjson/cJSON.h>

/* "gpu_direct" of a device whose memory is its own; nothing of the host's. */
void gpu_direct_collect(cJSON *entry, eep_device *device);
void gpu_direct_print(const cJSON *entry);
#endif
