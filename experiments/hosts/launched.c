/* SPDX-License-Identifier: Apache-2.0 */
/* The front of a launcher's job finds its workers. */
#include "experiments/hosts/launched.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "experiments/hosts/launched_notice.h"
#include "experiments/hosts/worker.h"
#include "membership/store/store_client.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { STORE_US = 30000000, OVER_US = 3000000, BOUND_S = 60, LOOK_MS = 20, END_MS = 8000 };

typedef struct search {
    eepi_store_client *store;
    uint64_t number; /* of this front */
    launched_answer answer[HOSTS_MAX];
    bool has_answer[HOSTS_MAX];
    int num_answers, num_hosts;
} search;

/* ---------------------------------------------------------------- the search */

static eep_status put_and_wait(eepi_store_client *store, const char *key, const char *text,
                               uint64_t bound_us)
{
    eepi_store_reply reply;
    eep_status status = eepi_store_client_wait(
        store, eepi_store_put(store, key, text, strlen(text), 0), bound_us, &reply);
    return status == EEP_OK ? reply.status : status;
}

static void take(search *self, const eepi_store_reply *reply)
{
    launched_answer answer;
    char *end = NULL;
    const char *digits = reply->key + strlen(LAUNCHED_HOST);
    long number = strtol(digits, &end, 10);
    if (*end || end == digits || number < 0 || number >= self->num_hosts ||
        !launched_answer_from_text(reply->value, reply->size, &answer) ||
        answer.to != self->number) {
        return;
    }
    self->num_answers += !self->has_answer[number];
    self->has_answer[number] = true;
    self->answer[number] = answer;
}

static eep_status await_all(search *self, int worker_fd, char *error)
{
    const uint64_t end_ns = now_ns() + (uint64_t)BOUND_S * 1000000000u;
    eepi_store_reply reply;
    while (self->num_answers < self->num_hosts) {
        struct pollfd set = {.fd = worker_fd, .events = POLLIN};
        while (eepi_store_client_next(self->store, &reply) == EEP_OK) {
            if ((reply.kind == EEPI_STORE_ENTRY || reply.kind == EEPI_STORE_CHANGED) &&
                reply.revision != 0) {
                take(self, &reply);
            }
        }
        if (now_ns() > end_ns) {
            int missing = 0;
            while (self->has_answer[missing]) {
                missing++;
            }
            snprintf(error, HOSTS_ERROR_BYTES,
                     "process %d of %d has not answered in the store within %d s: is it an eep-run "
                     "--launched with the same store?",
                     missing, self->num_hosts, BOUND_S);
            return EEP_ERR_TIMEOUT;
        }
        if (self->num_answers < self->num_hosts && poll(&set, 1, LOOK_MS) == 1) {
            snprintf(error, HOSTS_ERROR_BYTES, "the worker of this host has ended");
            return EEP_ERR_UNREACHABLE;
        }
    }
    return EEP_OK;
}

/* The hosts as they have answered. */
static eep_status place_all(const search *self, hosts_file *file, char *error)
{
    for (int i = 0; i < self->num_hosts; i++) {
        const launched_answer *answer = &self->answer[i];
        for (int other = 0; other < i; other++) {
            if (answer->host != 0 && answer->host == self->answer[other].host) {
                snprintf(error, HOSTS_ERROR_BYTES,
                         "processes %d and %d are both on host %s: start one on each, as by mpirun "
                         "--map-by ppr:1:node or srun --ntasks-per-node=1",
                         other, i, answer->name);
                return EEP_ERR_INVALID;
            }
        }
        eep_status status = hosts_file_place(&file->host[i], answer->address, answer->agent);
        if (status != EEP_OK) {
            snprintf(error, HOSTS_ERROR_BYTES, "process %d: %s", i, eep_strerror(status));
            return status;
        }
        printf("  host%d is %s, at %s: %d ranks\n", i, answer->name, answer->address,
               file->host[i].num_ranks);
    }
    fflush(stdout);
    return EEP_OK;
}

static eep_status find_workers(const options *given, int worker_fd, char *error)
{
    static search self;
    char text[24];
    self.num_hosts = given->hosts->num_hosts;
    if (getrandom(&self.number, sizeof self.number, 0) != (ssize_t)sizeof self.number) {
        snprintf(error, HOSTS_ERROR_BYTES, "the kernel gives no random number");
        return EEP_ERR_SYSTEM;
    }
    snprintf(text, sizeof text, "%016" PRIx64, self.number);
    eep_status status = eepi_store_client_open(given->store_path, STORE_US, &self.store);
    if (status == EEP_OK && eepi_store_watch(self.store, LAUNCHED_HOST) == 0) {
        status = EEP_ERR_NO_MEMORY;
    }
    if (status == EEP_OK) {
        status = put_and_wait(self.store, LAUNCHED_FRONT, text, STORE_US);
    }
    if (status != EEP_OK) {
        snprintf(error, HOSTS_ERROR_BYTES, "the store %.400s: %s", given->store_path,
                 eep_strerror(status));
    } else {
        status = await_all(&self, worker_fd, error);
    }
    if (status == EEP_OK) {
        status = place_all(&self, given->hosts, error);
    }
    eepi_store_client_close(self.store);
    return status;
}

/* ---------------------------------------------------------------- begin and end */

int launched_begin(options *given, launched *self_out)
{
    launched self = {.pidfd = -1};
    child_setup setup = CHILD_SETUP;
    char error[HOSTS_ERROR_BYTES];
    const int number = given->launched_number, num_ranks = given->hosts->host[number].num_ranks;
    if (number != 0) {
        return worker_launched(given->store_path, number, num_ranks, 0);
    }
    setup.death_signal = 0; /* it ends its ranks in order when we are gone */
    setup.has_own_group = true;
    const pid_t front = getpid();
    fflush(NULL);
    self.worker = child_fork(&setup, &self.pidfd);
    if (self.worker == 0) {
        exit(worker_launched(given->store_path, 0, num_ranks, front));
    }
    if (self.worker < 0) {
        perror("eep-run: --launched: fork");
        return 2;
    }
    if (find_workers(given, self.pidfd, error) != EEP_OK) {
        fprintf(stderr, "eep-run: --launched: %s\n", error);
        launched_end(&self, given);
        return 2;
    }
    *self_out = self;
    return -1;
}

void launched_end(launched *self, const options *given)
{
    eepi_store_client *store = NULL;
    if (eepi_store_client_open(given->store_path, OVER_US, &store) == EEP_OK) {
        (void)!put_and_wait(store, LAUNCHED_FRONT, LAUNCHED_OVER, OVER_US);
        eepi_store_client_close(store);
    }
    if (child_wait(self->pidfd, -1, END_MS) == CHILD_LATE) {
        kill(self->worker, SIGTERM);
        (void)child_wait(self->pidfd, -1, END_MS);
    }
    child_kill(self->worker, NULL);
    close(self->pidfd);
}
