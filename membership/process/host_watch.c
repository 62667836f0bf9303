/* SPDX-License-Identifier: Apache-2.0 */
/* Judging ranks of other hosts by what two boards say of them. */
#include "membership/process/host_watch.h"

#include <stdlib.h>
#include <string.h>

enum { BOARDS = 2, AGENTS = 0, OWN = 1 }; /* the agent's, and this rank's own */

/* A host speaks on a board. Between two of its signs at most so much counts as time in which it
 * spoke: a longer gap is the host's, not its ranks' (rule N11). */
enum { MOST_GAP_US = 60000 };

typedef struct heard_host {
    uint64_t host, signs;
    uint64_t spoke_us; /* since the look before, by what is new on its board; 0: it is silent */
    uint64_t last_us;
} heard_host;

typedef struct watched_seat {
    uint32_t generation; /* 0: not watched */
    uint64_t host, beats[BOARDS];
    bool has_spoken; /* one of the present boards has named it */
    uint64_t silent_us, host_heard_us, busy_until_us;
    eepi_host_sign told;
} watched_seat;

struct eepi_host_watch {
    eepi_host_watch_config config;
    const eepi_board *board[BOARDS];
    uint64_t rounds, agent_heard_us, now_us, last_us;
    bool has_looked, is_late, is_alone;
    int32_t num_watched;
    heard_host hosts[BOARDS][EEPI_BOARD_HOSTS];
    watched_seat *seats;
    uint32_t *heard; /* [max_ranks] over the data plane since the look before; atomic */
};

eepi_host_watch *eepi_host_watch_open(const eepi_host_watch_config *config)
{
    eepi_host_watch *watch = calloc(1, sizeof *watch);

    if (!watch) {
        return NULL;
    }
    watch->config = *config;
    watch->is_alone = true;
    watch->seats = calloc((size_t)config->max_ranks, sizeof *watch->seats);
    watch->heard = calloc((size_t)config->max_ranks, sizeof *watch->heard);
    if (!watch->seats || !watch->heard) {
        eepi_host_watch_close(watch);
        return NULL;
    }
    return watch;
}

void eepi_host_watch_close(eepi_host_watch *watch)
{
    if (watch) {
        free(watch->seats);
        free(watch->heard);
    }
    free(watch);
}

void eepi_host_watch_set_boards(eepi_host_watch *watch, const eepi_board *agents,
                                const eepi_board *own)
{
    const eepi_board *boards[BOARDS] = {agents, own};

    for (int i = 0; i < BOARDS; i++) {
        if (watch->board[i] != boards[i]) {
            watch->board[i] = boards[i];
            memset(watch->hosts[i], 0, sizeof watch->hosts[i]);
        }
    }
    /* The next agent has not met the others yet: its board is empty, and not their silence. */
    for (int32_t seat = 0; seat < watch->config.max_ranks; seat++) {
        watch->seats[seat].has_spoken = false;
    }
}

void eepi_host_watch_seat(eepi_host_watch *watch, int32_t seat, uint32_t generation, uint64_t host,
                          uint64_t now)
{
    watched_seat *of = &watch->seats[seat];

    if (of->generation == generation && of->host == host) {
        return;
    }
    watch->num_watched += of->generation == 0;
    *of = (watched_seat){.generation = generation, .host = host, .host_heard_us = now};
}

void eepi_host_watch_forget(eepi_host_watch *watch, int32_t seat)
{
    watch->num_watched -= watch->seats[seat].generation != 0;
    watch->seats[seat] = (watched_seat){0};
}

void eepi_host_watch_hear(eepi_host_watch *watch, int32_t seat)
{
    __atomic_store_n(&watch->heard[seat], 1, __ATOMIC_RELAXED);
}

uint64_t eepi_host_watch_busy_until(const eepi_host_watch *watch, int32_t seat, uint32_t generation)
{
    const watched_seat *of = &watch->seats[seat];

    return of->generation == generation ? of->busy_until_us : 0;
}

int32_t eepi_host_watch_num(const eepi_host_watch *watch)
{
    return watch->num_watched;
}

bool eepi_host_watch_is_alone(const eepi_host_watch *watch)
{
    return watch->is_alone;
}

/* ------------------------------------------------------------------ a look */

static void look_at_agent(eepi_host_watch *watch)
{
    const eepi_board *board = watch->board[AGENTS];
    const uint64_t rounds = board ? __atomic_load_n(&board->rounds, __ATOMIC_ACQUIRE) : 0;

    if (board && rounds != watch->rounds) {
        watch->rounds = rounds;
        watch->agent_heard_us = watch->now_us;
    }
    watch->is_alone =
        !board || watch->now_us - watch->agent_heard_us >= watch->config.agent_silence_us;
}

static void look_at_hosts(eepi_host_watch *watch, int which)
{
    const eepi_board *board = watch->board[which];

    for (int place = 0; board && place < EEPI_BOARD_HOSTS; place++) {
        heard_host *host = &watch->hosts[which][place];
        const uint64_t id = __atomic_load_n(&board->hosts[place].host, __ATOMIC_ACQUIRE);
        const uint64_t signs = __atomic_load_n(&board->hosts[place].signs, __ATOMIC_ACQUIRE);
        if (id == 0 && host->host == 0) {
            continue;
        }
        host->spoke_us = 0;
        if (id != host->host) {
            *host = (heard_host){.host = id, .signs = signs, .last_us = watch->now_us};
        } else if (signs != host->signs) {
            host->signs = signs;
            host->spoke_us = watch->now_us - host->last_us;
            host->spoke_us = host->spoke_us < MOST_GAP_US ? host->spoke_us : MOST_GAP_US;
            host->last_us = watch->now_us;
        }
    }
}

