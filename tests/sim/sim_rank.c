/* SPDX-License-Identifier: Apache-2.0 */
/* An engine in a simulated process: it opens a context, loads experts, captures a step, joins, and
 * steps with what the client gives it. */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"
#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "transport/checkpoint/checkpoint_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BEGIN_US = 300000, LOOK_US = 30000, SLACK_US = 60000, STACK_BYTES = 640 * 1024 };

float sim_expert_code(int layer, int expert)
{
    return (float)((1 << expert) + layer);
}

static void write_expert(int layer, int expert, const eep_tensor *tensors)
{
    float *code = tensors[0].data, *salt = tensors[1].data;

    code[0] = sim_expert_code(layer, expert);
    code[1] = (float)(layer * 100 + expert);
    for (int i = 0; i < 6; i++) {
        salt[i] = (float)(expert * 7 + layer + i);
    }
}

void sim_expected(uint64_t state, float *out)
{
    float v[SIM_HIDDEN] = {(float)(state % 1000 + 1), 0, 0, 0};

    for (int layer = 0; layer < sim->shape.num_layers; layer++) {
        float sum[SIM_HIDDEN] = {0};
        for (int k = 0; k < SIM_TOPK; k++) {
            float code[2], salt[6];
            const eep_tensor tensors[SIM_TENSORS] = {{code, sizeof code}, {salt, sizeof salt}};
            write_expert(layer, sim_route(state, layer, k), tensors);
            for (int h = 0; h < SIM_HIDDEN; h++) {
                sum[h] += sim_result_of(v, code, salt, h);
            }
        }
        memcpy(v, sum, sizeof v);
    }
    memcpy(out, v, sizeof v);
}

/* ------------------------------------------------------------------ opening */

enum { CODES = 2, SALTS = 6, FILE_BYTES = 65536 };

/* All experts as a checkpoint in memory: of each layer a tensor of all codes, one of all salts. */
static int write_file(bool is_bad)
{
    const int num = sim->shape.num_experts, fd = memfd_create("experts", MFD_CLOEXEC);
    const size_t codes = (size_t)num * CODES * sizeof(float);
    const size_t salts = (size_t)num * SALTS * sizeof(float);
    static _Alignas(8) char file[FILE_BYTES];
    size_t used = 8, end = 0;

    for (int layer = 0; layer < sim->shape.num_layers; layer++) {
        used += (size_t)snprintf(
            file + used, sizeof file - used,
            "%c\"%d.code\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}"
            ",\"%d.salt\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
            layer ? ',' : '{', layer, num, CODES, end, end + codes, layer, num, SALTS, end + codes,
            end + codes + salts);
        end += codes + salts;
    }
    used += (size_t)snprintf(file + used, sizeof file - used, "}%*s", (int)(7 - used % 8), "");
    memcpy(file, &(uint64_t){used - 8}, 8);
    for (int layer = 0; layer < sim->shape.num_layers; layer++) {
        float *code = (float *)(void *)(file + used), *salt = code + num * CODES;
        for (int expert = 0; expert < num; expert++) {
            const eep_tensor tensors[SIM_TENSORS] = {
                {code + expert * CODES, CODES * sizeof(float)},
                {salt + expert * SALTS, SALTS * sizeof(float)}};
            write_expert(layer, expert, tensors);
            salt[expert * SALTS] += is_bad ? 1.0f : 0.0f;
        }
        used += codes + salts;
    }
    if (fd < 0 || pwrite(fd, file, used, 0) != (ssize_t)used) {
        abort();
    }
    return fd;
}

/* Where copies may be corrupted as well, one of four processes has a file with other bytes. By seed
 * and identity alone, so that other choices stay what they are. */
