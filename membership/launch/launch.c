/* SPDX-License-Identifier: Apache-2.0 */
/* What launchers say in the environment. A table has each one's variables; two that say a number
 * must say the same one. */
#include "eep/launch.h"

#include "graphs/base/public_call.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK, SIZE, LOCAL_RANK, LOCAL_SIZE, NUM_NUMBERS };
static const char *const what[NUM_NUMBERS] = {"the rank", "the number of ranks", "the local rank",
                                              "the number of ranks of this host"};

typedef struct launcher {
    const char *name; /* in EEP_LAUNCHER */
    const char *variable[NUM_NUMBERS];
    /* Its rank and size count where this variable is set, since else they may be inherited, or mean
     * something else; NULL: always. */
    const char *sign;
} launcher;

enum { EEP, TORCHRUN, OPENMPI, PMIX, PMI, SLURM, LWS, NUM_LAUNCHERS };
static const launcher launchers[NUM_LAUNCHERS] = {
    [EEP] = {"eep", {"EEP_RANK", "EEP_SIZE", "EEP_LOCAL_RANK", "EEP_LOCAL_SIZE"}, NULL},
    [TORCHRUN] = {"torchrun",
                  {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
                  "LOCAL_RANK"},
    [OPENMPI] = {"openmpi",
                 {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                  "OMPI_COMM_WORLD_LOCAL_SIZE"},
                 NULL},
    [PMIX] = {"pmix", {"PMIX_RANK", NULL, NULL, NULL}, NULL},
    [PMI] = {"pmi", {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}, NULL},
    /* srun sets the sign; sbatch and salloc give their own process rank 0 without it. */
    [SLURM] = {"slurm",
               {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
                "SLURM_STEP_TASKS_PER_NODE"},
               "SLURM_STEP_NUM_TASKS"},
    [LWS] = {"lws", {"LWS_WORKER_INDEX", "LWS_GROUP_SIZE", NULL, NULL}, NULL},
};

/* A number that was found, and where; variable NULL: nowhere. */
typedef struct found {
    int32_t value;
    const char *variable, *launcher;
} found;

/* NULL for a variable that is empty, too. */
static const char *text_of(const char *variable)
{
    const char *text = variable ? getenv(variable) : NULL;

    return text && *text ? text : NULL;
}

/* -1: it is not `least` to `most`. */
static int32_t number_of(const char *text, int32_t least, int32_t most)
{
    int64_t value = 0;

    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9' || value > most) {
            return -1;
        }
        value = 10 * value + (*at - '0');
    }
    return *text && value >= least && value <= most ? (int32_t)value : -1;
}

/* Of "2(x3),1", tasks of node 0, 1 and so on: that of the node; -1: it is malformed. */
static int32_t tasks_of_node(const char *text, int32_t node)
{
    while (*text) {
        char *end;
        const long tasks = strtol(text, &end, 10);
        long times = 1;

        if (end == text || tasks < 1 || tasks > EEP_MAX_RANKS) {
            return -1;
        }
        if (strncmp(end, "(x", 2) == 0) {
            times = strtol(end + 2, &end, 10);
            if (times < 1 || *end++ != ')') {
                return -1;
            }
        }
        if (node < times) {
            return *end == '\0' || *end == ',' ? (int32_t)tasks : -1;
        }
        node -= (int32_t)times;
        if (*end != ',') {
            return -1;
        }
        text = end + 1;
    }
    return -1;
}

static eep_status refuse_value(const char *variable, const char *text, const char *possible)
{
    return eepi_refuse(EEP_ERR_INVALID,
                       "eep_launch_read: the environment variable %s is \"%.80s\": it must be %s",
                       variable, text, possible);
}

