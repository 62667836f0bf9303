/* SPDX-License-Identifier: Apache-2.0 */
/* Check and mend UTF-8. */
#include "experiments/base/utf8.h"

#include <string.h>

size_t utf8_length(const char *of, size_t bytes)
{
    const unsigned char *text = (const unsigned char *)of;
    unsigned char first = text[0];
    size_t length = first < 0x80                    ? 1
                    : first >= 0xc2 && first < 0xe0 ? 2
                    : first >= 0xe0 && first < 0xf0 ? 3
                    : first >= 0xf0 && first < 0xf5 ? 4
                                                    : 0;
    if (length > bytes) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool surrogate = first == 0xed && text[1] >= 0xa0, above = first == 0xf4 && text[1] >= 0x90;
    return overlong || surrogate || above ? 0 : length;
}

bool utf8_is(const char *text, size_t bytes)
{
    size_t at = 0, length = 1;
    while (at < bytes && length > 0) {
        length = utf8_length(text + at, bytes - at);
        at += length;
    }
    return length > 0;
}

void utf8_mend(char *text)
{
    size_t bytes = strlen(text);
    for (size_t at = 0; at < bytes;) {
        size_t length = utf8_length(text + at, bytes - at);
        if (length == 0) {
            text[at] = '?';
        }
        at += length ? length : 1;
    }
}

unsigned utf8_control(const char *of, size_t bytes)
{
    const unsigned char *text = (const unsigned char *)of;
    for (size_t i = 0; i < bytes; i++) {
        bool c0 = text[i] < ' ' && text[i] != '\n' && text[i] != '\t';
        if (c0 || text[i] == 0x7f) {
            return text[i];
        }
        if (text[i] == 0xc2 && i + 1 < bytes && text[i + 1] < 0xa0) {
            return text[i + 1];
        }
    }
    return 0;
}
