/* SPDX-License-Identifier: Apache-2.0 */
/* The world of the fixture: store, threads, waiting. */
#include "tests/lib/context_fixture.h"
#include "tests/lib/store/store_port.h"
#include "graphs/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

enum { NAP_MS = 10, LOOK_US = 20000, BEGIN_US = 200000 };

uint64_t world_now_ms(void)
{
    return eepi_now_ns() / 1000000;
}

void world_lock(world *w)
{
    pthread_mutex_lock(&w->lock);
}

void world_unlock(world *w)
{
    pthread_mutex_unlock(&w->lock);
}

void world_nap(world *w)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += NAP_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

/* ---------------------------------------------------------------- steps */

/* Count a step's end; with the lock held. */
static void note_step(rank *r, eep_status status, int32_t num_tokens)
{
    if (status != EEP_OK) {
        snprintf(r->text, sizeof r->text, "%s", eep_last_error(r->context));
    }
    if (status == EEP_OK) {
        r->wrong += rank_count_wrong(r, num_tokens);
        r->steps_ok++;
        r->position += num_tokens > 0;
    } else if (status == EEP_ERR_ABORTED) {
        r->steps_aborted++;
    } else if (status == EEP_ERR_BAD_STEP_INPUT) {
        r->steps_bad++;
        r->bad_status = status;
    } else if (status == EEP_ERR_UNCOVERED) {
        r->closed++;
    } else if (status != EEP_ERR_TIMEOUT) {
        r->ended = status;
    }
    r->in_step = 0;
    pthread_cond_broadcast(&r->world->changed);
}

static const eep_shape in_chunks = {WORLD_TOKENS, WORLD_CHUNKS};

void world_add_chunks(world *w)
{
    w->config.num_max_tokens_per_rank = WORLD_TOKENS / WORLD_CHUNKS;
    w->config.shapes = &in_chunks;
    w->config.num_shapes = 1;
}

static eep_status begin(rank *r, eep_step *step, int32_t *shape)
{
    *shape = 0;
    return r->chunked ? eep_step_begin_shape(r->context, BEGIN_US, r->wants ? r->wants(r) : 0,
                                             EEP_SIZED(step), shape)
                      : eep_step_begin(r->context, BEGIN_US, EEP_SIZED(step));
}

static eep_status run_step(rank *r, int32_t num_tokens, rank_bad bad)
{
    int32_t shape;
    eep_step step;
    eep_status status = begin(r, &step, &shape);
    if (r->chunked && shape == 0 && num_tokens > WORLD_TOKENS / WORLD_CHUNKS) {
        num_tokens = WORLD_TOKENS / WORLD_CHUNKS;
    }
    if (status == EEP_OK) {
        eep_graph *sized = num_tokens <= WORLD_TOKENS ? r->sized[num_tokens] : NULL;
        rank_fill(r, sized ? 0 : num_tokens, bad);
        status = eep_graph_replay(shape ? r->chunked : sized ? sized : r->graph, r->stream);
        world_lock(r->world);
        r->in_step = 1;
        r->last_step = step.step;
        r->last_epoch = step.epoch;
        r->last_active = step.num_active;
        pthread_cond_broadcast(&r->world->changed);
        world_unlock(r->world);
    }
    if (status == EEP_OK) {
        status = eep_step_end(r->context);
    }
    world_lock(r->world);
    note_step(r, status, num_tokens);
    r->shape_ok[shape] += status == EEP_OK;
    r->in_a_row = status == EEP_ERR_ABORTED ? r->in_a_row + 1 : 0;
    r->most_in_a_row = r->in_a_row > r->most_in_a_row ? r->in_a_row : r->most_in_a_row;
    world_unlock(r->world);
    return status;
}

eep_status rank_step(rank *r, int32_t num_tokens)
{
    rank_bad bad = r->bad;

    r->bad = BAD_NONE;
    return run_step(r, num_tokens, bad);
}

/* ---------------------------------------------------------------- the thread of a rank */

