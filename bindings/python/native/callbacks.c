/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks of libeep's threads: records in a queue, which Python empties when it likes. */
#include "extension.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct node {
    struct node *next;
    eepy_record record;
} node;

/* It lies in the list of free ones after its close and is never given back to the system: a context
 * that could not be closed in time may still call back. */
struct eepy_queue {
    pthread_mutex_t lock; /* of all below; held for a few stores, and never around a call */
    node *first, *last;
    int32_t num, is_open, fd;
    pid_t pid;
    uint64_t dropped;
    eepy_queue *next_free;
};

static pthread_mutex_t free_lock = PTHREAD_MUTEX_INITIALIZER;
static eepy_queue *free_queues;

static eepy_queue *take_free(void)
{
    eepy_queue *queue;

    pthread_mutex_lock(&free_lock);
    queue = free_queues;
    if (queue) {
        free_queues = queue->next_free;
    }
    pthread_mutex_unlock(&free_lock);
    return queue;
}

static void give_free(eepy_queue *queue)
{
    pthread_mutex_lock(&free_lock);
    queue->next_free = free_queues;
    free_queues = queue;
    pthread_mutex_unlock(&free_lock);
}

eepy_queue *eepy_queue_open(void)
{
    eepy_queue *queue = take_free();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (!queue) {
        queue = calloc(1, sizeof *queue);
        if (queue) {
            pthread_mutex_init(&queue->lock, NULL);
        }
    }
    if (!queue || fd < 0) {
        if (queue) {
            give_free(queue);
        }
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    pthread_mutex_lock(&queue->lock);
    queue->fd = fd;
    queue->pid = getpid();
    queue->dropped = 0;
    queue->is_open = 1;
    pthread_mutex_unlock(&queue->lock);
    return queue;
}

/* Unlink the first one; its caller frees it. */
static node *take_first(eepy_queue *queue)
{
    node *first = queue->first;
    uint64_t count;

    if (first) {
        queue->first = first->next;
        queue->last = queue->first ? queue->last : NULL;
        queue->num--;
    }
    if (!queue->first && queue->fd >= 0 && read(queue->fd, &count, sizeof count) < 0) {
        return first; /* it was not raised */
    }
    return first;
}

void eepy_queue_close(eepy_queue **queue_inout)
{
    eepy_queue *queue = *queue_inout;

    *queue_inout = NULL;
    if (!queue || queue->pid != getpid()) {
        return; /* another thread of the parent may have held the lock at the fork */
    }
    pthread_mutex_lock(&queue->lock);
    while (queue->first) {
        free(take_first(queue));
    }
    close(queue->fd);
    queue->fd = -1;
    queue->is_open = 0;
    pthread_mutex_unlock(&queue->lock);
    give_free(queue);
}

int eepy_queue_fd(const eepy_queue *queue)
{
    return queue->fd;
}

int eepy_queue_next(eepy_queue *queue, eepy_record *record_out)
{
    node *first;

    if (queue->pid != getpid()) {
        return 0;
    }
    pthread_mutex_lock(&queue->lock);
    first = take_first(queue);
    if (first) {
        *record_out = first->record;
        record_out->dropped = queue->dropped;
        queue->dropped = 0;
    }
    pthread_mutex_unlock(&queue->lock);
    free(first);
    return first != NULL;
}

static void put(eepy_queue *queue, const eepy_record *record)
{
    node *new = malloc(sizeof *new);
    node *oldest = NULL;
    uint64_t one = 1;

    if (!new) {
        return;
    }
    new->next = NULL;
    new->record = *record;
    pthread_mutex_lock(&queue->lock);
    if (!queue->is_open) {
        oldest = new;
    } else {
        if (queue->num == EEPY_MOST_RECORDS) {
            oldest = take_first(queue);
            queue->dropped++;
        }
        if (queue->last) {
            queue->last->next = new;
        } else {
            queue->first = new;
        }
        queue->last = new;
        queue->num++;
        if (write(queue->fd, &one, sizeof one) < 0) {
            one = 0; /* it is raised already */
        }
    }
    pthread_mutex_unlock(&queue->lock);
    free(oldest);
}

void eepy_log(void *user, eep_log_level level, const char *line)
{
    eepy_record record;

    memset(&record, 0, sizeof record);
    record.kind = EEPY_RECORD_LOG;
    record.level = (int32_t)level;
    strncpy(record.line, line, sizeof(record.line) - 1);
    put(user, &record);
}

void eepy_event(void *user, const eep_event_info *info)
{
    eepy_record record;

    memset(&record, 0, sizeof record);
    record.kind = EEPY_RECORD_EVENT;
    record.event = (int32_t)info->kind;
    record.seat = info->seat;
    record.generation = info->generation;
    record.epoch = info->epoch;
    record.value = info->value;
    record.time_ns = info->time_ns;
    put(user, &record);
}
