/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that are Python functions: a stream's worker thread posts a task, a thread of Python's
 * takes it, and the worker waits for its end. So no foreign thread ever runs Python. */
#include "extension.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum task_state { IDLE, POSTED, TAKEN, DONE };

struct eepy_server {
    pthread_mutex_t lock;
    pthread_cond_t posted, ended;
    enum task_state state;
    int is_stopped;
    pid_t pid; /* a forked child has neither thread, and whatever state the lock was in */
    uint64_t number;
};

eepy_server *eepy_server_open(void)
{
    eepy_server *server = calloc(1, sizeof *server);

    if (server) {
        server->pid = getpid();
        pthread_mutex_init(&server->lock, NULL);
        pthread_cond_init(&server->posted, NULL);
        pthread_cond_init(&server->ended, NULL);
    }
    return server;
}

int eepy_server_wait(eepy_server *server, uint64_t *number_out)
{
    int is_task;

    pthread_mutex_lock(&server->lock);
    while (server->state != POSTED && !server->is_stopped) {
        pthread_cond_wait(&server->posted, &server->lock);
    }
    is_task = !server->is_stopped;
    if (is_task) {
        server->state = TAKEN;
        *number_out = server->number;
    }
    pthread_mutex_unlock(&server->lock);
    return is_task;
}

void eepy_server_done(eepy_server *server)
{
    pthread_mutex_lock(&server->lock);
    if (server->state == TAKEN) {
        server->state = DONE;
        pthread_cond_signal(&server->ended);
    }
    pthread_mutex_unlock(&server->lock);
}

void eepy_server_stop(eepy_server *server)
{
    if (server->pid != getpid()) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    server->is_stopped = 1;
    pthread_cond_broadcast(&server->posted);
    pthread_cond_broadcast(&server->ended);
    pthread_mutex_unlock(&server->lock);
}

void eepy_server_close(eepy_server **server_inout)
{
    eepy_server *server = *server_inout;

    *server_inout = NULL;
    if (!server || server->pid != getpid()) {
        return;
    }
    pthread_cond_destroy(&server->posted);
    pthread_cond_destroy(&server->ended);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void eepy_run_task(const void *args, eep_grid grid)
{
    const eepy_task *task = args;
    eepy_server *server = task->server;

    if (grid.block != 0) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    if (!server->is_stopped) {
        server->number = task->number;
        server->state = POSTED;
        pthread_cond_signal(&server->posted);
        while (server->state != DONE && !server->is_stopped) {
            pthread_cond_wait(&server->ended, &server->lock);
        }
    }
    server->state = IDLE;
    pthread_mutex_unlock(&server->lock);
}
