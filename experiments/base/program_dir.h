/* SPDX-License-Identifier: Apache-2.0 */
/* Where the programs and files are that were installed together with this program. */
#ifndef EEPX_PROGRAM_DIR_H
#define EEPX_PROGRAM_DIR_H

#include <limits.h>

/* Write the path of `name` in this program's own folder. -1: too long, or /proc is not there. */
int program_dir_path(const char *name, char path_out[PATH_MAX]);
#endif
