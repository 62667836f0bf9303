/* SPDX-License-Identifier: Apache-2.0 */
/* The file of `eep-run --hosts`: the hosts of an instance, the ranks of each, how a worker is
 * started there, and the commands that disturb hosts and the network between them (docs/HOSTS.md).
 * Read once, then unchanged. */
#ifndef EEPX_HOSTS_FILE_H
#define EEPX_HOSTS_FILE_H

#include "eep/eep.h"
#include "experiments/script/verbs.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    HOSTS_MAX = 64,
    HOSTS_MAX_VARIABLES = 32, /* of a host */
    HOSTS_ERROR_BYTES = 1024,
};

typedef struct hosts_entry {
    char *name;
    char *ip;      /* where its worker listens */
    uint16_t port; /* and at which port */
    char *address; /* both, as they were written */
    char *start;   /* the command that starts a worker there; NULL: there is one */
    char *store;   /* the store's address as this host says it; NULL: as --store does */
    char *agent;   /* where its agent listens; NULL: the worker starts none */
    char *variable[HOSTS_MAX_VARIABLES]; /* "NAME=VALUE": of its ranks and its agent */
    int num_variables;
    int first_seat, num_ranks; /* of the first view, and the seats that a rejoin begins there */
    bool is_launched;          /* a launcher has started its worker, which ends with this run */
} hosts_entry;

typedef struct hosts_file {
    char *path;
    hosts_entry host[HOSTS_MAX];
    int num_hosts;
    int num_ranks;            /* of all hosts */
    char *command[NUM_VERBS]; /* how a verb is done; NULL: not by a command */
} hosts_file;

/* EEP_ERR_INVALID with "FILE:LINE:COLUMN: ..." in `error` (HOSTS_ERROR_BYTES). hosts_file_free
 * after EEP_OK. */
EEP_MUST_CHECK eep_status hosts_file_load(const char *path, hosts_file **file_out, char *error);
/* Of a launcher's job: host0, host1 and so on share the ranks, the first ones the rest of them.
 * Where they are is not known yet. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status hosts_file_make(int num_hosts, int num_ranks, hosts_file **file_out);
/* Its worker listens there, and its agent will. EEP_ERR_INVALID: that is no ADDRESS:PORT. */
EEP_MUST_CHECK eep_status hosts_file_place(hosts_entry *host, const char *address,
                                           const char *agent);
void hosts_file_free(hosts_file *self);
/* ADDRESS:PORT, of IPv6 [ADDRESS]:PORT; false: it is not. *ip_out is the caller's to free. */
bool hosts_split_address(const char *text, char **ip_out, uint16_t *port_out);
/* Does a worker take that variable for its ranks, as "NAME" or as "NAME=VALUE"? Those that libeep
 * and UCX read, but for those by which UCX loads a library or starts a program. */
bool hosts_variable_is_taken(const char *text);
/* The host of that name; -1: there is none. */
int hosts_file_find(const hosts_file *self, const char *name);
/* The host that the seat is at home on. Seats above those of the first view go round. */
int hosts_file_home(const hosts_file *self, int seat);
#endif
