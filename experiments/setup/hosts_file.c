/* SPDX-License-Identifier: Apache-2.0 */
/* The hosts of an instance from YAML. */
#include "experiments/setup/hosts_file.h"

#include "experiments/setup/scenario_reader.h"
#include "transport/secure/tcp_socket.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_BYTES = 1 << 18,
    NAME_BYTES = 31,
    TEXT_BYTES = 1000,
    COMMAND_BYTES = 2000,
    MAX_PORT = 65535,
};
static const char NAME_LETTERS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
static const char VARIABLE_LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* ---------------------------------------------------------------- texts */

/* A copy of the text at that key; the field stays NULL where it is not given. */
static eep_status copy_text(const scenario_reader *self, int node, size_t max_bytes, char **out)
{
    const char *text = NULL;
    eep_status status = scenario_read_text(self, node, max_bytes, &text);
    if (status == EEP_OK && text) {
        *out = strdup(text);
        status = *out ? EEP_OK : EEP_ERR_NO_MEMORY;
    }
    return status;
}

static int child(const scenario_reader *self, int node, const char *key)
{
    return yamltree_child(&self->tree, node, key);
}

bool hosts_split_address(const char *text, char **ip_out, uint16_t *port_out)
{
    char *end = NULL;
    const char *colon = strrchr(text, ':');
    const bool has_port = colon && colon != text && colon[1] >= '1' && colon[1] <= '9';
    const unsigned long port = has_port ? strtoul(colon + 1, &end, 10) : 0;
    if (!port || *end || port > MAX_PORT) {
        return false;
    }
    const bool in_brackets = text[0] == '[' && colon[-1] == ']';
    *ip_out = strndup(text + in_brackets, (size_t)(colon - text) - 2 * (size_t)in_brackets);
    *port_out = (uint16_t)port;
    return *ip_out != NULL;
}

/* Somebody listens there already: a worker or an agent of this file. NULL: nobody. */
static const char *who_listens(const hosts_file *file, const char *address, const char **host_out)
{
    for (int i = 0; i <= file->num_hosts && i < HOSTS_MAX; i++) { /* the one that is read as well */
        const hosts_entry *host = &file->host[i];
        *host_out = host->name;
        if (host->address && host->address != address && strcmp(host->address, address) == 0) {
            return "worker";
        }
        if (host->agent && host->agent != address && strcmp(host->agent, address) == 0) {
            return "agent";
        }
    }
    return NULL;
}

/* Is `text` ADDRESS:PORT of one interface, and of nobody else? Both parts are the caller's. */
static eep_status check_address(const scenario_reader *self, int node, const hosts_file *file,
                                const char *text, char **ip_out, uint16_t *port_out)
{
    char why[128];
    const char *host = NULL;
    if (!hosts_split_address(text, ip_out, port_out)) {
        return scenario_fail(self, node, "'%s' is not of the form ADDRESS:PORT", text);
    }
    if (eepi_tcp_check_host(*ip_out, true, why, sizeof why) != EEP_OK) {
        return scenario_fail(self, node, "%s", why);
    }
    const char *who = who_listens(file, text, &host);
    return who ? scenario_fail(self, node, "the %s of host %s listens at '%s' already", who, host,
                               text)
               : EEP_OK;
}

static eep_status read_address(const scenario_reader *self, int node, const hosts_file *file,
                               hosts_entry *host)
{
    eep_status status = copy_text(self, node, TEXT_BYTES, &host->address);
    return status == EEP_OK ? check_address(self, node, file, host->address, &host->ip, &host->port)
                            : status;
}

static eep_status read_agent(const scenario_reader *self, int node, const hosts_file *file,
                             hosts_entry *host)
{
    char *ip = NULL;
    uint16_t port = 0;
    eep_status status = copy_text(self, node, TEXT_BYTES, &host->agent);
    if (status == EEP_OK && host->agent) {
        status = check_address(self, node, file, host->agent, &ip, &port);
    }
    free(ip);
    return status;
}

/* ---------------------------------------------------------------- a host */

/* UCX starts a debugger, or sendmail, in a process that fails, and loads what it finds in a folder.
 * A front may name none of these. */
bool hosts_variable_is_taken(const char *text)
{
    static const char *const refused[] = {"UCX_GDB_", "UCX_HANDLE_ERRORS", "UCX_ERROR_",
                                          "UCX_MODULE"};
    const size_t bytes = strcspn(text, "=");
    for (int i = 0; i < COUNT_OF(refused); i++) {
        if (strncmp(text, refused[i], strlen(refused[i])) == 0) {
            return false;
        }
    }
    return (strncmp(text, "EEP_", 4) == 0 || strncmp(text, "UCX_", 4) == 0) &&
           strspn(text, VARIABLE_LETTERS) == bytes;
}

