/* SPDX-License-Identifier: Apache-2.0 */
/* Copies whose stores go past the caches (non-temporal stores), for bytes that this core does not
 * read again. A line is not read before it is written, and other data stays in the caches.
 *
 * Which copy is quicker into memory that another core has read, and reads next, depends on where
 * that core is. If both share a cache, the bytes are best left there. If not, a plain store fetches
 * each line from the other core's cache first, which is several times slower than to write memory.
 * Threads move, so what copies took decides. */
#ifndef EEPI_PAST_CACHES_H
#define EEPI_PAST_CACHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* memcpy, but for the order of its stores: eepi_past_caches_order must follow. Any thread. */
void eepi_past_caches_copy(void *to, const void *from, size_t bytes);
/* Stores past the caches are in no order with later ones. What was copied before this call is
 * visible to whoever sees a later store of this thread. Partner: the load of that store, with
 * acquire order, or a system call that told of it. */
void eepi_past_caches_order(void);

/* The other kind is tried again after 8 copies, then after 16, and so on up to 8 << 5 = 256. */
enum { EEPI_COPY_RETRY = 8, EEPI_COPY_RETRY_DOUBLED = 5 };
/* What copies of one size to one reader took, plain ones and those past the caches. Zeroed at
 * first. One thread at a time. */
typedef struct eepi_copy_times {
    uint64_t took_ns[2]; /* 0: none was made; [1]: past the caches */
    uint32_t since;      /* copies since the other kind was tried */
    uint32_t num_tries;  /* of the other kind, up to EEPI_COPY_RETRY_DOUBLED */
} eepi_copy_times;

/* Whether the next copy is to go past the caches: where that takes less than half the time, since
 * the reader then has to read memory as well. */
bool eepi_copy_goes_past(const eepi_copy_times *times);
/* A copy has taken so long. One that was interrupted counts little. */
void eepi_copy_took(eepi_copy_times *times, bool went_past, uint64_t ns);
#endif
