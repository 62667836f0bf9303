/* SPDX-License-Identifier: Apache-2.0 */
/* Files in a run's folder, read and written whole. */
#ifndef EEPX_RUN_FILE_H
#define EEPX_RUN_FILE_H

#include "eep/eep.h"

#include <cjson/cJSON.h>
#include <stdio.h>

/* A new, empty file, in place of what is there: a link is not followed, and a FIFO is not waited
 * for. A descriptor to write it, or -1 with errno; EISDIR: a folder is there. */
int run_file_new(const char *path);
/* The same, for DIR/NAME and as a stream. NULL with errno. */
FILE *run_file_create(const char *dir, const char *name);
/* Whether it can be made: DIR/NAME is absent, or may be removed. -1 with errno; EISDIR: a folder is
 * there; EPERM: DIR has the sticky bit, and the file is another user's. Nothing is changed. */
int run_file_can_replace(const char *dir, const char *name);
/* To read DIR/NAME. NULL with errno; EINVAL: it is no regular file. A FIFO or a device, which may
 * be waited for for ever, is not read, even if it takes the name at this moment. */
FILE *run_file_open(const char *dir, const char *name);
/* The text of DIR/NAME, ended by a NUL; the caller frees it. NULL: it cannot be read, or no
 * memory. */
char *run_file_text(const char *dir, const char *name);
/* DIR/NAME parsed; the caller deletes it. NULL: it cannot be read, or is no JSON. */
cJSON *run_file_json(const char *dir, const char *name);
/* Write DIR/NAME and delete `root` (NULL: there was no memory for it). EEP_ERR_SYSTEM with errno,
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status run_file_write_json(cJSON *root, const char *dir, const char *name);
/* In all its digits: cJSON's own numbers are doubles, printed with 15. */
void run_file_add_count(cJSON *object, const char *name, uint64_t value);
/* Three decimals: what the clocks are good for, and what people read. */
void run_file_add_ms(cJSON *object, const char *name, double value);
#endif
