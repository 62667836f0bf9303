/* SPDX-License-Identifier: Apache-2.0 */
/* Records, reports and the instance's numbers as bytes; all lengths and indices are checked. */
#include "membership/context/records.h"

#include "eep/shapes.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECORD_MAGIC = 0x4d454d42,
    REPORT_MAGIC = 0x52505255,
    ORDER_MAGIC = 0x4f524452,
    BULK_ADDRESS_MAX = 64 * 1024
};

/* Layout: head, checksums, backup words, claims of backups, experts, bulk address. The first four
 * fields keep their place in every version. Version 1 had windows of 64 bytes and no number here,
 * version 2 one sequence, version 3 no host, version 4 no network, version 5 one interface and
 * nothing of a lapse. */
enum { RECORD_VERSION = 6 };
typedef struct record_head {
    uint32_t magic, version;
    int32_t seat;
    uint32_t generation;
    uint32_t bulk_address_bytes, unused;
    uint8_t ready, leaving, has_checkpoint, follows_lapse;
    int32_t pid;
    uint64_t pid_start, home, host;
    uint64_t order_number, order_digest, sequence_digest[EEP_MAX_SHAPES];
    eepi_window_descriptor window;
    eepi_lane_address lane;
    eepi_view_shape shape;
    uint64_t tensor_bytes[EEP_MAX_TENSORS];
    uint32_t rates[EEPI_NUM_RATES];
} record_head;
static_assert(sizeof(record_head) % 8 == 0, "arrays of words follow");

typedef struct record_sizes {
    size_t slots, words;
    size_t checksums, backup, claims, experts, address; /* offsets */
} record_sizes;

static record_sizes sizes_of(const eepi_view_shape *shape)
{
    record_sizes s;

    s.slots = (size_t)shape->num_layers * (size_t)shape->num_slots;
    s.words = (size_t)shape->num_layers * (((size_t)shape->num_experts + 63) / 64);
    s.checksums = sizeof(record_head);
    s.backup = s.checksums + s.slots * sizeof(uint64_t);
    s.claims = s.backup + s.words * sizeof(uint64_t);
    s.experts = s.claims + (size_t)shape->num_layers * sizeof(uint64_t);
    s.address = s.experts + s.slots * sizeof(int32_t);
    return s;
}

void *eepi_record_encode(const eepi_record *record, const eepi_view_shape *shape, size_t *bytes_out)
{
    record_sizes s = sizes_of(shape);
    size_t bytes = s.address + record->bulk_address_bytes;
    uint8_t *encoded = calloc(1, bytes);
    record_head *head = (record_head *)encoded;

    if (!encoded) {
        return NULL;
    }
    head->magic = RECORD_MAGIC;
    head->version = RECORD_VERSION;
    head->bulk_address_bytes = record->bulk_address_bytes;
    head->seat = record->member.seat;
    head->generation = record->member.generation;
    head->ready = record->member.ready;
    head->leaving = record->member.leaving;
    head->has_checkpoint = record->member.has_checkpoint;
    head->follows_lapse = record->member.follows_lapse;
    head->pid = record->pid;
    head->pid_start = record->pid_start;
    head->home = record->home;
    head->host = record->member.host;
    head->order_number = record->member.order_number;
    head->order_digest = record->member.order_digest;
    memcpy(head->sequence_digest, record->member.sequence_digest, sizeof head->sequence_digest);
    head->window = record->window;
    head->lane = record->lane;
    head->shape = *shape;
    if (record->member.tensor_bytes) {
        memcpy(head->tensor_bytes, record->member.tensor_bytes, sizeof head->tensor_bytes);
    }
    if (record->member.rates) {
        memcpy(head->rates, record->member.rates, sizeof head->rates);
    }
    memcpy(encoded + s.checksums, record->member.checksums, s.slots * sizeof(uint64_t));
    memcpy(encoded + s.backup, record->member.backup, s.words * sizeof(uint64_t));
    if (record->member.claims) {
        memcpy(encoded + s.claims, record->member.claims,
               (size_t)shape->num_layers * sizeof(uint64_t));
    }
    memcpy(encoded + s.experts, record->member.experts, s.slots * sizeof(int32_t));
    if (record->bulk_address_bytes) {
        memcpy(encoded + s.address, record->bulk_address, record->bulk_address_bytes);
    }
    *bytes_out = bytes;
    return encoded;
}

