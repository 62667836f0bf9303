/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people, which nobody may wait for. */
#ifndef EEPI_SAY_H
#define EEPI_SAY_H

#include <stddef.h>

/* Write the text to a standard descriptor, if that is possible without a wait: what its reader
 * leaves no room for is dropped. */
void eepi_say(int fd, const char *text, size_t bytes);
#endif
