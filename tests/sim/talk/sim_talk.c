/* SPDX-License-Identifier: Apache-2.0 */
/* What the hosts of two ranks say to each other (eepi_network_talk), over connections that break:
 * what is under way is lost then, and all is said anew on the next one. On one connection messages
 * keep their order, and are as late as those of a bad network. */
#include "tests/sim/sim.h"

#include "transport/proxy/network.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct talker talker;

typedef struct message {
    struct message *next;
    talker *from, *to;
    uint32_t seat, generation; /* of whom it is for */
    uint64_t connection, number;
    size_t num;
    uint8_t bytes[];
} message;

typedef struct way { /* to the process in a seat */
    uint32_t generation;
    int has_talk, is_anew, is_down;
    uint64_t connection, sent, arrived; /* of this connection */
} way;

/* Lives as long as the world, as messages do. */
struct talker {
    eepi_network_talk talk;
    sim_process *process;
    uint32_t seat, generation;
    int stops, is_news;
    way ways[SIM_MAX_SEATS];
    message *first, *last; /* to be heard */
    pthread_t speaker, hearer;
    talker *next;
    uint8_t said[EEPI_TALK_BYTES]; /* the speaker's */
};

static int is_gone(const talker *t)
{
    return t->stops || !t->process->alive;
}

static talker *talker_of(uint32_t seat, uint32_t generation)
{
    for (talker *t = sim->talkers; t; t = t->next) {
        if (t->seat == seat && t->generation == generation) {
            return t;
        }
    }
    return NULL;
}

/* The speaker may look at other ways just now. */
static void wake_speaker(talker *t)
{
    t->is_news = 1;
    sim_wake(&t->speaker, 1);
}

/* ------------------------------------------------------------------ the wire */

static void connect_again(void *user, uint64_t seat)
{
    talker *t = user;
    way *w = &t->ways[seat];

    if (!is_gone(t)) {
        w->is_anew = w->has_talk = 1;
        w->is_down = 0;
        wake_speaker(t);
    }
}

static void break_way(talker *t, uint32_t seat)
{
    way *w = &t->ways[seat];

    w->connection++;
    w->sent = w->arrived = 0;
    w->is_down = 1;
    sim_after(sim_delay(1000, 40000), connect_again, t, seat);
}

static void arrive(void *user, uint64_t number)
{
    message *m = user;
    way *w = &m->from->ways[m->seat];
    talker *to = talker_of(m->seat, m->generation);

    (void)number;
    if (w->generation != m->generation || w->connection != m->connection) {
        free(m);
        return;
    }
    if (is_gone(m->from) || (to && !to->process->alive)) { /* nobody comes back there */
        free(m);
        return;
    }
    if (!to || to->stops || sim_hosts_are_cut(m->from->process->host, to->process->host) ||
        (sim->now_us < sim->heal_us && sim_random(200) == 0)) {
        break_way(m->from, m->seat);
        free(m);
        return;
    }
    if (m->number != w->arrived) {
        sim_after(sim_delay(5, 100), arrive, m, 0);
        return;
    }
    w->arrived++;
    m->to = to;
    m->next = NULL;
    if (to->last) {
        to->last->next = m;
    } else {
        to->first = m;
    }
    to->last = m;
    sim_wake(&to->first, 1);
}

/* ------------------------------------------------------------------ threads of a rank */

static void say_to(talker *t, uint32_t seat)
{
    way *w = &t->ways[seat];

    while (w->has_talk && !w->is_down) {
        const int is_anew = w->is_anew;
        const uint64_t connection = w->connection;
        message *m;
        size_t num;
        w->has_talk = 0;
        num = t->talk.say(t->talk.user, seat, w->generation, is_anew, t->said);
        if (is_gone(t)) {
            return;
        }
        if (w->connection != connection) { /* it broke meanwhile */
            continue;
        }
        if (num == 0) {
            return;
        }
        w->is_anew = 0;
        w->has_talk = 1;
        m = malloc(sizeof *m + num);
        *m = (message){.from = t,
                       .seat = seat,
                       .generation = w->generation,
                       .connection = w->connection,
                       .number = w->sent++,
                       .num = num};
        memcpy(m->bytes, t->said, num);
        sim->talked++;
        sim_after(sim_delay(5, sim_random(200) ? 4000 : 60000), arrive, m, 0);
    }
}

static void *speak(void *argument)
{
    talker *t = argument;

    while (!t->stops) {
        t->is_news = 0;
        for (uint32_t seat = 0; seat < SIM_MAX_SEATS; seat++) {
            say_to(t, seat);
        }
        if (!t->is_news) {
            (void)sim_wait(&t->speaker, SIM_NEVER);
        }
    }
    return NULL;
}

static void *hear(void *argument)
{
    talker *t = argument;

    while (!t->stops) {
        message *m = t->first;
        if (!m) {
            (void)sim_wait(&t->first, SIM_NEVER);
            continue;
        }
        t->first = m->next;
        if (!t->first) {
            t->last = NULL;
        }
        sim_point();
        SIM_MUST(t->talk.hear(t->talk.user, m->from->seat, m->from->generation, m->bytes, m->num),
                 "P13", "%u.%u has said what no rank says", m->from->seat, m->from->generation);
        free(m);
    }
    return NULL;
}

/* ------------------------------------------------------------------ life */

talker *sim_talk_open(const struct eepi_network_talk *talk, uint32_t seat, uint32_t generation)
{
    talker *t = sim->num_hosts ? calloc(1, sizeof *t) : NULL;

    if (!t) {
        return NULL;
    }
    *t = (talker){.talk = *talk,
                  .process = sim_self(),
                  .seat = seat,
                  .generation = generation,
                  .next = sim->talkers};
    sim->talkers = t;
    pthread_create(&t->speaker, NULL, speak, t);
    pthread_create(&t->hearer, NULL, hear, t);
    return t;
}

void sim_talk_speak(talker *t, uint32_t seat, uint32_t generation)
{
    way *w = &t->ways[seat];

    if (w->generation < generation) {
        *w = (way){.generation = generation, .is_anew = 1, .connection = w->connection + 1};
    }
    if (w->generation == generation) {
        w->has_talk = 1;
        wake_speaker(t);
    }
}

void sim_talk_close(talker *t)
{
    if (!t) {
        return;
    }
    t->stops = 1;
    wake_speaker(t);
    sim_wake(&t->first, 1);
    pthread_join(t->speaker, NULL);
    pthread_join(t->hearer, NULL);
}
