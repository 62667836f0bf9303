/* SPDX-License-Identifier: Apache-2.0 */
/* The entry that libFuzzer calls. EEP_FUZZ names the target. */
#include "tests/fuzz/fuzz_targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const fuzz_target *chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("EEP_FUZZ");
    (void)argc;
    (void)argv;
    for (int i = 0; name && (chosen = fuzz_target_at(i)); i++) {
        if (strcmp(chosen->name, name) == 0) {
            return 0;
        }
    }
    fprintf(stderr, "EEP_FUZZ names no target:");
    for (int i = 0; (chosen = fuzz_target_at(i)); i++) {
        fprintf(stderr, " %s", chosen->name);
    }
    fprintf(stderr, "\n");
    exit(2);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size <= FUZZ_MAX_BYTES) {
        (void)chosen->run(bytes, size);
    }
    return 0;
}
