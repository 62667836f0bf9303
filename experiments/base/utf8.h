/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that others have written. */
#ifndef EEPX_UTF8_H
#define EEPX_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* It is UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing above U+10FFFF. */
bool utf8_is(const char *text, size_t bytes);
/* Bytes of the character at the begin of `text`, which has at least one; 0: none is there. */
size_t utf8_length(const char *text, size_t bytes);
/* The first control character of a UTF-8 text that a terminal may obey: below U+0020 without tab
 * and newline, U+007F, U+0080 to U+009F. 0: there is none. */
unsigned utf8_control(const char *text, size_t bytes);
/* Each byte that belongs to no character becomes a '?'. */
void utf8_mend(char *text);
#endif
