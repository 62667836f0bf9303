/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of programs and fixtures that Criterion does not run, and of threads that it does not
 * know: a line that names the place, and the end of the process. */
#ifndef CHECK_OR_ABORT_H
#define CHECK_OR_ABORT_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#define OK(call) CHECK((call) == EEP_OK)
#endif
