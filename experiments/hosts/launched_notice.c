/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that a launcher has started tells the front where it is. */
#include "experiments/hosts/launched_notice.h"

#include "membership/store/store_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_US = 30000000, NUMBER_LETTERS = 16 };

struct launched_notice {
    eepi_store_client *store;
    launched_answer answer;
    char key[EEPI_STORE_KEY_MAX];
    bool has_answered;
    uint64_t put_id; /* of the answer that is not acknowledged yet; 0: none */
};

void launched_answer_to_text(const launched_answer *self, char text[LAUNCHED_TEXT_BYTES])
{
    snprintf(text, LAUNCHED_TEXT_BYTES, "%016" PRIx64 " %016" PRIx64 " %s %s %s", self->to,
             self->host, self->address, self->agent, self->name);
}

bool launched_answer_from_text(const char *text, size_t bytes, launched_answer *answer_out)
{
    launched_answer answer;
    char copy[LAUNCHED_TEXT_BYTES];
    int end = -1;
    if (bytes >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (sscanf(copy, "%16" SCNx64 " %16" SCNx64 " %79s %79s %63s%n", &answer.to, &answer.host,
               answer.address, answer.agent, answer.name, &end) != 5 ||
        end != (int)bytes) {
        return false;
    }
    *answer_out = answer;
    return true;
}

eep_status launched_notice_open(const char *store, int number, const launched_answer *answer,
                                launched_notice **notice_out)
{
    launched_notice *self = calloc(1, sizeof *self);
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->answer = *answer;
    snprintf(self->key, sizeof self->key, LAUNCHED_HOST "%d", number);
    eep_status status = eepi_store_client_open(store, STORE_US, &self->store);
    if (status == EEP_OK && eepi_store_watch(self->store, LAUNCHED_FRONT) == 0) {
        status = EEP_ERR_NO_MEMORY;
    }
    if (status != EEP_OK) {
        launched_notice_close(self);
        return status;
    }
    *notice_out = self;
    return EEP_OK;
}

static void answer(launched_notice *self)
{
    char text[LAUNCHED_TEXT_BYTES];
    launched_answer_to_text(&self->answer, text);
    self->put_id = eepi_store_put(self->store, self->key, text, strlen(text), 0);
    self->has_answered = true;
}

/* The front's word. False: it is over. */
static bool hear(launched_notice *self, const char *text, size_t bytes)
{
    char number[NUMBER_LETTERS + 1];
    char *end = NULL;
    if (bytes == strlen(LAUNCHED_OVER) && memcmp(text, LAUNCHED_OVER, bytes) == 0) {
        return !self->has_answered;
    }
    if (bytes == NUMBER_LETTERS) {
        memcpy(number, text, bytes);
        number[bytes] = '\0';
        self->answer.to = strtoull(number, &end, 16);
        if (*end == '\0') {
            answer(self);
        }
    }
    return true;
}

bool launched_notice_look(launched_notice *self)
{
    eepi_store_reply reply;
    bool goes_on = true;
    while (goes_on && eepi_store_client_next(self->store, &reply) == EEP_OK) {
        if ((reply.kind == EEPI_STORE_ENTRY || reply.kind == EEPI_STORE_CHANGED) &&
            reply.revision != 0) {
            goes_on = hear(self, reply.value, reply.size);
        } else if (reply.kind == EEPI_STORE_REPLY && self->put_id != 0 &&
                   reply.id == self->put_id) {
            self->put_id = 0;
            if (reply.status != EEP_OK) { /* nobody knows whether it is there */
                answer(self);
                break;
            }
        }
    }
    return goes_on;
}

void launched_notice_close(launched_notice *self)
{
    if (self) {
        eepi_store_client_close(self->store);
    }
    free(self);
}
