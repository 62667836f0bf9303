/* SPDX-License-Identifier: Apache-2.0 */
/* A directory and a path of each test's own, stores and clients on it, bounded waits. */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "eep/store.h"
#include "membership/store/store_client.h"
#include "graphs/base/clock.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BOUND_US = 20 * 1000 * 1000, /* a wait that takes this long has failed */
    SHORT_TTL_US = 300 * 1000,
    LONG_TTL_US = 600 * 1000 * 1000,
    MB = 1024 * 1024,
};

static char directory[64], path[80];

static inline void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/eep-store-test-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
}

static inline void remove_directory(void)
{
    unlink(path);
    rmdir(directory);
}

/* A file with a key, in the directory. */
static inline void write_key(char *path_out, size_t bytes)
{
    FILE *file;
    snprintf(path_out, bytes, "%s/key", directory);
    umask(0077);
    file = fopen(path_out, "w");
    cr_assert(file && fputs("000102030405060708090a0b0c0d0e0f\n", file) >= 0 && fclose(file) == 0);
}

static inline eep_store *open_store(void)
{
    char error[256] = "";
    eep_store *store = NULL;
    cr_assert_eq(eep_store_open(path, error, sizeof error, &store), EEP_OK, "%s", error);
    return store;
}

static inline eepi_store_client *open_client(void)
{
    eepi_store_client *client = NULL;
    cr_assert_eq(eepi_store_client_open(path, BOUND_US, &client), EEP_OK);
    return client;
}

static inline eepi_store_reply wait_for(eepi_store_client *client, uint64_t id)
{
    eepi_store_reply reply;
    cr_assert_eq(eepi_store_client_wait(client, id, BOUND_US, &reply), EEP_OK);
    cr_assert_eq(reply.id, id);
    return reply;
}

static inline uint64_t put(eepi_store_client *client, const char *key, const char *text)
{
    eepi_store_reply reply =
        wait_for(client, eepi_store_put(client, key, text, strlen(text) + 1, 0));
    cr_assert_eq(reply.status, EEP_OK);
    return reply.revision;
}

/* The next reply or event, within BOUND_US. */
static inline eepi_store_reply next(eepi_store_client *client)
{
    eepi_store_reply reply;
    uint64_t end_us = eepi_now_us() + BOUND_US;
    while (eepi_store_client_next(client, &reply) != EEP_OK) {
        struct pollfd set = {.fd = eepi_store_client_fd(client), .events = POLLIN};
        cr_assert_lt(eepi_now_us(), end_us, "nothing came");
        poll(&set, 1, 5);
    }
    return reply;
}

static inline void expect(eepi_store_client *client, eepi_store_reply_kind kind, const char *key,
                          const char *text)
{
    eepi_store_reply reply = next(client);
    cr_assert_eq(reply.kind, kind, "%d", reply.kind);
    cr_assert_str_eq(reply.key, key);
    if (text) {
        cr_assert_eq(reply.size, strlen(text) + 1);
        cr_assert_str_eq(reply.value, text);
        cr_assert_gt(reply.revision, 0);
    } else {
        cr_assert_eq(reply.size, 0);
    }
}

/* A watch of everything, in an empty store. */
static inline void watch_all(eepi_store_client *client)
{
    cr_assert_eq(wait_for(client, eepi_store_watch(client, "")).status, EEP_OK);
}

/* Ask for a key, on a connection; the suite's timeout bounds the wait for that. */
static inline eepi_store_reply ask_again(eepi_store_client *client)
{
    eepi_store_reply reply;
    while (eepi_store_client_fd(client) < 0) {
        (void)!eepi_store_client_next(client, &reply);
    }
    return wait_for(client, eepi_store_get(client, "any"));
}

/* Serve in a process of its own. */
static inline pid_t fork_store(void)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        eep_store *store = NULL;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (eep_store_open(path, NULL, 0, &store) == EEP_OK) {
            (void)!write(ready[1], "r", 1);
        }
        for (;;) {
            pause();
        }
    }
    cr_assert_gt(child, 0);
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static inline void kill_child(pid_t child)
{
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, NULL, 0), child);
}

#endif
