/* SPDX-License-Identifier: Apache-2.0 */
/* The death bell: one thread holds the own robust futexes and waits for those of the peers. */
#include "membership/process/bell.h"

#include "graphs/base/thread.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WAITS = 128, FAILED_PAUSE_NS = 1000000, LONGEST_WAIT_S = 1 };

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
/* As the kernel has it since Linux 5.16. */
typedef struct wait_for {
    uint64_t value, address;
    uint32_t flags, unused;
} wait_for;
enum { WAIT_32 = 2, WAIT_PRIVATE = FUTEX_PRIVATE_FLAG };

/* The kernel leaves no thread in a word that it marks; an orderly close leaves this. */
#define CLOSED (FUTEX_OWNER_DIED | 1u)

typedef struct watched {
    const eepk_bell_word *words; /* NULL: not watched */
    uint32_t generation;
    bool is_told;
} watched;

struct eepi_bell {
    eepi_bell_config config;
    eepk_bell_word *own;
    /* What the kernel walks when the thread ends. The nodes lie in private memory, so no peer can
     * break the list. Each word is as far from its node as any other. */
    struct robust_list_head list;
    struct robust_list nodes[EEPK_BELL_WORDS];
    pthread_t thread;
    pthread_mutex_t lock; /* all that follows */
    pthread_cond_t armed;
    watched *peers;   /* [max_ranks] */
    uint32_t changes; /* of the watched ones; a futex */
    bool is_armed, stop, rings;
};

static_assert(sizeof(struct robust_list) == sizeof(eepk_bell_word), "nodes and words go in step");

static long futex_wake(const uint32_t *word, int num, int flags)
{
    return syscall(SYS_futex, word, FUTEX_WAKE | flags, num, NULL, NULL, 0);
}

static void wake_all(const eepk_bell_word *words)
{
    for (int i = 0; i < EEPK_BELL_WORDS; i++) {
        (void)futex_wake(&words[i].futex, INT_MAX, 0);
    }
}

/* ------------------------------------------------------------------ the own bell */

/* A kernel that knows no robust futexes leaves the words empty, and nobody waits for them. */
static void hang(eepi_bell *bell)
{
    const uint32_t held = (uint32_t)syscall(SYS_gettid) | FUTEX_WAITERS;

    for (int i = 0; i < EEPK_BELL_WORDS; i++) {
        bell->nodes[i].next =
            i + 1 < EEPK_BELL_WORDS ? &bell->nodes[i + 1] : (struct robust_list *)&bell->list;
    }
    bell->list.list.next = &bell->nodes[0];
    bell->list.futex_offset = (long)((char *)&bell->own[0].futex - (char *)&bell->nodes[0]);
    bell->list.list_op_pending = NULL;
    if (syscall(SYS_set_robust_list, &bell->list, sizeof bell->list) != 0) {
        return;
    }
    for (int i = 0; i < EEPK_BELL_WORDS; i++) {
        __atomic_store_n(&bell->own[i].futex, held, __ATOMIC_RELEASE);
    }
}

static void take_down(eepi_bell *bell)
{
    bell->list.list.next = &bell->list.list;    /* the kernel finds nothing any more */
    for (int i = 0; i < EEPK_BELL_WORDS; i++) { /* the first is read for what they say */
        __atomic_store_n(&bell->own[i].futex, bell->rings ? CLOSED : 0, __ATOMIC_RELEASE);
    }
    wake_all(bell->own);
}

/* ------------------------------------------------------------------ the peers' bells */

static uint32_t read_word(const eepk_bell_word *word)
{
    return __atomic_load_n(&word->futex, __ATOMIC_ACQUIRE);
}

static bool have_rung(const eepk_bell_word *words)
{
    for (int i = 0; i < EEPK_BELL_WORDS; i++) {
        if (read_word(&words[i]) & FUTEX_OWNER_DIED) {
            return true;
        }
    }
    return false;
}

static eepi_bell_word say(const eepk_bell_word *words)
{
    if (!have_rung(words)) {
        return EEPI_BELL_HANGS;
    }
    return read_word(&words[0]) == CLOSED ? EEPI_BELL_CLOSED : EEPI_BELL_ENDS;
}

eepi_bell_word eepi_bell_says(const eepk_window_header *header)
{
    return say(header->bell);
}

/* A peer whose bell has rung and was not told of; its seat, -1: none. With the lock held. */
static int next_rung(eepi_bell *bell)
{
    for (int seat = 0; seat < bell->config.max_ranks; seat++) {
        watched *peer = &bell->peers[seat];
        if (peer->words && !peer->is_told && have_rung(peer->words)) {
            peer->is_told = true;
            wake_all(peer->words); /* the kernel has woken one for each word */
            return seat;
        }
    }
    return -1;
}

static void tell(eepi_bell *bell)
{
    int seat;

    pthread_mutex_lock(&bell->lock);
    while ((seat = next_rung(bell)) >= 0) {
        const uint32_t generation = bell->peers[seat].generation;
        const eepi_bell_word said = say(bell->peers[seat].words);
        pthread_mutex_unlock(&bell->lock);
        bell->config.rang(bell->config.user, seat, generation, said);
        pthread_mutex_lock(&bell->lock);
    }
    pthread_mutex_unlock(&bell->lock);
}

/* What there is to wait for: a change of the watched ones, and a word of each. With the lock held.
 */