/* What to do next; parks as long as that is what the mode says, or service has ended. */
static rank_mode next_mode(rank *r, rank_bad *bad_out)
{
    world *w = r->world;
    int drain;
    world_lock(w);
    r->busy = 0;
    pthread_cond_broadcast(&w->changed);
    while (r->mode == RANK_PARK || (r->ended != EEP_OK && r->mode != RANK_QUIT)) {
        world_nap(w);
    }
    rank_mode mode = r->mode;
    r->busy = mode == RANK_WORK;
    *bad_out = BAD_NONE;
    if (mode == RANK_WORK) {
        *bad_out = r->bad;
        r->bad = BAD_NONE;
    }
    drain = r->drain;
    r->drain = 0;
    world_unlock(w);
    if (drain && eep_drain(r->context) != EEP_OK) {
        fprintf(stderr, "rank %d: eep_drain: %s\n", r->seat, eep_last_error(r->context));
    }
    return mode;
}

/* 1 when a step is to be run. */
static int follow(rank *r)
{
    eep_status status = eep_step_wait(r->context, LOOK_US);
    world_lock(r->world);
    r->busy = status == EEP_OK;
    if (status == EEP_ERR_TIMEOUT) {
        r->idles++;
    } else if (status != EEP_OK) {
        note_step(r, status, 0);
    }
    pthread_cond_broadcast(&r->world->changed);
    world_unlock(r->world);
    return status == EEP_OK;
}

/* In an order that is the position's, and differs between ranks. */
static int32_t work_tokens(const rank *r)
{
    const uint64_t mixed = (r->position + (uint64_t)r->seat * 7) * 0x9e3779b97f4a7c15u;
    return r->varies ? 1 + (int32_t)(mixed >> 61) % WORLD_TOKENS : WORLD_TOKENS;
}

static void *rank_thread(void *argument)
{
    rank *r = argument;
    eep_status status = eep_join(r->context);
    world_lock(r->world);
    r->joined = status == EEP_OK;
    r->join_status = status;
    if (status != EEP_OK) {
        r->ended = status;
        snprintf(r->text, sizeof r->text, "%s", eep_last_error(r->context));
    }
    world_unlock(r->world);
    for (;;) {
        rank_bad bad;
        rank_mode mode = next_mode(r, &bad);
        if (mode == RANK_QUIT) {
            return NULL;
        }
        if (mode == RANK_WORK || follow(r)) {
            (void)!run_step(r, mode == RANK_WORK ? work_tokens(r) : 0, bad);
        }
    }
}

void rank_run(rank *r)
{
    cr_assert_eq(pthread_create(&r->thread, NULL, rank_thread, r), 0);
    r->has_thread = 1;
}

void rank_set_mode(rank *r, rank_mode mode)
{
    world_lock(r->world);
    r->mode = mode;
    r->idles = 0;
    pthread_cond_broadcast(&r->world->changed);
    world_unlock(r->world);
}

void world_set_modes(world *w, int32_t first, int32_t last, rank_mode mode)
{
    for (int32_t seat = first; seat <= last; seat++) {
        rank_set_mode(&w->ranks[seat], mode);
    }
}

void rank_stop(rank *r)
{
    if (!r->has_thread) {
        return;
    }
    rank_set_mode(r, RANK_QUIT);
    pthread_join(r->thread, NULL);
    r->has_thread = 0;
}

/* ---------------------------------------------------------------- the world */

void world_config(eep_config *config)
{
    eep_config_init(config);
    cr_assert_eq(eep_config_profile(config, EEP_PROFILE_QUICK), EEP_OK);
    config->background_bytes_per_s = 0; /* tests that want these set them: what a test expects of */
    config->loads_period_us = 0; /* epochs holds however long it takes; new loads make views */
    config->num_layers = WORLD_LAYERS;
    config->num_experts = WORLD_EXPERTS;
    config->num_slots = WORLD_SLOTS;
    config->top_k = WORLD_TOPK;
    config->hidden = WORLD_HIDDEN;
    config->num_max_tokens_per_rank = WORLD_TOKENS;
    config->step_deadline_us = WORLD_PATIENT_US;
    config->warmup_deadline_us = WORLD_PATIENT_US;
    config->expel_floor_us = WORLD_PATIENT_US;
    config->drain_bound_us = WORLD_PATIENT_US;
    config->join_timeout_us = WORLD_WAIT_MS * 1000ull;
    config->kill_fence = 0;   /* the process to kill would be ours */
    config->bind_threads = 0; /* many ranks on whatever cores there are */
    config->log_level = getenv("EEP_TEST_LOG") ? EEP_LOG_DEBUG : EEP_LOG_NONE;
}

