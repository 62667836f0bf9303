/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 1024 };
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void eepi_etcd_text_clear(eepi_etcd_text *text)
{
    text->size = 0;
    text->failed = false;
    if (text->bytes) {
        text->bytes[0] = '\0';
    }
}

void eepi_etcd_text_free(eepi_etcd_text *text)
{
    free(text->bytes);
    *text = (eepi_etcd_text){0};
}

/* Room for so many more bytes and a NUL. */
static bool reserve(eepi_etcd_text *text, size_t more)
{
    if (text->failed) {
        return false;
    }
    if (text->size + more + 1 > text->capacity) {
        size_t capacity = text->capacity ? 2 * text->capacity : FIRST_BYTES;
        capacity = text->size + more + 1 > capacity ? text->size + more + 1 : capacity;
        char *bytes = realloc(text->bytes, capacity);
        if (!bytes) {
            text->failed = true;
            return false;
        }
        text->bytes = bytes;
        text->capacity = capacity;
    }
    return true;
}

void eepi_etcd_text_add(eepi_etcd_text *text, const void *bytes, size_t size)
{
    if (reserve(text, size)) {
        memcpy(text->bytes + text->size, bytes, size);
        text->size += size;
        text->bytes[text->size] = '\0';
    }
}

void eepi_etcd_text_format(eepi_etcd_text *text, const char *format, ...)
{
    va_list arguments, again;
    int size;
    va_start(arguments, format);
    va_copy(again, arguments);
    size = vsnprintf(NULL, 0, format, arguments);
    if (size >= 0 && reserve(text, (size_t)size)) {
        (void)vsnprintf(text->bytes + text->size, (size_t)size + 1, format, again);
        text->size += (size_t)size;
    }
    va_end(again);
    va_end(arguments);
}

void eepi_etcd_text_base64(eepi_etcd_text *text, const void *first, size_t first_bytes,
                           const void *second, size_t second_bytes)
{
    const unsigned char *a = first, *b = second;
    const size_t size = first_bytes + second_bytes;
    char *to;
    if (!reserve(text, (size + 2) / 3 * 4)) {
        return;
    }
    to = text->bytes + text->size;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t word = 0;
        for (size_t k = i; k < i + 3; k++) {
            word = word << 8 | (k >= size ? 0u : k < first_bytes ? a[k] : b[k - first_bytes]);
        }
        *to++ = digits[word >> 18];
        *to++ = digits[word >> 12 & 63];
        *to++ = i + 1 < size ? digits[word >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[word & 63] : '=';
    }
    *to = '\0';
    text->size = (size_t)(to - text->bytes);
}

void eepi_etcd_text_key(eepi_etcd_text *text, const char *name, const char *key)
{
    eepi_etcd_text_format(text, "\"%s\":\"", name);
    eepi_etcd_text_base64(text, key, strlen(key), NULL, 0);
    eepi_etcd_text_add(text, "\"", 1);
}

void eepi_etcd_text_range_end(eepi_etcd_text *text, const char *name, const char *prefix)
{
    size_t bytes = strlen(prefix);
    const unsigned char after = bytes > 0 ? (unsigned char)(prefix[bytes - 1] + 1) : 0;
    eepi_etcd_text_format(text, "\"%s\":\"", name); /* prefixes end with a byte below 0xff */
    eepi_etcd_text_base64(text, prefix, bytes > 0 ? bytes - 1 : 0, &after, 1);
    eepi_etcd_text_add(text, "\"", 1);
}

uint64_t eepi_etcd_number(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    if (cJSON_IsString(member)) {
        return strtoull(member->valuestring, NULL, 10);
    }
    return cJSON_IsNumber(member) && member->valuedouble > 0 ? (uint64_t)member->valuedouble : 0;
}

static int value_of(char digit)
{
    const char *at = digit ? strchr(digits, digit) : NULL;
    return at ? (int)(at - digits) : -1;
}

unsigned char *eepi_etcd_bytes(const cJSON *object, const char *name, size_t *size_out)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    const char *text = cJSON_IsString(member) ? member->valuestring : "";
    const size_t length = strlen(text);
    size_t size = 0;
    unsigned char *bytes = malloc(length / 4 * 3 + 1);
    *size_out = 0;
    if (!bytes) {
        return NULL;
    }
    for (size_t i = 0; i < length; i += 4) {
        int pad = 0;
        uint32_t word = 0;
        for (size_t k = 0; k < 4; k++) {
            int value = i + k < length ? value_of(text[i + k]) : -1;
            pad += value < 0 && i + k < length && text[i + k] == '=';
            if (value < 0 && (pad == 0 || i + 4 != length || k < 2)) {
                free(bytes);
                *size_out = SIZE_MAX;
                return NULL;
            }
            word = word << 6 | (uint32_t)(value < 0 ? 0 : value);
        }
        for (int k = 0; k < 3 - pad; k++) {
            bytes[size++] = (unsigned char)(word >> (16 - 8 * k));
        }
    }
    bytes[size] = '\0';
    *size_out = size;
    return bytes;
}
