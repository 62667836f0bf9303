/* SPDX-License-Identifier: Apache-2.0 */
/* When frames leave a wire, and which do not. */
#include "experiments/netlab/delay_line.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum { FRAME_BYTES = 1000 };

/* Receiver 02:..:02, sender 02:..:01. */
static const unsigned char frame_to_2[DELAY_LINE_HEAD_BYTES] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
static const unsigned char frame_to_3[DELAY_LINE_HEAD_BYTES] = {2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1};

static void set(delay_line *line, const char *text)
{
    int wrong = 0;
    cr_assert_eq(delay_line_set_rules(line, text, &wrong), EEP_OK, "line %d", wrong);
}

/* The direction of the frame that leaves at that time; -1: none. */
static int take(delay_line *line, uint64_t time_ns)
{
    delay_frame *frame = delay_line_take(line, time_ns);
    int direction = frame ? frame->direction : -1;
    free(frame);
    return direction;
}

Test(delay_line, a_frame_without_a_rule_passes)
{
    delay_line line;
    delay_line_init(&line, 1);
    set(&line, "# nothing\n\n> 02:00:00:00:00:02 delay_us=1000\n");
    cr_assert(delay_line_passes(&line, 0, frame_to_3));
    cr_assert(delay_line_passes(&line, 1, frame_to_2));
    cr_assert_not(delay_line_passes(&line, 0, frame_to_2));
    cr_assert_eq(delay_line_next_ns(&line), UINT64_MAX);
    delay_line_destroy(&line);
}

Test(delay_line, a_frame_leaves_after_its_delay)
{
    delay_line line;
    delay_line_init(&line, 1);
    set(&line, "> * delay_us=5000");
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 100 * MS));
    cr_assert_eq(delay_line_next_ns(&line), 105 * MS);
    cr_assert_eq(take(&line, 105 * MS - 1), -1);
    cr_assert_eq(take(&line, 105 * MS), 0);
    cr_assert_eq(take(&line, 105 * MS), -1);
    delay_line_destroy(&line);
}

Test(delay_line, the_way_back_goes_by_the_sender)
{
    delay_line line;
    delay_line_init(&line, 1);
    set(&line, "< 02:00:00:00:00:01 delay_us=2000");
    cr_assert(delay_line_passes(&line, 0, frame_to_2));
    cr_assert_not_null(delay_line_add(&line, 1, frame_to_2, FRAME_BYTES, 0));
    cr_assert_eq(take(&line, 2 * MS), 1);
    delay_line_destroy(&line);
}

Test(delay_line, the_first_rule_that_fits_counts)
{
    delay_line line;
    delay_line_init(&line, 1);
    set(&line, "> 02:00:00:00:00:02 delay_us=9000\n> * delay_us=1000\n");
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0));
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_3, FRAME_BYTES, 0));
    cr_assert_eq(delay_line_next_ns(&line), 1 * MS);
    cr_assert_eq(take(&line, 1 * MS), 0);
    cr_assert_eq(delay_line_next_ns(&line), 9 * MS);
    delay_line_destroy(&line);
}

Test(delay_line, jitter_keeps_the_order)
{
    delay_line line;
    uint64_t last = 0, least = UINT64_MAX, most = 0;
    delay_line_init(&line, 7);
    set(&line, "> * delay_us=1000 jitter_us=4000");
    for (uint64_t i = 0; i < 1000; i++) {
        delay_frame *frame = delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, i * 10 * MS);
        cr_assert_not_null(frame);
        least = frame->due_ns - i * 10 * MS < least ? frame->due_ns - i * 10 * MS : least;
        most = frame->due_ns - i * 10 * MS > most ? frame->due_ns - i * 10 * MS : most;
    }
    cr_assert(least >= 1 * MS && least < 2 * MS && most < 5 * MS && most > 4 * MS);
    for (int i = 0; i < 1000; i++) {
        cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 10000 * MS));
    }
    for (int i = 0; i < 2000; i++) {
        delay_frame *frame = delay_line_take(&line, UINT64_MAX - 1);
        cr_assert(frame && frame->due_ns >= last);
        last = frame->due_ns;
        free(frame);
    }
    delay_line_destroy(&line);
}

