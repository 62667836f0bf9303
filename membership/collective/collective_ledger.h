/* SPDX-License-Identifier: Apache-2.0 */
/* What the members of a view agree on (rule P13): one word in the memory of its holder, the member
 * with the lowest seat.
 *
 *     63      44 43                     2   1     0
 *     | epoch   |  newest number ended  | closed | begun |
 *
 * A number ends for all members in the moment in which the first of them that has all contributions
 * raises the word. Nobody takes a result before. A rank that goes to another view, or stops for a
 * fault, closes the word first: no number ends under that epoch any more, and all who look see the
 * same last one. The word only goes up: an older epoch never comes back, whoever still runs it.
 *
 * The epoch is cut to its bits, as in tags, and compared serially. */
#ifndef EEPI_COLLECTIVE_LEDGER_H
#define EEPI_COLLECTIVE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

enum { EEPI_LEDGER_EPOCH_BITS = 20, EEPI_LEDGER_NUMBER_BITS = 42 };
#define EEPI_LEDGER_BEGUN      ((uint64_t)1)
#define EEPI_LEDGER_CLOSED     ((uint64_t)2)
#define EEPI_LEDGER_MAX_NUMBER (((uint64_t)1 << EEPI_LEDGER_NUMBER_BITS) - 1)

static inline uint64_t eepi_ledger_word(uint64_t epoch, uint64_t number, bool is_closed)
{
    return epoch << (64 - EEPI_LEDGER_EPOCH_BITS) | number << 2 |
           (is_closed ? EEPI_LEDGER_CLOSED : 0) | EEPI_LEDGER_BEGUN;
}

static inline uint64_t eepi_ledger_number(uint64_t word)
{
    return word >> 2 & EEPI_LEDGER_MAX_NUMBER;
}

/* How far the word's epoch is from `epoch`: above 0, newer. A word that was never begun is older
 * than all. */
static inline int32_t eepi_ledger_ahead(uint64_t word, uint64_t epoch)
{
    const uint32_t shift = 32 - EEPI_LEDGER_EPOCH_BITS;
    const uint32_t of_word = (uint32_t)(word >> (64 - EEPI_LEDGER_EPOCH_BITS)) << shift;

    return word & EEPI_LEDGER_BEGUN ? (int32_t)(of_word - ((uint32_t)epoch << shift)) : INT32_MIN;
}

static inline uint64_t eepi_ledger_load(uint64_t *ledger)
{
    return __atomic_load_n(ledger, __ATOMIC_ACQUIRE);
}

static inline bool eepi_ledger_swap(uint64_t *ledger, uint64_t *word, uint64_t next)
{
    return __atomic_compare_exchange_n(ledger, word, next, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* The members of `epoch` go on behind `number`: whichever comes first says so, and all of them know
 * the same number. */
static inline void eepi_ledger_begin(uint64_t *ledger, uint64_t epoch, uint64_t number)
{
    uint64_t word = eepi_ledger_load(ledger);

    while (eepi_ledger_ahead(word, epoch) < 0 &&
           !eepi_ledger_swap(ledger, &word, eepi_ledger_word(epoch, number, false))) {
    }
}

/* The caller has all contributions to `number`: has it ended under `epoch`? */
static inline bool eepi_ledger_end(uint64_t *ledger, uint64_t epoch, uint64_t number)
{
    uint64_t word = eepi_ledger_load(ledger);

    while (eepi_ledger_ahead(word, epoch) == 0) {
        if (eepi_ledger_number(word) >= number) {
            return true;
        }
        if (word & EEPI_LEDGER_CLOSED || eepi_ledger_number(word) + 1 != number) {
            return false;
        }
        if (eepi_ledger_swap(ledger, &word, eepi_ledger_word(epoch, number, false))) {
            return true;
        }
    }
    return false;
}

/* No number ends under `epoch` any more. False: the last one cannot be told. A word that has a
 * newer epoch by now has the last number of `epoch`, too, if this rank `stays` in the newer view:
 * no other can have ended without it. */
static inline bool eepi_ledger_close(uint64_t *ledger, uint64_t epoch, bool stays,
                                     uint64_t *number_out)
{
    uint64_t word = eepi_ledger_load(ledger);

    while (eepi_ledger_ahead(word, epoch) == 0 && !(word & EEPI_LEDGER_CLOSED) &&
           !eepi_ledger_swap(ledger, &word, word | EEPI_LEDGER_CLOSED)) {
    }
    if (eepi_ledger_ahead(word, epoch) < 0 || (eepi_ledger_ahead(word, epoch) > 0 && !stays)) {
        return false;
    }
    *number_out = eepi_ledger_number(word);
    return true;
}
#endif