static unsigned list_waits(const eepi_bell *bell, wait_for *waits)
{
    const int seats = bell->config.max_ranks, own = bell->config.seat;
    unsigned num = 0;

    waits[num++] =
        (wait_for){bell->changes, (uint64_t)(uintptr_t)&bell->changes, WAIT_32 | WAIT_PRIVATE, 0};
    for (int i = 1; i < seats && num < MAX_WAITS; i++) {
        const watched *peer = &bell->peers[(own + i) % seats];
        const eepk_bell_word *word = peer->words ? &peer->words[own % EEPK_BELL_WORDS] : NULL;
        const uint32_t value = word ? read_word(word) : 0;
        if (value & FUTEX_TID_MASK && !(value & FUTEX_OWNER_DIED)) { /* it hangs */
            waits[num++] = (wait_for){value, (uint64_t)(uintptr_t)&word->futex, WAIT_32, 0};
        }
    }
    return num;
}

/* A word that has changed, a signal, memory that was unmapped meanwhile: all is looked at again. */
static void wait_for_any(const wait_for *waits, unsigned num)
{
    const struct timespec pause = {0, FAILED_PAUSE_NS}, longest = {LONGEST_WAIT_S, 0};
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LONGEST_WAIT_S;
    if (syscall(SYS_futex_waitv, waits, num, 0, &until, CLOCK_MONOTONIC) >= 0 || errno == EAGAIN ||
        errno == EINTR || errno == ETIMEDOUT) {
        return;
    }
    if (errno == ENOSYS || errno == EPERM) { /* the heartbeat thread reads the words */
        (void)syscall(SYS_futex, (uint32_t *)(uintptr_t)waits[0].address,
                      FUTEX_WAIT | FUTEX_PRIVATE_FLAG, (uint32_t)waits[0].value, &longest, NULL, 0);
        return;
    }
    nanosleep(&pause, NULL);
}

static void *run(void *argument)
{
    eepi_bell *bell = argument;
    wait_for waits[MAX_WAITS];

    hang(bell);
    pthread_mutex_lock(&bell->lock);
    bell->is_armed = true;
    pthread_cond_signal(&bell->armed);
    while (!bell->stop) {
        const unsigned num = list_waits(bell, waits);
        pthread_mutex_unlock(&bell->lock);
        tell(bell); /* behind the list: what rings from now on has another value than in it */
        wait_for_any(waits, num);
        pthread_mutex_lock(&bell->lock);
    }
    take_down(bell);
    pthread_mutex_unlock(&bell->lock);
    return NULL;
}

/* ------------------------------------------------------------------ opening and closing */

static void free_bell(eepi_bell *bell)
{
    pthread_cond_destroy(&bell->armed);
    pthread_mutex_destroy(&bell->lock);
    free(bell->peers);
    free(bell);
}

eep_status eepi_bell_open(const eepi_bell_config *config, eepk_window_header *own,
                          eepi_bell **bell_out)
{
    eepi_bell *bell = calloc(1, sizeof *bell);

    if (!bell) {
        return EEP_ERR_NO_MEMORY;
    }
    bell->config = *config;
    bell->own = own->bell;
    pthread_mutex_init(&bell->lock, NULL);
    pthread_cond_init(&bell->armed, NULL);
    bell->peers = calloc((size_t)config->max_ranks, sizeof *bell->peers);
    if (!bell->peers) {
        free_bell(bell);
        return EEP_ERR_NO_MEMORY;
    }
    if (eepi_thread_start(&bell->thread, "eep-bell", EEPI_STACK_BYTES, run, bell) != EEP_OK) {
        free_bell(bell);
        return EEP_ERR_SYSTEM;
    }
    pthread_mutex_lock(&bell->lock);
    while (!bell->is_armed) { /* peers find it hung */
        pthread_cond_wait(&bell->armed, &bell->lock);
    }
    pthread_mutex_unlock(&bell->lock);
    *bell_out = bell;
    return EEP_OK;
}

/* With the lock held. */
static void note_change(eepi_bell *bell)
{
    __atomic_add_fetch(&bell->changes, 1, __ATOMIC_RELEASE);
    (void)futex_wake(&bell->changes, 1, FUTEX_PRIVATE_FLAG);
}

void eepi_bell_close(eepi_bell *bell, bool rings)
{
    if (!bell) {
        return;
    }
    pthread_mutex_lock(&bell->lock);
    bell->stop = true;
    bell->rings = rings;
    note_change(bell);
    pthread_mutex_unlock(&bell->lock);
    pthread_join(bell->thread, NULL);
    free_bell(bell);
}

static void set_peer(eepi_bell *bell, int32_t seat, const watched *peer)
{
    pthread_mutex_lock(&bell->lock);
    if (bell->peers[seat].words != peer->words ||
        bell->peers[seat].generation != peer->generation) {
        bell->peers[seat] = *peer;
        note_change(bell);
    }
    pthread_mutex_unlock(&bell->lock);
}

void eepi_bell_watch(eepi_bell *bell, int32_t seat, uint32_t generation,
                     const eepk_window_header *header)
{
    set_peer(bell, seat, &(watched){header->bell, generation, false});
}

void eepi_bell_unwatch(eepi_bell *bell, int32_t seat)
{
    set_peer(bell, seat, &(watched){0});
}
