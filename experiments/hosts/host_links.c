/* SPDX-License-Identifier: Apache-2.0 */
/* The links to all hosts: opened together, ended together. */
#include "experiments/hosts/host_links.h"

#include "experiments/base/commit.h"
#include "experiments/base/monotonic.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { BOUND_MS = 60000, TELL_MS = 3000, LOOK_MS = 10 };

struct host_links {
    const options *options;
    const hosts_file *file;
    host_link *link[HOSTS_MAX];
    char *begin[HOSTS_MAX]; /* the body of BEGIN */
    int host[EEP_MAX_RANKS];
    host_commands *commands;
};

/* ---------------------------------------------------------------- what a worker is told */

static bool add_text(char *body, size_t *used, const char *text)
{
    size_t bytes = strlen(text) + 1;
    if (bytes > HOST_BODY_BYTES - *used) {
        return false;
    }
    memcpy(body + *used, text, bytes);
    *used += bytes;
    return true;
}

/* EEP_NETWORK as it is here, so that one word changes all hosts. */
static bool add_own_network(char *body, size_t *used)
{
    const char *kind = getenv("EEP_NETWORK");
    char text[64];
    int bytes = kind ? snprintf(text, sizeof text, "EEP_NETWORK=%s", kind) : 0;
    return bytes < (int)sizeof text && (!kind || add_text(body, used, text));
}

/* host_begin_text's texts, and the host's variables. False: no memory, or too long. */
static bool make_begin(host_links *self, int at, size_t *bytes_out)
{
    const hosts_entry *host = &self->file->host[at];
    static char options_text[RANK_SETUP_TEXT_BYTES];
    char size[24];
    rank_setup setup;
    size_t used = 0;
    char *body = malloc(HOST_BODY_BYTES);
    self->begin[at] = body;
    if (!body) {
        return false;
    }
    options_fill_rank(self->options, &setup);
    rank_setup_to_text(&setup, options_text);
    snprintf(size, sizeof size, "%d", (int)self->options->num_ranks);
    bool fits = add_text(body, &used, commit_text()) && add_text(body, &used, size) &&
                add_text(body, &used, host->store ? host->store : self->options->store_path) &&
                add_text(body, &used, options_text) &&
                add_text(body, &used, host->agent ? host->agent : "");
    fits = fits && add_own_network(body, &used); /* the host's own, below, come later and win */
    for (int v = 0; v < host->num_variables; v++) {
        fits = fits && add_text(body, &used, host->variable[v]);
    }
    *bytes_out = used;
    return fits;
}

/* ---------------------------------------------------------------- open and close */

