/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in what people write: options, scripts, commands. */
#ifndef EEPX_DECIMAL_H
#define EEPX_DECIMAL_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* The plain decimal number at the beginning of the text, an exponent included, and where it ends.
 * False: there is none. strtod alone would also take "inf", "nan", blanks, signs and 0x10. */
static inline bool decimal_parse(const char *text, double *value_out, const char **end_out)
{
    char *end = NULL;
    bool starts = (*text >= '0' && *text <= '9') || *text == '.';
    bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (!starts || is_hex) {
        return false;
    }
    double value = strtod(text, &end);
    if (end == text || !isfinite(value)) {
        return false;
    }
    *value_out = value;
    *end_out = end;
    return true;
}

/* The whole text is such a number. */
static inline bool decimal_is(const char *text, double *value_out)
{
    const char *end = text;
    double value = 0;
    if (!decimal_parse(text, &value, &end) || *end != '\0') {
        return false;
    }
    *value_out = value;
    return true;
}
#endif