Test(delay_line, a_rate_spaces_frames_and_drops_what_exceeds_its_limit)
{
    delay_line line;
    int kept = 0;
    delay_line_init(&line, 1);
    set(&line, "> * bytes_per_s=1000000 limit_bytes=10000 delay_us=1000");
    for (int i = 0; i < 100; i++) { /* a frame takes a millisecond; ten wait and one goes */
        kept += delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0) != NULL;
    }
    cr_assert_eq(kept, 11);
    cr_assert_eq(line.rule[0].num_lost, 89);
    for (uint64_t i = 0; i < 11; i++) {
        cr_assert_eq(delay_line_next_ns(&line), (i + 2) * MS);
        cr_assert_eq(take(&line, (i + 2) * MS), 0);
    }
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 100 * MS));
    cr_assert_eq(delay_line_next_ns(&line), 102 * MS); /* an idle wire saves nothing up */
    delay_line_destroy(&line);
}

Test(delay_line, a_share_is_lost)
{
    delay_line line;
    int lost = 0;
    delay_line_init(&line, 3);
    set(&line, "> * loss=0.25");
    for (int i = 0; i < 10000; i++) {
        lost += delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0) == NULL;
        (void)take(&line, 0);
    }
    cr_assert(lost > 2350 && lost < 2650, "%d", lost);
    set(&line, "> * loss=1");
    cr_assert_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0));
    delay_line_destroy(&line);
}

Test(delay_line, frames_keep_their_times_when_rules_change)
{
    delay_line line;
    delay_line_init(&line, 1);
    set(&line, "> 02:00:00:00:00:02 delay_us=9000\n> * delay_us=1000\n");
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0));
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_3, FRAME_BYTES, 0));
    set(&line, "");
    cr_assert(delay_line_passes(&line, 0, frame_to_2));
    cr_assert_not_null(delay_line_add(&line, 1, frame_to_2, FRAME_BYTES, 0)); /* no rule: at once */
    cr_assert_eq(take(&line, 0), 1);
    cr_assert_eq(take(&line, 0), -1);
    cr_assert_eq(take(&line, 1 * MS), 0);
    cr_assert_eq(take(&line, 9 * MS - 1), -1);
    cr_assert_eq(take(&line, 9 * MS), 0);
    delay_line_destroy(&line);
}

Test(delay_line, a_wrong_line_is_named_and_changes_nothing)
{
    static const char *const wrong[] = {
        "* delay_us=1",
        "> nobody",
        "> 02:00:00:00:00:0 2",
        "> * delay_us",
        "> * delay_us=",
        "> * delay_us=-1",
        "> * loss=1.5",
        "> * loss=nan",
        "> * speed=3",
        "> * delay_us=1e300",
        "= *",
        "> * delay_us=1x",
        "> 02:00:00:00:00:02:",
        ">",
    };
    delay_line line;
    char longest[600];
    int number;
    delay_line_init(&line, 1);
    set(&line, "> * delay_us=1000");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[100];
        snprintf(text, sizeof text, "> * delay_us=1\n%s\n", wrong[i]);
        number = 0;
        cr_assert_eq(delay_line_set_rules(&line, text, &number), EEP_ERR_INVALID, "%s", wrong[i]);
        cr_assert_eq(number, 2);
    }
    memset(longest, '#', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_eq(delay_line_set_rules(&line, longest, &number), EEP_ERR_INVALID);
    cr_assert_not_null(delay_line_add(&line, 0, frame_to_2, FRAME_BYTES, 0));
    cr_assert_eq(delay_line_next_ns(&line), 1 * MS);
    delay_line_destroy(&line);
}
