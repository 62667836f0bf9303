/* SPDX-License-Identifier: Apache-2.0 */
/* Draw the faults of a round of several hosts. */
#include "experiments/chaos/chaos_hosts.h"

#include "experiments/base/args.h"
#include "experiments/base/decimal.h"
#include "experiments/base/random.h"
#include "experiments/script/host_names.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Percent. */
const chaos_mix chaos_hosts_mix = {{[CHAOS_KILL] = 10,
                                    [CHAOS_ABORT] = 3,
                                    [CHAOS_DIE] = 5,
                                    [CHAOS_PAUSE] = 9,
                                    [CHAOS_SLOW] = 3,
                                    [CHAOS_HOST_FREEZE] = 10,
                                    [CHAOS_HOST_KILL] = 7,
                                    [CHAOS_PARTITION] = 16,
                                    [CHAOS_ONE_WAY] = 12,
                                    [CHAOS_DELAY] = 6,
                                    [CHAOS_RESET] = 7,
                                    [CHAOS_NIC_DOWN] = 8,
                                    [CHAOS_AGENT_KILL] = 4}};

static const double SECOND_SHARE = 0.2, SECOND_WITHIN_MS = 300;
static const double SETTLE_EXPECTED_MS = 20000; /* after a fault, on a busy machine */
static const int FEWEST_FAULTS = 12, MOST_FAULTS = 20;
enum { MAX_OTHERS = 6 }; /* hosts of a side: their names fit into a verb's text */

verb chaos_hosts_verb(chaos_kind kind)
{
    static const verb of[NUM_CHAOS_KINDS] = {
        [CHAOS_KILL] = VERB_KILL,
        [CHAOS_ABORT] = VERB_ABORT,
        [CHAOS_DIE] = VERB_DIE,
        [CHAOS_PAUSE] = VERB_STOP,
        [CHAOS_SLOW] = VERB_SLOW,
        [CHAOS_STORE_STOP] = VERB_STORE_STOP,
        [CHAOS_STORE_RESTART] = VERB_STORE_KILL,
        [CHAOS_HOST_FREEZE] = VERB_HOST_FREEZE,
        [CHAOS_HOST_KILL] = VERB_HOST_KILL,
        [CHAOS_PARTITION] = VERB_PARTITION,
        [CHAOS_ONE_WAY] = VERB_ONE_WAY,
        [CHAOS_DELAY] = VERB_DELAY,
        [CHAOS_RESET] = VERB_RESET,
        [CHAOS_NIC_DOWN] = VERB_NIC_DOWN,
        [CHAOS_AGENT_KILL] = VERB_AGENT_KILL,
    };
    return of[kind];
}

/* ---------------------------------------------------------------- the mix */

eep_status chaos_mix_parse(const char *text, chaos_mix *mix_out, char *error)
{
    chaos_mix mix = {{0}};
    double all = 0;
    for (const char *rest = text; *rest;) {
        size_t length = strcspn(rest, "=,");
        const char *end = rest + length;
        double share = 1;
        int kind = 0;
        while (kind < NUM_CHAOS_KINDS && (strlen(chaos_kind_names[kind]) != length ||
                                          strncmp(chaos_kind_names[kind], rest, length) != 0)) {
            kind++;
        }
        if (kind == NUM_CHAOS_KINDS || chaos_hosts_mix.share[kind] == 0) {
            return args_fail(error, "--mix: '%.*s' is no kind of fault of hosts (docs/CHAOS.md)",
                             (int)length, rest);
        }
        if (*end == '=' && (!decimal_parse(end + 1, &share, &end) || share > 1e6)) {
            return args_fail(error, "--mix: the share of %s is no number up to 1000000",
                             chaos_kind_names[kind]);
        }
        if (*end && (*end != ',' || !end[1])) {
            return args_fail(error, "--mix: '%s': expected KIND[=SHARE],...", text);
        }
        mix.share[kind] = share;
        all += share;
        rest = *end ? end + 1 : end;
    }
    if (all <= 0) {
        return args_fail(error, "--mix: '%s' has no kind with a share", text);
    }
    *mix_out = mix;
    return EEP_OK;
}

