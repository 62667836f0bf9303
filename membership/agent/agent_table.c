/* SPDX-License-Identifier: Apache-2.0 */
/* An agent's knowledge, and its board. */
#include "membership/agent/agent_table.h"

#include <stdlib.h>
#include <string.h>

typedef struct own_seat {
    uint32_t generation; /* 0: nobody */
    eepi_seat_state state;
    uint64_t beats, busy_us;
} own_seat;

struct eepi_agent_table {
    eepi_agent_table_config config;
    uint64_t rounds;
    own_seat own[EEP_MAX_RANKS];
};

static const uint64_t US_PER_MS = 1000;

eepi_agent_table *eepi_agent_table_open(const eepi_agent_table_config *config)
{
    eepi_agent_table *table = calloc(1, sizeof *table);
    eepi_board *board = config->board;

    if (!table) {
        return NULL;
    }
    table->config = *config;
    board->host = config->host;
    board->generation = config->generation;
    board->version = EEPI_BOARD_VERSION;
    __atomic_store_n(&board->magic, EEPI_BOARD_MAGIC, __ATOMIC_RELEASE);
    return table;
}

void eepi_agent_table_close(eepi_agent_table *table)
{
    free(table);
}

static bool is_seat(int32_t seat)
{
    return seat >= 0 && seat < EEP_MAX_RANKS;
}

/* ------------------------------------------------------------------ own ranks */

eep_status eepi_agent_attach(eepi_agent_table *table, int32_t seat, uint32_t generation)
{
    own_seat *own = is_seat(seat) ? &table->own[seat] : NULL;

    if (!own || generation == 0) {
        return EEP_ERR_INVALID;
    }
    if (own->generation > generation) {
        return EEP_ERR_STATE;
    }
    if (own->generation == generation && own->state == EEPI_SEAT_ENDED) {
        return EEP_ERR_CONFLICT;
    }
    if (own->generation != generation) {
        *own = (own_seat){.generation = generation};
    }
    own->state = EEPI_SEAT_RUNS;
    return EEP_OK;
}

void eepi_agent_note_beats(eepi_agent_table *table, int32_t seat, uint32_t generation,
                           uint64_t beats, uint64_t busy_us)
{
    own_seat *own = &table->own[seat];

    if (own->generation == generation && own->state == EEPI_SEAT_RUNS) {
        own->beats = beats;
        own->busy_us = busy_us;
    }
}

bool eepi_agent_note_end(eepi_agent_table *table, int32_t seat, uint32_t generation,
                         eepi_seat_state state)
{
    own_seat *own = is_seat(seat) ? &table->own[seat] : NULL;

    if (!own || generation == 0 || generation < own->generation ||
        (generation == own->generation && own->state >= state)) {
        return false;
    }
    if (generation != own->generation) {
        *own = (own_seat){.generation = generation};
    }
    own->state = state;
    own->busy_us = 0;
    return true;
}

bool eepi_agent_runs(const eepi_agent_table *table, int32_t seat, uint32_t generation)
{
    return is_seat(seat) && generation != 0 && table->own[seat].generation == generation &&
           table->own[seat].state == EEPI_SEAT_RUNS;
}

void eepi_agent_next_round(eepi_agent_table *table)
{
    table->rounds++;
    __atomic_store_n(&table->config.board->rounds, table->rounds, __ATOMIC_RELEASE);
}

static eepi_agent_head head_of(const eepi_agent_table *table, eepi_agent_kind kind)
{
    return (eepi_agent_head){.magic = EEPI_AGENT_MAGIC,
                             .version = EEPI_AGENT_VERSION,
                             .kind = (uint16_t)kind,
                             .host = table->config.host,
                             .generation = table->config.generation,
                             .count = table->rounds,
                             .speaker = table->config.speaker};
}

bool eepi_agent_tell(const eepi_agent_table *table, int32_t *at, eepi_agent_message *message_out)
{
    const bool is_first = *at == 0;

    if (*at >= EEP_MAX_RANKS) {
        return false;
    }
    message_out->head = head_of(table, EEPI_AGENT_BEAT);
    for (; *at < EEP_MAX_RANKS && message_out->head.num_seats < EEPI_AGENT_MAX_SEATS; (*at)++) {
        const own_seat *own = &table->own[*at];
        if (own->generation == 0) {
            continue;
        }
        message_out->entries[message_out->head.num_seats++] =
            (eepi_agent_entry){.seat = *at,
                               .generation = own->generation,
                               .beats = own->beats,
                               .state = (uint32_t)own->state,
                               .busy_ms = (uint32_t)((own->busy_us + US_PER_MS - 1) / US_PER_MS)};
    }
    return is_first || message_out->head.num_seats > 0;
}

eepi_agent_message eepi_agent_tell_kill(const eepi_agent_table *table, int32_t seat,
                                        uint32_t generation)
{
    eepi_agent_message message = {.head = head_of(table, EEPI_AGENT_KILL)};

    message.head.num_seats = 1;
    message.entries[0] = (eepi_agent_entry){.seat = seat, .generation = generation};
    return message;
}

/* ------------------------------------------------------------------ other hosts */

