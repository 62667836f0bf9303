/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a context: what holds by default, and what eep_open refuses. */
#include "membership/context/config.h"

#include "eep/launch.h"
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/store/store_url.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Of rank, num_ranks or ranks_per_node: what the environment says is refused. */
#define BAD_IN_ENVIRONMENT INT32_MIN

enum { MAX_BLOCKS = 4096 };

static int32_t ranks_per_node_from_environment(void)
{
    const char *text = getenv("EEP_RANKS_PER_NODE");
    char *end;
    long value;

    if (!text || !*text) {
        return 0;
    }
    value = strtol(text, &end, 10);
    return *end == '\0' && value >= 0 && value <= EEP_MAX_RANKS ? (int32_t)value
                                                                : BAD_IN_ENVIRONMENT;
}

/* -1: none that is known, which eep_open refuses. */
static eep_bulk bulk_from_environment(void)
{
    static const char *const names[] = {"auto", "shm", "ucx"};
    const char *text = getenv("EEP_BULK");

    for (int bulk = EEP_BULK_AUTO; text && *text && bulk <= EEP_BULK_UCX; bulk++) {
        if (strcmp(text, names[bulk]) == 0) {
            return (eep_bulk)bulk;
        }
    }
    return text && *text ? (eep_bulk)-1 : EEP_BULK_AUTO;
}

static void fill_defaults(eep_config *config)
{
    eep_launch_info launch;

    *config = (eep_config){
        .struct_bytes = sizeof *config,
        .rank = BAD_IN_ENVIRONMENT,
        .num_ranks = BAD_IN_ENVIRONMENT,
        .store_path = getenv("EEP_STORE"),
        .dtype = EEP_FP32,
        .log_level = EEP_LOG_WARN,
        .bulk = bulk_from_environment(),
        .bulk_interface = getenv("EEP_BULK_INTERFACE"),
        .ranks_per_node = ranks_per_node_from_environment(),
        .backup_copies = 2,
        .background_latency_percent = 25,
        .num_chains = 1,
    };
    if (eep_launch_read(EEP_SIZED(&launch)) == EEP_OK) {
        config->rank = launch.rank;
        config->num_ranks = launch.num_ranks;
    }
    (void)!eep_config_profile(config, EEP_PROFILE_DEFAULT);
}

void eep_config_init_sized(eep_config *config, size_t struct_bytes)
{
    const uint32_t bytes = (uint32_t)struct_bytes;
    eep_config full;

    if (!config || struct_bytes < sizeof bytes) {
        return;
    }
    fill_defaults(&full);
    if (struct_bytes > sizeof full) { /* a newer caller's: what this version lacks is 0 */
        memset((unsigned char *)config + sizeof full, 0, struct_bytes - sizeof full);
    }
    memcpy(config, &full, struct_bytes < sizeof full ? struct_bytes : sizeof full);
    memcpy(config, &bytes, sizeof bytes);
}

/* ------------------------------------------------------------------ checks */

/* A day is more than any of them needs, and keeps sums and nanoseconds far from overflow. */
static eep_status check_times(eep_context *context)
{
    const eep_config *c = &context->config;
    const unsigned long long day_us = 86400ull * 1000000;
    const struct {
        const char *name;
        unsigned long long us, least_us;
    } times[] = {
        {"heartbeat_period_us", c->heartbeat_period_us, 1},
        {"heartbeat_suspect_us", c->heartbeat_suspect_us, 1},
        {"step_deadline_us", c->step_deadline_us, 1},
        {"warmup_deadline_us", c->warmup_deadline_us, 1},
        {"expel_floor_us", c->expel_floor_us, 1},
        {"drain_bound_us", c->drain_bound_us, 1},
        {"propose_delay_us", c->propose_delay_us, 0},
        {"join_timeout_us", c->join_timeout_us, 0},
    };

    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (times[i].us < times[i].least_us || times[i].us > day_us) {
            return eepi_fail(context, EEP_ERR_INVALID, "%s is %llu: %llu to %llu are possible",
                             times[i].name, times[i].us, times[i].least_us, day_us);
        }
    }
    return EEP_OK;
}

