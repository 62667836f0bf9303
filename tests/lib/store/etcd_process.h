/* SPDX-License-Identifier: Apache-2.0 */
/* Debian's etcd-server for tests: one node or several, on the loopback interface, with their data
 * in memory. */
#ifndef TESTS_ETCD_PROCESS_H
#define TESTS_ETCD_PROCESS_H

#include "tests/lib/store/store_port.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ETCD_NODES = 3, ETCD_WORDS = 24 };

typedef struct etcd_cluster {
    char directory[64];
    int num_nodes;
    unsigned client_port[ETCD_NODES], peer_port[ETCD_NODES];
    pid_t pid[ETCD_NODES]; /* 0: it does not run */
    const char *more[5];   /* further arguments of each, up to NULL */
    bool tls;              /* to clients; `more` names the files */
} etcd_cluster;

static inline bool etcd_is_here(void)
{
    return system("command -v etcd >/dev/null 2>&1") == 0;
}

static inline void etcd_start(etcd_cluster *c, int node)
{
    char word[10][160], name[8], cluster[320] = "";
    char *arguments[ETCD_WORDS] = {"etcd", "--heartbeat-interval", "50",    "--election-timeout",
                                   "500",  "--log-level",          "fatal", "--logger",
                                   "zap"};
    int num = 9;
    for (int i = 0; i < c->num_nodes; i++) {
        snprintf(cluster + strlen(cluster), sizeof cluster - strlen(cluster),
                 "%sn%d=http://127.0.0.1:%u", i ? "," : "", i, c->peer_port[i]);
    }
    snprintf(name, sizeof name, "n%d", node);
    snprintf(word[0], sizeof *word, "--name=%s", name);
    snprintf(word[1], sizeof *word, "--data-dir=%s/%s", c->directory, name);
    snprintf(word[2], sizeof *word, "--listen-client-urls=http%s://127.0.0.1:%u", c->tls ? "s" : "",
             c->client_port[node]);
    snprintf(word[3], sizeof *word, "--advertise-client-urls=http%s://127.0.0.1:%u",
             c->tls ? "s" : "", c->client_port[node]);
    snprintf(word[4], sizeof *word, "--listen-peer-urls=http://127.0.0.1:%u", c->peer_port[node]);
    snprintf(word[5], sizeof *word, "--initial-advertise-peer-urls=http://127.0.0.1:%u",
             c->peer_port[node]);
    for (int i = 0; i < 6; i++) {
        arguments[num++] = word[i];
    }
    arguments[num++] = "--initial-cluster";
    arguments[num++] = cluster;
    for (int i = 0; i < 5 && c->more[i]; i++) {
        arguments[num++] = (char *)(uintptr_t)c->more[i];
    }
    c->pid[node] = fork();
    if (c->pid[node] == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        dup2(null, 2);
        execvp("etcd", arguments);
        _exit(127);
    }
}

static inline void etcd_kill(etcd_cluster *c, int node)
{
    if (c->pid[node] > 0) {
        kill(c->pid[node], SIGKILL);
        waitpid(c->pid[node], NULL, 0);
        c->pid[node] = 0;
    }
}

/* It starts; clients wait until it answers. */
static inline bool etcd_open(etcd_cluster *c, int num_nodes)
{
    c->num_nodes = num_nodes;
    snprintf(c->directory, sizeof c->directory, "/dev/shm/eep-etcd-XXXXXX");
    if (!mkdtemp(c->directory)) {
        return false;
    }
    for (int i = 0; i < num_nodes; i++) {
        c->client_port[i] = test_free_port();
        c->peer_port[i] = test_free_port();
    }
    for (int i = 0; i < num_nodes; i++) {
        etcd_start(c, i);
    }
    return true;
}

static inline void etcd_close(etcd_cluster *c)
{
    char command[128];
    for (int i = 0; i < c->num_nodes; i++) {
        etcd_kill(c, i);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", c->directory);
    (void)!system(command);
}

/* Where its nodes are, as libeep is told; `rest` comes behind the hosts. */
static inline void etcd_address(const etcd_cluster *c, const char *rest, char *address_out,
                                size_t bytes)
{
    size_t at = (size_t)snprintf(address_out, bytes, "etcd://");
    for (int i = 0; i < c->num_nodes; i++) {
        at += (size_t)snprintf(address_out + at, bytes - at, "%s127.0.0.1:%u", i ? "," : "",
                               c->client_port[i]);
    }
    snprintf(address_out + at, bytes - at, "%s", rest);
}
#endif
