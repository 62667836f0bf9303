/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that wait for their receipt. */
#include "experiments/hosts/host_journal.h"

#include <stdlib.h>
#include <string.h>

bool host_journal_counts(uint32_t kind)
{
    switch (kind) {
    case REMOTE_BEGIN:
    case REMOTE_RESUME:
    case REMOTE_PING:
    case REMOTE_WELCOME:
    case REMOTE_READY:
    case REMOTE_REFUSED:
    case REMOTE_PONG:
        return false;
    default:
        return true;
    }
}

eep_status host_journal_keep(host_journal *self, host_message *message, const void *body,
                             size_t bytes)
{
    const size_t all = sizeof(host_journal_entry) + bytes;
    host_journal_entry *entry = self->bytes + all > (size_t)HOST_UNSENT_BYTES ? NULL : malloc(all);
    if (!entry) {
        return EEP_ERR_NO_MEMORY;
    }
    message->number = ++self->put;
    *entry = (host_journal_entry){.message = *message, .bytes = bytes};
    if (bytes > 0) {
        memcpy(entry->body, body, bytes);
    }
    if (self->last) {
        self->last->next = entry;
    } else {
        self->first = entry;
    }
    self->last = entry;
    self->bytes += all;
    return EEP_OK;
}

void host_journal_release(host_journal *self, uint64_t taken)
{
    while (self->first && self->first->message.number <= taken) {
        host_journal_entry *entry = self->first;
        self->first = entry->next;
        self->last = self->first ? self->last : NULL;
        self->bytes -= sizeof *entry + entry->bytes;
        free(entry);
    }
}

eep_status host_journal_take(host_journal *self, uint64_t number)
{
    if (number <= self->taken) {
        return EEP_ERR_STATE;
    }
    if (number != self->taken + 1) {
        return EEP_ERR_PROTOCOL;
    }
    self->taken = number;
    return EEP_OK;
}

void host_journal_clear(host_journal *self)
{
    host_journal_release(self, UINT64_MAX);
    *self = (host_journal){.put = 0};
}
