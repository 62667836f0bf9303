/* SPDX-License-Identifier: Apache-2.0 */
/* Check all tokens of a run with several threads, or compare two runs. */
#include "experiments/oracle/oracle_verdict.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 256, BATCH_POSITIONS = 1024 };

/* ---------------------------------------------------------------- recomputation */

/* What the threads share. Everything above `mutex` is only read by them, but results (each entry
 * has one writer) and positions_done (atomic). */
typedef struct work {
    const oracle *o;
    const oracle_request *requests;
    oracle_result *results;
    size_t num_requests;
    uint64_t positions_done;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    size_t next; /* request that no thread has taken */
    int running; /* threads */
    eep_status status;
} work;

/* The next requests with together about BATCH_POSITIONS positions; 0: none is left. */
static size_t take_batch(work *w, size_t *first_out)
{
    uint64_t positions = 0;
    pthread_mutex_lock(&w->mutex);
    size_t first = w->next;
    while (w->status == EEP_OK && w->next < w->num_requests && positions < BATCH_POSITIONS) {
        const oracle_request *r = &w->requests[w->next++];
        positions += r->num_tokens ? (uint64_t)r->input_length + r->num_tokens - 1 : 0;
    }
    size_t count = w->next - first;
    pthread_mutex_unlock(&w->mutex);
    *first_out = first;
    return count;
}