static bool is_interface_of(const struct ifaddrs *all, const char *ip)
{
    struct in_addr four;
    struct in6_addr six;
    for (const struct ifaddrs *it = all; it; it = it->ifa_next) {
        if (!it->ifa_addr) {
            continue;
        }
        const struct sockaddr_in *own = (const struct sockaddr_in *)it->ifa_addr;
        const struct sockaddr_in6 *own6 = (const struct sockaddr_in6 *)it->ifa_addr;
        if (it->ifa_addr->sa_family == AF_INET && inet_pton(AF_INET, ip, &four) == 1 &&
            four.s_addr == own->sin_addr.s_addr) {
            return true;
        }
        if (it->ifa_addr->sa_family == AF_INET6 && inet_pton(AF_INET6, ip, &six) == 1 &&
            memcmp(&six, &own6->sin6_addr, sizeof six) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t chaos_hosts_own(const hosts_file *file)
{
    struct ifaddrs *all = NULL;
    uint64_t own = 0;
    if (getifaddrs(&all) != 0) {
        return 0;
    }
    for (int i = 0; i < file->num_hosts; i++) {
        own |= is_interface_of(all, file->host[i].ip) ? UINT64_C(1) << i : 0;
    }
    freeifaddrs(all);
    return own;
}

/* The fault can be brought upon that host. */
static bool can_have(const chaos_hosts *self, chaos_kind kind, int host)
{
    bool is_own = self->own >> host & 1;
    switch (kind) {
    case CHAOS_AGENT_KILL:
        return self->file->host[host].agent != NULL;
    case CHAOS_HOST_KILL: /* without a command it ends ranks and agent alone */
        return !is_own || !self->file->command[VERB_HOST_KILL];
    default:
        return true;
    }
}

/* It is made, and ended, by commands that the file has, or without one. */
static bool has_commands(const hosts_file *file, chaos_kind kind)
{
    verb what = chaos_hosts_verb(kind), end = kind == CHAOS_NIC_DOWN ? VERB_NIC_UP : VERB_HEAL;
    if (kind == CHAOS_HOST_KILL) {
        return !file->command[what] == !file->command[VERB_HOST_START];
    }
    return !verb_table[what].takes_command || (file->command[what] && file->command[end]);
}

bool chaos_hosts_fit(chaos_hosts *self, char names_out[CHAOS_NAMES_BYTES])
{
    size_t used = 0;
    bool is_any = false;
    names_out[0] = '\0';
    for (int kind = 0; kind < NUM_CHAOS_KINDS; kind++) {
        bool fits = false;
        for (int host = 0; host < self->file->num_hosts; host++) {
            fits |= can_have(self, (chaos_kind)kind, host);
        }
        if (self->mix.share[kind] > 0 && !(fits && has_commands(self->file, (chaos_kind)kind))) {
            used += (size_t)snprintf(names_out + used, CHAOS_NAMES_BYTES - used, "%s%s",
                                     used ? ", " : "", chaos_kind_names[kind]);
            self->mix.share[kind] = 0;
        }
        is_any |= self->mix.share[kind] > 0;
    }
    return is_any;
}

/* ---------------------------------------------------------------- random numbers */

typedef struct drawer {
    const chaos_config *config;
    const chaos_hosts *hosts;
    uint64_t random; /* splitmix64 state */
    chaos_round *round;
} drawer;

/* In [low, high). */
static double between(drawer *self, double low, double high)
{
    return low + (high - low) * (double)(random_next(&self->random) >> 11) * 0x1p-53;
}

static int below(drawer *self, int end)
{
    return (int)(random_next(&self->random) % (uint64_t)end);
}

static chaos_kind draw_kind(drawer *self)
{
    const double *share = self->hosts->mix.share;
    double all = 0;
    int last = 0;
    for (int kind = 0; kind < NUM_CHAOS_KINDS; kind++) {
        all += share[kind];
        last = share[kind] > 0 ? kind : last;
    }
    double left = between(self, 0, all);
    for (int kind = 0; kind < last; kind++) {
        left -= share[kind];
        if (left < 0) {
            return (chaos_kind)kind;
        }
    }
    return (chaos_kind)last;
}

static int draw_host(drawer *self, chaos_kind kind)
{
    int fitting[HOSTS_MAX], num = 0;
    for (int host = 0; host < self->hosts->file->num_hosts; host++) {
        if (can_have(self->hosts, kind, host)) {
            fitting[num++] = host;
        }
    }
    return fitting[below(self, num)]; /* chaos_hosts_fit: there is one */
}

/* ---------------------------------------------------------------- one fault */

static chaos_fault *add_fault(drawer *self, chaos_kind kind, chaos_scope scope, int seat)
{
    int index = self->round->num_faults++;
    chaos_fault *fault = &self->round->fault[index];
    *fault = (chaos_fault){.kind = kind, .scope = scope, .seat = seat, .factor = 1};
    self->round->order[index].verb = chaos_hosts_verb(kind);
    return fault;
}

static __attribute__((format(printf, 2, 3))) void write_order(drawer *self, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(self->round->order[self->round->num_faults - 1].text, VERB_FILE_BYTES, format, args);
    va_end(args);
}

/* One host against another one, or against all others; in either order. */
static uint64_t draw_sides(drawer *self, char text_out[VERB_FILE_BYTES])
{
    const hosts_file *file = self->hosts->file;
    int order[HOSTS_MAX], num_others = file->num_hosts - 1;
    char others[MAX_OTHERS * HOST_NAME_BYTES] = "";
    size_t used = 0;
    for (int i = 0; i < file->num_hosts; i++) {
        int j = below(self, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    num_others = num_others < MAX_OTHERS ? num_others : MAX_OTHERS;
    num_others = below(self, 2) ? 1 : num_others;
    bool is_first = below(self, 2);
    uint64_t hosts = UINT64_C(1) << order[0];
    for (int i = 1; i <= num_others; i++) {
        used += (size_t)snprintf(others + used, sizeof others - used, "%s%s", i > 1 ? "," : "",
                                 file->host[order[i]].name);
        hosts |= UINT64_C(1) << order[i];
    }
    const char *one = file->host[order[0]].name;
    if (is_first) {
        snprintf(text_out, VERB_FILE_BYTES, "%.31s|%.191s", one, others);
    } else {
        snprintf(text_out, VERB_FILE_BYTES, "%.191s|%.31s", others, one);
    }
    return hosts;
}

static void draw_of_rank(drawer *self, chaos_fault *fault, double ms)
{
    switch (fault->kind) {
    case CHAOS_PAUSE:
        fault->duration_ms = ms;
        fault->fate = ms < 0.9 * self->config->expel_ms   ? FATE_STAYS
                      : ms < 3.0 * self->config->expel_ms ? FATE_MAY
                                                          : FATE_DIES;
        write_order(self, "%d=%.0fms", fault->seat, ms);
        break;
    case CHAOS_SLOW:
        fault->duration_ms = ms;
        fault->factor = (double)(2 + below(self, 9));
        fault->fate = FATE_STAYS;
        write_order(self, "%d=%.0f/%.0fms", fault->seat, fault->factor, ms);
        break;
    case CHAOS_DIE:
        fault->fate = FATE_DIES;
        write_order(self, "%d=%s", fault->seat, place_names[below(self, NUM_PLACES_OF_CHAIN)]);
        break;
    default:
        fault->fate = FATE_DIES;
        write_order(self, "%d", fault->seat);
        break;
    }
}

static void draw_of_hosts(drawer *self, chaos_fault *fault, double ms)
{
    static const int delays_ms[] = {1, 5, 20};
    const hosts_file *file = self->hosts->file;
    char sides[VERB_FILE_BYTES];
    fault->duration_ms = ms;
    fault->fate = FATE_MAY;
    if (verb_table[chaos_hosts_verb(fault->kind)].value >= VERB_SIDES) {
        fault->hosts = draw_sides(self, sides);
        if (fault->kind == CHAOS_DELAY) {
            write_order(self, "%.224s:%d/%.0fms", sides, delays_ms[below(self, 3)], ms);
        } else {
            write_order(self, "%.224s/%.0fms", sides, ms);
        }
        return;
    }
    int host = draw_host(self, fault->kind);
    fault->hosts = UINT64_C(1) << host;
    if (fault->kind == CHAOS_HOST_KILL) {
        fault->fate = FATE_DIES;
        write_order(self, "%s", file->host[host].name);
        return;
    }
    if (fault->kind == CHAOS_AGENT_KILL) { /* ranks speak for themselves then */
        fault->fate = FATE_STAYS;
    }
    write_order(self, "%s/%.0fms", file->host[host].name, ms);
}

/* A rank is killed while the first fault lasts, or is recovered from. */
static void draw_second(drawer *self)
{
    chaos_fault *first = &self->round->fault[self->round->num_faults - 1];
    int seat = below(self, self->hosts->file->num_ranks);
    if (seat == first->seat) {
        seat = (seat + 1) % self->hosts->file->num_ranks;
    }
    if (first->kind == CHAOS_PAUSE && first->fate == FATE_STAYS) {
        first->fate = FATE_MAY; /* it may be left out by the recovery */
    }
    add_fault(self, CHAOS_KILL, SCOPE_DOUBLE, seat)->fate = FATE_DIES;
    self->round->order[self->round->num_faults - 1].after_ms = between(self, 0, SECOND_WITHIN_MS);
    write_order(self, "%d", seat);
}

void chaos_hosts_draw(const chaos_config *config, const chaos_hosts *hosts, chaos_round *round_out)
{
    static const double times_ms[] = {100, 500, 1500, 3000};
    drawer self = {.config = config, .hosts = hosts, .round = round_out};
    *round_out = (chaos_round){0};
    self.random = config->seed * 0xd1342543de82ef95u + config->round;
    random_next(&self.random); /* so that neighbouring rounds do not share numbers */
    self.random ^= config->round << 32;
    round_out->run_seed = 1 + random_next(&self.random) % 1000000;
    int drawn = FEWEST_FAULTS + below(&self, MOST_FAULTS - FEWEST_FAULTS + 1);
    int wanted = config->num_faults ? config->num_faults : drawn;
    while (round_out->num_faults < wanted) {
        chaos_kind kind = draw_kind(&self);
        double ms = times_ms[below(&self, 4)] * between(&self, 0.7, 1.3);
        bool is_of_hosts = verb_is_of_hosts(chaos_hosts_verb(kind));
        int seat = is_of_hosts ? -1 : below(&self, hosts->file->num_ranks);
        chaos_fault *fault = add_fault(&self, kind, SCOPE_SINGLE, seat);
        if (is_of_hosts) {
            draw_of_hosts(&self, fault, ms);
        } else {
            draw_of_rank(&self, fault, ms);
        }
        round_out->expected_ms += fault->duration_ms + SETTLE_EXPECTED_MS;
        if (between(&self, 0, 1) < SECOND_SHARE && round_out->num_faults < wanted) {
            draw_second(&self);
        }
    }
}