static eep_status name_file(sim_rank *r)
{
    static const char *const names[SIM_TENSORS] = {"{layer}.code", "{layer}.salt"};
    const uint64_t identity =
        (uint64_t)eep_generation(r->context) * EEP_MAX_RANKS + (uint64_t)eep_rank(r->context);
    const uint64_t draw = (sim->options.seed ^ identity << 20) * 0x9e3779b97f4a7c15u >> 62;
    eep_checkpoint *checkpoint = NULL;
    eep_status status;
    char path[32];
    int fd;

    if (!(sim->kinds >> SIM_FILE & 1u)) {
        return EEP_OK;
    }
    fd = write_file(draw == 1 && sim->corrupt_of_1000 > 0);
    sim_file_keep(fd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    status = eep_checkpoint_open(path, NULL, 0, &checkpoint);
    if (status != EEP_OK) {
        return status;
    }
    sim_file_keep(checkpoint->shards[0].fd);
    status = eep_checkpoint_set_names(r->context, checkpoint, SIM_TENSORS, names, 0);
    eep_checkpoint_close(checkpoint);
    return status;
}

static eep_status load(sim_rank *r)
{
    eep_status status = EEP_OK;

    for (int layer = 0; layer < sim->shape.num_layers; layer++) {
        for (int slot = 0; slot < sim->shape.num_slots && status == EEP_OK; slot++) {
            eep_tensor tensors[SIM_TENSORS] = {{NULL, 2 * sizeof(float)},
                                               {NULL, 6 * sizeof(float)}};
            int expert = eep_slot_expert(r->context, layer, slot);
            status = eep_slot_alloc(r->context, layer, slot, tensors, SIM_TENSORS);
            for (int i = 0; i < SIM_TENSORS; i++) {
                r->weights[(layer * sim->shape.num_slots + slot) * SIM_TENSORS + i] =
                    tensors[i].data;
            }
            if (status == EEP_OK && expert >= 0) {
                write_expert(layer, expert, tensors);
            }
        }
        for (int expert = 0; expert < sim->shape.num_experts && status == EEP_OK; expert++) {
            eep_tensor tensors[SIM_TENSORS] = {{NULL, 2 * sizeof(float)},
                                               {NULL, 6 * sizeof(float)}};
            if (!eep_backup_wanted(r->context, layer, expert) || sim->kinds >> SIM_FILE & 1u) {
                continue;
            }
            status = eep_backup_alloc(r->context, layer, expert, tensors, SIM_TENSORS);
            if (status == EEP_OK) {
                write_expert(layer, expert, tensors);
            }
        }
    }
    return status == EEP_OK ? name_file(r) : status;
}

static const char *const event_names[] = {
    "SUSPECTED",  "WEDGED",      "PROPOSED",   "REPAIRING",   "REPAIRED",  "INSTALLED",
    "STAGED",     "FLIPPED",     "READY",      "EVICTED",     "UNCOVERED", "STORE_LOST",
    "STORE_BACK", "REBALANCING", "REBALANCED", "DRAIN_WAITS", "PORT_DOWN", "PORT_UP"};
static_assert(sizeof event_names / sizeof event_names[0] == EEP_EVENT_PORT_UP + 1,
              "each kind of event has a name");

static void note_event(void *user, const eep_event_info *e)
{
    const sim_process *p = user;

    sim_trace("%d.%u %s seat %d.%u epoch %llu value %llu", p->seat, p->generation,
              event_names[e->kind], e->seat, e->generation, (unsigned long long)e->epoch,
              (unsigned long long)e->value);
}

static void note_log(void *user, eep_log_level level, const char *line)
{
    (void)user;
    (void)level;
    sim_trace("%s", line);
}

/* Where shares and placement have their loads from; a third of the seeds each. */
enum { SIM_LOADS_UNKNOWN, SIM_LOADS_MEASURED, SIM_LOADS_SET };

static int knows_loads(void)
{
    return (int)(sim->options.seed % 3);
}

/* Each rank's own, and some know nothing of a layer: whoever plans goes by what it was told. */
static void set_loads(sim_process *p)
{
    uint32_t loads[SIM_LAYERS * SIM_EXPERTS];
    uint64_t state = sim->options.seed * 1000u + (uint64_t)p->index;
    const int num_experts = sim->shape.num_experts;

    if (knows_loads() != SIM_LOADS_SET) {
        return;
    }
    for (int i = 0; i < sim->shape.num_layers * num_experts; i++) {
        uint64_t drawn = random_next(&state);
        bool is_known = (p->index + i / num_experts) % 5 != 0;
        loads[i] = is_known ? (uint32_t)(drawn >> (32 + drawn % 32)) : 0;
    }
    SIM_MUST(eep_loads_set(p->rank.context, loads) == EEP_OK, "M4", "loads are not taken");
}

static const eep_shape in_chunks = {SIM_TOKENS, SIM_CHUNKS};

static eep_status open_rank(sim_process *p)
{
    sim_rank *r = &p->rank;
    char why[256] = "";
    eep_config config;
    eep_status status;

    if (eep_device_open("host", 0, &r->device) != EEP_OK) {
        abort();
    }
    if (sim->kinds >> SIM_LATE & 1u) {
        eepi_device_set_outlives(r->device);
    }
    eep_config_init(&config);
    config.rank = p->seat;
    config.num_ranks = sim->shape.num_ranks;
    config.max_ranks = sim->shape.max_ranks;
    config.store_path = "sim";
    config.device = r->device;
    config.num_layers = sim->shape.num_layers;
    config.num_experts = sim->shape.num_experts;
    config.num_slots = sim->shape.num_slots;
    config.ranks_per_node = sim->shape.ranks_per_node;
    config.backup_copies = sim->shape.backup_copies;
    config.seats_per_group = sim->shape.seats_per_group;
    config.top_k = SIM_TOPK;
    config.hidden = SIM_HIDDEN;
    config.num_max_tokens_per_rank = sim_most_tokens(0);
    config.shapes = &in_chunks;
    config.num_shapes = sim_num_shapes() - 1;
    config.heartbeat_period_us = 60000;
    config.heartbeat_suspect_us = 150000;
    config.step_deadline_us = 250000;
    config.warmup_deadline_us = 600000;
    config.expel_floor_us = 400000;
    config.drain_bound_us = 400000;
    config.propose_delay_us = 20000;
    config.join_timeout_us = 4000000;
    config.background_bytes_per_s = 100000;
    config.loads_period_us = knows_loads() == SIM_LOADS_MEASURED ? 100000 : 0;
    config.kill_fence = !(sim->kinds >> SIM_ZOMBIE & 1u);
    config.bind_threads = 0;
    config.num_chains = sim_num_chains();
    config.log = note_log;
    config.log_level = EEP_LOG_INFO;
    config.event = note_event;
    config.user = p;
    status = eep_open(&config, why, sizeof why, &r->context);
    if (status != EEP_OK) {
        sim_trace("%d eep_open: %s", p->seat, why);
        return status;
    }
    p->generation = eep_generation(r->context);
    sim_trace("%d.%u opened", p->seat, p->generation);
    sim_check_open(p);
    sim_buffers_open(r);
    set_loads(p);
    sim_order_first(p);
    status = load(r);
    return status == EEP_OK ? sim_capture(p) : status;
}

/* ------------------------------------------------------------------ stepping */

/* Tokens are dealt in turn. */
static const sim_chain *chain_of(const sim_rank *r, int token)
{
    return &r->chain[token % sim_num_chains()];
}

static void fill(sim_rank *r, int32_t shape)
{
    const int most = sim_most_tokens(shape), chunk = SIM_TOKENS / SIM_CHUNKS;
    int n = r->num_work < most ? r->num_work : most;

    r->num_batch = n;
    for (int i = 0; i < sim_num_chains(); i++) {
        const int own = (n + sim_num_chains() - 1 - i) / sim_num_chains();
        *r->chain[i].num_tokens = own;
        r->chain[i].chunk_tokens[0] = own < chunk ? own : chunk;
        r->chain[i].chunk_tokens[1] = own < chunk ? 0 : own - chunk;
        memset(r->chain[i].x, 0, SIM_TOKENS * SIM_HIDDEN * sizeof(float));
    }
    for (int i = 0; i < n; i++) {
        const sim_chain *c = chain_of(r, i);
        const int at = i / sim_num_chains();
        c->x[at * SIM_HIDDEN] = (float)(r->work[i].state % 1000 + 1);
        for (int layer = 0; layer < sim->shape.num_layers; layer++) {
            for (int k = 0; k < SIM_TOPK; k++) {
                c->topk_idx[(layer * SIM_TOKENS + at) * SIM_TOPK + k] =
                    sim_route(r->work[i].state, layer, k);
            }
        }
    }
}

/* Work that the client took away meanwhile is not in the list any more: the batch is a copy. */
static void commit(sim_process *p, const eep_step *step, const sim_work *batch, int n)
{
    sim_rank *r = &p->rank;
    uint64_t delay_us = sim_delay(50, 2000);

    for (int i = 0; i < n; i++) {
        const float *out = chain_of(r, i)->out + i / sim_num_chains() * SIM_HIDDEN;
        float expected[SIM_HIDDEN];
        uint64_t token;
        sim_expected(batch[i].state, expected);
        SIM_MUST(memcmp(out, expected, sizeof expected) == 0, "S9",
                 "%d.%u step %llu epoch %llu token %d: %g %g %g %g, not %g %g %g %g", p->seat,
                 p->generation, (unsigned long long)step->step, (unsigned long long)step->epoch, i,
                 (double)out[0], (double)out[1], (double)out[2], (double)out[3],
                 (double)expected[0], (double)expected[1], (double)expected[2],
                 (double)expected[3]);
        token = (uint64_t)out[3] * 1000 + (uint64_t)out[0];
        sim_client_offer(p, step->epoch, batch[i].request, batch[i].position, token, delay_us);
        for (int at = 0; at < r->num_work; at++) {
            sim_work next = r->work[at];
            if (next.request != batch[i].request || next.position != batch[i].position) {
                continue;
            }
            next.position++;
            next.state = sim_next_state(next.state, token);
            memmove(r->work + at, r->work + at + 1,
                    (size_t)(--r->num_work - at) * sizeof r->work[0]);
            if (next.position < sim->request[next.request].length) {
                r->work[r->num_work++] = next; /* the others take their turn */
            }
            break;
        }
    }
}

/* One step; a status that ends the rank's service is handed back. */
static eep_status run_step(sim_process *p)
{
    sim_rank *r = &p->rank;
    sim_work batch[SIM_TOKENS];
    eep_step step;
    eep_status status;
    const uint64_t bound_us = 4 * (uint64_t)sim->shape.num_layers * SIM_CHUNKS * 600000 + 1000000;
    int32_t shape = 0;

    if (p->stuck_us) {
        uint64_t for_us = p->stuck_us;
        p->stuck_us = 0;
        sim_sleep(for_us);
    }
    p->call_us = sim->now_us;
    status = sim_num_shapes() > 1 ? eep_step_begin_shape(r->context, BEGIN_US, sim_wanted_shape(r),
                                                         EEP_SIZED(&step), &shape)
                                  : eep_step_begin(r->context, BEGIN_US, EEP_SIZED(&step));
    sim_check_call(p, "eep_step_begin", BEGIN_US + SLACK_US);
    if (status == EEP_ERR_TIMEOUT || status == EEP_ERR_UNCOVERED) {
        return EEP_OK;
    }
    if (status != EEP_OK) {
        return status;
    }
    sim_check_begin(p, &step);
    sim_order_sometimes(p);
    fill(r, shape);
    memcpy(batch, r->work, sizeof batch);
    status = eep_graph_replay(r->graph[shape], r->stream);
    p->call_us = sim->now_us;
    if (status == EEP_OK) {
        status = eep_step_end(r->context);
    }
    sim_check_call(p, "eep_step_end", bound_us);
    if (status == EEP_OK) {
        sim_check_ok(p, &step, shape);
        commit(p, &step, batch, r->num_batch);
        return EEP_OK;
    }
    sim_trace("%d.%u %s", p->seat, p->generation, eep_last_error(r->context));
    sim->steps_aborted++;
    sim_check_aborted(p, eep_last_error(r->context));
    return status == EEP_ERR_ABORTED ? EEP_OK : status;
}

int sim_ended_for_memory(const sim_process *p, eep_status status)
{
    return p->no_memory && status == EEP_ERR_SYSTEM &&
           p->rank.context->outcome.ended == EEP_ERR_SYSTEM;
}

static int may_end_with(const sim_process *p, eep_status status)
{
    const int is_for_memory = sim_ended_for_memory(p, status);

    /* its view may have failed to be installed for another cause before, for one try */
    SIM_MUST(!is_for_memory || sim->now_us - p->lacks_from_us + SLACK_US >=
                                   p->rank.context->config.drain_bound_us,
             "L5", "%d.%u ended %llu us after it could first make no memory for its window",
             p->seat, p->generation, (unsigned long long)(sim->now_us - p->lacks_from_us));
    sim->ended_for_memory += is_for_memory;
    return status == EEP_ERR_DRAINED || status == EEP_ERR_EVICTED || is_for_memory;
}

static void *rank_main(void *argument)
{
    sim_process *p = argument;
    sim_rank *r = &p->rank;
    const uint64_t warms_up_of = sim->kinds >> SIM_END & 1u ? 2 : 8; /* that long */
    eep_status status = open_rank(p);

    if (status != EEP_OK) {
        sim_process_end(p, "eep_open failed");
    }
    if (sim->kinds >> SIM_LATE & 1u && p->generation > 1 && !sim->healed && sim_random(4) == 0) {
        p->over =
            1; /* an engine that gives up: its last word comes beside its predecessor's stores */
        p->closes = 1;
        eep_close(r->context);
        r->context = NULL;
        sim_process_end(p, "closed before it joined");
    }
    sim_collectives_start(p);
    /* warm-up, sometimes far longer than all limits (L6) */
    sim_sleep(sim_delay(100, sim_random(warms_up_of) ? 5000 : sim_random(8) ? 700000 : 5000000));
    status = eep_join(r->context);
    if (status != EEP_OK && status != EEP_ERR_UNCOVERED) {
        sim_trace("%d.%u eep_join: %s", p->seat, p->generation, eep_last_error(r->context));
        sim_process_end(p, "eep_join failed");
    }
    r->joined = 1;
    for (status = EEP_OK; status == EEP_OK;) {
        if (p->leaving && !r->leave_asked) {
            r->leave_asked = 1;
            status = eep_drain(r->context);
        }
        if (status == EEP_OK && p->ends_instance && !r->end_asked) {
            r->end_asked = 1;
            status = eep_instance_end(r->context);
        }
        sim_words_sometimes(p);
        if (status == EEP_OK && r->num_work == 0) {
            p->idle_us = sim->now_us;
            status = eep_step_wait(r->context, LOOK_US);
            p->idle_us = sim->now_us;
            if (status == EEP_ERR_TIMEOUT) {
                status = EEP_OK;
                continue;
            }
        }
        if (status == EEP_OK) {
            status = run_step(p);
        }
    }
    p->ended = status;
    p->over = 1;
    sim_trace("%d.%u over: %s", p->seat, p->generation, eep_last_error(r->context));
    SIM_MUST(may_end_with(p, status), "L2", "%d.%u ended with: %s", p->seat, p->generation,
             eep_last_error(r->context));
    SIM_MUST(status == EEP_ERR_DRAINED || !p->released_epoch || p->failed ||
                 sim_group_is_disturbed(p), /* no view could have it */
             "M8", "%d.%u is not told that its instance has ended in order, but: %s", p->seat,
             p->generation, eep_last_error(r->context));
    if (sim->kinds >> SIM_END & 1u) {
        sim_sleep(sim_delay(10, 300000)); /* others come meanwhile */
    }
    p->closes = 1;
    if (sim_random(2)) {
        eep_close(r->context);
        r->context = NULL;
    }
    sim_process_end(p, "its service is over");
    return NULL;
}

void sim_rank_start(int seat)
{
    sim_process *p = sim_process_new(seat);

    (void)sim_spawn(p, rank_main, p, STACK_BYTES);
}