/* The number of one launcher; *value_out -1 where it says none. */
static eep_status read_number(int from, int number, int32_t *value_out)
{
    const char *variable = launchers[from].variable[number], *text = text_of(variable);
    const bool is_size = number == SIZE || number == LOCAL_SIZE;
    char possible[80];

    *value_out = -1;
    if (!text) {
        return EEP_OK;
    }
    if (from == EEP && number == RANK && strcmp(text, "any") == 0) {
        *value_out = EEP_RANK_ANY;
        return EEP_OK;
    }
    if (from == SLURM && number == LOCAL_SIZE) {
        const char *node = text_of("SLURM_NODEID");
        const int32_t index = node ? number_of(node, 0, INT32_MAX - 1) : 0;

        if (index < 0) {
            return refuse_value("SLURM_NODEID", node, "a whole number");
        }
        *value_out = tasks_of_node(text, index);
        snprintf(possible, sizeof possible, "as \"2(x3),1\", and say the tasks of node %d", index);
    } else {
        *value_out = number_of(text, is_size, is_size ? EEP_MAX_RANKS : EEP_MAX_RANKS - 1);
        snprintf(possible, sizeof possible, "a whole number from %d to %d%s", is_size,
                 is_size ? EEP_MAX_RANKS : EEP_MAX_RANKS - 1,
                 from == EEP && number == RANK ? ", or any" : "");
    }
    return *value_out >= 0 ? EEP_OK : refuse_value(variable, text, possible);
}

/* The first that says the number is believed, and each further one must say the same. */
static eep_status meet(found *all, int number, int from, int32_t value)
{
    found *it = &all[number];

    if (!it->variable) {
        *it = (found){value, launchers[from].variable[number], launchers[from].name};
        return EEP_OK;
    }
    if (it->value == value) {
        return EEP_OK;
    }
    return eepi_refuse(EEP_ERR_INVALID,
                       "eep_launch_read: %s says %d and %s says %d, which is %s%s: unset one of "
                       "them, or set EEP_LAUNCHER to %s or %s, whichever started this process",
                       it->variable, it->value, launchers[from].variable[number], value,
                       what[number], from == LWS ? " (times the ranks of a worker)" : "",
                       it->launcher, launchers[from].name);
}

/* LWS counts pods: a worker has as many ranks as its pod has local ones, or one. */
static eep_status count_ranks_of_pods(const found *all, int number, int32_t *value)
{
    const int64_t local_size = all[LOCAL_SIZE].variable ? all[LOCAL_SIZE].value : 1;
    const int64_t local_rank = all[LOCAL_RANK].variable ? all[LOCAL_RANK].value : 0;
    int64_t counted;

    if (number == RANK && local_size > 1 && !all[LOCAL_RANK].variable) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch_read: %s says that a pod has %d ranks, and LWS_WORKER_INDEX "
                           "names the pod alone: set EEP_LOCAL_RANK, or EEP_RANK",
                           all[LOCAL_SIZE].variable, (int)local_size);
    }
    counted = *value * local_size + (number == RANK ? local_rank : 0);
    if (counted > EEP_MAX_RANKS - (number == RANK)) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch_read: %s is %d, with %d ranks in each pod: %d ranks are "
                           "possible",
                           launchers[LWS].variable[number], *value, (int)local_size, EEP_MAX_RANKS);
    }
    *value = (int32_t)counted;
    return EEP_OK;
}

static eep_status read_launcher(int from, bool is_named, found *all)
{
    static const int order[NUM_NUMBERS] = {LOCAL_RANK, LOCAL_SIZE, RANK, SIZE}; /* LWS needs it */
    eep_status status = EEP_OK;

    for (int i = 0; i < NUM_NUMBERS && status == EEP_OK; i++) {
        const int number = order[i];
        const char *sign = is_named ? NULL : launchers[from].sign;
        int32_t value;

        if (sign && !text_of(sign) && (number == RANK || number == SIZE || from == SLURM)) {
            continue;
        }
        status = read_number(from, number, &value);
        if (status == EEP_OK && value != -1 && from == LWS) {
            status = count_ranks_of_pods(all, number, &value);
        }
        if (status == EEP_OK && value != -1) {
            status = meet(all, number, from, value);
        }
    }
    return status;
}

/* The launcher that EEP_LAUNCHER names; NUM_LAUNCHERS: none is named, and all count. */
static eep_status find_named(int *named_out)
{
    const char *text = text_of("EEP_LAUNCHER"), *rank = text_of("EEP_RANK");

    *named_out = NUM_LAUNCHERS;
    if (rank && strcmp(rank, "any") == 0 && !text) {
        *named_out = EEP; /* the launcher's numbers are those of a replacement's launch */
    }
    for (int from = 0; text && from < NUM_LAUNCHERS; from++) {
        if (strcmp(text, launchers[from].name) == 0) {
            *named_out = from;
            return EEP_OK;
        }
    }
    return text ? refuse_value("EEP_LAUNCHER", text,
                               "eep, torchrun, openmpi, pmix, pmi, slurm or lws")
                : EEP_OK;
}