static void *run_thread(void *argument)
{
    work *w = argument;
    size_t first, count;
    while ((count = take_batch(w, &first)) > 0) {
        eep_status status = oracle_check_requests(w->o, w->requests + first, count,
                                                  &w->positions_done, w->results + first);
        if (status != EEP_OK) {
            pthread_mutex_lock(&w->mutex);
            w->status = status;
            pthread_mutex_unlock(&w->mutex);
        }
    }
    pthread_mutex_lock(&w->mutex);
    w->running--;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* Wait for the threads, telling of the progress. */
static void watch(work *w, oracle_progress_fn progress, void *user, uint64_t positions,
                  double begin)
{
    pthread_mutex_lock(&w->mutex);
    while (w->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 250000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_clockwait(&w->ended, &w->mutex, CLOCK_MONOTONIC, &until);
        if (!progress || w->running == 0) {
            continue;
        }
        pthread_mutex_unlock(&w->mutex);
        progress(user, __atomic_load_n(&w->positions_done, __ATOMIC_RELAXED), positions,
                 now_s() - begin);
        pthread_mutex_lock(&w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
}

static eep_status run_threads(work *w, int num_threads, oracle_progress_fn progress, void *user,
                              uint64_t positions, double begin)
{
    pthread_t threads[MAX_THREADS];
    int started = 0;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->ended, NULL);
    w->running = num_threads;
    int error = 0;
    while (started < num_threads && error == 0) {
        error = pthread_create(&threads[started], NULL, run_thread, w);
        started += error == 0;
    }
    pthread_mutex_lock(&w->mutex);
    w->running -= num_threads - started; /* fewer threads do the same work */
    pthread_mutex_unlock(&w->mutex);
    watch(w, progress, user, positions, begin);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->ended);
    errno = error;
    return started == 0 ? EEP_ERR_SYSTEM : w->status;
}

static oracle_fault fault_at(const oracle_rows_request *r, uint32_t position, uint32_t right_token,
                             uint64_t right_digest)
{
    return (oracle_fault){
        .found = true,
        .request = r->request,
        .position = position,
        .line = r->lines[position],
        .token = r->tokens[position],
        .right_token = right_token,
        .digest = r->digests[position],
        .right_digest = right_digest,
    };
}

static void add_result(const oracle_rows_request *r, const oracle_result *result, oracle_verdict *v)
{
    uint32_t expected = r->status == ORACLE_COMPLETED ? r->output_length : r->num_positions;
    v->tokens_checked += result->tokens_checked;
    v->tokens_wrong += result->tokens_wrong;
    v->digests_wrong += result->digests_wrong;
    v->tokens_missing += expected - r->num_present;
    v->tokens_doubled += r->num_doubled;
    v->tokens_surplus += r->num_surplus;
    v->tokens_unchecked += r->num_present - result->tokens_checked;
    v->positions += result->positions;
    if (result->first_wrong != UINT32_MAX && !v->first_wrong.found) {
        v->first_wrong =
            fault_at(r, result->first_wrong, result->right_token, result->right_digest);
    }
}

eep_status oracle_verdict_find(const oracle_rows *rows, int num_threads,
                               oracle_progress_fn progress, void *user, oracle_verdict *verdict_out)
{
    if (num_threads < 1 || num_threads > MAX_THREADS) {
        return EEP_ERR_INVALID;
    }
    double begin = now_s();
    uint64_t positions = 0;
    oracle *o = NULL;
    eep_status status = oracle_open(rows->seed, &rows->shape, &o);
    oracle_request *requests = calloc(rows->num_requests + 1, sizeof *requests);
    oracle_result *results = calloc(rows->num_requests + 1, sizeof *results);
    if (status == EEP_OK && (!requests || !results)) {
        status = EEP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < rows->num_requests && status == EEP_OK; i++) {
        const oracle_rows_request *r = &rows->requests[i];
        requests[i] =
            (oracle_request){r->request, r->input_length, r->num_leading, r->tokens, r->digests};
        positions += r->num_leading ? (uint64_t)r->input_length + r->num_leading - 1 : 0;
    }
    if (status == EEP_OK) {
        work w = {
            .o = o, .requests = requests, .results = results, .num_requests = rows->num_requests};
        status = run_threads(&w, num_threads, progress, user, positions, begin);
    }
    if (status == EEP_OK) {
        oracle_verdict v = {0};
        for (size_t i = 0; i < rows->num_requests; i++) {
            add_result(&rows->requests[i], &results[i], &v);
        }
        v.seconds = now_s() - begin;
        *verdict_out = v;
    }
    free(requests);
    free(results);
    oracle_close(o);
    return status;
}

bool oracle_verdict_is_clean(const oracle_verdict *v)
{
    return v->tokens_wrong == 0 && v->digests_wrong == 0 && v->tokens_missing == 0 &&
           v->tokens_doubled == 0 && v->tokens_surplus == 0 && v->tokens_unchecked == 0;
}

/* ---------------------------------------------------------------- twins */

static void compare_request(const oracle_rows_request *a, const oracle_rows_request *b,
                            oracle_comparison *c)
{
    uint64_t both = 0;
    uint32_t shorter = a->num_positions < b->num_positions ? a->num_positions : b->num_positions;
    for (uint32_t p = 0; p < shorter; p++) {
        if (!a->lines[p] || !b->lines[p]) {
            continue;
        }
        bool token = a->tokens[p] != b->tokens[p], digest = a->digests[p] != b->digests[p];
        both++;
        c->tokens_differ += token;
        c->digests_differ += digest;
        if ((token || digest) && !c->first_difference.found) {
            c->first_difference = fault_at(a, p, b->tokens[p], b->digests[p]);
        }
    }
    c->tokens_compared += both;
    c->only_first += a->num_present - both;
    c->only_second += b->num_present - both;
}

static bool same_shape(const oracle_shape *a, const oracle_shape *b)
{
    return a->num_layers == b->num_layers && a->hidden == b->hidden && a->inner == b->inner &&
           a->num_experts == b->num_experts && a->top_k == b->top_k &&
           a->vocabulary == b->vocabulary && a->bf16 == b->bf16 && a->fp8 == b->fp8 &&
           a->router_skew == b->router_skew;
}

eep_status oracle_rows_compare(const oracle_rows *first, const oracle_rows *second,
                               oracle_comparison *comparison_out,
                               char error_out[ORACLE_ERROR_BYTES])
{
    oracle_comparison c = {0};
    if (first->seed != second->seed || !same_shape(&first->shape, &second->shape)) {
        snprintf(error_out, ORACLE_ERROR_BYTES, "the runs differ in seed, shape or dtype");
        return EEP_ERR_INVALID;
    }
    size_t i = 0, j = 0;
    while (i < first->num_requests || j < second->num_requests) {
        const oracle_rows_request *a = i < first->num_requests ? &first->requests[i] : NULL;
        const oracle_rows_request *b = j < second->num_requests ? &second->requests[j] : NULL;
        if (!b || (a && a->request < b->request)) {
            c.only_first += a->num_present;
            i++;
        } else if (!a || b->request < a->request) {
            c.only_second += b->num_present;
            j++;
        } else if (a->input_length != b->input_length) {
            snprintf(error_out, ORACLE_ERROR_BYTES,
                     "the runs differ in input_length of request %u: %u and %u", a->request,
                     a->input_length, b->input_length);
            return EEP_ERR_INVALID;
        } else {
            compare_request(a, b, &c);
            i++;
            j++;
        }
    }
    *comparison_out = c;
    return EEP_OK;
}