/* A device's own clock may go in large steps; what is near one step is no deadline. */
static uint64_t least_deadline_us(const eep_device *device)
{
    uint64_t step_ns = eepi_device_facts_of(device).clock_step_ns;

    return step_ns == 0 ? 1 : step_ns * 10 > 1000000 ? step_ns / 100 : 1000;
}

static eep_status check_store_path(eep_context *context, const char *path)
{
    const size_t max_bytes = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    char why[200];
    eepi_store_url url;

    if (!path || !*path) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "store_path is not set: give it, or set the environment variable "
                         "EEP_STORE before eep_config_init");
    }
    if (!strstr(path, "://") && strlen(path) > max_bytes) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "store_path has %zu bytes, and the path of a socket at most %zu: use a "
                         "shorter one, or a symbolic link to its directory (%.80s...)",
                         strlen(path), max_bytes, path);
    }
    if (eepi_store_url_parse(path, &url, why, sizeof why) != EEP_OK) {
        return eepi_fail(context, EEP_ERR_INVALID, "store_path %.200s: %s", path, why);
    }
    if (url.path[0] == '\0') {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "store_path %.200s needs local=PATH: this host's own files, as "
                         "PATH.seatN, and its holder of memory, PATH.holder",
                         path);
    }
    return EEP_OK;
}

/* A variable that eep_config_init could not read, if its field was not set since. */
static eep_status check_environment(eep_context *context, eep_config *c)
{
    static const char variable[] = "EEP_RANKS_PER_NODE";
    const char *value = getenv(variable);
    eep_launch_info launch;

    if (c->rank == BAD_IN_ENVIRONMENT || c->num_ranks == BAD_IN_ENVIRONMENT) {
        c->rank = -1; /* the text begins with it */
        return eepi_fail(context, EEP_ERR_INVALID, "%s",
                         eep_launch_read(EEP_SIZED(&launch)) != EEP_OK
                             ? eep_error_text()
                             : "rank or num_ranks is not set, since eep_config_init found wrong "
                               "variables of a launcher; the environment has changed since");
    }
    if (c->ranks_per_node != BAD_IN_ENVIRONMENT) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_INVALID,
                     "the environment variable %s is \"%.80s\": it must be a whole number from 0 "
                     "to %d",
                     variable, value ? value : "", EEP_MAX_RANKS);
}

static eep_status check_numbers(eep_context *context)
{
    const eep_config *c = &context->config;
    const uint64_t least_us = least_deadline_us(c->device);

    if (c->num_blocks < 0 || c->num_blocks > MAX_BLOCKS) {
        return eepi_fail(context, EEP_ERR_INVALID, "num_blocks is %d: 0 to %d are possible",
                         c->num_blocks, MAX_BLOCKS);
    }
    if (c->step_deadline_us < least_us || c->warmup_deadline_us < least_us) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "step_deadline_us is %llu and warmup_deadline_us %llu: at least %llu are "
                         "needed on this device, whose clock is coarse",
                         (unsigned long long)c->step_deadline_us,
                         (unsigned long long)c->warmup_deadline_us, (unsigned long long)least_us);
    }
    if ((int)c->bulk < EEP_BULK_AUTO || (int)c->bulk > EEP_BULK_UCX) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "bulk is %d: EEP_BULK_AUTO to EEP_BULK_UCX (0 to %d) are possible; "
                         "EEP_BULK in the environment may be auto, shm or ucx",
                         (int)c->bulk, EEP_BULK_UCX);
    }
    const struct {
        const char *name;
        int value, most;
    } limits[] = {{"ranks_per_node", c->ranks_per_node, EEP_MAX_RANKS},
                  {"spread_distance", c->spread_distance, EEP_MAX_RANKS},
                  {"seats_per_group", c->seats_per_group, EEP_MAX_RANKS},
                  {"backup_copies", c->backup_copies, EEP_MAX_RANKS},
                  {"background_latency_percent", c->background_latency_percent, 1000}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value < 0 || limits[i].value > limits[i].most) {
            return eepi_fail(context, EEP_ERR_INVALID, "%s is %d: 0 to %d are possible",
                             limits[i].name, limits[i].value, limits[i].most);
        }
    }
    if (c->reserved_shapes != 0) {
        return eepi_fail(context, EEP_ERR_INVALID, "reserved_shapes is %d: it must be 0",
                         c->reserved_shapes);
    }
    if (c->num_ranks == 0) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "num_ranks is 0: set it, or the environment variable EEP_SIZE before "
                         "eep_config_init (docs/DEPLOY.md: which launchers say it)");
    }
    return EEP_OK;
}

