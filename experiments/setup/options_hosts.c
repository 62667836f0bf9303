/* SPDX-License-Identifier: Apache-2.0 */
/* What --hosts and --launched mean for the other options. */
#include "experiments/setup/options.h"

#include "eep/launch.h"
#include "experiments/script/host_names.h"
#include "membership/store/store_url.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The option that says which hosts there are, and what persons know them by. */
static const char *option_of(const options *self)
{
    return self->launched ? "--launched" : "--hosts";
}

static const char *source_of(const options *self)
{
    return self->launched ? "--launched" : self->hosts_path;
}

/* ---------------------------------------------------------------- verbs */

/* How the host is to be treated so is not known: true, and why. */
static bool lacks(const options *self, const script_event *event, const char *name, char *error)
{
    const char *verb_name = verb_table[event->verb].name;
    int host = hosts_file_find(self->hosts, name);
    if (host < 0) {
        snprintf(error, OPTIONS_ERROR_BYTES, "%s: '%s' is no host of %.200s", verb_name, name,
                 source_of(self));
        return true;
    }
    bool is_of_agent = event->verb == VERB_AGENT_KILL || event->verb == VERB_AGENT_START;
    if (is_of_agent && !self->launched && !self->hosts->host[host].agent) {
        snprintf(error, OPTIONS_ERROR_BYTES,
                 "%s: host %s has no 'agent' in %.200s: its worker starts none", verb_name, name,
                 self->hosts_path);
        return true;
    }
    return false;
}

static bool lacks_one_of(const options *self, const script_event *event, const char *list,
                         char *error)
{
    char name[HOST_NAME_BYTES];
    for (const char *rest = list; rest && *rest;) {
        rest = host_names_next(rest, name);
        if (rest && lacks(self, event, name, error)) {
            return true;
        }
    }
    return false;
}

/* Nobody but a command can do it, and there is none: true, and why. */
static bool lacks_command(const options *self, verb what, const char *whose, char *error)
{
    bool by_worker = !verb_is_of_hosts(what) || what == VERB_HOST_KILL || what == VERB_HOST_START ||
                     !verb_table[what].takes_command;
    if (by_worker || self->hosts->command[what]) {
        return false;
    }
    snprintf(error, OPTIONS_ERROR_BYTES, "%s: %.200s has no command for %s%s", whose,
             source_of(self), verb_table[what].name,
             strcmp(whose, verb_table[what].name) == 0 ? "" : ", which ends it");
    return true;
}

bool options_has_hosts(const options *self, const script_event *event,
                       char error[OPTIONS_ERROR_BYTES])
{
    const char *name = verb_table[event->verb].name;
    const bool names_some = verb_takes_hosts(event->verb) && *event->value.hosts;
    host_names names = {.ms = 0};
    if (!names_some && !verb_is_of_hosts(event->verb)) {
        return true;
    }
    if (!self->hosts) {
        snprintf(error, OPTIONS_ERROR_BYTES, "%s: hosts need --hosts FILE (docs/HOSTS.md)", name);
        return false;
    }
    if (names_some && !host_names_parse(event->verb, event->value.hosts, &names)) {
        snprintf(error, OPTIONS_ERROR_BYTES, "%s: '%s' names no hosts", name, event->value.hosts);
        return false;
    }
    const bool lasts = event->lasts.ms > 0 || event->lasts.expels > 0;
    const verb end = event->verb == VERB_NIC_DOWN ? VERB_NIC_UP : VERB_HEAL;
    return !lacks_one_of(self, event, names.side[0], error) &&
           !lacks_one_of(self, event, names.side[1], error) &&
           !lacks_command(self, event->verb, name, error) &&
           !(lasts && verb_table[event->verb].takes_command &&
             lacks_command(self, end, name, error));
}

