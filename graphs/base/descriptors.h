/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors of this process: how many there are, how many there may be. Any thread. */
#ifndef EEPI_DESCRIPTORS_H
#define EEPI_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eepi_descriptors {
    uint64_t limit; /* RLIMIT_NOFILE, the soft one */
    uint64_t open;
} eepi_descriptors;

eepi_descriptors eepi_descriptors_look(void);
/* Fewer than `need` can still be opened: `text_out` then names the limit and what is needed for
 * `what`. */
bool eepi_descriptors_lack(uint64_t need, const char *what, char *text_out, size_t text_bytes);
/* One of `part` that may be open, and one more, but not more than `most`: what a server leaves to
 * connections that nobody needs. */
uint64_t eepi_descriptors_share(uint64_t part, uint64_t most);
/* `error` of a call, as strerror says it; for EMFILE and ENFILE with the limit. `text` is returned.
 */
const char *eepi_descriptors_error(int error, char *text, size_t text_bytes);
#endif
