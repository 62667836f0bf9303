/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of the micro-probes: what a fence, an acquire, a launch in a graph and a word from block
 * to block cost. One thread measures, in ticks of its multiprocessor, whose clock is far finer than
 * the one that all share; `total` tells how long a tick is. Samples go to device memory. */
#ifndef PROBE_MICRO_H
#define PROBE_MICRO_H

#include "graphs/kernels/compiler_macros.h"

#if defined(__CUDACC__)
EEPK_FN uint64_t probe_ticks(void)
{
    return (uint64_t)clock64();
}
/* The clock, once `value` has arrived: the read depends on it. */
EEPK_FN uint64_t probe_ticks_after(uint64_t value)
{
    unsigned long long now = 0;
    asm volatile("{ .reg .pred has; setp.ne.u64 has, %1, 0xfedcba9876543210;\n\t"
                 "@has mov.u64 %0, %%clock64; }"
                 : "+l"(now)
                 : "l"((unsigned long long)value)
                 : "memory");
    return now;
}
#else
EEPK_FN uint64_t probe_ticks(void)
{
    return eepk_now_ns();
}
EEPK_FN uint64_t probe_ticks_after(uint64_t value)
{
    (void)value;
    return eepk_now_ns();
}
#endif

/* Where samples go, and how long a tick is. */
typedef struct probe_samples {
    uint64_t *ticks; /* [count], device memory */
    uint64_t *total; /* pinned: ticks, and nanoseconds of the shared clock, of the whole */
    uint64_t count;
} probe_samples;

/* A fence of system scope by all threads, when each of them has stored that often just before. */
typedef struct probe_fence_args {
    probe_samples to;
    uint64_t *room; /* [num_words], a power of two; device memory: what they store into */
    uint64_t num_words, num_stores;
} probe_fence_args;

/* An acquire of one word that nobody stores into. */
typedef struct probe_load_args {
    probe_samples to;
    const uint64_t *word;
} probe_load_args;

/* Two of these, in two streams: a word goes to the other and comes back. */
typedef struct probe_pass_args {
    probe_samples to; /* of there and back; only the first one writes */
    uint64_t *own, *other;
    uint32_t *own_bell, *other_bell; /* [2] each; the host backend's waiters sleep on these */
    uint64_t limit_ns;
    uint32_t is_first, pad;
} probe_pass_args;

/* A node that does nothing, or notes the time. */
typedef struct probe_stamp_args {
    uint64_t *to; /* NULL: nothing */
} probe_stamp_args;

EEPK_FN void probe_total(const probe_samples *to, uint64_t begin_ticks, uint64_t begin_ns)
{
    eepk_store_release(&to->total[0], probe_ticks() - begin_ticks);
    eepk_store_release(&to->total[1], eepk_now_ns() - begin_ns);
}

EEPK_FN void probe_fence_body(const probe_fence_args *a, eep_grid g)
{
    uint64_t begin_ticks = probe_ticks(), begin_ns = eepk_now_ns(), from, to = 0;

    for (uint64_t i = 0; i < a->to.count; i++) {
        eepk_fence_system(); /* nothing of the sample before is under way any more */
        eepk_block_sync();
        for (uint64_t k = 0; k < a->num_stores; k++) {
            *(volatile uint64_t *)&a
                 ->room[((i * a->num_stores + k) * g.num_threads + g.thread) & (a->num_words - 1)] =
                i;
        }
        from = probe_ticks();
        eepk_fence_system();
        to = probe_ticks();
        if (g.thread == 0) {
            a->to.ticks[i] = to - from;
        }
    }
    if (g.thread == 0) {
        probe_total(&a->to, begin_ticks, begin_ns);
    }
}

EEPK_FN void probe_load_body(const probe_load_args *a, eep_grid g)
{
    uint64_t begin_ticks = probe_ticks(), begin_ns = eepk_now_ns();

    if (g.thread != 0) {
        return;
    }
    for (uint64_t i = 0; i < a->to.count; i++) {
        uint64_t from = probe_ticks();
        uint64_t value = eepk_load_acquire(a->word);
        a->to.ticks[i] = probe_ticks_after(value) - from;
    }
    probe_total(&a->to, begin_ticks, begin_ns);
}

EEPK_FN void probe_pass_body(const probe_pass_args *a, eep_grid g)
{
    uint64_t begin_ticks = probe_ticks(), begin_ns = eepk_now_ns(), from;

    for (uint64_t i = 0; i < a->to.count && g.thread == 0; i++) {
        from = probe_ticks();
        if (a->is_first) {
            eepk_store_release(a->other, i + 1);
            eepk_doorbell_ring(a->other_bell);
        }
        for (uint32_t polls = 0;; polls++) {
            uint32_t seen = eepk_doorbell_read(a->own_bell);
            if (eepk_load_acquire(a->own) > i) {
                break;
            }
            if (polls % 64 == 63 && eepk_now_ns() - begin_ns >= a->limit_ns) {
                return;
            }
            eepk_poll_pause(polls, a->own_bell, seen);
        }
        if (a->is_first) {
            a->to.ticks[i] = probe_ticks() - from;
        } else {
            eepk_store_release(a->other, i + 1);
            eepk_doorbell_ring(a->other_bell);
        }
    }
    if (g.thread == 0 && a->is_first) {
        probe_total(&a->to, begin_ticks, begin_ns);
    }
}

EEPK_FN void probe_stamp_body(const probe_stamp_args *a, eep_grid g)
{
    if (a->to && g.thread == 0) {
        *a->to = eepk_now_ns();
    }
}
#endif
