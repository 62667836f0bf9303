/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of a connection that breaks: none is lost, none is taken twice. */
#include "experiments/hosts/host_journal.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(host_journal, numbers_count_up_and_receipts_free)
{
    host_journal journal = {.put = 0};
    for (uint64_t n = 1; n <= 3; n++) {
        host_message message = {.kind = REMOTE_SIGNAL, .value = (int32_t)n};
        cr_assert_eq(host_journal_keep(&journal, &message, "body", n), EEP_OK);
        cr_assert_eq(message.number, n);
    }
    host_journal_release(&journal, 2);
    cr_assert_eq(journal.first->message.number, 3);
    cr_assert_eq(journal.first->bytes, 3);
    cr_assert(memcmp(journal.first->body, "bod", 3) == 0);
    cr_assert_eq(journal.first, journal.last);
    host_journal_clear(&journal);
    cr_assert(!journal.first && !journal.last && !journal.bytes && !journal.put);
}

Test(host_journal, a_message_is_taken_once_and_in_order)
{
    host_journal journal = {.taken = 4};
    cr_assert_eq(host_journal_take(&journal, 4), EEP_ERR_STATE);
    cr_assert_eq(host_journal_take(&journal, 6), EEP_ERR_PROTOCOL);
    cr_assert_eq(host_journal_take(&journal, 5), EEP_OK);
    cr_assert_eq(host_journal_take(&journal, 5), EEP_ERR_STATE);
}

Test(host_journal, what_waits_has_a_bound)
{
    host_journal journal = {.put = 0};
    host_message message = {.kind = REMOTE_PACKET};
    const size_t bytes = HOST_BODY_BYTES;
    char *body = calloc(1, bytes);
    size_t kept = 0;
    while (host_journal_keep(&journal, &message, body, bytes) == EEP_OK) {
        kept += bytes;
        cr_assert(kept <= HOST_UNSENT_BYTES);
    }
    cr_assert(kept > HOST_UNSENT_BYTES / 2);
    cr_assert_eq(journal.put, journal.last->message.number, "one that was refused has no number");
    host_journal_clear(&journal);
    free(body);
}

Test(host_journal, what_opens_a_connection_does_not_count)
{
    cr_assert(!host_journal_counts(REMOTE_BEGIN) && !host_journal_counts(REMOTE_RESUME));
    cr_assert(!host_journal_counts(REMOTE_PING) && !host_journal_counts(REMOTE_PONG));
    cr_assert(host_journal_counts(REMOTE_START) && host_journal_counts(REMOTE_ENDED));
    cr_assert(host_journal_counts(REMOTE_PACKET) && host_journal_counts(REMOTE_END));
}
