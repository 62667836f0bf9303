/* SPDX-License-Identifier: Apache-2.0 */
/* The priority of a rank that prepares itself beside a serving job. */
#ifndef EEPX_JOINER_NICE_H
#define EEPX_JOINER_NICE_H

#include <stdbool.h>

enum { JOINER_NICE = 10 };

/* Lower this thread's priority, and that of threads it will start; false: it stays as it is, since
 * it could not be taken back: a rank that is nice for life would slow every step. */
bool joiner_nice_begin(void);
/* All threads of this process get the normal priority; errors name the seat. */
void joiner_nice_end(int seat);
#endif
