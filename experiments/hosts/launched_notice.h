/* SPDX-License-Identifier: Apache-2.0 */
/* How the processes of a launcher's job find each other (`eep-run --launched`): in the store.
 *
 *   launched/front     the number that the front has drawn; "over" once it has ended
 *   launched/host/N    of process N, for that number: its host, where worker and agent listen
 *
 * A worker answers each number that it reads, and the front takes the answers to its own. So what
 * an earlier job has left there means nothing. Who may write into the store can lead the front to
 * another worker, which then has to prove the job's key. */
#ifndef EEPX_LAUNCHED_NOTICE_H
#define EEPX_LAUNCHED_NOTICE_H

#include "eep/status.h"

#include <stdbool.h>
#include <stdint.h>

#define LAUNCHED_FRONT "launched/front"
#define LAUNCHED_HOST  "launched/host/"
#define LAUNCHED_OVER  "over"

enum { LAUNCHED_ADDRESS_BYTES = 80, LAUNCHED_NAME_BYTES = 64, LAUNCHED_TEXT_BYTES = 320 };

/* What a worker answers. */
typedef struct launched_answer {
    uint64_t to;                          /* the number that was asked with */
    uint64_t host;                        /* eepi_host_id */
    char address[LAUNCHED_ADDRESS_BYTES]; /* ADDRESS:PORT of the worker */
    char agent[LAUNCHED_ADDRESS_BYTES];   /* and of the agent that it will start */
    char name[LAUNCHED_NAME_BYTES];       /* of the host, for persons */
} launched_answer;

void launched_answer_to_text(const launched_answer *self, char text[LAUNCHED_TEXT_BYTES]);
/* False: no worker of this build says that. */
bool launched_answer_from_text(const char *text, size_t bytes, launched_answer *answer_out);

typedef struct launched_notice launched_notice;

/* A worker's: as process `number`, answer `answer`, of which `to` is set here. Waits for the store.
 * EEP_ERR_NO_MEMORY, EEP_ERR_UNREACHABLE: the store does not answer. */
EEP_MUST_CHECK eep_status launched_notice_open(const char *store, int number,
                                               const launched_answer *answer,
                                               launched_notice **notice_out);
/* Answer a front that asks. False: the front that was answered is over. It never blocks. */
bool launched_notice_look(launched_notice *self);
void launched_notice_close(launched_notice *self);
#endif