eep_status eepi_record_decode(const void *bytes, size_t size, const eepi_view_shape *shape,
                              eepi_record *record_out)
{
    record_sizes s = sizes_of(shape);
    const uint8_t *from = bytes;
    const record_head *head = bytes;
    const int32_t *experts;
    const uint64_t *checksums;

    if (size < sizeof *head || head->magic != RECORD_MAGIC || head->version != RECORD_VERSION ||
        memcmp(&head->shape, shape, sizeof *shape) != 0 ||
        head->bulk_address_bytes > BULK_ADDRESS_MAX ||
        size != s.address + head->bulk_address_bytes || head->seat < 0 ||
        head->seat >= shape->max_ranks || head->generation == 0 || head->has_checkpoint > 1 ||
        head->follows_lapse > 1 || !eepi_rates_are_sane(head->rates) ||
        !eepi_lane_address_is_sane(&head->lane)) {
        return EEP_ERR_PROTOCOL;
    }
    experts = (const int32_t *)(from + s.experts);
    checksums = (const uint64_t *)(from + s.checksums);
    for (size_t i = 0; i < s.slots; i++) {
        if (experts[i] < -1 || experts[i] >= shape->num_experts) {
            return EEP_ERR_PROTOCOL;
        }
        /* rule R1: what a rank that is ready holds, others may be filled from, by its checksum */
        if (head->ready && experts[i] >= 0 && checksums[i] == 0) {
            return EEP_ERR_PROTOCOL;
        }
    }
    *record_out = (eepi_record){
        .member = {head->seat, head->generation, head->ready, head->leaving, experts, checksums,
                   (const uint64_t *)(from + s.backup), head->tensor_bytes, head->rates,
                   head->has_checkpoint, (const uint64_t *)(from + s.claims), head->order_number,
                   head->order_digest, .sequence_digest = {0}, .host = head->host,
                   .follows_lapse = head->follows_lapse},
        .pid = head->pid,
        .pid_start = head->pid_start,
        .home = head->home,
        .window = head->window,
        .lane = head->lane,
        .bulk_address = from + s.address,
        .bulk_address_bytes = head->bulk_address_bytes,
    };
    memcpy(record_out->member.sequence_digest, head->sequence_digest, sizeof head->sequence_digest);
    return EEP_OK;
}

void eepi_record_say_refused(const void *bytes, size_t size, char *text_out, size_t text_bytes)
{
    const record_head *head = bytes;
    const size_t fixed = offsetof(record_head, bulk_address_bytes);

    if (size >= fixed && head->magic == RECORD_MAGIC && head->version != RECORD_VERSION) {
        snprintf(text_out, text_bytes,
                 "the record of rank %d (generation %u) is of another version of libeep than this "
                 "rank's: ignored; run one version on all ranks",
                 head->seat, head->generation);
        return;
    }
    snprintf(text_out, text_bytes, "a member record does not fit this instance: ignored");
}

typedef struct report_head {
    uint32_t magic;
    int32_t seat;
    uint32_t generation;
    int32_t num_suspects;
    uint64_t epoch, highest_step, collective, held;
} report_head;

void *eepi_report_encode(const eepi_report *report, size_t *bytes_out)
{
    size_t tail = (size_t)report->num_suspects * sizeof(eepi_suspect);
    uint8_t *encoded = calloc(1, sizeof(report_head) + tail);
    report_head *head = (report_head *)encoded;

    if (!encoded) {
        return NULL;
    }
    *head = (report_head){.magic = REPORT_MAGIC,
                          .seat = report->seat,
                          .generation = report->generation,
                          .num_suspects = report->num_suspects,
                          .epoch = report->epoch,
                          .highest_step = report->highest_step,
                          .collective = report->collective,
                          .held = report->held};
    if (tail) {
        memcpy(encoded + sizeof *head, report->suspects, tail);
    }
    *bytes_out = sizeof *head + tail;
    return encoded;
}

static bool suspect_is_sane(const eepi_suspect *suspect, int32_t max_ranks)
{
    return suspect->seat >= 0 && suspect->seat < max_ranks && suspect->kind >= EEP_FAULT_EXIT &&
           suspect->kind < EEPI_NUM_FAULT_KINDS;
}

eep_status eepi_report_decode(const void *bytes, size_t size, int32_t max_ranks,
                              eepi_report *report_out)
{
    const report_head *head = bytes;
    const eepi_suspect *suspects = (const eepi_suspect *)(head + 1);

    if (size < sizeof *head || head->magic != REPORT_MAGIC || head->seat < 0 ||
        head->seat >= max_ranks || head->epoch > EEPI_VIEW_MAX_NUMBER ||
        head->highest_step > EEPI_VIEW_MAX_NUMBER || head->collective > EEPI_VIEW_MAX_NUMBER ||
        head->held > EEPI_VIEW_MAX_NUMBER || head->num_suspects < 0 ||
        head->num_suspects > max_ranks ||
        size != sizeof *head + (size_t)head->num_suspects * sizeof(eepi_suspect)) {
        return EEP_ERR_PROTOCOL;
    }
    for (int i = 0; i < head->num_suspects; i++) {
        if (!suspect_is_sane(&suspects[i], max_ranks)) {
            return EEP_ERR_PROTOCOL;
        }
    }
    *report_out = (eepi_report){.seat = head->seat,
                                .generation = head->generation,
                                .epoch = head->epoch,
                                .highest_step = head->highest_step,
                                .num_suspects = head->num_suspects,
                                .suspects = suspects,
                                .collective = head->collective,
                                .held = head->held};
    return EEP_OK;
}

