/* SPDX-License-Identifier: Apache-2.0 */
/* Two halves that change places: one is filled while the other is read. */
#include "membership/context/mailbox.h"

#include <pthread.h>
#include <stdlib.h>

struct eepi_evidence {
    pthread_mutex_t lock; /* of filling and num */
    int filling, num;
    eepi_sign signs[2][EEPI_SIGNS_PER_SEAT * EEP_MAX_RANKS];
};

eepi_evidence *eepi_evidence_open(void)
{
    eepi_evidence *evidence = calloc(1, sizeof *evidence);

    if (evidence) {
        pthread_mutex_init(&evidence->lock, NULL);
    }
    return evidence;
}

void eepi_evidence_close(eepi_evidence *evidence)
{
    if (evidence) {
        pthread_mutex_destroy(&evidence->lock);
    }
    free(evidence);
}

void eepi_evidence_post(eepi_evidence *evidence, const eepi_sign *sign)
{
    pthread_mutex_lock(&evidence->lock);
    if (evidence->num < EEPI_SIGNS_PER_SEAT * EEP_MAX_RANKS) {
        evidence->signs[evidence->filling][evidence->num++] = *sign;
    }
    pthread_mutex_unlock(&evidence->lock);
}

int eepi_evidence_take(eepi_evidence *evidence, const eepi_sign **signs_out)
{
    int num;

    pthread_mutex_lock(&evidence->lock);
    *signs_out = evidence->signs[evidence->filling];
    num = evidence->num;
    evidence->filling = !evidence->filling;
    evidence->num = 0;
    pthread_mutex_unlock(&evidence->lock);
    return num;
}
