/* SPDX-License-Identifier: Apache-2.0 */
/* A control thread per process that calls allgathers, one after the other, with little or much
 * patience; and rule P13: who gets the result of a number gets the same as all others. */
#include "eep/collectives.h"
#include "experiments/base/random.h"
#include "tests/sim/sim.h"

#include <string.h>

enum {
    STACK_BYTES = 256 * 1024,
    STRIDE = 32,
    KEPT = 4096,
    PATIENT_US = 200000,
    SLACK_US = 60000,
    UNTOUCHED = 0x5a
};

typedef struct gathered {
    uint8_t rows[SIM_MAX_SEATS * STRIDE];
    uint64_t sizes[SIM_MAX_SEATS];
} gathered;

/* The first of each number that any process got. */
static struct {
    uint64_t number, epoch, digest, contributors, sum;
} kept[KEPT];
/* Of those that ended under each epoch, by its distance from the first one; 0: none has. */
static uint64_t oldest[SIM_MAX_EPOCHS], newest[SIM_MAX_EPOCHS];

void sim_collectives_open(void)
{
    memset(kept, 0, sizeof kept);
    memset(oldest, 0, sizeof oldest);
    memset(newest, 0, sizeof newest);
}

static uint64_t sum_of(const gathered *got)
{
    uint64_t state = 1;

    for (int seat = 0; seat < sim->shape.max_ranks; seat++) {
        state = state * 31u + got->sizes[seat];
        for (uint64_t i = 0; i < got->sizes[seat]; i++) {
            state = (state ^ got->rows[(uint64_t)seat * STRIDE + i]) * 0x100000001b3u;
        }
    }
    return state;
}

/* The members of the view contribute, each its own bytes, and nobody else. */
static void check_members(const sim_process *p, const eep_collective_result *result,
                          const gathered *got, const eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const bool is_in = eepi_view_is_member(view, seat);
        uint32_t identity[2] = {0};
        SIM_MUST(is_in == (result->contributors[0] >> seat & 1u), "P13",
                 "%d.%u: collective %llu of epoch %llu has rank %d: %d", p->seat, p->generation,
                 (unsigned long long)result->number, (unsigned long long)result->epoch, seat,
                 !is_in);
        SIM_MUST(is_in == (got->sizes[seat] != 0), "P13", "rank %d gave %llu bytes", seat,
                 (unsigned long long)got->sizes[seat]);
        memcpy(identity, got->rows + seat * STRIDE, sizeof identity);
        SIM_MUST(!is_in || (identity[0] == (uint32_t)seat &&
                            identity[1] == eepi_view_seat_at(view, seat)->generation),
                 "P13", "%d.%u got the bytes of %u.%u for rank %d", p->seat, p->generation,
                 identity[0], identity[1], seat);
    }
}

/* No instance has begun anew between those two epochs. */
static int is_one_instance(uint64_t from, uint64_t to)
{
    for (uint64_t epoch = from + 1; epoch <= to; epoch++) {
        const eepi_view *view = sim_committed(epoch);
        if (!view || view->cause == EEPI_VIEW_INITIAL) {
            return 0;
        }
    }
    return 1;
}

/* A process is a member of both. */
static int share_a_member(uint64_t epoch, uint64_t other)
{
    const eepi_view *a = sim_committed(epoch), *b = sim_committed(other);

    for (int seat = 0; seat < a->shape.max_ranks; seat++) {
        if (eepi_view_is_member(a, seat) && eepi_view_is_member(b, seat) &&
            eepi_view_seat_at(a, seat)->generation == eepi_view_seat_at(b, seat)->generation) {
            return 1;
        }
    }
    return 0;
}

/* Where the store forgets nothing: also for those who died right after, or were out already. Where
 * a view has no member of the one under which a number ended, nobody can know that it was used. */
static void check_once(const sim_process *p, uint64_t number, uint64_t epoch)
{
    const uint64_t at = epoch - sim->first_epoch;

    for (uint64_t i = 0; i < SIM_MAX_EPOCHS && sim->store_keeps; i++) {
        const uint64_t other = sim->first_epoch + i;
        const uint64_t from = epoch < other ? epoch : other, to = epoch < other ? other : epoch;
        SIM_MUST(
            i == at || (other < epoch ? newest[i] < number : !oldest[i] || oldest[i] > number) ||
                !is_one_instance(from, to) || !share_a_member(epoch, other),
            "P13", "%d.%u: collective %llu ended under epoch %llu, and %llu to %llu under %llu",
            p->seat, p->generation, (unsigned long long)number, (unsigned long long)epoch,
            (unsigned long long)oldest[i], (unsigned long long)newest[i],
            (unsigned long long)other);
    }
    newest[at] = newest[at] > number ? newest[at] : number;
    oldest[at] = oldest[at] && oldest[at] < number ? oldest[at] : number;
}

