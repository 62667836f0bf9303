/* SPDX-License-Identifier: Apache-2.0 */
/* The guarded host device: memory that only its own work reaches, and whole instances on it. That
 * every access from outside would fault is what the other tests on it rely on. */
#include "graphs/device/device_share.h"
#include "tests/lib/context_fixture.h"

#include <signal.h>
#include <string.h>

enum {
    COUNT = 3000,
    BOUND_US = 20000000,
    FIRST = 20,
    EXPERT_FLOATS = WORLD_TENSORS * WORLD_HIDDEN
};

static eep_device *device;
static eep_stream *stream;
static uint32_t *memory, *pinned; /* [COUNT] */

static void set_up(void)
{
    void *device_memory, *pinned_memory;

    cr_assert_eq(eep_device_open("guarded", 0, &device), EEP_OK);
    cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
    cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, COUNT * 4, &device_memory), EEP_OK);
    cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_PINNED, COUNT * 4, &pinned_memory), EEP_OK);
    memory = device_memory;
    pinned = pinned_memory;
}

static void tear_down(void)
{
    eep_stream_close(stream);
    eep_device_free(device, EEP_MEMORY_DEVICE, memory);
    eep_device_free(device, EEP_MEMORY_PINNED, pinned);
    eep_device_close(device);
}

TestSuite(guarded, .init = set_up, .fini = tear_down, .timeout = 60);
TestSuite(guarded_context, .timeout = 100);

static void copy(void *to, const void *from)
{
    cr_assert_eq(eep_copy_async(stream, to, from, COUNT * 4), EEP_OK);
    cr_assert_eq(eep_stream_synchronize(stream, BOUND_US), EEP_OK);
}

static void increment_body(const void *raw, eep_grid grid)
{
    uint32_t *const *numbers = raw;

    (*numbers)[grid.block]++;
}
static const eep_kernel increment = EEP_KERNEL("increment", increment_body, NULL, NULL, 0);

Test(guarded, kernels_and_copies_reach_device_memory)
{
    eep_graph *graph;

    for (uint32_t i = 0; i < COUNT; i++) {
        pinned[i] = i;
    }
    copy(memory, pinned);
    cr_assert_eq(eep_launch(stream, &increment, COUNT, 1, &memory, sizeof memory), EEP_OK);
    cr_assert_eq(eep_capture_begin(stream), EEP_OK);
    cr_assert_eq(eep_launch(stream, &increment, COUNT, 1, &memory, sizeof memory), EEP_OK);
    cr_assert_eq(eep_capture_end(stream, &graph), EEP_OK);
    cr_assert_eq(eep_graph_replay(graph, stream), EEP_OK);
    copy(pinned, memory);
    eep_graph_close(graph);
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert_eq(pinned[i], i + 2);
    }
}

Test(guarded, memory_is_zeroed_aligned_and_not_given_again)
{
    void *again;

    memset(pinned, 255, COUNT * 4);
    copy(pinned, memory);
    for (uint32_t i = 0; i < COUNT; i++) {
        cr_assert_eq(pinned[i], 0);
    }
    cr_assert_eq((uintptr_t)memory % 128, 0);
    eep_device_free(device, EEP_MEMORY_DEVICE, memory);
    cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, COUNT * 4, &again), EEP_OK);
    cr_assert_neq(again, memory);
}

Test(guarded, it_is_like_a_gpu_where_libeep_asks)
{
    eep_device *plain;

    cr_assert_eq(eep_device_open("host", 0, &plain), EEP_OK);
    cr_assert_not(eepi_device_is_discrete(plain));
    cr_assert(eepi_device_is_discrete(device));
    cr_assert_str_eq(eep_device_backend(device), "guarded");
    eep_device_close(plain);
}

Test(guarded, reading_from_outside_faults, .signal = SIGSEGV)
{
    copy(memory, pinned);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would have its own word on it */
    pinned[0] = *(volatile uint32_t *)memory;
}

Test(guarded, writing_from_outside_faults, .signal = SIGSEGV)
{
    signal(SIGSEGV, SIG_DFL);
    *(volatile uint32_t *)(memory + COUNT - 1) = 1;
}

