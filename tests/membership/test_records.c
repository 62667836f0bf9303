/* SPDX-License-Identifier: Apache-2.0 */
/* Records and reports as they come from the store: what no rank writes is refused when it is read.
 */
#include "membership/context/records.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const eepi_view_shape shape = {2, 1, 4, 2};

/* The status of reading a record of seat 1 that is ready, or not, with these two slots. */
static eep_status read_record(bool is_ready, const int32_t *experts, const uint64_t *checksums)
{
    const uint64_t backup[1] = {0};
    const eepi_record record = {
        .member = {1, 1, is_ready, false, experts, checksums, backup, NULL, NULL, true}};
    eepi_record read;
    size_t bytes = 0;
    void *encoded = eepi_record_encode(&record, &shape, &bytes);
    cr_assert_not_null(encoded);
    const eep_status status = eepi_record_decode(encoded, bytes, &shape, &read);
    cr_expect(status != EEP_OK || read.member.has_checkpoint);
    free(encoded);
    return status;
}

Test(records, R1_a_ready_rank_has_checksums)
{
    const int32_t experts[2] = {3, -1}, none[2] = {-1, -1}, foreign[2] = {3, 4};
    const uint64_t known[2] = {7, 0}, unknown[2] = {0, 0};

    cr_expect_eq(read_record(true, experts, known), EEP_OK);
    cr_expect_eq(read_record(true, experts, unknown), EEP_ERR_PROTOCOL);
    cr_expect_eq(read_record(false, experts, unknown), EEP_OK, "it still loads");
    cr_expect_eq(read_record(true, none, unknown), EEP_OK);
    cr_expect_eq(read_record(true, foreign, known), EEP_ERR_PROTOCOL);
}

/* The fields that say whose record it is keep their place in every version. */
Test(records, one_of_another_version_of_libeep_is_refused_by_name)
{
    const int32_t none[2] = {-1, -1};
    const uint64_t zero[2] = {0, 0};
    const eepi_record record = {
        .member = {.seat = 1,
                   .generation = 7,
                   .experts = none,
                   .checksums = zero,
                   .backup = zero,
                   .host = 99},
        .lane = {.kind = EEPI_LANE_TCP, .num_paths = 1, .path = {{.ip_bytes = 16, .port = 4711}}}};
    eepi_record read;
    size_t bytes = 0;
    uint32_t *encoded = eepi_record_encode(&record, &shape, &bytes);
    char text[256];

    cr_assert_not_null(encoded);
    cr_assert_eq(eepi_record_decode(encoded, bytes, &shape, &read), EEP_OK);
    cr_expect_eq(read.member.host, 99);
    cr_expect_eq(memcmp(&read.lane, &record.lane, sizeof read.lane), 0);
    encoded[1]++;
    cr_expect_eq(eepi_record_decode(encoded, bytes, &shape, &read), EEP_ERR_PROTOCOL);
    eepi_record_say_refused(encoded, bytes, text, sizeof text);
    cr_expect(strstr(text, "rank 1 (generation 7)") && strstr(text, "run one version"), "%s", text);
    eepi_record_say_refused(encoded, 4, text, sizeof text);
    cr_expect(strstr(text, "does not fit"), "%s", text);
    free(encoded);
}

/* What a rank tells of its links comes back as it was; a rate that no link has is refused. */
Test(records, rates_of_links_have_a_bound)
{
    static const int32_t none[2] = {-1, -1};
    static const uint64_t zero[2] = {0, 0};
    const uint32_t told[EEPI_NUM_RATES] = {EEPI_RATE_MAX, 0, EEPI_RATE_DOWN, 1, 2, UINT32_MAX - 1};

    for (int at = -1; at < EEPI_NUM_RATES; at++) {
        uint32_t rates[EEPI_NUM_RATES];
        const eepi_record record = {.member = {1, 1, false, false, none, zero, zero, NULL, rates}};
        const bool is_sane = at < 0 || at == EEPI_RATE_NIC_AT; /* that one is no rate */
        eepi_record read = {.pid = 0};
        size_t bytes = 0;
        memcpy(rates, told, sizeof rates);
        if (at >= 0) {
            rates[at] = EEPI_RATE_MAX + 1;
        }
        void *encoded = eepi_record_encode(&record, &shape, &bytes);
        cr_assert_not_null(encoded);
        cr_expect_eq(eepi_record_decode(encoded, bytes, &shape, &read),
                     is_sane ? EEP_OK : EEP_ERR_PROTOCOL, "rate %d", at);
        if (is_sane) {
            cr_expect_arr_eq(read.member.rates, rates, sizeof rates);
        }
        free(encoded);
    }
}

static eep_status read_report(uint64_t epoch, uint64_t highest_step)
{
    const eepi_report report = {1, 1, epoch, highest_step, 0, NULL, 0};
    eepi_report read;
    size_t bytes = 0;
    void *encoded = eepi_report_encode(&report, &bytes);
    cr_assert_not_null(encoded);
    const eep_status status = eepi_report_decode(encoded, bytes, shape.max_ranks, &read);
    free(encoded);
    return status;
}

/* A next step is one above the highest: it must not begin again at 0. */
Test(records, D5_a_step_number_has_a_bound)
{
    cr_expect_eq(read_report(2, 100), EEP_OK);
    cr_expect_eq(read_report(EEPI_VIEW_MAX_NUMBER, EEPI_VIEW_MAX_NUMBER), EEP_OK);
    cr_expect_eq(read_report(2, UINT64_MAX), EEP_ERR_PROTOCOL);
    cr_expect_eq(read_report(UINT64_MAX, 2), EEP_ERR_PROTOCOL);
}