typedef struct order_head {
    uint32_t magic;
    int32_t seat;
    uint32_t generation, pad;
    uint64_t number, digest;
    eepi_view_shape shape;
} order_head;
static_assert(sizeof(order_head) % 8 == 0, "wishes follow");

void *eepi_order_encode(const eepi_order *order, const eepi_view_shape *shape, size_t *bytes_out)
{
    const size_t tail = eepi_wishes_bytes(shape);
    uint8_t *encoded = calloc(1, sizeof(order_head) + tail);

    if (!encoded) {
        return NULL;
    }
    *(order_head *)encoded = (order_head){.magic = ORDER_MAGIC,
                                          .seat = order->seat,
                                          .generation = order->generation,
                                          .number = order->number,
                                          .digest = order->digest,
                                          .shape = *shape};
    memcpy(encoded + sizeof(order_head), order->wishes, tail);
    *bytes_out = sizeof(order_head) + tail;
    return encoded;
}

eep_status eepi_order_decode(const void *bytes, size_t size, const eepi_view_shape *shape,
                             eepi_order *order_out)
{
    const order_head *head = bytes;
    const void *wishes = head + 1;

    if (size != sizeof *head + eepi_wishes_bytes(shape) || head->magic != ORDER_MAGIC ||
        memcmp(&head->shape, shape, sizeof *shape) != 0 || head->seat < 0 ||
        head->seat >= shape->max_ranks || head->generation == 0 || head->number == 0 ||
        head->number > EEPI_VIEW_MAX_NUMBER || eepi_wishes_check(wishes, shape) ||
        head->digest != eepi_wishes_digest(wishes, shape)) {
        return EEP_ERR_PROTOCOL;
    }
    *order_out = (eepi_order){head->number, head->digest, head->seat, head->generation, wishes};
    return EEP_OK;
}

eep_status eepi_ack_decode(const void *bytes, size_t size, int32_t max_ranks, eepi_ack *ack_out)
{
    const eepi_ack *ack = bytes;

    if (size != sizeof *ack || ack->seat < 0 || ack->seat >= max_ranks ||
        ack->kind < EEPI_ACK_STAGED || ack->kind > EEPI_ACK_FLIPPED) {
        return EEP_ERR_PROTOCOL;
    }
    *ack_out = *ack;
    return EEP_OK;
}

eep_status eepi_end_decode(const void *bytes, size_t size, int32_t max_ranks, eepi_end *end_out)
{
    const eepi_end *end = bytes;

    if (size != sizeof *end || end->seat < 0 || end->seat >= max_ranks ||
        (end->kind != EEPI_END_PROCESS && end->kind != EEPI_END_STORES)) {
        return EEP_ERR_PROTOCOL;
    }
    *end_out = *end;
    return EEP_OK;
}

eep_status eepi_wedge_decode(const void *bytes, size_t size, int32_t max_ranks,
                             eepi_wedge *wedge_out)
{
    const eepi_wedge *wedge = bytes;

    if (size != sizeof *wedge || wedge->seat < 0 || wedge->seat >= max_ranks ||
        wedge->cause.seat < 0 || wedge->cause.seat >= max_ranks) {
        return EEP_ERR_PROTOCOL;
    }
    *wedge_out = *wedge;
    return EEP_OK;
}

eep_status eepi_refusal_decode(const void *bytes, size_t size, int32_t max_ranks,
                               eepi_refusal *refusal_out)
{
    const eepi_refusal *refusal = bytes;

    if (size != sizeof *refusal || refusal->seat < 0 || refusal->seat >= max_ranks ||
        !memchr(refusal->why, '\0', sizeof refusal->why)) {
        return EEP_ERR_PROTOCOL;
    }
    *refusal_out = *refusal;
    return EEP_OK;
}

/* ------------------------------------------------------------------ the instance */

