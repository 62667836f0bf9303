/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/load/trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A temporary file with these bytes; the test removes it. */
static void write_file(char path[32], const char *text)
{
    strcpy(path, "/tmp/eep-trace-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static eep_status load(const char *text, const trace_options *options, trace *out, char *error)
{
    char path[32];
    write_file(path, text);
    eep_status status = trace_load(path, options, out, error);
    unlink(path);
    return status;
}

static const char *GOOD = "{\"timestamp\": 5, \"input_length\": 640, \"output_length\": 64}\n"
                          "\n"
                          "{\"output_length\": 7, \"hash_ids\": [1, {\"timestamp\": 9}], "
                          "\"timestamp\": 2.5, \"input_length\": 63}\r\n"
                          "{\"timestamp\": 5, \"input_length\": 1, \"output_length\": 2}";

Test(trace, reads_and_sorts_stably)
{
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {.start = TRACE_START_ZERO};
    cr_assert_eq(load(GOOD, &options, &t, error), EEP_OK, "%s", error);
    cr_assert_eq(t.num_requests, 3);
    cr_assert_eq(t.requests[0].arrival_us, 2500);
    cr_assert_eq(t.requests[0].input_length, 63);
    cr_assert_eq(t.requests[0].output_length, 7);
    cr_assert_eq(t.requests[1].arrival_us, 5000);
    cr_assert_eq(t.requests[1].input_length, 640);
    cr_assert_eq(t.requests[2].input_length, 1);
    cr_assert_eq(t.requests[2].output_length, 2);
    trace_free(&t);
}

Test(trace, first_and_scales)
{
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {
        .first = 2, .scale_lengths = {1, 64}, .scale_time = {1, 2}, .start = TRACE_START_ZERO};
    cr_assert_eq(load(GOOD, &options, &t, error), EEP_OK, "%s", error);
    cr_assert_eq(t.num_requests, 2);
    cr_assert_eq(t.requests[0].arrival_us, 1250);
    cr_assert_eq(t.requests[0].input_length, 1, "63/64 is at least 1");
    cr_assert_eq(t.requests[0].output_length, 1);
    cr_assert_eq(t.requests[1].arrival_us, 2500);
    cr_assert_eq(t.requests[1].input_length, 10);
    cr_assert_eq(t.requests[1].output_length, 1);
    trace_free(&t);
}

/* A slice out of the middle, or times of day: the first request comes at once. */
Test(trace, counts_from_its_first_request)
{
    static const struct {
        double first_ms;
        trace_fraction scale;
    } cases[] = {
        {0, {0}}, {987000, {0}}, {987000, {1, 2}}, {1700000000000.0, {0}}, {8999999990000.0, {0}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trace t;
        char text[256], error[TRACE_ERROR_BYTES] = "";
        double most = cases[i].first_ms;
        trace_options options = {.scale_time = cases[i].scale};
        uint64_t den = cases[i].scale.num ? cases[i].scale.den : 1;
        snprintf(text, sizeof text,
                 "{\"timestamp\": %.0f, \"input_length\": 1, \"output_length\": 2}\n"
                 "{\"timestamp\": %.0f, \"input_length\": 3, \"output_length\": 4}\n",
                 most + 500, most);
        cr_assert_eq(load(text, &options, &t, error), EEP_OK, "%s", error);
        cr_expect_eq(t.requests[0].arrival_us, 0);
        cr_expect_eq(t.requests[0].input_length, 3);
        cr_expect_eq(t.requests[1].arrival_us, 500000 / den);
        cr_expect_float_eq(t.shift_ms, most / (double)den, 1);
        trace_free(&t);
    }
}

Test(trace, a_span_of_decades_is_refused)
{
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {0}, zero = {.start = TRACE_START_ZERO};
    const char *later =
        "{\"timestamp\": 1700000000000, \"input_length\": 1, \"output_length\": 2}\n"
        "{\"timestamp\": 0, \"input_length\": 3, \"output_length\": 4}\n";
    cr_assert_eq(load(later, &options, &t, error), EEP_ERR_INVALID);
    cr_expect(strstr(error, "1700000000000 ms apart"), "%s", error);
    cr_assert_eq(load(later, &zero, &t, error), EEP_ERR_INVALID);
    cr_expect(strstr(error, ":1: ") && strstr(error, "--trace-start first"), "%s", error);
}

Test(trace, sorts_many_as_a_stable_sort_does)
{
    enum { COUNT = 1000 };
    char *text = malloc(COUNT * 80);
    size_t length = 0;
    uint32_t state = 1;
    for (int i = 0; i < COUNT; i++) {
        state = state * 1664525 + 1013904223;
        length += (size_t)sprintf(text + length,
                                  "{\"timestamp\":%u,\"input_length\":%d,\"output_length\":1}\n",
                                  state >> 25, i + 1);
    }
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {0};
    cr_assert_eq(load(text, &options, &t, error), EEP_OK, "%s", error);
    cr_assert_eq(t.num_requests, COUNT);
    for (size_t i = 1; i < COUNT; i++) {
        const trace_request *a = &t.requests[i - 1], *b = &t.requests[i];
        cr_assert(a->arrival_us < b->arrival_us ||
                  (a->arrival_us == b->arrival_us && a->input_length < b->input_length));
    }
    trace_free(&t);
    free(text);
}

/* One bad line behind a good one: the message must name line 2 and the cause. */
static void expect_bad(const char *line, const char *what)
{
    char text[1024], error[TRACE_ERROR_BYTES] = "";
    snprintf(text, sizeof text,
             "{\"timestamp\": 5, \"input_length\": 640, \"output_length\": 64}\n%s\n", line);
    trace t = {0};
    trace_options options = {0};
    cr_assert_eq(load(text, &options, &t, error), EEP_ERR_INVALID, "accepted: %s", line);
    cr_assert(strstr(error, ":2: "), "%s: \"%s\" does not name line 2", line, error);
    cr_assert(strstr(error, what), "%s: \"%s\" does not say %s", line, error, what);
    cr_assert_null(t.requests, "outputs are set only on success");
}

Test(trace, malformed_json_names_its_line)
{
    expect_bad("{\"timestamp\": 1, \"input_length\": tru}", "malformed JSON at byte 34");
    expect_bad("{\"timestamp\": 1, \"input_length\" 3}", "malformed JSON at byte 33");
    expect_bad("{\"timestamp\": 1", "malformed JSON at byte 16");
    expect_bad("timestamp", "malformed JSON at byte 1");
    expect_bad("{\"timestamp\":1,\"input_length\":2,\"output_length\":3} x", "follows");
    expect_bad("  [1, 2]", "not a JSON object");
}

Test(trace, bad_members_name_their_line)
{
    expect_bad("{\"timestamp\": 1, \"input_length\": 2}", "\"output_length\" is missing");
    expect_bad("{\"Timestamp\": 1, \"input_length\": 2, \"output_length\": 3}",
               "\"timestamp\" is missing");
    expect_bad("{\"timestamp\": \"now\", \"input_length\": 2, \"output_length\": 3}",
               "\"timestamp\" is not a number");
    expect_bad("{\"timestamp\": 1, \"input_length\":\t[2], \"output_length\": 3}",
               "\"input_length\" is not a number");
    expect_bad("{\"timestamp\": -1, \"input_length\": 2, \"output_length\": 3}", "is -1, outside");
    expect_bad("{\"timestamp\": 1700000000000000, \"input_length\": 2, \"output_length\": 3}",
               "is 1.7e+15, outside 0..9000000000000");
    expect_bad("{\"timestamp\": 1, \"input_length\": 0, \"output_length\": 3}", "outside");
    expect_bad("{\"timestamp\": 1, \"input_length\": 2, \"output_length\": 16777217}", "outside");
    expect_bad("{\"timestamp\": 1, \"input_length\": 2.5, \"output_length\": 3}", "whole");
    expect_bad("{\"a\": \"x\\\"timestamp\", \"timestamp\": null, \"input_length\": 2}",
               "\"timestamp\" is not a number");
}

Test(trace, a_zero_byte_is_named)
{
    char path[] = "/tmp/eep-trace-XXXXXX", error[TRACE_ERROR_BYTES] = "";
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, "{\"a\": \0}\n", 9), 9);
    close(fd);
    trace t;
    trace_options options = {0};
    cr_assert_eq(trace_load(path, &options, &t, error), EEP_ERR_INVALID);
    cr_assert(strstr(error, ":1: a zero byte"), "%s", error);
    unlink(path);
}

Test(trace, a_line_without_end_is_refused)
{
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {0};
    alarm(10);
#ifndef __SANITIZE_ADDRESS__ /* reserves more */
    setrlimit(RLIMIT_AS, &(struct rlimit){1u << 30, 1u << 30});
#endif
    cr_assert_eq(trace_load("/dev/zero", &options, &t, error), EEP_ERR_INVALID, "%s", error);
    cr_assert(strstr(error, "/dev/zero:1: longer than 1048576 bytes"), "%s", error);
}

/* As many bytes as a line may have, and one more. */
Test(trace, the_longest_line)
{
    static const char begin[] = "{\"timestamp\": 1, \"input_length\": 2, \"output_length\": 3}";
    char *text = malloc(TRACE_MAX_LINE_BYTES + 3), error[TRACE_ERROR_BYTES] = "";
    trace t;
    trace_options options = {0};
    memset(text, ' ', TRACE_MAX_LINE_BYTES);
    memcpy(text, begin, sizeof begin - 1);
    memcpy(text + TRACE_MAX_LINE_BYTES, "\n\n", 3);
    cr_assert_eq(load(text, &options, &t, error), EEP_OK, "%s", error);
    cr_assert_eq(t.num_requests, 1);
    trace_free(&t);
    text[TRACE_MAX_LINE_BYTES] = ' ';
    cr_assert_eq(load(text, &options, &t, error), EEP_ERR_INVALID);
    cr_assert(strstr(error, ":1: longer than"), "%s", error);
    free(text);
}

Test(trace, missing_and_empty_files)
{
    trace t;
    char error[TRACE_ERROR_BYTES] = "";
    trace_options options = {0};
    cr_assert_eq(trace_load("/nonexistent/trace", &options, &t, error), EEP_ERR_SYSTEM);
    cr_assert(strstr(error, "/nonexistent/trace: cannot open"), "%s", error);
    cr_assert_eq(load("\n \n", &options, &t, error), EEP_ERR_INVALID);
    cr_assert(strstr(error, "no request"), "%s", error);
}

Test(trace, fractions)
{
    const struct {
        const char *text;
        uint64_t num, den;
    } good[] = {{"1/64", 1, 64}, {"0.5", 5, 10},   {"2", 2, 1},
                {"3/2", 3, 2},   {"1.50", 15, 10}, {"0.015625000", 15625, 1000000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        trace_fraction f = {0};
        cr_assert_eq(trace_parse_fraction(good[i].text, &f), EEP_OK, "%s", good[i].text);
        cr_assert(f.num == good[i].num && f.den == good[i].den, "%s", good[i].text);
    }
    const char *bad[] = {"",   "0",           "1/0", "-1", "1/64x", "1/",
                         ".5", "1..5",        "0.0", "a",  "1e3",   "99999999999999999999",
                         " 1", "0.0000000001"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        trace_fraction f = {7, 7};
        cr_assert_eq(trace_parse_fraction(bad[i], &f), EEP_ERR_INVALID, "%s", bad[i]);
        cr_assert_eq(f.num, 7, "outputs are set only on success");
    }
}

Test(trace, poisson_is_deterministic_and_has_its_rate)
{
    trace_poisson p = {.seed = 42,
                       .rate_per_s = 50,
                       .num_requests = 4000,
                       .input_min = 8,
                       .input_max = 11,
                       .output_min = 3,
                       .output_max = 3};
    char error[TRACE_ERROR_BYTES] = "";
    trace a, b, c;
    cr_assert_eq(trace_draw_poisson(&p, &a, error), EEP_OK, "%s", error);
    cr_assert_eq(trace_draw_poisson(&p, &b, error), EEP_OK, "%s", error);
    p.seed = 43;
    cr_assert_eq(trace_draw_poisson(&p, &c, error), EEP_OK, "%s", error);
    cr_assert_eq(a.num_requests, 4000);
    size_t seen[4] = {0}, other = 0;
    for (size_t i = 0; i < a.num_requests; i++) {
        cr_assert_eq(a.requests[i].arrival_us, b.requests[i].arrival_us);
        cr_assert_eq(a.requests[i].input_length, b.requests[i].input_length);
        cr_assert(i == 0 || a.requests[i].arrival_us >= a.requests[i - 1].arrival_us);
        cr_assert(a.requests[i].input_length >= 8 && a.requests[i].input_length <= 11);
        cr_assert_eq(a.requests[i].output_length, 3);
        seen[a.requests[i].input_length - 8]++;
        other += a.requests[i].arrival_us != c.requests[i].arrival_us;
    }
    cr_assert(other > 3900, "another seed, another trace");
    for (int i = 0; i < 4; i++) {
        cr_assert(seen[i] > 850 && seen[i] < 1150, "uniform: %zu", seen[i]);
    }
    /* 4000 arrivals at 50 per s take 80 s, standard deviation 1.3 s. */
    uint64_t last_us = a.requests[3999].arrival_us;
    cr_assert(last_us > 74000000 && last_us < 86000000, "%lu", (unsigned long)last_us);
    trace_free(&a);
    trace_free(&b);
    trace_free(&c);
}

Test(trace, poisson_refuses_bad_ranges)
{
    const trace_poisson good = {.rate_per_s = 1,
                                .num_requests = 1,
                                .input_min = 1,
                                .input_max = 1,
                                .output_min = 1,
                                .output_max = 1};
    trace_poisson bad[5];
    for (int i = 0; i < 5; i++) {
        bad[i] = good;
    }
    bad[0].rate_per_s = 0;
    bad[1].num_requests = 0;
    bad[2].input_min = 2;
    bad[3].output_min = 0;
    bad[4].output_max = TRACE_MAX_LENGTH + 1;
    for (int i = 0; i < 5; i++) {
        trace t;
        char error[TRACE_ERROR_BYTES] = "";
        cr_assert_eq(trace_draw_poisson(&bad[i], &t, error), EEP_ERR_INVALID, "case %d", i);
        cr_assert(*error);
    }
}
