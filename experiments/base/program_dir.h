/* Where the programs and files are that were installed together with this program. */
#ifndef EEPX_BESIDE_H
#define EEPX_BESIDE_H

#include <limits.h>

/* Write the path of `name` in this program's own folder. -1: too long, or /proc is not there. */
int beside_us(const char *name, char path_out[PATH_MAX]);
#endif