static eep_status read_variables(const scenario_reader *self, int node, hosts_entry *host)
{
    if (node < 0) {
        return EEP_OK;
    }
    if (self->tree.node[node].kind != YAMLTREE_MAPPING) {
        return scenario_fail(self, node, "a mapping (NAME: VALUE) is wanted here");
    }
    for (int i = self->tree.node[node].first; i >= 0; i = self->tree.node[i].next) {
        const yamltree_node *pair = &self->tree.node[i];
        const char *value = NULL;
        if (!hosts_variable_is_taken(pair->key) || strchr(pair->key, '=')) {
            return scenario_fail_at(self, pair->key_line, pair->key_column,
                                    "'%.64s': variables begin with EEP_ or UCX_ here, and none "
                                    "makes UCX start or load a program",
                                    pair->key);
        }
        if (host->num_variables == HOSTS_MAX_VARIABLES) {
            return scenario_fail(self, i, "more than %d variables", HOSTS_MAX_VARIABLES);
        }
        eep_status status = scenario_read_text(self, i, TEXT_BYTES, &value);
        if (status != EEP_OK) {
            return status;
        }
        char **to = &host->variable[host->num_variables];
        if (asprintf(to, "%s=%s", pair->key, value) < 0) {
            *to = NULL;
            return EEP_ERR_NO_MEMORY;
        }
        host->num_variables++;
    }
    return EEP_OK;
}

static eep_status read_name(const scenario_reader *self, int node, const hosts_file *file,
                            hosts_entry *host)
{
    eep_status status = copy_text(self, node, NAME_BYTES, &host->name);
    if (status != EEP_OK) {
        return status;
    }
    if (strspn(host->name, NAME_LETTERS) != strlen(host->name)) {
        return scenario_fail(self, node,
                             "'%s': a host's name has letters, digits, '.', '_' and "
                             "'-' alone",
                             host->name);
    }
    return hosts_file_find(file, host->name) >= 0
               ? scenario_fail(self, node, "'%s' is the name of another host, too", host->name)
               : EEP_OK;
}

static eep_status read_host(const scenario_reader *self, int node, hosts_file *file)
{
    static const char *const keys[] = {"name",  "address", "ranks",      "start",
                                       "store", "agent",   "environment"};
    hosts_entry *host = &file->host[file->num_hosts];
    uint64_t ranks = 0;
    eep_status status = scenario_check_keys(self, node, keys, COUNT_OF(keys), 3);
    if (status == EEP_OK) {
        status = read_name(self, child(self, node, "name"), file, host);
    }
    if (status == EEP_OK) {
        status = read_address(self, child(self, node, "address"), file, host);
    }
    if (status == EEP_OK) {
        status = scenario_read_whole(self, child(self, node, "ranks"), 0, EEP_MAX_RANKS, &ranks);
    }
    if (status == EEP_OK) {
        status = copy_text(self, child(self, node, "start"), COMMAND_BYTES, &host->start);
    }
    if (status == EEP_OK) {
        status = copy_text(self, child(self, node, "store"), TEXT_BYTES, &host->store);
    }
    if (status == EEP_OK) {
        status = read_agent(self, child(self, node, "agent"), file, host);
    }
    if (status == EEP_OK) {
        status = read_variables(self, child(self, node, "environment"), host);
    }
    file->num_hosts++; /* what it has so far is freed with the file */
    host->first_seat = file->num_ranks;
    host->num_ranks = (int)ranks;
    file->num_ranks += (int)ranks;
    if (status == EEP_OK && file->num_ranks > EEP_MAX_RANKS) {
        status = scenario_fail(self, node, "more than %d ranks in all", EEP_MAX_RANKS);
    }
    return status;
}

static eep_status read_hosts(const scenario_reader *self, int node, hosts_file *file)
{
    if (self->tree.node[node].kind != YAMLTREE_SEQUENCE) {
        return scenario_fail(self, node, "a list of hosts is wanted here");
    }
    for (int i = self->tree.node[node].first; i >= 0; i = self->tree.node[i].next) {
        if (file->num_hosts == HOSTS_MAX) {
            return scenario_fail(self, i, "more than %d hosts", HOSTS_MAX);
        }
        eep_status status = read_host(self, i, file);
        if (status != EEP_OK) {
            return status;
        }
    }
    return file->num_ranks ? EEP_OK : scenario_fail(self, node, "no host has a rank");
}

/* ---------------------------------------------------------------- the whole */

static eep_status read_commands(const scenario_reader *self, int node, hosts_file *file)
{
    const char *names[NUM_VERBS];
    int num = 0;
    for (int v = 0; v < NUM_VERBS; v++) {
        if (verb_table[v].takes_command) {
            names[num++] = verb_table[v].name;
        }
    }
    eep_status status = node < 0 ? EEP_OK : scenario_check_keys(self, node, names, num, 0);
    for (int v = 0; v < NUM_VERBS && node >= 0 && status == EEP_OK; v++) {
        if (verb_table[v].takes_command) {
            status = copy_text(self, child(self, node, verb_table[v].name), COMMAND_BYTES,
                               &file->command[v]);
        }
    }
    return status;
}

