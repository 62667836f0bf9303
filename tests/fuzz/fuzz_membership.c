/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks find in the store and in the memory of other ranks. */
#include "tests/fuzz/fuzz_targets.h"

#include "membership/agent/agent_table.h"
#include "membership/backup/backup_index.h"
#include "membership/collective/collective.h"
#include "membership/collective/collective_round.h"
#include "membership/collective/collective_words.h"
#include "membership/context/context.h"
#include "membership/context/records.h"
#include "membership/view/view.h"
#include "tests/lib/check_or_abort.h"

#include <string.h>

static const eepi_view_shape shape = {
    .max_ranks = 3, .num_layers = 2, .num_experts = 5, .num_slots = 2};

/* Bytes as the store's client hands them out: at a multiple of 8. */
static void *aligned_copy(const uint8_t *bytes, size_t size)
{
    void *copy = malloc(size > 0 ? size : 1);
    CHECK(copy);
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    return copy;
}

/* As it came; and once more with the right digest, so that all that is checked behind it counts. */
static bool run_view(const uint8_t *bytes, size_t size)
{
    const char *why = NULL;
    void *copy = aligned_copy(bytes, size);
    eepi_view *view = copy;
    const bool taken = eepi_view_check(copy, size, &why) == EEP_OK;
    if (!taken) {
        CHECK(why);
        if (size >= sizeof *view && view->bytes == size) {
            eepi_view_seal(view);
            if (eepi_view_check(view, size, &why) == EEP_OK) {
                CHECK(eepi_view_num_active(view) <= view->shape.max_ranks);
            }
        }
    }
    free(copy);
    return taken;
}

static size_t seed_view(int number, uint8_t *bytes_out)
{
    eepi_view *view = eepi_view_new(&shape);
    size_t size = view->bytes;
    CHECK(view && size <= FUZZ_MAX_BYTES);
    view->phase = EEPI_VIEW_SERVING;
    view->cause = number ? EEPI_VIEW_FAULT : EEPI_VIEW_INITIAL;
    view->epoch = 1;
    if (number == 1) {
        eepi_view_seat *seat = eepi_view_seat_at(view, 1);
        seat->generation = 2;
        seat->state = EEP_SEAT_ACTIVE;
    }
    eepi_view_seal(view);
    memcpy(bytes_out, view, size);
    free(view);
    return number < 2 ? size : 0;
}

static bool run_record(const uint8_t *bytes, size_t size)
{
    void *copy = aligned_copy(bytes, size);
    eepi_record record;
    char text[128];
    const bool taken = eepi_record_decode(copy, size, &shape, &record) == EEP_OK;
    if (taken) {
        CHECK(record.member.seat >= 0 && record.member.seat < shape.max_ranks);
        free(fuzz_text(record.bulk_address, record.bulk_address_bytes));
    } else {
        eepi_record_say_refused(copy, size, text, sizeof text);
        CHECK(strnlen(text, sizeof text) < sizeof text);
    }
    free(copy);
    return taken;
}

static size_t seed_record(int number, uint8_t *bytes_out)
{
    const int32_t experts[4] = {0, 1, 2, -1};
    const uint64_t checksums[4] = {1, 2, 3, 4}, backup[2] = {1, 2}, claims[2] = {3, 4};
    const eepi_record record = {.member = {.seat = 1,
                                           .generation = 2,
                                           .ready = true,
                                           .experts = experts,
                                           .checksums = checksums,
                                           .backup = backup,
                                           .claims = claims},
                                .pid = 77,
                                .bulk_address = "an address",
                                .bulk_address_bytes = 10};
    size_t size = 0;
    void *encoded = eepi_record_encode(&record, &shape, &size);
    CHECK(encoded && size <= FUZZ_MAX_BYTES);
    memcpy(bytes_out, encoded, size);
    free(encoded);
    return number < 1 ? size : 0;
}

/* The first byte says which of the small ones it is. */
static bool run_small(const uint8_t *bytes, size_t size)
{
    void *copy = aligned_copy(bytes + (size > 0), size - (size > 0));
    const eep_config config = {.struct_bytes = sizeof config, .max_ranks = shape.max_ranks};
    const eepi_instance own = eepi_instance_of(&config);
    char text[EEPI_INSTANCE_TEXT_BYTES];
    eepi_report report;
    eepi_order order;
    eepi_ack ack;
    eepi_end end;
    eepi_wedge wedge;
    eepi_refusal refusal;
    bool taken = false;
    size -= size > 0;
    switch (bytes ? bytes[0] % 7 : 0) {
    case 0:
        taken = eepi_report_decode(copy, size, shape.max_ranks, &report) == EEP_OK;
        break;
    case 1:
        taken = eepi_order_decode(copy, size, &shape, &order) == EEP_OK;
        break;
    case 2:
        taken = eepi_ack_decode(copy, size, shape.max_ranks, &ack) == EEP_OK;
        break;
    case 3:
        taken = eepi_end_decode(copy, size, shape.max_ranks, &end) == EEP_OK;
        break;
    case 4:
        taken = eepi_wedge_decode(copy, size, shape.max_ranks, &wedge) == EEP_OK;
        break;
    case 5:
        taken = eepi_refusal_decode(copy, size, shape.max_ranks, &refusal) == EEP_OK;
        if (taken) {
            CHECK(strnlen(refusal.why, sizeof refusal.why) < sizeof refusal.why);
        }
        break;
    default:
        (void)eepi_instance_differs(&own, copy, size, text);
        (void)eepi_instance_seats(copy, size);
        break;
    }
    free(copy);
    return taken;
}