static const char *const instance_fields[EEPI_INSTANCE_NUMBERS] = {
    "the version of libeep's protocol",
    "max_ranks",
    "num_layers",
    "num_experts",
    "num_slots",
    "top_k",
    "hidden",
    "num_max_tokens_per_rank",
    "dtype",
    "fp8_dispatch",
    "bulk",
    "ranks_per_node",
    "spread_distance",
    "backup_copies",
    "num_chains",
    "seats_per_group",
    "max_tokens of shape 1",
    "num_chunks of shape 1",
    "max_tokens of shape 2",
    "num_chunks of shape 2",
    "max_tokens of shape 3",
    "num_chunks of shape 3"};

static const char *const advice_fields[EEPI_INSTANCE_ADVICE] = {
    "step_deadline_us", "warmup_deadline_us", "expel_floor_us",        "drain_bound_us",
    "propose_delay_us", "kill_fence",         "background_bytes_per_s"};

/* A shape that there is not has no token and no chunk. */
static void name_shapes(const eep_config *c, int32_t numbers_out[2 * (EEP_MAX_SHAPES - 1)])
{
    for (int32_t i = 0; i < c->num_shapes; i++) {
        numbers_out[2 * i] = c->shapes[i].max_tokens;
        numbers_out[2 * i + 1] = c->shapes[i].num_chunks;
    }
}

eepi_instance eepi_instance_of(const eep_config *c)
{
    eepi_instance instance = {
        .numbers = {EEPI_PROTOCOL_VERSION, c->max_ranks, c->num_layers, c->num_experts,
                    c->num_slots, c->top_k, c->hidden, c->num_max_tokens_per_rank,
                    (int32_t)c->dtype, c->fp8_dispatch,
                    c->bulk == EEP_BULK_UCX ? EEP_BULK_UCX : EEP_BULK_SHM, c->ranks_per_node,
                    c->spread_distance, c->backup_copies, c->num_chains,
                    c->seats_per_group > 1 ? c->seats_per_group : 0},
        .num_ranks = c->num_ranks,
        .advice = {c->step_deadline_us, c->warmup_deadline_us, c->expel_floor_us, c->drain_bound_us,
                   c->propose_delay_us, (uint64_t)c->kill_fence, c->background_bytes_per_s}};

    name_shapes(c, &instance.numbers[EEPI_INSTANCE_NUMBERS - 2 * (EEP_MAX_SHAPES - 1)]);
    return instance;
}

int32_t eepi_instance_seats(const void *bytes, size_t size)
{
    int32_t numbers[2] = {0};
    memcpy(numbers, bytes, size < sizeof numbers ? size : sizeof numbers);
    return numbers[numbers[0] > EEP_MAX_RANKS]; /* the version came before it later on */
}

const char *eepi_instance_advises(const eepi_instance *own, const eepi_instance *theirs,
                                  int *at_out)
{
    for (; *at_out < EEPI_INSTANCE_ADVICE; ++*at_out) {
        if (own->advice[*at_out] != theirs->advice[*at_out]) {
            return advice_fields[*at_out];
        }
    }
    return NULL;
}

enum {
    PROTOCOL,
    MAX_RANKS,
    DTYPE = 8,
    BULK = 10
}; /* of instance_fields: numbers that have names */

static const char *value_text(int field, int32_t value, char text[16])
{
    if (field == DTYPE && value == EEP_FP32) {
        return "EEP_FP32";
    }
    if (field == DTYPE && value == EEP_BF16) {
        return "EEP_BF16";
    }
    if (field == BULK && value == EEP_BULK_SHM) {
        return "EEP_BULK_SHM";
    }
    if (field == BULK && value == EEP_BULK_UCX) {
        return "EEP_BULK_UCX";
    }
    snprintf(text, 16, "%d", value);
    return text;
}

bool eepi_instance_differs(const eepi_instance *own, const void *bytes, size_t size,
                           char text_out[EEPI_INSTANCE_TEXT_BYTES])
{
    eepi_instance theirs = {{0}};
    char here[16], there[16];

    memcpy(&theirs, bytes, size < sizeof theirs ? size : sizeof theirs);
    for (int i = 0; i < EEPI_INSTANCE_NUMBERS; i++) {
        if (theirs.numbers[i] == own->numbers[i]) {
            continue;
        }
        snprintf(text_out, EEPI_INSTANCE_TEXT_BYTES, "%s is %s here and %s in the instance%s",
                 instance_fields[i], value_text(i, own->numbers[i], here),
                 value_text(i, theirs.numbers[i], there),
                 i == PROTOCOL ? ": run one release of libeep on all ranks"
                 : i == MAX_RANKS && own->numbers[i] == own->num_ranks
                     ? " (max_ranks 0 means num_ranks, or EEP_SIZE)"
                     : "");
        return true;
    }
    return false;
}
