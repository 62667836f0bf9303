/* SPDX-License-Identifier: Apache-2.0 */
/* The key of a job: whoever has it is one of the job's processes. Any thread. */
#ifndef EEPI_SECURE_KEY_H
#define EEPI_SECURE_KEY_H

#include "eep/status.h"

#include <stddef.h>

enum { EEPI_SECURE_KEY_BYTES = 32 };

typedef struct eepi_secure_key {
    unsigned char bytes[EEPI_SECURE_KEY_BYTES];
} eepi_secure_key;

/* The key in the file at `path`, or, with NULL or "", in that which EEP_KEY_FILE names. The file
 * holds 32 to 128 hexadecimal digits, which is 128 bits or more, as `openssl rand -hex 32` writes
 * them. It belongs to this user or root, and nobody else may read it (mode 0600 or 0400). A key is
 * never taken from a command line or from the environment, where other users can read it.
 * EEP_ERR_NOT_FOUND: no file is named. EEP_ERR_INVALID, EEP_ERR_SYSTEM: `why` has the reason, which
 * names the file and never what it holds. */
EEP_MUST_CHECK eep_status eepi_secure_key_read(const char *path, eepi_secure_key *key_out,
                                               char *why, size_t why_bytes);
/* Overwrite it, so that no later read of this memory shows it. */
void eepi_secure_key_wipe(eepi_secure_key *key);
#endif