static size_t seed_small(int number, uint8_t *bytes_out)
{
    const eepi_ack ack = {.seat = 1, .generation = 2, .kind = EEPI_ACK_STAGED};
    const eepi_end end = {.seat = 1, .generation = 2, .kind = EEPI_END_PROCESS};
    _Alignas(8) unsigned char wishes[512];
    eepi_order order = {.number = 3, .seat = 1, .generation = 2, .wishes = wishes};
    const eepi_wedge wedge = {0};
    const eepi_refusal refusal = {.seat = 1, .generation = 2, .why = "no"};
    const eepi_report report = {0};
    size_t size = 0;
    void *encoded;
    bytes_out[0] = (uint8_t)number;
    switch (number) {
    case 0:
        encoded = eepi_report_encode(&report, &size);
        CHECK(encoded && size < FUZZ_MAX_BYTES);
        memcpy(bytes_out + 1, encoded, size);
        free(encoded);
        return 1 + size;
    case 1:
        CHECK(eepi_wishes_bytes(&shape) <= sizeof wishes);
        eepi_wishes_clear(wishes, &shape);
        order.digest = eepi_wishes_digest(wishes, &shape);
        encoded = eepi_order_encode(&order, &shape, &size);
        CHECK(encoded && size < FUZZ_MAX_BYTES);
        memcpy(bytes_out + 1, encoded, size);
        free(encoded);
        return 1 + size;
    case 2:
        memcpy(bytes_out + 1, &ack, sizeof ack);
        return 1 + sizeof ack;
    case 3:
        memcpy(bytes_out + 1, &end, sizeof end);
        return 1 + sizeof end;
    case 4:
        memcpy(bytes_out + 1, &wedge, sizeof wedge);
        return 1 + sizeof wedge;
    case 5:
        memcpy(bytes_out + 1, &refusal, sizeof refusal);
        return 1 + sizeof refusal;
    default:
        return 0;
    }
}

static const eepi_backup_layout *backup_layout(void)
{
    static eepi_backup_layout layout;
    layout.num_layers = shape.num_layers;
    layout.num_experts = shape.num_experts;
    return &layout;
}

static bool run_backup(const uint8_t *bytes, size_t size)
{
    void *copy = aligned_copy(bytes, size);
    eepi_backup_entry *entries = NULL;
    uint64_t num = 0;
    const char *why = NULL;
    const bool taken =
        eepi_backup_index_read(copy, size, backup_layout(), &entries, &num, &why) == EEP_OK;
    if (taken) {
        for (uint64_t i = 0; i < num; i++) {
            CHECK(entries[i].offset < size);
        }
        free(entries);
    }
    free(copy);
    return taken;
}

static size_t seed_backup(int number, uint8_t *bytes_out)
{
    eepi_backup_entry entries[2] = {{.layer = 0, .expert = 1, .checksum = 7},
                                    {.layer = 1, .expert = 2, .checksum = 8}};
    eepi_backup_layout layout = *backup_layout();
    layout.num_tensors = 1;
    layout.tensor_bytes[0] = 64;
    entries[0].offset = EEPI_BACKUP_HEAD_BYTES;
    entries[1].offset = EEPI_BACKUP_HEAD_BYTES + 64;
    const eepi_backup_head head = eepi_backup_head_of(&layout, entries, 2);
    if (number > 0 || head.bytes > FUZZ_MAX_BYTES) {
        return 0;
    }
    memset(bytes_out, 0, (size_t)head.bytes);
    memcpy(bytes_out, &head, sizeof head);
    memcpy(bytes_out + head.entries_offset, entries, sizeof entries);
    return (size_t)head.bytes;
}

/* Messages of another host's agent, one behind the other: a byte of their length in eights, then
 * they.
 */
static bool run_agent(const uint8_t *bytes, size_t size)
{
    eepi_board *board = calloc(1, sizeof *board);
    const eepi_agent_table_config config = {
        .host = 1, .generation = 1, .speaker = EEPI_AGENT_SPEAKER, .board = board};
    eepi_agent_table *table = board ? eepi_agent_table_open(&config) : NULL;
    bool taken = false;
    CHECK(table);
    OK(eepi_agent_attach(table, 1, 7));
    while (size > 1) {
        const size_t wanted = 8 * (size_t)bytes[0];
        const size_t now = wanted < size - 1 ? wanted : size - 1;
        eepi_agent_message message = {0};
        void *copy = aligned_copy(bytes + 1, now);
        if (eepi_agent_check(copy, now) == EEP_OK) {
            memcpy(&message, copy, now);
            taken = eepi_agent_hear(table, &message) == EEP_OK || taken;
            (void)eepi_agent_host_of(table, 2, 1);
        }
        free(copy);
        bytes += 1 + now;
        size -= 1 + now;
    }
    CHECK(eepi_agent_host_of(table, 1, 7) <= 1); /* nobody else speaks for our own rank */
    eepi_agent_table_close(table);
    free(board);
    return taken;
}

