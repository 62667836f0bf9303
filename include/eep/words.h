/* SPDX-License-Identifier: Apache-2.0 */
/* The words of a running step, for kernels of the engine that may take long: a step may be over
 * before its end. docs/INTEGRATION.md, "Kernels that end early", says how often to look. */
#ifndef EEP_WORDS_H
#define EEP_WORDS_H

#include <stdint.h>

#include "eep/eep.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fixed addresses for the life of the context, which a capture may hold. Each is one aligned word.
 * Only kernels read them. */
typedef struct eep_step_words {
    uint32_t struct_bytes;    /* set by the caller (EEP_SIZED) */
    uint32_t reserved;        /* 0 */
    const uint64_t *running;  /* device memory: the step's number, behind eep_step_latch */
    const uint64_t *given_up; /* pinned: no step up to this number ends with EEP_OK any more. The
                               * host raises it at any time, never below the running step again */
    const uint32_t *aborted;  /* device memory: not 0 once a node of libeep has ended the step */
} eep_step_words;

/* A kernel between eep_step_latch and eep_step_finish of the same stream may leave out any of its
 * work if *aborted is not 0, or if a volatile (or stronger) load of *given_up is >= *running. What
 * it left out reaches nobody: the next exchange of the stream sees the word as well and publishes
 * no rows, and the step ends with EEP_ERR_ABORTED on this rank, behind the last exchange too. A
 * survivor of a fault promises nothing before its step has ended, so all wait for a long kernel
 * that does not look. Puts nothing into a stream; from eep_open to eep_close, also during a
 * capture; rank thread. EEP_ERR_INVALID: the struct has a size of no version. */
EEP_API EEP_MUST_CHECK eep_status eep_step_words_get(eep_context *context,
                                                     eep_step_words *words_out);

#ifdef __cplusplus
}
#endif
#endif