void world_prepare(world *w, int32_t num_ranks, int32_t max_ranks)
{
    pthread_condattr_t attributes;
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        w->ranks[seat].world = w;
        w->ranks[seat].seat = seat;
        w->ranks[seat].mode = RANK_FOLLOW;
    }
    w->device = getenv("EEP_TEST_DEVICE") ? getenv("EEP_TEST_DEVICE") : "host";
    world_config(&w->config);
    w->config.num_ranks = num_ranks;
    w->config.max_ranks = max_ranks;
    w->config.store_path = w->path;
}

/* A job's key, beside the socket. */
static void write_key(const world *w)
{
    char name[sizeof w->path + 4];
    int fd;
    snprintf(name, sizeof name, "%s.key", w->path);
    fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && write(fd, "000102030405060708090a0b0c0d0e0f", 32) == 32);
    close(fd);
}

/* EEP_TEST_STORE: "tcp", the same with a key as "tcp-key", or an address that instances have in
 * common, each below its own prefix. The store of this host serves in each case, if only for its
 * files and its holder. */
static const char *give_address(world *w)
{
    const char *where = getenv("EEP_TEST_STORE");
    if (!where) {
        return w->path;
    }
    w->config.store_path = w->address;
    if (strcmp(where, "tcp") == 0) {
        snprintf(w->address, sizeof w->address, "tcp://127.0.0.1:%u?local=%s", test_free_port(),
                 w->path);
        return w->address;
    }
    if (strcmp(where, "tcp-key") == 0) {
        write_key(w);
        snprintf(w->address, sizeof w->address, "tcp://127.0.0.1:%u?local=%s&key-file=%s.key",
                 test_free_port(), w->path, w->path);
        return w->address;
    }
    snprintf(w->address, sizeof w->address, "%s%s?local=%s", where, strrchr(w->directory, '/'),
             w->path);
    return w->path;
}

void world_serve(world *w)
{
    char error[256] = "";
    cr_assert_eq(eep_store_open(w->served, error, sizeof error, &w->store), EEP_OK, "%s", error);
}

void world_open(world *w, int32_t num_ranks, int32_t max_ranks)
{
    world_prepare(w, num_ranks, max_ranks);
    snprintf(w->directory, sizeof w->directory, "/tmp/eep-context-XXXXXX");
    cr_assert_not_null(mkdtemp(w->directory));
    snprintf(w->path, sizeof w->path, "%s/store", w->directory);
    w->served = give_address(w);
    world_serve(w);
}

void world_start(world *w)
{
    int32_t n = w->config.num_ranks;
    for (int32_t seat = 0; seat < n; seat++) {
        cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", w->ranks[seat].error);
    }
    for (int32_t seat = 0; seat < n; seat++) {
        rank_run(&w->ranks[seat]);
    }
    for (int32_t seat = 0; seat < n; seat++) {
        WORLD_WAIT(w, w->ranks[seat].joined);
    }
}

int world_is_quiet(const world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        int serves = r->has_thread && r->joined && r->ended == EEP_OK && r->mode != RANK_PARK;
        if (serves && (r->busy || r->mode != RANK_FOLLOW || r->idles == 0)) {
            return 0;
        }
    }
    return 1;
}

void world_close(world *w)
{
    world_lock(w);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        rank *r = &w->ranks[seat];
        if (r->mode == RANK_WORK) {
            r->mode = RANK_FOLLOW;
        }
        r->idles = 0;
    }
    pthread_cond_broadcast(&w->changed);
    world_unlock(w);
    WORLD_WAIT(w, world_is_quiet(w));
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        rank_stop(&w->ranks[seat]);
    }
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        rank_close(&w->ranks[seat]);
    }
    char key_file[sizeof w->path + 4];
    eep_store_close(w->store);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        char path[sizeof w->path + 16];
        snprintf(path, sizeof path, "%s.seat%d", w->path, seat);
        unlink(path);
    }
    snprintf(key_file, sizeof key_file, "%s.key", w->path);
    unlink(key_file); /* if there is one */
    cr_assert_eq(rmdir(w->directory), 0, "the store left files behind");
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