static eep_status open_links(host_links *self, const eepi_secure_key *key)
{
    uint64_t front = 0;
    if (getrandom(&front, sizeof front, 0) != (ssize_t)sizeof front) {
        return EEP_ERR_SYSTEM;
    }
    for (int i = 0; i < self->file->num_hosts; i++) {
        host_connect_config config = {
            .host = &self->file->host[i], .key = *key, .front = front | 1};
        if (!make_begin(self, i, &config.begin_bytes)) {
            return EEP_ERR_NO_MEMORY;
        }
        config.begin = self->begin[i];
        eep_status status = host_link_open(&config, &self->link[i]);
        eepi_secure_key_wipe(&config.key);
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

/* "host h2: why" of each that is not up, as far as there is room. How many those are. */
static int tell_late(const host_links *self, char text[HOSTS_ERROR_BYTES])
{
    char why[HOST_NOTE_BYTES];
    int used = 0, num = 0;
    *text = '\0';
    for (int i = 0; i < self->file->num_hosts; i++) {
        if (host_link_state_of(self->link[i], why) != HOST_LINK_UP) {
            used += snprintf(text + used, (size_t)(HOSTS_ERROR_BYTES - used), "%shost %s: %s",
                             num++ ? "; " : "", self->file->host[i].name, why);
            used = used < HOSTS_ERROR_BYTES ? used : HOSTS_ERROR_BYTES - 1;
        }
    }
    return num;
}

/* Until all are up. */
static eep_status await_links(const host_links *self, int signal_fd, char *error)
{
    const uint64_t begin_ns = now_ns();
    char why[HOST_NOTE_BYTES];
    bool was_told = false;
    for (;;) {
        const uint64_t took_ns = now_ns() - begin_ns;
        for (int i = 0; i < self->file->num_hosts; i++) {
            if (host_link_state_of(self->link[i], why) == HOST_LINK_FAILED) {
                snprintf(error, HOSTS_ERROR_BYTES, "host %s: %s", self->file->host[i].name, why);
                return EEP_ERR_UNREACHABLE;
            }
        }
        if (tell_late(self, error) == 0) {
            return EEP_OK;
        }
        if (took_ns > (uint64_t)BOUND_MS * 1000000u) {
            return EEP_ERR_UNREACHABLE;
        }
        if (!was_told && took_ns > (uint64_t)TELL_MS * 1000000u) {
            fprintf(stderr, "eep-run: waits up to %d s for %s\n", BOUND_MS / 1000, error);
            was_told = true;
        }
        struct pollfd set = {.fd = signal_fd, .events = POLLIN};
        if (poll(&set, 1, LOOK_MS) == 1) {
            snprintf(error, HOSTS_ERROR_BYTES, "interrupted while workers were started");
            return EEP_ERR_ABORTED;
        }
    }
}

static eep_status read_key(eepi_secure_key *key_out, char *error)
{
    char why[512];
    eep_status status = eepi_secure_key_read(NULL, key_out, why, sizeof why);
    if (status != EEP_OK) {
        snprintf(error, HOSTS_ERROR_BYTES, "--hosts: %s",
                 status == EEP_ERR_NOT_FOUND ? "EEP_KEY_FILE names no file with the job's key"
                                             : why);
    }
    return status;
}

eep_status host_links_check_key(char *error)
{
    eepi_secure_key key;
    eep_status status = read_key(&key, error);
    eepi_secure_key_wipe(&key);
    return status;
}

eep_status host_links_open(const options *given, int signal_fd, host_links **links_out, char *error)
{
    eepi_secure_key key;
    eep_status status = read_key(&key, error);
    if (status != EEP_OK) {
        return status;
    }
    host_links *self = calloc(1, sizeof *self);
    if (!self) {
        eepi_secure_key_wipe(&key);
        snprintf(error, HOSTS_ERROR_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    self->options = given;
    self->file = given->hosts;
    for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
        self->host[seat] = hosts_file_home(self->file, seat);
    }
    status = host_commands_open(self->file, &self->commands);
    if (status == EEP_OK) {
        status = open_links(self, &key);
    }
    eepi_secure_key_wipe(&key);
    if (status != EEP_OK) {
        snprintf(error, HOSTS_ERROR_BYTES, "--hosts: %s", eep_strerror(status));
    } else {
        status = await_links(self, signal_fd, error);
    }
    if (status != EEP_OK) {
        host_links_close(self);
        return status;
    }
    *links_out = self;
    return EEP_OK;
}

static void *close_one(void *link)
{
    host_link_close(link);
    return NULL;
}

/* At the same time: a host that is gone takes its bound. */
void host_links_close(host_links *self)
{
    pthread_t thread[HOSTS_MAX];
    bool is_started[HOSTS_MAX] = {false};
    if (self) {
        host_commands_close(self->commands);
    }
    for (int i = 0; self && i < self->file->num_hosts; i++) {
        is_started[i] = pthread_create(&thread[i], NULL, close_one, self->link[i]) == 0;
        if (!is_started[i]) {
            host_link_close(self->link[i]);
        }
    }
    for (int i = 0; self && i < self->file->num_hosts; i++) {
        if (is_started[i]) {
            pthread_join(thread[i], NULL);
        }
        free(self->begin[i]);
    }
    free(self);
}

/* ---------------------------------------------------------------- seats and hosts */

int host_links_host_of(const host_links *self, int seat)
{
    return self->host[seat];
}

void host_links_move(host_links *self, int seat, int host)
{
    self->host[seat] = host;
}

bool host_links_is_up(const host_links *self, int host)
{
    return host_link_state_of(self->link[host], NULL) == HOST_LINK_UP;
}

host_link *host_links_of_seat(const host_links *self, int seat)
{
    return self->link[self->host[seat]];
}

host_link *host_links_of(const host_links *self, int host)
{
    return self->link[host];
}

host_commands *host_links_commands(const host_links *self)
{
    return self->commands;
}