static eep_status check_events(const options *self, char *error)
{
    char why[OPTIONS_ERROR_BYTES];
    for (int i = 0; i < self->script.num_events; i++) {
        const script_event *event = &self->script.event[i];
        if (!options_has_hosts(self, event, why)) {
            return event->line ? args_fail(error, "%d:%d: %.500s", event->line, event->column, why)
                               : args_fail(error, "--%.500s", why);
        }
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- the file */

/* What ranks on several hosts cannot have; NULL: nothing was asked for. */
static const char *misfit(const options *self)
{
    return self->threads            ? "--threads: its ranks share one process"
           : self->engine           ? "--engine: its traces are files of one host"
           : self->hosts_of         ? "--hosts-of: that plays hosts on one machine"
           : self->store_process    ? "--store-process: its store is on one host"
           : self->plan_path        ? "--plan: it says itself how many ranks there are"
           : self->checkpoint_write ? "--checkpoint-write: that runs nothing"
           : self->cold_checkpoint ? "--cold-checkpoint: that drops this machine's page cache alone"
           : strcmp(self->device, "host") != 0
               ? "--device: only rows of the host's memory take the "
                 "network"
               : NULL;
}

/* What a process of a launcher's job cannot have besides. */
static const char *misfit_of_launched(const options *self)
{
    return !self->launched     ? NULL
           : self->hosts_path  ? "--hosts: the launcher says which hosts there are"
           : self->num_repeats ? "--repeat: its workers end with a run"
                               : NULL;
}

/* An address that each host reaches, and whose register outlives the host that it is on. */
static eep_status check_store(const options *self, const char *text, const char *whose, char *error)
{
    eepi_store_url url;
    char why[256];
    if (!text) {
        return args_fail(error,
                         "%s: ranks of several hosts need a store that all of them reach: give "
                         "--store etcd://HOST:2379?local=PATH",
                         option_of(self));
    }
    if (eepi_store_url_parse(text, &url, why, sizeof why) != EEP_OK) {
        return args_fail(error, "%s: the store%.40s: %s", option_of(self), whose, why);
    }
    if (url.scheme == EEPI_STORE_UNIX ||
        (url.scheme == EEPI_STORE_TCP && self->hosts->num_hosts > 1)) {
        return args_fail(error,
                         "%s: the store%.40s '%.100s' is of one host (docs/STORES.md): give "
                         "etcd://HOST:2379?local=PATH",
                         option_of(self), whose, text);
    }
    return *url.path ? EEP_OK
                     : args_fail(error,
                                 "%s: the store%.40s '%.100s' lacks local=PATH, for the files of "
                                 "each host",
                                 option_of(self), whose, text);
}

/* As many ranks on each host, which then is a node; 0: they differ. */
static int64_t ranks_per_host(const hosts_file *file)
{
    for (int i = 1; i < file->num_hosts; i++) {
        if (file->host[i].num_ranks != file->host[0].num_ranks) {
            return 0;
        }
    }
    return file->host[0].num_ranks;
}

/* ---------------------------------------------------------------- the launcher's job */

/* What each process of the job needs of its environment; NULL: it is there. */
static const char *lacks_variable(void)
{
    const char *interface = getenv("EEP_NETWORK_INTERFACE"), *key = getenv("EEP_KEY_FILE");
    return !interface || !*interface ? "EEP_NETWORK_INTERFACE names no interface where the other "
                                       "hosts reach this one"
           : !key || !*key           ? "EEP_KEY_FILE names no file with the job's key"
                                     : NULL;
}

/* Each process of the job is a host's. */
static eep_status read_launch(options *self, char *error)
{
    eep_launch_info job;
    const char *lacks = lacks_variable();
    if (eep_launch_read(EEP_SIZED(&job)) != EEP_OK) {
        return args_fail(error, "--launched: %.600s", eep_error_text());
    }
    if (job.rank < 0 || job.num_ranks == 0) {
        return args_fail(error,
                         "--launched: %s: start eep-run by mpirun, srun or another launcher of "
                         "docs/DEPLOY.md, or set EEP_RANK and EEP_SIZE",
                         job.rank == EEP_RANK_ANY ? "EEP_RANK is \"any\", and a process of the job "
                                                    "has a number"
                         : job.rank < 0 ? "no launcher's variable says which process this is"
                                        : "no launcher's variable says how many processes there "
                                          "are");
    }
    if (job.num_ranks < 2 || job.num_ranks > HOSTS_MAX || job.rank >= job.num_ranks) {
        return args_fail(error,
                         "--launched: this is process %d of %d (%.300s): 2 to %d are possible, one "
                         "on each host",
                         job.rank, job.num_ranks, job.source, HOSTS_MAX);
    }
    if (self->num_ranks < job.num_ranks) {
        return args_fail(error,
                         "--ranks: %" PRId64 " ranks are fewer than the %d hosts of "
                         "--launched",
                         self->num_ranks, job.num_ranks);
    }
    if (lacks) {
        return args_fail(error, "--launched: %s", lacks);
    }
    self->launched_number = job.rank;
    if (!self->store_path && *job.store) {
        self->store_path = getenv("EEP_STORE");
    }
    return hosts_file_make(job.num_ranks, (int)self->num_ranks, &self->hosts) == EEP_OK
               ? EEP_OK
               : args_fail(error, "out of memory");
}

static eep_status read_file(options *self, char *error)
{
    char why[HOSTS_ERROR_BYTES];
    return hosts_file_load(self->hosts_path, &self->hosts, why) == EEP_OK
               ? EEP_OK
               : args_fail(error, "--hosts: %.600s", why);
}

eep_status options_check_hosts(options *self, bool ranks_given, bool nodes_given,
                               char error[OPTIONS_ERROR_BYTES])
{
    if (!self->hosts_path && !self->launched) {
        return check_events(self, error);
    }
    const char *what = misfit(self), *besides = misfit_of_launched(self);
    if (what || besides) {
        return args_fail(error, "%s: not with %s: leave it out", option_of(self),
                         besides ? besides : what);
    }
    hosts_file_free(self->hosts);
    self->hosts = NULL;
    if ((self->launched ? read_launch(self, error) : read_file(self, error)) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    eep_status status = check_store(self, self->store_path, "", error);
    for (int i = 0; i < self->hosts->num_hosts && status == EEP_OK; i++) {
        if (self->hosts->host[i].store) {
            char whose[64];
            snprintf(whose, sizeof whose, " of host %.50s", self->hosts->host[i].name);
            status = check_store(self, self->hosts->host[i].store, whose, error);
        }
    }
    if (status != EEP_OK) {
        return status;
    }
    if (ranks_given && self->num_ranks != self->hosts->num_ranks) {
        return args_fail(error,
                         "--ranks: %" PRId64 " ranks, but the hosts of --hosts have %d; leave "
                         "--ranks away",
                         self->num_ranks, self->hosts->num_ranks);
    }
    self->num_ranks = self->hosts->num_ranks;
    if (!nodes_given) {
        self->ranks_per_node = ranks_per_host(self->hosts);
    }
    if (self->bulk == EEP_BULK_SHM && self->hosts->num_hosts > 1) {
        return args_fail(error, "%s: not with --bulk shm: hosts share no memory: leave it out",
                         option_of(self));
    }
    if (self->bulk == EEP_BULK_AUTO) {
        self->bulk = EEP_BULK_UCX; /* what else takes weights from host to host */
    }
    return check_events(self, error);
}