/* ------------------------------------------------------------------ limits between hosts */

typedef enum host_limit { HOST_SILENCE, AGENT_SILENCE, LEASE, NUM_HOST_LIMITS } host_limit;

enum { LEAST_LIMIT_US = 1000, MOST_LIMIT_US = 3600 * 1000000u / 2 };

/* The laboratory's name comes before the variable. */
static const struct {
    const char *variable, *lab;
    uint64_t us;
} host_limits[NUM_HOST_LIMITS] = {
    [HOST_SILENCE] = {"EEP_HOST_SILENCE_US", "host_silence_us", 200000},
    [AGENT_SILENCE] = {"EEP_AGENT_SILENCE_US", "agent_silence_us", 100000},
    [LEASE] = {"EEP_LEASE_US", "lease_us", 5000000},
};

/* false: the text is no such time. */
static bool read_limit(const char *text, uint64_t *us_out)
{
    char *end;
    const unsigned long long us = strtoull(text, &end, 10);

    *us_out = us;
    return *text >= '0' && *text <= '9' && (*end == '\0' || *end == ',') && us >= LEAST_LIMIT_US &&
           us <= MOST_LIMIT_US;
}

static uint64_t limit_us(host_limit limit)
{
    const char *lab = getenv("EEP_LAB_CONFIG"), *own = getenv(host_limits[limit].variable);
    const size_t length = strlen(host_limits[limit].lab);
    uint64_t us;

    for (; lab; lab = strchr(lab, ','), lab = lab ? lab + 1 : NULL) {
        if (strncmp(lab, host_limits[limit].lab, length) == 0 && lab[length] == '=') {
            return read_limit(lab + length + 1, &us) ? us : host_limits[limit].us;
        }
    }
    return own && read_limit(own, &us) ? us : host_limits[limit].us;
}

uint64_t eepi_config_host_silence_us(void)
{
    return limit_us(HOST_SILENCE);
}

uint64_t eepi_config_agent_silence_us(void)
{
    return limit_us(AGENT_SILENCE);
}

uint64_t eepi_config_lease_us(void)
{
    return limit_us(LEASE);
}

static eep_status check_host_limits(eep_context *context)
{
    for (host_limit limit = 0; limit < NUM_HOST_LIMITS; limit++) {
        const char *text = getenv(host_limits[limit].variable);
        uint64_t us;
        if (text && !read_limit(text, &us)) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "the environment variable %s is \"%.40s\": %u to %u microseconds are "
                             "possible",
                             host_limits[limit].variable, text, LEAST_LIMIT_US, MOST_LIMIT_US);
        }
    }
    return EEP_OK;
}

