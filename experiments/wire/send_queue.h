/* One end of the control socket, for sending without ever blocking (rule M9): what the socket does
 * not take now waits in a queue, in order. */
#ifndef EEPX_OUTBOX_H
#define EEPX_OUTBOX_H

#include "eep/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct outbox_message outbox_message;
typedef struct outbox {
    int fd; /* SOCK_SEQPACKET; borrowed */
    pthread_mutex_t lock;
    outbox_message *first, **last;
    bool broken; /* the other end is gone: messages are dropped */
} outbox;

void outbox_init(outbox *self, int fd);
/* Frees what was not sent. */
void outbox_destroy(outbox *self);
/* Send one packet now or queue it. Any thread. EEP_ERR_UNREACHABLE: the other end is gone;
 * EEP_ERR_NO_MEMORY: it could not be queued. */
EEP_MUST_CHECK eep_status outbox_send(outbox *self, const void *message, size_t bytes);
/* Send what is queued as far as the socket takes it. Any thread. */
void outbox_flush(outbox *self);
/* Something is queued: poll the socket for writing. Any thread. */
bool outbox_is_pending(outbox *self);
#endif