/* Windows of such a device: what its kernels reach of them. */
Test(guarded, shares_are_reached_by_copies)
{
    eepi_share made, mapped;
    char why[128] = "";

    cr_assert_eq(eepi_share_make(device, COUNT * 4, &made, why, sizeof why), EEP_OK, "%s", why);
    cr_assert_eq(eepi_share_map(device, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
                 EEP_OK, "%s", why);
    memset(pinned, 7, COUNT * 4);
    copy(made.address, pinned);
    memset(pinned, 0, COUNT * 4);
    copy(pinned, mapped.address);
    cr_assert_eq(pinned[COUNT - 1], 0x07070707);
    eepi_share_close(device, &made);
    copy(pinned, mapped.address);
    eepi_share_close(device, &mapped);
    copy(pinned, memory);
}

Test(guarded, reading_a_share_from_outside_faults, .signal = SIGSEGV)
{
    eepi_share made;
    char why[128] = "";

    cr_assert_eq(eepi_share_make(device, COUNT * 4, &made, why, sizeof why), EEP_OK, "%s", why);
    copy(made.address, pinned);
    signal(SIGSEGV, SIG_DFL);
    pinned[0] = *(volatile uint32_t *)made.address;
}

static void wait_body(const void *raw, eep_grid grid)
{
    uint32_t *const *word = raw;

    (void)grid;
    while (__atomic_load_n(*word, __ATOMIC_ACQUIRE) == 0) {
        ;
    }
}
static const eep_kernel wait_kernel = EEP_KERNEL("wait", wait_body, NULL, NULL, 0);

/* What is taken while work runs is in its reach, too. */
Test(guarded, memory_taken_beside_running_work_can_be_used)
{
    eep_stream *other;
    void *late;

    cr_assert_eq(eep_stream_open(device, &other), EEP_OK);
    cr_assert_eq(eep_launch(other, &wait_kernel, 1, 1, &pinned, sizeof pinned), EEP_OK);
    cr_assert_eq(eep_device_alloc(device, EEP_MEMORY_DEVICE, COUNT * 4, &late), EEP_OK);
    copy(late, memory);
    __atomic_store_n(pinned, 1, __ATOMIC_RELEASE);
    copy(memory, late);
    eep_stream_close(other);
}

/* ---------------------------------------------------------------- instances on it */

static uint64_t bytes_moved(const world *w, int in_pause)
{
    uint64_t bytes = 0;

    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        if (!w->ranks[seat].context) {
            continue;
        }
        eep_counters counters = rank_counters(&w->ranks[seat]);
        bytes += in_pause ? counters.weights_bytes_in_pause : counters.weights_bytes_background;
    }
    return bytes;
}

/* Ranks 0 .. last work; the last one ends, and the others go on without it. */
static void lose_last(world *w, int32_t last)
{
    world_set_modes(w, 0, last, RANK_WORK);
    world_advance(w, 0, last, FIRST);
    rank_close(&w->ranks[last]);
    for (int32_t seat = 0; seat < last; seat++) {
        WORLD_WAIT(w, w->ranks[seat].last_active == last);
    }
    world_advance(w, 0, last - 1, FIRST);
}

static void rejoin(world *w, int32_t seat)
{
    cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", w->ranks[seat].error);
    rank_set_mode(&w->ranks[seat], RANK_WORK);
    rank_run(&w->ranks[seat]);
    WORLD_WAIT(w, w->ranks[seat].joined);
    world_advance(w, 0, seat, FIRST);
    cr_expect_eq(eep_generation(w->ranks[seat].context), 2);
}

/* 15 slots hold 8 experts, so one of each layer is lost with the rank. */
Test(guarded_context, a_lost_expert_is_repaired_from_a_backup_and_the_rank_rejoins)
{
    world w;
    world_open(&w, 3, 3);
    w.device = "guarded";
    w.keep_backups = 1;
    world_start(&w);
    lose_last(&w, 2);
    cr_expect_eq(bytes_moved(&w, 1), WORLD_LAYERS * EXPERT_FLOATS * sizeof(float));
    rejoin(&w, 2);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* Nobody keeps backups, so what moves in the background comes out of device memory. The ranks are
 * idle meanwhile: beside steps an access from outside would go unseen. */
Test(guarded_context, redundancy_comes_back_from_a_peers_slot_and_the_rank_rejoins)
{
    world w;
    world_open(&w, 4, 4);
    w.device = "guarded";
    w.config.background_bytes_per_s = 100000000;
    world_start(&w);
    lose_last(&w, 3);
    world_rest(&w);
    WORLD_WAIT(&w, bytes_moved(&w, 0) > 0);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    cr_expect_eq(bytes_moved(&w, 1), 0);
    rejoin(&w, 3);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}
