/* SPDX-License-Identifier: Apache-2.0 */
/* The roles of processes that own a window, store into another's, and are killed. */
#include "tests/gpu/probe/probe_role.h"
#include "tests/lib/window_fixture.h"

#include <stdbool.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { COUNT_LIMIT_S = 60, LATER_MS = 1000 };

/* One look at the counter's word; the look's own time is its end. */
static eep_status look_at_word(probe_role *r, const eepi_window *window, uint64_t *pinned)
{
    eep_status status = probe_check(
        r, eep_copy_async(r->stream, pinned, probe_word(window, PROBE_WORD_AT), sizeof *pinned),
        "reading the counter");

    if (status == EEP_OK) {
        status =
            probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US), "reading the counter");
    }
    return status;
}

static bool is_asked(const probe_role *r)
{
    struct pollfd readable = {.fd = r->socket, .events = POLLIN};

    return poll(&readable, 1, 0) == 1;
}

/* Look at the word again and again, until a second after the program says that the writer has
 * ended. Copies go beside the kernels of other processes; a kernel of ours would take turns with
 * them and see nothing of what they store in theirs. Values: PROBE_WATCH_*. */
static eep_status watch(probe_role *r, const eepi_window *window, uint64_t *pinned)
{
    uint64_t before_ns = eepi_now_ns(), until_ns = 0, word = 0;
    uint64_t values[PROBE_WATCH_SAMPLES + 1] = {0};
    probe_message ended;
    eep_status status = EEP_OK;

    while (status == EEP_OK && (until_ns == 0 || before_ns < until_ns)) {
        const int has_ended = until_ns == 0 && is_asked(r);
        uint64_t now_ns;
        if (has_ended) {
            status = probe_hear(r, &ended);
        }
        if (status == EEP_OK) {
            status = look_at_word(r, window, pinned);
        }
        now_ns = eepi_now_ns();
        if (*pinned != word) {
            values[PROBE_WATCH_LAST_NS] = now_ns;
            values[PROBE_WATCH_LAST_GAP_NS] = now_ns - before_ns;
        }
        if (now_ns - before_ns > values[PROBE_WATCH_LONGEST_GAP_NS]) {
            values[PROBE_WATCH_LONGEST_GAP_NS] = now_ns - before_ns;
        }
        values[PROBE_WATCH_SAMPLES]++;
        before_ns = now_ns;
        word = *pinned;
        if (has_ended) {
            values[PROBE_WATCH_AT_END] = word;
            until_ns = now_ns + LATER_MS * 1000000ull;
        }
    }
    values[PROBE_WATCH_LATER] = word;
    memcpy(r->say.values, values, sizeof values);
    return status;
}

/* Says where its window is; whenever it is asked to, it says that it watches, and when it has. */
eep_status probe_owner(probe_role *r)
{
    probe_message asked;
    eepi_window_spec spec;
    eepi_window *window;
    uint64_t *pinned = NULL;
    char why[300] = "";
    eep_status status = probe_hear(r, &asked);

    if (status == EEP_OK) {
        status = probe_words(r, 1, &pinned);
    }
    if (status != EEP_OK) {
        return status;
    }
    spec = probe_spec(asked.generation);
    status = window_make(r->device, &spec, why, sizeof why, &window);
    if (status != EEP_OK) {
        return probe_fail(r, status, "making a window: %s", why);
    }
    eepi_window_describe(window, &r->say.window);
    r->say.generation = asked.generation;
    r->say.fd = eepi_window_memory_fd(window, 0, 1);
    status = probe_say(r);
    while (status == EEP_OK) {
        status = probe_hear(r, &asked);
        if (status == EEP_OK) {
            status = probe_say(r);
        }
        if (status == EEP_OK) {
            status = watch(r, window, pinned);
        }
        if (status == EEP_OK) {
            status = probe_say(r);
        }
    }
    eepi_window_close(window);
    return status;
}

/* ------------------------------------------------------------------ survivor of an owner */

