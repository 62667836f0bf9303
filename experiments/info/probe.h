/* SPDX-License-Identifier: Apache-2.0 */
/* Measures of this machine's memory and files, for eep-info --probe: the best of a few rounds. */
#ifndef EEPX_PROBE_H
#define EEPX_PROBE_H

#include "eep/status.h"

#include <stdint.h>

/* Bytes per second; 0: it could not be measured. */
typedef struct probe_rates {
    uint64_t memory_copy; /* from one buffer to another */
    uint64_t shared_copy; /* out of memory that another process mapped and wrote */
    uint64_t file_read;   /* of a file that was dropped from the page cache, as far as the kernel
                           * does that */
    uint64_t file_again;  /* of the same file, out of the page cache */
} probe_rates;

/* About a second. The file is made in `folder`, has 64 MiB, and is gone afterwards. EEP_ERR_SYSTEM
 * if it cannot be written (errno says why), EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status probe_run(const char *folder, probe_rates *rates_out);
#endif