static eep_status parse(scenario_reader *reader, const char *text, size_t bytes, hosts_file *file)
{
    static const char *const keys[] = {"hosts", "commands"};
    char why[YAMLTREE_ERROR_BYTES];
    int line = 1, column = 1;
    if (bytes > MAX_BYTES) {
        return scenario_fail_at(reader, 1, 1, "more than %d bytes", MAX_BYTES);
    }
    eep_status status = yamltree_read(text, bytes, &reader->tree, why, &line, &column);
    if (status != EEP_OK) {
        return scenario_fail_at(reader, line, column, "%s",
                                status == EEP_ERR_NO_MEMORY ? "out of memory" : why);
    }
    if (reader->tree.num_nodes == 0) {
        return scenario_fail_at(reader, 1, 1, "the file holds nothing");
    }
    status = scenario_check_keys(reader, 0, keys, COUNT_OF(keys), 1);
    if (status == EEP_OK) {
        status = read_hosts(reader, child(reader, 0, "hosts"), file);
    }
    return status == EEP_OK ? read_commands(reader, child(reader, 0, "commands"), file) : status;
}

eep_status hosts_file_load(const char *path, hosts_file **file_out, char *error)
{
    static_assert((int)HOSTS_ERROR_BYTES == (int)SCENARIO_ERROR_BYTES, "the reader fills it");
    FILE *stream = fopen(path, "re");
    char *text = malloc(MAX_BYTES + 1);
    hosts_file *file = calloc(1, sizeof *file);
    scenario_reader reader = {.file = path, .error = error};
    eep_status status = EEP_ERR_INVALID;
    if (!text || !file || !(file->path = strdup(path))) {
        snprintf(error, HOSTS_ERROR_BYTES, "out of memory");
        status = EEP_ERR_NO_MEMORY;
    } else if (!stream) {
        snprintf(error, HOSTS_ERROR_BYTES, "%.600s: %s", path, strerror(errno));
    } else {
        size_t bytes = fread(text, 1, MAX_BYTES + 1, stream);
        status = ferror(stream) ? scenario_fail_at(&reader, 1, 1, "it cannot be read")
                                : parse(&reader, text, bytes, file);
        if (status == EEP_ERR_NO_MEMORY) {
            snprintf(error, HOSTS_ERROR_BYTES, "out of memory");
        }
    }
    if (stream) {
        fclose(stream);
    }
    free(text);
    yamltree_free(&reader.tree);
    if (status == EEP_OK) {
        *file_out = file;
    } else {
        hosts_file_free(file);
    }
    return status;
}

eep_status hosts_file_make(int num_hosts, int num_ranks, hosts_file **file_out)
{
    hosts_file *file = calloc(1, sizeof *file);
    if (!file) {
        return EEP_ERR_NO_MEMORY;
    }
    for (int i = 0; i < num_hosts; i++) {
        hosts_entry *host = &file->host[file->num_hosts++];
        host->is_launched = true;
        host->first_seat = file->num_ranks;
        host->num_ranks = num_ranks / num_hosts + (i < num_ranks % num_hosts);
        file->num_ranks += host->num_ranks;
        if (asprintf(&host->name, "host%d", i) < 0) {
            host->name = NULL;
            hosts_file_free(file);
            return EEP_ERR_NO_MEMORY;
        }
    }
    *file_out = file;
    return EEP_OK;
}

eep_status hosts_file_place(hosts_entry *host, const char *address, const char *agent)
{
    char *ip = NULL;
    uint16_t port = 0;
    if (!hosts_split_address(agent, &ip, &port)) {
        return EEP_ERR_INVALID;
    }
    free(ip);
    if (!hosts_split_address(address, &host->ip, &host->port)) {
        return EEP_ERR_INVALID;
    }
    host->address = strdup(address);
    host->agent = strdup(agent);
    return host->address && host->agent ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void hosts_file_free(hosts_file *self)
{
    for (int i = 0; self && i < self->num_hosts; i++) {
        hosts_entry *host = &self->host[i];
        char *const texts[] = {host->name,  host->ip,    host->address,
                               host->start, host->store, host->agent};
        for (int t = 0; t < COUNT_OF(texts); t++) {
            free(texts[t]);
        }
        for (int v = 0; v < host->num_variables; v++) {
            free(host->variable[v]);
        }
    }
    for (int v = 0; self && v < NUM_VERBS; v++) {
        free(self->command[v]);
    }
    if (self) {
        free(self->path);
    }
    free(self);
}

int hosts_file_find(const hosts_file *self, const char *name)
{
    for (int i = 0; i < self->num_hosts; i++) {
        if (strcmp(self->host[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int hosts_file_home(const hosts_file *self, int seat)
{
    for (int i = 0; i < self->num_hosts; i++) {
        int at = seat - self->host[i].first_seat;
        if (at >= 0 && at < self->host[i].num_ranks) {
            return i;
        }
    }
    return seat % self->num_hosts;
}
