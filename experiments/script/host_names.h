/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts as a verb names them: NAME[,NAME...], of two sides A|B, of a delay A|B:MS. Pure. */
#ifndef EEPX_HOST_NAMES_H
#define EEPX_HOST_NAMES_H

#include "experiments/script/verbs.h"

#include <stdbool.h>

enum { HOST_NAME_BYTES = 32 };

typedef struct host_names {
    char side[2][VERB_FILE_BYTES]; /* lists with commas; [1] is "" where there is one side */
    double ms;                     /* of a delay */
} host_names;

/* By what the verb takes (verb_info.value). False: it is not of that form. */
bool host_names_parse(verb what, const char *text, host_names *names_out);
/* The next name of a list, and what comes behind it; NULL: there is none left. */
const char *host_names_next(const char *list, char name_out[HOST_NAME_BYTES]);
#endif