static bool is_entry(const eepi_agent_entry *entry, const eepi_agent_head *head)
{
    const bool is_its_own = head->speaker == EEPI_AGENT_SPEAKER || entry->seat == head->speaker;

    return is_seat(entry->seat) && entry->generation != 0 && entry->state <= EEPI_SEAT_ENDED &&
           (head->kind == EEPI_AGENT_KILL || (is_its_own && entry->state != EEPI_SEAT_UNKNOWN));
}

eep_status eepi_agent_check(const void *bytes, size_t size)
{
    eepi_agent_message message;

    if (size < sizeof message.head || size > sizeof message) {
        return EEP_ERR_PROTOCOL;
    }
    memcpy(&message, bytes, size);
    if (message.head.magic != EEPI_AGENT_MAGIC) {
        return EEP_ERR_PROTOCOL;
    }
    if (message.head.version != EEPI_AGENT_VERSION) {
        return EEP_ERR_UNSUPPORTED;
    }
    if (message.head.num_seats > EEPI_AGENT_MAX_SEATS ||
        eepi_agent_message_bytes(&message) != size || message.head.host == 0 ||
        message.head.generation == 0 || message.head.speaker < EEPI_AGENT_SPEAKER ||
        message.head.speaker >= EEP_MAX_RANKS ||
        (message.head.kind != EEPI_AGENT_BEAT &&
         (message.head.kind != EEPI_AGENT_KILL || message.head.num_seats != 1))) {
        return EEP_ERR_PROTOCOL;
    }
    for (uint32_t i = 0; i < message.head.num_seats; i++) {
        if (!is_entry(&message.entries[i], &message.head)) {
            return EEP_ERR_PROTOCOL;
        }
    }
    return EEP_OK;
}

/* The host's place on the board, a new one if it has none; -1: the board is full. */
static int place_of(const eepi_agent_table *table, uint64_t host)
{
    eepi_board *board = table->config.board;
    int place = 0;

    while (place < EEPI_BOARD_HOSTS && board->hosts[place].host != 0 &&
           board->hosts[place].host != host) {
        place++;
    }
    if (place == EEPI_BOARD_HOSTS) {
        return -1;
    }
    __atomic_store_n(&board->hosts[place].host, host, __ATOMIC_RELEASE);
    return place;
}

/* Two hosts may name one generation of a seat: a process there ended before the store knew of it,
 * and one here was given the same. Nobody knows here which one a document means, and who listens
 * does. So each of the two is on the board in turn, but an end does not take the place of one that
 * runs elsewhere. */
static void take_entry(eepi_agent_table *table, int place, const eepi_agent_entry *entry)
{
    eepi_board_seat *seat = &table->config.board->seats[entry->seat];
    const uint64_t before = seat->who;
    eepi_board_seat now = {.beats = entry->beats, .busy_us = (uint64_t)entry->busy_ms * US_PER_MS};

    if (entry->generation < eepi_board_generation(before)) {
        return;
    }
    now.who = eepi_board_who(entry->generation, place, (eepi_seat_state)entry->state);
    if (entry->generation == eepi_board_generation(before) &&
        (place == eepi_board_place(before)
             ? entry->state < (uint32_t)eepi_board_state(before) /* an end is final */
             : entry->state != EEPI_SEAT_RUNS && eepi_board_state(before) == EEPI_SEAT_RUNS)) {
        return;
    }
    eepi_board_write(seat, &now);
}

eep_status eepi_agent_hear(eepi_agent_table *table, const eepi_agent_message *message)
{
    const eepi_agent_head *head = &message->head;
    const int place = head->host == table->config.host ? -1 : place_of(table, head->host);
    eepi_board_host *host = place >= 0 ? &table->config.board->hosts[place] : NULL;

    if (!host) {
        return head->host == table->config.host ? EEP_ERR_CONFLICT : EEP_ERR_NO_MEMORY;
    }
    if (head->speaker == EEPI_AGENT_SPEAKER) {
        if (head->generation < host->generation) {
            return EEP_ERR_STATE;
        }
        host->generation = head->generation;
    }
    for (uint32_t i = 0; i < head->num_seats; i++) {
        take_entry(table, place, &message->entries[i]);
    }
    __atomic_store_n(&host->signs, host->signs + 1, __ATOMIC_RELEASE); /* behind its entries */
    return EEP_OK;
}

void eepi_agent_note_address(eepi_agent_table *table, uint64_t host, uint64_t generation,
                             const char *address)
{
    const int place = host != 0 && host != table->config.host ? place_of(table, host) : -1;

    if (place >= 0 && generation >= table->config.board->hosts[place].generation) {
        strncpy(table->config.board->hosts[place].address, address, EEPI_BOARD_ADDRESS_BYTES - 1);
    }
}

uint64_t eepi_agent_host_of(const eepi_agent_table *table, int32_t seat, uint32_t generation)
{
    const eepi_board *board = table->config.board;
    eepi_board_seat said;

    if (!is_seat(seat) || !eepi_board_read(&board->seats[seat], &said) ||
        eepi_board_generation(said.who) != generation) {
        return 0;
    }
    return board->hosts[eepi_board_place(said.who)].host;
}