eep_counters rank_counters(const rank *r)
{
    eep_snapshot snapshot;
    eep_counters counters;
    cr_assert_eq(eep_snapshot_get(r->context, EEP_SIZED(&snapshot), EEP_SIZED(&counters), NULL),
                 EEP_OK);
    return counters;
}

eep_seat rank_sees(const rank *r, int32_t seat, uint64_t *epoch_out)
{
    eep_seat seats[WORLD_SEATS];
    eep_snapshot snapshot;
    cr_assert_eq(eep_snapshot_get(r->context, EEP_SIZED(&snapshot), NULL, seats), EEP_OK);
    if (epoch_out) {
        *epoch_out = snapshot.epoch;
    }
    return seats[seat];
}

void world_print(world *w)
{
    world_lock(w);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        if (!r->context) {
            continue;
        }
        fprintf(stderr,
                "rank %d: mode %d joined %d busy %d in_step %d; step %llu epoch %llu; ok %llu "
                "aborted %llu bad %llu wrong %llu idle %llu; ended %s; %s\n",
                seat, (int)r->mode, r->joined, r->busy, r->in_step,
                (unsigned long long)r->last_step, (unsigned long long)r->last_epoch,
                (unsigned long long)r->steps_ok, (unsigned long long)r->steps_aborted,
                (unsigned long long)r->steps_bad, (unsigned long long)r->wrong,
                (unsigned long long)r->idles, eep_strerror(r->ended), r->text);
    }
    world_unlock(w);
}

/* ---------------------------------------------------------------- what tests ask */

/* Wait until the ranks first .. last have each ended `more` further steps OK. */
void world_advance(world *w, int32_t first, int32_t last, uint64_t more)
{
    uint64_t from[WORLD_SEATS];
    world_lock(w);
    for (int32_t seat = first; seat <= last; seat++) {
        from[seat] = w->ranks[seat].steps_ok;
    }
    world_unlock(w);
    for (int32_t seat = first; seat <= last; seat++) {
        WORLD_WAIT(w, w->ranks[seat].steps_ok >= from[seat] + more);
    }
}

void world_rest(world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        if (w->ranks[seat].mode == RANK_WORK) {
            rank_set_mode(&w->ranks[seat], RANK_FOLLOW);
        }
    }
    WORLD_WAIT(w, world_is_quiet(w));
}

static int num_graphs(const rank *r)
{
    int num = 1 + (r->chunked != NULL);
    for (int i = 0; i <= WORLD_TOKENS; i++) {
        num += r->sized[i] != NULL;
    }
    return num;
}

void world_expect_epoch(uint64_t epoch, uint64_t expected)
{
    cr_expect(epoch == expected, "epoch %llu, and not %llu", (unsigned long long)epoch,
              (unsigned long long)expected);
}

/* No wrong number and no capture since the join, on all ranks that are open. */
void world_check_right(world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        if (!r->context || !r->joined) {
            continue;
        }
        cr_expect_eq(r->wrong, 0, "rank %d: %llu numbers are wrong", seat,
                     (unsigned long long)r->wrong);
        cr_expect_eq(rank_counters(r).captures_after_join, 0, "rank %d", seat);
        cr_expect_eq(eep_device_captures(r->device), (uint64_t)num_graphs(r), "rank %d", seat);
    }
}

void world_check_never_aborted(world *w, int32_t first, int32_t last)
{
    for (int32_t seat = first; seat <= last; seat++) {
        eep_counters counters = rank_counters(&w->ranks[seat]);
        cr_expect_eq(w->ranks[seat].steps_aborted, 0, "rank %d: %s", seat, w->ranks[seat].text);
        cr_expect_eq(counters.steps_aborted, 0);
        cr_expect_eq(counters.steps_aborted_by_join, 0);
    }
}

void world_excuse(world *w, int32_t first, int32_t last)
{
    for (int32_t seat = first; seat <= last; seat++) {
        cr_assert_eq(eep_busy(w->ranks[seat].context, EEP_BUSY_MAX_US), EEP_OK);
    }
}

void rank_fall_silent(rank *r)
{
    rank_set_mode(r, RANK_PARK);
    cr_assert_eq(eep_busy(r->context, 0), EEP_OK);
}
