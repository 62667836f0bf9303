/* SPDX-License-Identifier: Apache-2.0 */
/* What etcd's JSON gateway reads and writes: a growing text, base64, numbers as strings. Pure. */
#ifndef EEPI_ETCD_TEXT_H
#define EEPI_ETCD_TEXT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Always ends with a NUL once something was added. Zero-initialised is empty. */
typedef struct eepi_etcd_text {
    char *bytes;
    size_t size, capacity;
    bool failed; /* there was no memory: nothing more is added */
} eepi_etcd_text;

void eepi_etcd_text_clear(eepi_etcd_text *text); /* keeps its memory, and is not failed any more */
void eepi_etcd_text_free(eepi_etcd_text *text);
void eepi_etcd_text_add(eepi_etcd_text *text, const void *bytes, size_t size);
void eepi_etcd_text_format(eepi_etcd_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* In base64, without quotes. `first` and then `second`. */
void eepi_etcd_text_base64(eepi_etcd_text *text, const void *first, size_t first_bytes,
                           const void *second, size_t second_bytes);
/* "NAME":"<base64 of the string>" */
void eepi_etcd_text_key(eepi_etcd_text *text, const char *name, const char *key);
/* "NAME":"<base64>" of the first key behind all that begin with the prefix. */
void eepi_etcd_text_range_end(eepi_etcd_text *text, const char *name, const char *prefix);

/* A number in an object, or a string with one; 0: there is none, as protocol buffers leave it out.
 */
uint64_t eepi_etcd_number(const cJSON *object, const char *name);
/* The bytes that a member has in base64, with a NUL behind them; free(). NULL: no memory, or no
 * base64; *size_out is SIZE_MAX for the latter. A member that is not there is empty. */
unsigned char *eepi_etcd_bytes(const cJSON *object, const char *name, size_t *size_out);
#endif
