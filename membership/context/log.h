/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log. Any thread. */
#ifndef EEPI_LOG_H
#define EEPI_LOG_H

#include "eep/eep.h"

void eepi_log(const eep_context *context, eep_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Of which rank a text is; its generation is known once it has taken its seat. Returns its length.
 */
size_t eepi_say_rank(const eep_context *context, char *text_out, size_t bytes);
#endif