static eep_status read_numbers(found *all)
{
    int named;
    eep_status status = find_named(&named);

    for (int from = 0; from < NUM_LAUNCHERS && status == EEP_OK; from++) {
        if (named == NUM_LAUNCHERS || from == EEP || from == named) {
            status = read_launcher(from, from == named, all);
        }
    }
    if (status == EEP_OK && !all[RANK].variable && named == NUM_LAUNCHERS && text_of("RANK")) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch_read: RANK is \"%.80s\" and LOCAL_RANK is not set: RANK may "
                           "be a rank or the index of a node. Set EEP_RANK and EEP_SIZE, or "
                           "EEP_LAUNCHER=torchrun if RANK is the rank",
                           getenv("RANK"));
    }
    return status;
}

static eep_status copy_text(const char *variable, char *text_out, size_t bytes)
{
    const char *text = text_of(variable);

    if (text && strlen(text) >= bytes) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch_read: the environment variable %s has %zu bytes, and at "
                           "most %zu are possible",
                           variable, strlen(text), bytes - 1);
    }
    if (text) {
        memcpy(text_out, text, strlen(text) + 1);
    }
    return EEP_OK;
}

static eep_status read_texts(eep_launch_info *it)
{
    static const char *const leaders[] = {"EEP_LEADER_ADDRESS", "MASTER_ADDR",
                                          "LWS_LEADER_ADDRESS"};
    eep_status status = copy_text("EEP_STORE", it->store, sizeof it->store);

    if (status == EEP_OK) {
        status = copy_text("EEP_NETWORK_INTERFACE", it->address, sizeof it->address);
    }
    for (size_t i = 0; i < sizeof leaders / sizeof leaders[0] && it->leader[0] == '\0'; i++) {
        if (status == EEP_OK) {
            status = copy_text(leaders[i], it->leader, sizeof it->leader);
        }
    }
    return status;
}

/* One more part of the sentence about the sources. */
__attribute__((format(printf, 2, 3))) static void tell(eep_launch_info *it, const char *format, ...)
{
    const size_t used = strlen(it->source);
    va_list arguments;

    va_start(arguments, format);
    snprintf(it->source + used, sizeof it->source - used, "%s", used ? ", " : "");
    vsnprintf(it->source + strlen(it->source), sizeof it->source - strlen(it->source), format,
              arguments);
    va_end(arguments);
}

static void tell_sources(const found *all, eep_launch_info *it)
{
    if (it->rank == EEP_RANK_ANY) {
        tell(it, "any free seat from EEP_RANK");
    } else if (all[RANK].variable) {
        tell(it, "rank %d from %s", it->rank, all[RANK].variable);
    }
    if (all[SIZE].variable) {
        tell(it, "%d ranks from %s", it->num_ranks, all[SIZE].variable);
    }
    if (all[LOCAL_RANK].variable) {
        tell(it, "local rank %d from %s", it->local_rank, all[LOCAL_RANK].variable);
    }
    if (all[LOCAL_SIZE].variable) {
        tell(it, "%d ranks here from %s", it->local_size, all[LOCAL_SIZE].variable);
    }
    if (it->store[0]) {
        tell(it, "store from EEP_STORE");
    }
}

eep_status eep_launch_read(eep_launch_info *launch_out)
{
    eep_launch_info it = {.struct_bytes = sizeof it, .rank = -1, .local_rank = -1};
    found all[NUM_NUMBERS] = {{0}};
    eep_status status = EEPI_STRUCT_CHECK(eep_launch_info, launch_out);

    if (status == EEP_OK) {
        status = read_numbers(all);
    }
    if (status == EEP_OK) {
        status = read_texts(&it);
    }
    if (status != EEP_OK) {
        return status;
    }
    it.rank = all[RANK].variable ? all[RANK].value : -1;
    it.num_ranks = all[SIZE].variable ? all[SIZE].value : 0;
    it.local_rank = all[LOCAL_RANK].variable ? all[LOCAL_RANK].value : -1;
    it.local_size = all[LOCAL_SIZE].variable ? all[LOCAL_SIZE].value : 0;
    tell_sources(all, &it);
    EEPI_STRUCT_GIVE(eep_launch_info, launch_out, &it);
    return EEP_OK;
}