/* What a laboratory has for an engine that is not its own: "name=value,name=value". */
static eep_status take_lab_config(eep_context *context)
{
    const char *text = getenv("EEP_LAB_CONFIG");
    eep_config *c = &context->config;
    uint64_t unused; /* limit_us takes it */
    const struct {
        const char *name;
        int32_t *number;
        uint64_t *time_us;
    } fields[] = {{"max_ranks", &c->max_ranks, NULL},
                  {"kill_fence", &c->kill_fence, NULL},
                  {"step_deadline_us", NULL, &c->step_deadline_us},
                  {"expel_floor_us", NULL, &c->expel_floor_us},
                  {"drain_bound_us", NULL, &c->drain_bound_us},
                  {host_limits[HOST_SILENCE].lab, NULL, &unused},
                  {host_limits[AGENT_SILENCE].lab, NULL, &unused},
                  {host_limits[LEASE].lab, NULL, &unused}};

    while (text && *text) {
        const size_t length = strcspn(text, "=");
        size_t at = 0;
        char *end;
        unsigned long long value;

        while (at < sizeof fields / sizeof fields[0] &&
               (strlen(fields[at].name) != length || strncmp(fields[at].name, text, length) != 0)) {
            at++;
        }
        if (at == sizeof fields / sizeof fields[0] || text[length] != '=') {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "the environment variable EEP_LAB_CONFIG names no such field: %.80s",
                             text);
        }
        value = strtoull(text + length + 1, &end, 10);
        if (fields[at].number) {
            *fields[at].number = (int32_t)value;
        } else {
            *fields[at].time_us = value;
        }
        text = *end == ',' ? end + 1 : end;
        if (end == text && *end != '\0') {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "the environment variable EEP_LAB_CONFIG has no number here: %.80s",
                             text);
        }
    }
    return EEP_OK;
}

/* Groups are whole from the first view on. */
static eep_status check_groups(eep_context *context)
{
    const eep_config *c = &context->config;

    if (c->seats_per_group > 1 &&
        (c->num_ranks % c->seats_per_group != 0 || c->max_ranks % c->seats_per_group != 0)) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "seats_per_group is %d, num_ranks %d and max_ranks %d: both must be "
                         "multiples of it, so that each group is whole",
                         c->seats_per_group, c->num_ranks, c->max_ranks);
    }
    return EEP_OK;
}

/* Each field by itself, and those that belong together. */
static eep_status check_fields(eep_context *context)
{
    eep_status status = check_store_path(context, context->config.store_path);

    if (status == EEP_OK) {
        status = check_environment(context, &context->config);
    }
    if (status == EEP_OK) {
        status = check_times(context);
    }
    if (status == EEP_OK) {
        status = check_numbers(context);
    }
    return status == EEP_OK ? check_groups(context) : status;
}

eep_status eepi_config_take(eep_context *context, const eep_config *config)
{
    eep_config *c = &context->config;
    const char *why;
    eep_status status;

    fill_defaults(c);
    status = eepi_struct_take("eep_open", "eep_config", c, sizeof *c, EEPI_LEAST_BYTES(eep_config),
                              config);
    if (status != EEP_OK) {
        c->device = NULL; /* eep_close looks at it */
        return eepi_fail(context, status, "%s", eep_error_text());
    }
    status = take_lab_config(context);
    if (status == EEP_OK) {
        status = check_host_limits(context);
    }
    if (status != EEP_OK) {
        c->device = NULL; /* eep_close looks at it */
        return status;
    }
    if (c->max_ranks == 0) {
        c->max_ranks = c->num_ranks;
    }
    if (c->num_chains == 0) {
        c->num_chains = 1;
    }
    if (!c->device) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "device is NULL: open one with eep_device_open, and set it");
    }
    status = eepi_check_device("eep_open", c->device);
    if (status != EEP_OK) {
        c->device = NULL; /* another process's */
        return eepi_fail(context, status, "%s", eep_error_text());
    }
    status = check_fields(context);
    if (status != EEP_OK) {
        return status;
    }
    context->claim.takes_any = c->rank == EEP_RANK_ANY;
    if (context->claim.takes_any) {
        c->rank = 0; /* until eepi_claim_seat has found one */
    }
    if (eepi_shape_make(c, &context->shape, &why) != EEP_OK) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s", why);
    }
    context->view_shape =
        (eepi_view_shape){.max_ranks = c->max_ranks,
                          .num_layers = c->num_layers,
                          .num_experts = c->num_experts,
                          .num_slots = c->num_slots,
                          .ranks_per_node = c->ranks_per_node,
                          .spread = c->spread_distance,
                          .seats_per_group = c->seats_per_group > 1 ? c->seats_per_group : 0};
    if (eepi_view_bytes(&context->view_shape) == 0) {
        return eepi_fail(context, EEP_ERR_INVALID, "the shape is out of range");
    }
    return EEP_OK;
}
