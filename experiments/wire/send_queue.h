/* SPDX-License-Identifier: Apache-2.0 */
/* One end of the control socket, for sending without ever blocking (rule M9): what the socket does
 * not take now waits in a queue, in order. */
#ifndef EEPX_OUTBOX_H
#define EEPX_OUTBOX_H

#include "eep/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct send_queue_message send_queue_message;
typedef struct send_queue {
    int fd; /* SOCK_SEQPACKET; borrowed */
    pthread_mutex_t lock;
    send_queue_message *first, **last;
    bool broken; /* the other end has closed: messages are dropped */
} send_queue;

void send_queue_init(send_queue *self, int fd);
/* Frees what was not sent. */
void send_queue_destroy(send_queue *self);
/* Send one packet now or queue it. Any thread. EEP_ERR_UNREACHABLE: the other end has closed;
 * EEP_ERR_NO_MEMORY: it could not be queued. */
EEP_MUST_CHECK eep_status send_queue_send(send_queue *self, const void *message, size_t bytes);
/* Send what is queued as far as the socket takes it. Any thread. */
void send_queue_flush(send_queue *self);
/* Something is queued: poll the socket for writing. Any thread. */
bool send_queue_is_pending(send_queue *self);
#endif
