/* SPDX-License-Identifier: Apache-2.0 */
/* One word per seat: what is said of a newer process there replaces what was said of an older one,
 * which is out by then. */
#include "membership/control/accusations.h"

#include "membership/context/context.h"

#include <stdlib.h>

typedef struct word {
    uint32_t generation; /* 0: nothing was ever said of the seat */
    int32_t kind;
    bool is_new; /* the core has not heard it */
    eepi_verdict verdict;
} word;

/* Under the context's lock. */
struct eepi_words {
    int num_new, num_waiting;
    word seats[]; /* [max_ranks] */
};

eep_status eepi_words_open(eep_context *context)
{
    const size_t seats = (size_t)context->config.max_ranks;

    context->observed.words = calloc(1, sizeof *context->observed.words + seats * sizeof(word));
    return context->observed.words ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_words_close(eep_context *context)
{
    free(context->observed.words);
}

void eepi_words_say(eep_context *context, const eepi_suspect *suspect)
{
    struct eepi_words *words = context->observed.words;
    word *said = &words->seats[suspect->seat];

    if (said->generation == suspect->generation && said->verdict.waits &&
        !eepi_core_is_stronger(suspect->kind, said->kind)) {
        return;
    }
    words->num_new += !said->is_new;
    words->num_waiting += !said->verdict.waits;
    *said = (word){suspect->generation, suspect->kind, true, {.is_in = true, .waits = true}};
}

eepi_verdict eepi_words_verdict(const eep_context *context, int seat, uint32_t generation)
{
    const word *said = &context->observed.words->seats[seat];

    return said->generation == generation ? said->verdict : (eepi_verdict){.is_in = true};
}

bool eepi_words_take(eep_context *context, eepi_suspect *suspect_out)
{
    struct eepi_words *words = context->observed.words;
    bool any = false;

    pthread_mutex_lock(&context->lock);
    for (int seat = 0; words->num_new > 0 && !any && seat < context->config.max_ranks; seat++) {
        word *said = &words->seats[seat];
        if (said->is_new) {
            said->is_new = false;
            words->num_new--;
            *suspect_out = (eepi_suspect){seat, said->generation, said->kind};
            any = true;
        }
    }
    pthread_mutex_unlock(&context->lock);
    return any;
}

void eepi_words_follow(eep_context *context)
{
    struct eepi_words *words = context->observed.words;
    bool any = false;

    pthread_mutex_lock(&context->lock);
    for (int seat = 0; words->num_waiting > 0 && seat < context->config.max_ranks; seat++) {
        word *said = &words->seats[seat];
        if (!said->verdict.waits || said->is_new) {
            continue;
        }
        said->verdict = eepi_core_verdict(context->core, seat, said->generation);
        words->num_waiting -= !said->verdict.waits;
        any |= !said->verdict.waits;
    }
    pthread_mutex_unlock(&context->lock);
    if (any) {
        eepi_rank_wake(context);
    }
}
