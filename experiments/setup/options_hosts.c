/* SPDX-License-Identifier: Apache-2.0 */
/* What --hosts means for the other options. */
#include "experiments/setup/options.h"

#include "membership/store/store_url.h"

#include <inttypes.h>
#include <string.h>

/* What ranks on several hosts cannot have; NULL: nothing was asked for. */
static const char *misfit(const options *self)
{
    return self->threads         ? "--threads: its ranks share one process"
           : self->engine        ? "--engine: its traces are files of one host"
           : self->hosts_of      ? "--hosts-of: that plays hosts on one machine"
           : self->store_process ? "--store-process: its store is on one host"
           : self->plan_path     ? "--plan: it says itself how many ranks there are"
           : strcmp(self->device, "host") != 0
               ? "--device: only rows of the host's memory take the "
                 "network"
               : NULL;
}

/* An address that each host reaches, and whose register outlives the host that it is on. */
static eep_status check_store(const options *self, const char *text, const char *whose, char *error)
{
    eepi_store_url url;
    char why[256];
    if (!text) {
        return args_fail(error, "--hosts: ranks of several hosts need a store that all of them "
                                "reach: give --store etcd://HOST:2379?local=PATH");
    }
    if (eepi_store_url_parse(text, &url, why, sizeof why) != EEP_OK) {
        return args_fail(error, "--hosts: the store%s: %s", whose, why);
    }
    if (url.scheme == EEPI_STORE_UNIX ||
        (url.scheme == EEPI_STORE_TCP && self->hosts->num_hosts > 1)) {
        return args_fail(error,
                         "--hosts: the store%s '%.100s' is of one host (docs/STORES.md): give "
                         "etcd://HOST:2379?local=PATH",
                         whose, text);
    }
    return *url.path ? EEP_OK
                     : args_fail(error,
                                 "--hosts: the store%s '%.100s' lacks local=PATH, for the files of "
                                 "each host",
                                 whose, text);
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

eep_status options_check_hosts(options *self, bool ranks_given, bool nodes_given,
                               char error[OPTIONS_ERROR_BYTES])
{
    char why[HOSTS_ERROR_BYTES];
    if (!self->hosts_path) {
        return EEP_OK;
    }
    const char *what = misfit(self);
    if (what) {
        return args_fail(error, "--hosts: not with %s: leave it out", what);
    }
    hosts_file_free(self->hosts);
    self->hosts = NULL;
    if (hosts_file_load(self->hosts_path, &self->hosts, why) != EEP_OK) {
        return args_fail(error, "--hosts: %.600s", why);
    }
    eep_status status = check_store(self, self->store_path, "", error);
    for (int i = 0; i < self->hosts->num_hosts && status == EEP_OK; i++) {
        if (self->hosts->host[i].store) {
            status = check_store(self, self->hosts->host[i].store, " of a host", error);
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
    if (self->bulk == EEP_BULK_AUTO) {
        self->bulk = EEP_BULK_UCX; /* what else takes weights from host to host */
    }
    return EEP_OK;
}