static size_t seed_agent(int number, uint8_t *bytes_out)
{
    const eepi_agent_message beat = {
        .head = {.magic = EEPI_AGENT_MAGIC,
                 .version = EEPI_AGENT_VERSION,
                 .kind = EEPI_AGENT_BEAT,
                 .host = 5,
                 .generation = 2,
                 .count = 3,
                 .speaker = EEPI_AGENT_SPEAKER,
                 .num_seats = 2},
        .entries = {{.seat = 2, .generation = 1, .beats = 9, .state = EEPI_SEAT_RUNS},
                    {.seat = 4, .generation = 6, .state = EEPI_SEAT_ENDED}}};
    const size_t size = eepi_agent_message_bytes(&beat);
    if (number > 0) {
        return 0;
    }
    bytes_out[0] = (uint8_t)(size / 8);
    memcpy(bytes_out + 1, &beat, size);
    return 1 + size;
}

/* ------------------------------------------------------------------ collectives between hosts */

enum { TALK_RANKS = 2, TALK_BYTES = 300 };

/* A rank with a peer on another host, under their first view. */
static eep_context *open_talker(int seat)
{
    eep_context *context = calloc(1, sizeof *context);
    eepi_view *view = eepi_view_new(&shape);
    char why[200];
    int32_t fd;
    CHECK(context && view);
    context->config.rank = seat;
    context->config.max_ranks = shape.max_ranks;
    context->generation = 1;
    CHECK(eepi_collectives_open(context) == EEP_OK);
    CHECK(eepi_collectives_make(context, why, sizeof why, &fd) == EEP_OK);
    CHECK(eepi_collectives_reach(context, 1 - seat, 1) == EEP_OK);
    eepi_collectives_join(context);
    view->epoch = 1;
    view->cause = EEPI_VIEW_INITIAL;
    for (int at = 0; at < TALK_RANKS; at++) {
        eepi_view_seat_at(view, at)->state = EEP_SEAT_ACTIVE;
        eepi_view_seat_at(view, at)->generation = 1;
    }
    eepi_collectives_follow(context, view);
    free(view);
    return context;
}

static void close_talker(eep_context *context)
{
    eepi_collectives_close(context);
    free(context);
}

static void deliver_nothing(void *user, int seat, const void *bytes, size_t size)
{
    (void)user, (void)seat, (void)bytes, (void)size;
}

/* Give what an allgather takes, without waiting. */
static eep_status give(eep_context *context)
{
    static const uint8_t send[TALK_BYTES] = {1, 2, 3};
    const eepi_collective_round round = {
        .call = "gather",
        .what = {.kind = EEPI_COLLECTIVE_ALLGATHER, .length = TALK_BYTES},
        .send = send,
        .bytes = sizeof send,
        .deliver = deliver_nothing};
    eep_collective_result result = {.struct_bytes = sizeof result};
    return eepi_collective_run(context, &round, &result);
}

/* Two bytes: how long the first message is; then that one, and the second. */
static bool run_talk(const uint8_t *bytes, size_t size)
{
    const size_t first = size < 2 ? 0 : (size_t)(bytes[0] | bytes[1] << 8);
    eep_context *context;
    bool taken;
    if (size < 2 || first > size - 2) {
        return false;
    }
    context = open_talker(0);
    CHECK(give(context) == EEP_ERR_TIMEOUT);
    taken = eepi_collective_hear(context, 1, 1, bytes + 2, first);
    taken &= first == size - 2 ||
             eepi_collective_hear(context, 1, 1, bytes + 2 + first, size - 2 - first);
    (void)give(context);
    close_talker(context);
    return taken;
}

static size_t seed_talk(int number, uint8_t *bytes_out)
{
    static uint8_t said[EEPI_TALK_BYTES];
    eep_context *context;
    size_t first, second;
    if (number > 1) {
        return 0;
    }
    context = open_talker(1);
    if (number == 1) {
        CHECK(give(context) == EEP_ERR_TIMEOUT);
    }
    first = eepi_collective_say(context, 0, 1, true, bytes_out + 2);
    bytes_out[0] = (uint8_t)first;
    bytes_out[1] = (uint8_t)(first >> 8);
    second = eepi_collective_say(context, 0, 1, false, said);
    memcpy(bytes_out + 2 + first, said, second);
    close_talker(context);
    return 2 + first + second;
}

const fuzz_target fuzz_membership_targets[] = {
    {"view", run_view, seed_view},
    {"member_record", run_record, seed_record},
    {"small_records", run_small, seed_small},
    {"backup_region", run_backup, seed_backup},
    {"agent_messages", run_agent, seed_agent},
    {"collective_words", run_talk, seed_talk},
    {NULL, NULL, NULL},
};