static void check_ok(sim_process *p, const eep_collective_result *result, const gathered *got)
{
    const eepi_view *view = sim_committed(result->epoch);
    const uint64_t at = result->number % KEPT, sum = sum_of(got);

    if (result->number == 0) { /* before it joined: itself alone */
        SIM_MUST(result->contributors[0] == 1ull << p->seat, "P13", "not alone");
        return;
    }
    SIM_MUST(view != NULL, "P13", "%d.%u: collective %llu under no epoch", p->seat, p->generation,
             (unsigned long long)result->number);
    if (!view) {
        return;
    }
    check_members(p, result, got, view);
    SIM_MUST(p->collective == 0 || result->number == p->collective + 1, "P13",
             "%d.%u: collective %llu after %llu", p->seat, p->generation,
             (unsigned long long)result->number, (unsigned long long)p->collective);
    p->collective = result->number;
    p->collective_ok_us = sim->now_us;
    sim->collectives_ok++;
    SIM_MUST(result->number > view->collective, "P13",
             "%d.%u: collective %llu ends under epoch %llu, and %llu had ended before it", p->seat,
             p->generation, (unsigned long long)result->number, (unsigned long long)result->epoch,
             (unsigned long long)view->collective);
    check_once(p, result->number, result->epoch);
    if (kept[at].number != result->number || kept[at].epoch != result->epoch ||
        kept[at].digest != view->digest) {
        kept[at].number = result->number;
        kept[at].epoch = result->epoch;
        kept[at].digest = view->digest;
        kept[at].contributors = result->contributors[0];
        kept[at].sum = sum;
    }
    SIM_MUST(kept[at].contributors == result->contributors[0] && kept[at].sum == sum, "P13",
             "%d.%u got another result of collective %llu, epoch %llu", p->seat, p->generation,
             (unsigned long long)result->number, (unsigned long long)result->epoch);
}

/* False: its service is over. */
static bool call_once(sim_process *p, uint64_t bytes, uint64_t timeout_us, uint64_t *content,
                      bool *ended_out)
{
    const uint64_t begun_us = sim->now_us;
    eep_collective_result result;
    gathered got;
    eep_status status;

    memset(&got, UNTOUCHED, sizeof got);
    status = eep_collective_allgather(p->rank.context, content, bytes, got.rows, STRIDE, got.sizes,
                                      timeout_us, EEP_SIZED(&result));
    SIM_MUST(sim->now_us - begun_us <= timeout_us + SLACK_US + timeout_us / 20 ||
                 p->disturbed_us >= begun_us || p->slow_us || p->closes,
             "L2", "%d.%u: a collective took %llu us, its bound is %llu", p->seat, p->generation,
             (unsigned long long)(sim->now_us - begun_us), (unsigned long long)timeout_us);
    *ended_out = status != EEP_ERR_TIMEOUT;
    if (status != EEP_OK && timeout_us > 0) {
        sim_trace("%d.%u collective %llu: %s", p->seat, p->generation,
                  (unsigned long long)result.number, eep_error_text());
    }
    if (status == EEP_OK) {
        check_ok(p, &result, &got);
        return true;
    }
    for (size_t i = 0; i < sizeof got; i++) {
        SIM_MUST(((uint8_t *)&got)[i] == UNTOUCHED, "P13", "%d.%u: %s, and the buffer was written",
                 p->seat, p->generation, eep_strerror(status));
    }
    sim->collectives_aborted += status == EEP_ERR_ABORTED;
    SIM_MUST(status == EEP_ERR_TIMEOUT || status == EEP_ERR_ABORTED || status == EEP_ERR_EVICTED ||
                 status == EEP_ERR_DRAINED || p->closes || p->over || !p->rank.joined ||
                 sim_ended_for_memory(p, status),
             "P13", "%d.%u: a collective ends with: %s", p->seat, p->generation, eep_error_text());
    return status == EEP_ERR_TIMEOUT || status == EEP_ERR_ABORTED;
}

/* Draws of its own, so that other choices stay what they are. */
static void *control_main(void *argument)
{
    sim_process *p = argument;
    uint64_t state = sim->options.seed * 104729u + (uint64_t)p->index;
    uint64_t content[STRIDE / 8] = {0}, bytes = 8;
    bool ended = true;

    for (;;) {
        const uint64_t timeout_us = random_next(&state) % 3 == 0 ? 0 : PATIENT_US;
        if (ended) {
            bytes = 8 + random_next(&state) % (STRIDE - 8);
            content[0] = (uint64_t)p->generation << 32 | (uint32_t)p->seat;
            content[1] = random_next(&state);
        }
        if (p->closes || !p->rank.context || !call_once(p, bytes, timeout_us, content, &ended)) {
            return NULL;
        }
        sim_sleep(500 + random_next(&state) % 20000);
    }
}

void sim_collectives_start(sim_process *p)
{
    (void)sim_spawn(p, control_main, p, STACK_BYTES);
}
