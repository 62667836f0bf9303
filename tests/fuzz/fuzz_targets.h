/* SPDX-License-Identifier: Apache-2.0 */
/* Parsers of bytes that come from outside of a process, each as a function that a fuzzer calls with
 * whatever it likes. Sanitizers and the checks in them say what is wrong; the process ends then. */
#ifndef TESTS_FUZZ_TARGETS_H
#define TESTS_FUZZ_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FUZZ_MAX_BYTES = 8192 };

typedef struct fuzz_target {
    const char *name;
    /* Whether something of it was taken for what it says it is. */
    bool (*run)(const uint8_t *bytes, size_t size);
    /* Input number `number`, from 0, that a process of this build would send; 0: there is none. */
    size_t (*seed)(int number, uint8_t bytes_out[FUZZ_MAX_BYTES]);
} fuzz_target;

/* Up to one without a name. */
extern const fuzz_target fuzz_store_targets[], fuzz_membership_targets[], fuzz_transport_targets[],
    fuzz_laboratory_targets[];
/* The target of that number, counted over all; NULL: there are no more. */
const fuzz_target *fuzz_target_at(int number);
/* A copy with a NUL behind it, at a place that malloc gives; free(). */
char *fuzz_text(const uint8_t *bytes, size_t size);
/* A seed that is a text. */
size_t fuzz_seed_text(const char *const *texts, size_t num, int number, uint8_t *bytes_out);
#endif
