/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz_targets.h"

#include "tests/lib/check_or_abort.h"

#include <string.h>

const fuzz_target *fuzz_target_at(int number)
{
    static const fuzz_target *const lists[] = {fuzz_store_targets, fuzz_membership_targets,
                                               fuzz_transport_targets, fuzz_laboratory_targets};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (const fuzz_target *at = lists[i]; at->name; at++) {
            if (number-- == 0) {
                return at;
            }
        }
    }
    return NULL;
}

char *fuzz_text(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    CHECK(text);
    if (size > 0) {
        memcpy(text, bytes, size);
    }
    text[size] = '\0';
    return text;
}

size_t fuzz_seed_text(const char *const *texts, size_t num, int number, uint8_t *bytes_out)
{
    size_t size;
    if ((size_t)number >= num) {
        return 0;
    }
    size = strlen(texts[number]);
    CHECK(size <= FUZZ_MAX_BYTES);
    memcpy(bytes_out, texts[number], size);
    return size;
}
