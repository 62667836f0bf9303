/* SPDX-License-Identifier: Apache-2.0 */
/* What programs print: a closed pipe or a full device must not cost the results, and must not pass
 * for success either. */
#ifndef EEPX_OUTPUT_H
#define EEPX_OUTPUT_H

#include <stdbool.h>

/* First of all in main(). From then on, in this process and in its children, a write to a closed
 * pipe, or beyond a limit on the size of files, fails and no longer ends the process. SIGCHLD has
 * its default, so that children can be waited for whatever the parent ignored. Opens what is
 * missing of the three standard descriptors, for reading only, so that no file or socket gets their
 * numbers. At the end of the program output_end() is applied to its exit status. */
void output_begin(void);

/* The reader of the descriptor has stopped: a line more would stop this program too. (If this is
 * false, a line may still: a terminal may have some room, and not enough.) */
bool output_is_stuck(int fd);
/* Something that was printed is lost; printing more is of no use. */
bool output_is_lost(void);

/* `code`, or 1 in place of 0 if something that was printed is lost; standard error says so. For
 * those who end by _exit(). */
int output_end(int code);
#endif
