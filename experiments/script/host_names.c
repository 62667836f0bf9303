/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of hosts in a verb's text. */
#include "experiments/script/host_names.h"

#include "experiments/base/decimal.h"

#include <string.h>

static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
static const double MAX_MS = 3600e3;

const char *host_names_next(const char *list, char name_out[HOST_NAME_BYTES])
{
    size_t bytes = strspn(list, LETTERS);
    if (bytes == 0 || bytes >= HOST_NAME_BYTES) {
        return NULL;
    }
    memcpy(name_out, list, bytes);
    name_out[bytes] = '\0';
    return list + bytes + (list[bytes] == ',');
}

/* Names with a comma between each two, none twice. */
static bool is_list(const char *list)
{
    char name[HOST_NAME_BYTES], other[HOST_NAME_BYTES];
    const char *rest = list;
    if (!*list || list[strlen(list) - 1] == ',') {
        return false;
    }
    while (*rest) {
        const char *next = host_names_next(rest, name);
        if (!next || (*next && next[-1] != ',')) {
            return false;
        }
        for (const char *later = next; later && *later;) {
            later = host_names_next(later, other);
            if (later && strcmp(name, other) == 0) {
                return false;
            }
        }
        rest = next;
    }
    return true;
}

static bool share_a_name(const char *left, const char *right)
{
    char name[HOST_NAME_BYTES], other[HOST_NAME_BYTES];
    for (const char *a = left; a && *a;) {
        a = host_names_next(a, name);
        for (const char *b = right; a && b && *b;) {
            b = host_names_next(b, other);
            if (b && strcmp(name, other) == 0) {
                return true;
            }
        }
    }
    return false;
}

bool host_names_parse(verb what, const char *text, host_names *names_out)
{
    const int value = verb_table[what].value;
    const bool has_sides = value == VERB_SIDES || value == VERB_SIDES_MS;
    host_names names = {.ms = 0};
    if (strlen(text) >= VERB_FILE_BYTES) {
        return false;
    }
    strcpy(names.side[0], text);
    if (has_sides) {
        char *bar = strchr(names.side[0], '|');
        if (!bar) {
            return false;
        }
        *bar = '\0';
        strcpy(names.side[1], bar + 1);
    }
    if (value == VERB_SIDES_MS) {
        const char *end = NULL;
        char *colon = strchr(names.side[1], ':');
        if (!colon || !decimal_parse(colon + 1, &names.ms, &end) || names.ms > MAX_MS ||
            (*end && strcmp(end, "ms") != 0)) {
            return false;
        }
        *colon = '\0';
    }
    if (!is_list(names.side[0]) || (value == VERB_HOST && strchr(names.side[0], ',')) ||
        (has_sides && (!is_list(names.side[1]) || share_a_name(names.side[0], names.side[1])))) {
        return false;
    }
    *names_out = names;
    return true;
}