/* After the owner's end: new launches store into the window, and what they stored is there. */
static eep_status check_rows(probe_role *r, const eepi_window *window, uint64_t num_words,
                             uint64_t *wrong_out)
{
    probe_fill_args fill = {probe_word(window, PROBE_ROWS_AT), num_words, 1000003};
    uint64_t *copy = NULL;
    eep_status status = probe_words(r, num_words, &copy);

    if (status == EEP_OK) {
        status = probe_launch(r, r->stream, PROBE_FILL, &fill, sizeof fill);
    }
    if (status == EEP_OK) {
        status = probe_check(
            r, eep_copy_async(r->stream, copy, fill.words, num_words * sizeof(uint64_t)), "a copy");
    }
    if (status == EEP_OK) {
        status = probe_check(r, eep_stream_synchronize(r->stream, PROBE_SYNC_US),
                             "storing after the owner's end");
    }
    *wrong_out = 0;
    for (uint64_t i = 0; i < num_words && status == EEP_OK; i++) {
        *wrong_out += copy[i] != fill.first + i;
    }
    return status;
}

/* The successor of the owner is mapped while the kernel still stores into the old window. Says:
 * microseconds, is it at another address, does the kernel still run. */
static eep_status map_successor(probe_role *r, const eepi_window *old, eepi_window **window_out)
{
    probe_message asked;
    uint64_t begin_us;
    eep_status status = probe_hear(r, &asked);

    if (status != EEP_OK) {
        return status;
    }
    begin_us = eepi_now_us();
    status = probe_map_window(r, &asked, window_out);
    if (status != EEP_OK) {
        return status;
    }
    r->say.values[0] = eepi_now_us() - begin_us;
    r->say.values[1] = window_memory(*window_out) != window_memory(old);
    r->say.values[2] = eep_stream_synchronize(r->stream, 0) == EEP_ERR_TIMEOUT;
    return probe_say(r);
}

/* Another process's window, and words beside what the kernel does in it. */
static eep_status map_asked(probe_role *r, size_t num_words, eepi_window **window_out,
                            uint64_t **words_out)
{
    probe_message asked;
    eep_status status = probe_hear(r, &asked);

    if (status == EEP_OK) {
        status = probe_map_window(r, &asked, window_out);
    }
    return status == EEP_OK ? probe_words(r, num_words, words_out) : status;
}

/* Stores into another process's window for `seconds`, whatever becomes of that process. Says when
 * it has begun; then see map_successor; last: rounds stored, words wrong afterwards. */
eep_status probe_survivor(probe_role *r)
{
    uint64_t num_words = (PROBE_WINDOW_BYTES - PROBE_ROWS_AT) / sizeof(uint64_t), wrong = 0;
    probe_store_args store = {.num_words = num_words, .limit_ns = r->how->seconds * 1000000000ull};
    eepi_window *window = NULL, *successor = NULL;
    uint64_t *pinned = NULL;
    eep_status status = map_asked(r, 2, &window, &pinned);

    if (status != EEP_OK) {
        return status;
    }
    store.words = probe_word(window, PROBE_ROWS_AT);
    store.rounds = &pinned[0];
    store.stop = &pinned[1];
    status = probe_launch(r, r->stream, PROBE_STORE, &store, sizeof store);
    if (status == EEP_OK) {
        status = probe_await(r, store.rounds, "the storing kernel");
    }
    if (status == EEP_OK) {
        status = probe_say(r);
    }
    if (status == EEP_OK) {
        status = map_successor(r, window, &successor);
    }
    if (status == EEP_OK) {
        status = probe_check(
            r, eep_stream_synchronize(r->stream, r->how->seconds * 1000000ull + PROBE_SYNC_US),
            "the storing kernel");
    }
    if (status == EEP_OK) {
        status = check_rows(r, window, num_words, &wrong);
    }
    if (status != EEP_OK) {
        return status;
    }
    r->say.values[0] = pinned[0];
    r->say.values[1] = wrong;
    eepi_window_close(successor);
    eepi_window_close(window);
    return probe_say(r);
}

/* ------------------------------------------------------------------ counter, to be killed */

/* Counts in another process's window until it is killed; says when it has begun. */
eep_status probe_counter(probe_role *r)
{
    probe_count_args count = {.limit_ns = COUNT_LIMIT_S * 1000000000ull};
    eepi_window *window = NULL;
    probe_message asked;
    eep_status status = map_asked(r, 1, &window, &count.progress);

    if (status != EEP_OK) {
        return status;
    }
    count.counter = probe_word(window, PROBE_WORD_AT);
    status = probe_launch(r, r->stream, PROBE_COUNT, &count, sizeof count);
    if (status == EEP_OK) {
        status = probe_await(r, count.progress, "the counting kernel");
    }
    if (status == EEP_OK) {
        status = probe_say(r);
    }
    if (status == EEP_OK) {
        status = probe_hear(r, &asked); /* nobody asks: it is killed here */
    }
    return status;
}
