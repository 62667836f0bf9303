/* SPDX-License-Identifier: Apache-2.0 */
/* What those can do who reach a rank's port without being a rank. */
#include "tests/transport/network/network_fixture.h"

#include "graphs/base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

TestSuite(strangers, .timeout = 100);

/* From 127.0.0.`host`. */
static int connect_from(const rank *to, uint8_t host)
{
    const eepi_lane_address address = eepi_network_address(to->network);
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)};
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(address.path[0].port)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(&there.sin_addr, address.path[0].ip, 4);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&there, sizeof there), 0);
    return fd;
}

/* The verdict; 0: it was closed before. */
static eepi_lane_verdict greet(int fd, const eepi_lane_hello *hello)
{
    eepi_lane_answer answer;

    if (send(fd, hello, sizeof *hello, MSG_NOSIGNAL) != sizeof *hello ||
        recv(fd, &answer, sizeof answer, MSG_WAITALL) != sizeof answer) {
        return 0;
    }
    return answer.verdict;
}

static int stranger(const rank *to, const eepi_lane_hello *hello)
{
    const int fd = connect_from(to, 1);
    const eepi_lane_verdict verdict = greet(fd, hello);

    if (verdict != EEPI_LANE_WELCOME) {
        close(fd);
        return -(int)verdict;
    }
    return fd;
}

static bool is_closed(int fd)
{
    char byte;
    const ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

    return got == 0 || (got < 0 && errno != EAGAIN);
}

static eepi_lane_hello right_hello(const rank *to)
{
    return (eepi_lane_hello){.magic = EEPI_LANE_MAGIC,
                             .version = EEPI_LANE_VERSION,
                             .instance = INSTANCE,
                             .source = 2,
                             .source_generation = members[2],
                             .target = to->shape.self,
                             .target_generation = members[to->shape.self],
                             .slot_bytes = to->network->slot_bytes,
                             .ring_slots = to->shape.ring_slots};
}

Test(strangers, they_are_refused_and_do_no_harm)
{
    rank a, b;
    eepi_lane_hello hello;
    eepk_put bad = {.kind = EEPK_PUT_ROWS, .bytes = UINT32_MAX, .source = 2};
    int fd;

    open_rank(&a, 0);
    open_rank(&b, 1);
    hello = right_hello(&b);
    hello.magic++;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_OTHER);
    hello.magic--;
    hello.version++;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_REFUSED);
    hello.version--;
    hello.slot_bytes++;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_REFUSED);
    hello.slot_bytes--;
    hello.ring_slots++;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_REFUSED);
    hello.ring_slots--;
    hello.source = RANKS;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_OTHER);
    hello.source = 1;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_OTHER, "nobody sends to itself");
    hello.source = 2;
    fd = stranger(&b, &hello);
    cr_assert_geq(fd, 0);
    cr_assert_eq(send(fd, &bad, sizeof bad, MSG_NOSIGNAL), sizeof bad);
    AWAIT(is_closed(fd));
    close(fd);
    fd = stranger(&b, &hello);
    cr_assert_geq(fd, 0);
    hello.source_generation--;
    cr_expect_eq(stranger(&b, &hello), -EEPI_LANE_OTHER, "its predecessor does not replace it");
    bad = (eepk_put){.kind = EEPK_PUT_BEGIN, .epoch = EPOCH, .step = 9, .completed = 8};
    bad.source_generation = members[bad.source]; /* in the name of another one */
    bad.target = 1;
    bad.target_generation = members[1];
    cr_assert_eq(send(fd, &bad, sizeof bad, MSG_NOSIGNAL), sizeof bad);
    AWAIT(is_closed(fd));
    close(fd);
    put_rows(&a, connect_to(&a, &b), 1, 4);
    AWAIT(has_tag(&b, &a, 1));
    close_rank(&a);
    close_rank(&b);
}

/* Several puts before their bytes, of which one is wrong. */
static void send_several(const rank *b, uint32_t pieces, eepk_put inner)
{
    const eepi_lane_hello hello = right_hello(b);
    const eepk_put head = {.kind = EEPK_PUT_SEVERAL, .source = 2, .pieces = pieces};
    const int fd = stranger(b, &hello);

    cr_assert_geq(fd, 0);
    cr_assert_eq(send(fd, &head, sizeof head, MSG_NOSIGNAL), sizeof head);
    (void)send(fd, &inner, sizeof inner, MSG_NOSIGNAL);
    AWAIT(is_closed(fd));
    close(fd);
}