void eepi_host_watch_look(eepi_host_watch *watch, uint64_t now)
{
    watch->last_us = watch->has_looked ? watch->now_us : now;
    watch->now_us = now;
    if (!watch->has_looked) {
        watch->agent_heard_us = now;
    }
    watch->has_looked = true;
    watch->is_late = now - watch->last_us > 2 * watch->config.period_us;
    if (watch->is_late) { /* rule M6: we were away, not they */
        watch->agent_heard_us += now - watch->last_us;
    }
    look_at_agent(watch);
    look_at_hosts(watch, AGENTS);
    look_at_hosts(watch, OWN);
}

/* What the boards say of a seat in this look. */
typedef struct board_word {
    eepi_seat_state state;
    bool beats, is_busy;
    uint64_t spoke_us; /* of its host */
} board_word;

static void hear_board(eepi_host_watch *watch, int32_t seat, int which, board_word *said)
{
    const eepi_board *board = watch->board[which];
    watched_seat *of = &watch->seats[seat];
    eepi_board_seat now;

    if (!board || !eepi_board_read(&board->seats[seat], &now) ||
        eepi_board_generation(now.who) != of->generation) {
        return; /* a newer one elsewhere proves nothing of this one (rule N8) */
    }
    const heard_host *speaker = &watch->hosts[which][eepi_board_place(now.who)];
    if (speaker->host != of->host) {
        return; /* another process under that generation (rule N12) */
    }
    const uint64_t spoke_us = speaker->spoke_us;
    said->spoke_us = spoke_us > said->spoke_us ? spoke_us : said->spoke_us;
    said->is_busy |= now.busy_us > 0 && spoke_us > 0;
    if (spoke_us > 0) {
        of->busy_until_us = now.busy_us > 0 ? watch->now_us + now.busy_us : 0;
    }
    if (now.beats != of->beats[which]) {
        of->beats[which] = now.beats;
        said->beats = true;
    }
    if (eepi_board_state(now.who) > said->state) {
        said->state = eepi_board_state(now.who);
    }
    of->has_spoken = true;
}

static eepi_host_sign end_silence(watched_seat *of)
{
    const bool was_silent = of->told == EEPI_HOST_SIGN_SILENT;

    of->silent_us = 0;
    of->told = was_silent ? EEPI_HOST_SIGN_NONE : of->told;
    return was_silent ? EEPI_HOST_SIGN_ALIVE : EEPI_HOST_SIGN_NONE;
}

/* It may be watched only since the look before, or since this one began. */
static uint64_t unheard_for_us(const eepi_host_watch *watch, const watched_seat *of)
{
    return watch->now_us > of->host_heard_us ? watch->now_us - of->host_heard_us : 0;
}

static eepi_host_sign judge(eepi_host_watch *watch, watched_seat *of, const board_word *said,
                            uint64_t expel_us)
{
    const uint64_t unheard_us = unheard_for_us(watch, of);
    const uint64_t look_us = watch->now_us - watch->last_us;
    const uint64_t elapsed_us = look_us < unheard_us ? look_us : unheard_us;

    if (said->beats) {
        of->host_heard_us = watch->now_us;
        return end_silence(of);
    }
    if (watch->is_late || watch->is_alone || !of->has_spoken) {
        of->host_heard_us += elapsed_us; /* nobody is there who could tell */
        return EEPI_HOST_SIGN_NONE;
    }
    if (said->spoke_us > 0) {
        of->host_heard_us = watch->now_us;
        of->silent_us = said->is_busy ? 0 : of->silent_us + said->spoke_us;
    }
    if (of->told == EEPI_HOST_SIGN_SILENT ||
        (of->silent_us < expel_us && unheard_for_us(watch, of) < watch->config.host_silence_us)) {
        return EEPI_HOST_SIGN_NONE;
    }
    of->told = EEPI_HOST_SIGN_SILENT;
    return EEPI_HOST_SIGN_SILENT;
}

eepi_host_sign eepi_host_watch_sign(eepi_host_watch *watch, int32_t seat, uint64_t expel_us,
                                    uint32_t *generation_out)
{
    watched_seat *of = &watch->seats[seat];
    board_word said = {.beats = __atomic_exchange_n(&watch->heard[seat], 0, __ATOMIC_RELAXED) != 0};

    if (of->generation == 0 || of->told == EEPI_HOST_SIGN_ENDED) {
        return EEPI_HOST_SIGN_NONE;
    }
    *generation_out = of->generation;
    hear_board(watch, seat, AGENTS, &said);
    hear_board(watch, seat, OWN, &said);
    if (said.state == EEPI_SEAT_ENDED) {
        return of->told = EEPI_HOST_SIGN_ENDED;
    }
    if (said.state == EEPI_SEAT_CLOSED) {
        if (of->told == EEPI_HOST_SIGN_CLOSED) {
            return EEPI_HOST_SIGN_NONE;
        }
        return of->told = EEPI_HOST_SIGN_CLOSED;
    }
    return judge(watch, of, &said, expel_us);
}
