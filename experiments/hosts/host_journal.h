/* SPDX-License-Identifier: Apache-2.0 */
/* What one end has told the other and has not heard the receipt of, so that a connection that was
 * reset can be made again: each message that counts has a number, and is taken once. One thread. */
#ifndef EEPX_HOST_JOURNAL_H
#define EEPX_HOST_JOURNAL_H

#include "experiments/hosts/host_wire.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct host_journal_entry host_journal_entry;
struct host_journal_entry {
    host_journal_entry *next;
    host_message message;
    size_t bytes; /* of the body */
    char body[];
};

typedef struct host_journal {
    host_journal_entry *first, *last; /* by number */
    size_t bytes;                     /* of all */
    uint64_t put, taken;              /* the newest number that we gave; that we took */
} host_journal;

/* Does a message of that kind have a number? The others are of one connection. */
bool host_journal_counts(uint32_t kind);
/* Give it a number, and keep it with its body. EEP_ERR_NO_MEMORY: there is none, or more than
 * HOST_UNSENT_BYTES wait; then nothing is kept. */
EEP_MUST_CHECK eep_status host_journal_keep(host_journal *self, host_message *message,
                                            const void *body, size_t bytes);
/* The other end has taken all up to that number. */
void host_journal_release(host_journal *self, uint64_t taken);
/* A message has come. EEP_OK: it is the next; EEP_ERR_STATE: it was taken before; EEP_ERR_PROTOCOL:
 * one before it is missing. */
EEP_MUST_CHECK eep_status host_journal_take(host_journal *self, uint64_t number);
/* Forget all: the next number is 1, at both ends. */
void host_journal_clear(host_journal *self);
#endif