Test(strangers, puts_before_their_bytes_are_looked_at_too)
{
    const eepk_put good = {.kind = EEPK_PUT_ROWS, .bytes = 64, .source = 2};
    eepk_put bad = good;
    rank b;

    open_rank(&b, 1);
    send_several(&b, 0, good);
    send_several(&b, EEPI_LANE_BATCH + 1, good);
    send_several(&b, UINT32_MAX, good);
    bad.source = 0;
    send_several(&b, 1, bad);
    bad.source = 2;
    bad.bytes = UINT32_MAX;
    send_several(&b, 1, bad);
    bad.bytes = 0;
    bad.kind = EEPK_PUT_SEVERAL;
    send_several(&b, 1, bad);
    close_rank(&b);
}

/* One that connects first and speaks last, behind a flood from another address. */
static eepi_lane_verdict greet_behind_a_flood(const rank *b)
{
    const eepi_lane_hello hello = right_hello(b);
    const int fd = connect_from(b, 1);
    eepi_lane_verdict verdict;
    int flood[3 * EEPI_SECURE_BEFORE_MAX];

    for (int i = 0; i < 3 * EEPI_SECURE_BEFORE_MAX; i++) {
        flood[i] = connect_from(b, 2);
    }
    AWAIT(is_closed(flood[EEPI_SECURE_BEFORE_MAX]));
    verdict = greet(fd, &hello);
    for (int i = 0; i < 3 * EEPI_SECURE_BEFORE_MAX; i++) {
        close(flood[i]);
    }
    close(fd);
    return verdict;
}

Test(strangers, a_flood_from_one_address_crowds_out_itself)
{
    rank b;
    eepi_lane_verdict verdict = 0;
    uint64_t begun_us;

    open_rank(&b, 1);
    do { /* again, if it was so slow that its time to greet was over */
        begun_us = eepi_now_us();
        verdict = greet_behind_a_flood(&b);
    } while (verdict != EEPI_LANE_WELCOME && eepi_now_us() - begun_us >= EEPI_LANE_GREETING_US);
    cr_expect_eq(verdict, EEPI_LANE_WELCOME);
    close_rank(&b);
}

/* The log is written by whoever connects: it is bounded. */
Test(strangers, they_do_not_fill_the_log)
{
    const eepk_put bad = {.kind = EEPK_PUT_ROWS, .bytes = UINT32_MAX, .source = 2};
    const uint64_t begun_us = eepi_now_us();
    rank b;
    eepi_lane_hello hello;

    open_rank(&b, 1);
    hello = right_hello(&b);
    for (int num = 0; num < 50; num++) {
        const int fd = stranger(&b, &hello);
        cr_assert_geq(fd, 0);
        cr_assert_eq(send(fd, &bad, sizeof bad, MSG_NOSIGNAL), sizeof bad);
        AWAIT(is_closed(fd));
        close(fd);
    }
    close_rank(&b);
    cr_expect_geq(b.num_notes, 1);
    cr_expect_leq((uint64_t)b.num_notes, 1 + (eepi_now_us() - begun_us) / 1000000);
}

static uint64_t cpu_us(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

/* A rank that has no descriptor for one that connects goes on, does not spin, and takes it later.
 */
Test(strangers, one_for_whom_there_is_no_descriptor_waits)
{
    rank a, b;
    eepi_lane_hello hello;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct rlimit all, few;
    uint32_t to_b;
    uint64_t used_us;
    int fd;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    put_rows(&a, to_b, 1, 4);
    AWAIT(has_tag(&b, &a, 1));
    hello = right_hello(&b);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    few = (struct rlimit){1, all.rlim_max};
    there.sin_port = htons(eepi_network_address(b.network).path[0].port);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&there, sizeof there), 0);
    used_us = cpu_us();
    usleep(300000);
    used_us = cpu_us() - used_us;
    move_to(&b, 2);
    put_rows(&a, to_b, 2, 4);
    AWAIT(has_tag(&b, &a, 2));
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
    cr_expect_eq(greet(fd, &hello), EEPI_LANE_WELCOME);
    cr_expect_lt(used_us, 30000, "%u us: a thread that spins uses up to 300 ms", (unsigned)used_us);
    close(fd);
    close_rank(&a);
    close_rank(&b);
}
