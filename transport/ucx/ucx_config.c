/* SPDX-License-Identifier: Apache-2.0 */
/* What UCX is told, and what it is not.
 *
 * UCX_ variables of the environment are the job's: they are set for MPI, NCCL or whatever else uses
 * UCX in this process, and UCX_NET_DEVICES=mlx5_0:1 would leave no transport here. ucp_config_read
 * with a prefix reads EEP_UCX_TLS, but takes UCX_TLS too where that is not set (UCX 1.13). So each
 * UCX_ variable that is set goes back to UCX's default, as UCX's own tables name it, unless
 * EEP_UCX_ says otherwise. The environment itself stays as it is: other threads may read it. */
#include "transport/ucx/ucx_config.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucs/config/parser.h>
#include <unistd.h>

enum { NAME_BYTES = 128, VALUE_BYTES = 1024 };

/* The default of one field of a table; false: the table has none of that name. UCX walks the table
 * itself: the size of a field is another one in UCX 1.22 than in 1.13, and libeep may have been
 * compiled with either. */
static bool default_in(const ucs_config_global_list_entry_t *entry, const char *field, char *value)
{
    void *defaults = calloc(1, entry->size);
    if (defaults == NULL) {
        return false;
    }
    bool found = ucs_config_parser_set_default_values(defaults, entry->table) == UCS_OK;
    if (found) {
        found = ucs_config_parser_get_value(defaults, entry->table, field, value, VALUE_BYTES) ==
                UCS_OK;
        ucs_config_parser_release_opts(defaults, entry->table);
    }
    free(defaults);
    return found;
}

/* UCX's default of the variable UCX_<name>; false: it knows none. */
static bool default_of(const char *name, char *value)
{
    ucs_config_global_list_entry_t *entry;
    ucs_list_for_each(entry, &ucs_config_global_list, list)
    {
        const char *prefix = entry->prefix != NULL ? entry->prefix : "";
        size_t bytes = strlen(prefix);
        if (strncmp(name, prefix, bytes) == 0 && entry->table != NULL &&
            default_in(entry, name + bytes, value)) {
            return true;
        }
    }
    return false;
}

static bool is_ours(const char *name)
{
    char own[NAME_BYTES + sizeof "EEP_UCX_"];
    snprintf(own, sizeof own, "EEP_UCX_%s", name);
    return getenv(own) != NULL;
}

/* Set back what UCX_<name>=<value> has set. */
static ucs_status_t set_back(ucp_config_t *config, const char *variable)
{
    char name[NAME_BYTES];
    const char *end = strchr(variable, '=');
    if (end == NULL || (size_t)(end - variable) >= sizeof name) {
        return UCS_OK;
    }
    memcpy(name, variable, (size_t)(end - variable));
    name[end - variable] = '\0';
    char value[VALUE_BYTES];
    return !is_ours(name) && default_of(name, value) ? ucp_config_modify(config, name, value)
                                                     : UCS_OK;
}

ucs_status_t eepi_ucx_config(const char *interface, bool asks_for_cuda, ucp_config_t **config_out)
{
    ucp_config_t *config = NULL;
    ucs_status_t status = ucp_config_read("EEP", NULL, &config);
    if (status != UCS_OK) {
        return status;
    }
    for (char **variable = environ; *variable != NULL && status == UCS_OK; variable++) {
        if (strncmp(*variable, "UCX_", 4) == 0) {
            status = set_back(config, *variable + 4);
        }
    }
    /* Only tcp reports a killed peer soon and leaves survivors unharmed. */
    if (status == UCS_OK && !is_ours("TLS")) {
        status = ucp_config_modify(config, "TLS", asks_for_cuda ? "tcp,cuda_copy" : "tcp");
    }
    /* UCX 1.22 weighs its protocols anew for each endpoint, which takes it 100 ms and more of
     * looking at the interface; the older way of choosing one takes none. */
    if (status == UCS_OK && !is_ours("PROTO_ENABLE")) {
        status = ucp_config_modify(config, "PROTO_ENABLE", "n");
    }
    if (status == UCS_OK && !is_ours("NET_DEVICES")) {
        status = ucp_config_modify(config, "NET_DEVICES", interface);
    }
    if (status != UCS_OK) {
        ucp_config_release(config);
        return status;
    }
    *config_out = config;
    return UCS_OK;
}

void eepi_ucx_variables(char *text, size_t text_bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (char **variable = environ; *variable != NULL && used < text_bytes; variable++) {
        if (strncmp(*variable, "EEP_UCX_", 8) == 0) {
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%s",
                                     used == 0 ? " (" : ", ", *variable);
        }
    }
    if (used > 0 && used + 1 < text_bytes) {
        snprintf(text + used, text_bytes - used, ")");
    }
}

int eepi_ucx_interface(const char *interface, struct sockaddr_in *address_out)
{
    struct ifaddrs *all = NULL;
    int found = -1;
    if (getifaddrs(&all) != 0) {
        return -1;
    }
    for (const struct ifaddrs *at = all; at != NULL && found != 0; at = at->ifa_next) {
        if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET ||
            strcmp(at->ifa_name, interface) != 0) {
            continue;
        }
        memcpy(address_out, at->ifa_addr, sizeof *address_out);
        address_out->sin_port = 0;
        found = 0;
    }
    freeifaddrs(all);
    return found;
}
