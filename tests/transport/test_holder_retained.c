/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that the holder retains: it outlives the client that put it there, and is bounded. */
#include "tests/lib/bulk_fixture.h"
#include "tests/lib/holder_player.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *path;

static void set_up(void)
{
    make_blobs();
    use_carrier(EEP_BULK_SHM);
    path = bulk_fixture_holder_path();
}

TestSuite(holder_retains, .init = set_up, .fini = free_blobs);

static eep_status retain(player *by, const char *name, int fd)
{
    eepi_holder_message request = player_message(by, EEPI_HOLDER_HOLD);
    snprintf(request.name, sizeof request.name, "%s", name);
    request.bytes = SHM_REGION_BYTES;
    request.flags = EEPI_HOLDER_RETAINED;
    return player_ask(by, &request, fd, NULL).status;
}

static eepi_holder_message next_of(player *by, const char *name, uint64_t sequence)
{
    eepi_holder_message request = player_message(by, EEPI_HOLDER_NEXT);
    snprintf(request.name, sizeof request.name, "%s", name);
    request.sequence = sequence;
    return player_ask(by, &request, -1, NULL);
}

static eep_status let_go(player *by, const char *name)
{
    eepi_holder_message request = player_message(by, EEPI_HOLDER_RELEASE);
    snprintf(request.name, sizeof request.name, "%s", name);
    request.flags = EEPI_HOLDER_RETAINED;
    return player_ask(by, &request, -1, NULL).status;
}

Test(holder_retains, memory_when_its_client_has_ended)
{
    unsigned char *region = NULL;
    int fd = make_region(&region), tries = 0;
    player owner = player_open(path), other = player_open(path);
    cr_assert_eq(retain(&owner, "backup/1/0/a", fd), EEP_OK);
    cr_expect_eq(retain(&owner, "backup/1/0/b", fd), EEP_OK);
    cr_expect_eq(retain(&other, "backup/1/0/b", fd), EEP_ERR_CONFLICT);
    cr_expect_eq(retain(&other, "backup/1/1/c", fd), EEP_OK);
    close(owner.fd);
    eepi_holder_message found = next_of(&other, "backup/1/0/", 0);
    cr_assert_eq(found.status, EEP_OK);
    cr_expect_str_eq(found.name, "backup/1/0/a");
    cr_expect_eq(found.bytes, SHM_REGION_BYTES);
    cr_expect_eq(memcmp(found.identity, owner.identity, sizeof found.identity), 0);
    found = next_of(&other, "backup/1/0/", found.sequence);
    cr_expect_str_eq(found.name, "backup/1/0/b");
    cr_expect_eq(next_of(&other, "backup/1/0/", found.sequence).status, EEP_ERR_NOT_FOUND);
    cr_expect_eq(let_go(&other, "backup/1/0/a"), EEP_OK);
    cr_expect_eq(let_go(&other, "backup/1/0/a"), EEP_ERR_NOT_FOUND);
    cr_expect_str_eq(next_of(&other, "backup/", 0).name, "backup/1/0/b");
    /* another instance: what the dead of the one before have left goes, and nothing else; the
     * holder may serve a client for a whole round before it notices that another one has ended */
    cr_expect_eq(retain(&other, "backup/2/0/a", fd), EEP_OK);
    while (next_of(&other, "backup/1/0/", 0).status == EEP_OK && tries++ < 10000) {
        poll(NULL, 0, 1);
        cr_expect_eq(let_go(&other, "backup/2/0/a"), EEP_OK);
        cr_expect_eq(retain(&other, "backup/2/0/a", fd), EEP_OK);
    }
    cr_expect_eq(next_of(&other, "backup/1/0/", 0).status, EEP_ERR_NOT_FOUND);
    cr_expect_eq(next_of(&other, "backup/1/1/", 0).status, EEP_OK, "its client lives");
    cr_expect_eq(let_go(&other, "backup/"), EEP_OK);
    cr_expect_eq(next_of(&other, "", 0).status, EEP_ERR_NOT_FOUND);
}

Test(holder_retains, so_much_and_no_more)
{
    const eepi_holder_limits limits = {.max_retained = 3,
                                       .max_retained_bytes = 2 * (uint64_t)SHM_REGION_BYTES};
    eepi_holder *holder = NULL;
    unsigned char *region = NULL;
    int fd = make_region(&region), listen_fd = listen_as_holder(), tries = 0;
    cr_assert_eq(eepi_holder_open(listen_fd, &limits, NULL, &holder), EEP_OK);
    player first = player_open(path), second = player_open(path);
    cr_expect_eq(retain(&first, "backup/1/a", fd), EEP_OK);
    cr_expect_eq(retain(&second, "backup/1/b", fd), EEP_OK);
    cr_expect_eq(retain(&second, "backup/1/c", fd), EEP_ERR_NO_MEMORY, "all of clients that live");
    close(first.fd);
    while (retain(&second, "backup/1/c", fd) != EEP_OK && tries++ < 10000) {
        poll(NULL, 0, 1); /* until it has noticed */
    }
    cr_expect_str_eq(next_of(&second, "backup/", 0).name, "backup/1/b", "the oldest went");
    close(second.fd);
    eepi_holder_close(holder);
    close(listen_fd);
}
