/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, whole and with two sides, made and mapped in one process and across processes that
 * really die. */
#include "transport/window/window.h"

#include "graphs/device/device_share.h"
#include "transport/window/peer_descriptor.h"
#include "tests/lib/window_fixture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(window, .timeout = 40);

enum { BYTES = 3 * 4096 + 128, HOST_BYTES = 4096 - 128, SEAT = 5, GENERATION = 7, NOBODY = 65534 };

static const eepi_window_spec spec = {SEAT, GENERATION, BYTES, HOST_BYTES};

static eep_device *open_device(int is_discrete)
{
    eep_device *device;
    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    if (is_discrete) {
        eepi_device_set_discrete(device);
    }
    return device;
}

static eepi_window *make(eep_device *device)
{
    eepi_window *window;
    char why[256] = "";
    cr_assert_eq(window_make(device, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    return window;
}

static eepi_window *map(eep_device *device, const eepi_window_descriptor *descriptor)
{
    eepi_window *window;
    char why[512] = "";
    cr_assert_eq(window_map_whole(device, descriptor, &spec, why, sizeof why, &window), EEP_OK,
                 "%s", why);
    return window;
}

static uint64_t *device_word(const eepi_window *window, size_t at)
{
    return (uint64_t *)((uint8_t *)window_memory(window) + at);
}

/* ---------------------------------------------------------------- in one process */

static void check_both_sides(int is_discrete)
{
    eep_device *device = open_device(is_discrete);
    eepi_window *own = make(device), *mapped;
    eepi_window_descriptor descriptor;
    eepi_window_describe(own, &descriptor);
    mapped = map(device, &descriptor);
    cr_expect_eq(eepi_window_is_discrete(own), is_discrete);
    cr_expect_eq(eepi_window_is_discrete(mapped), is_discrete);
    cr_expect_neq((void *)eepi_window_header(own), window_memory(own));
    cr_expect_neq(window_memory(own), window_memory(mapped));
    cr_expect_eq(eepi_window_header(mapped)->seat, SEAT);
    cr_expect_eq(eepi_window_header(mapped)->generation, GENERATION);
    for (size_t at = 0; at < BYTES; at += sizeof(uint64_t)) {
        cr_assert_eq(*device_word(own, at), 0, "at %zu", at);
    }
    *device_word(mapped, BYTES - sizeof(uint64_t)) = 11;
    eepi_window_header(own)->beats = 12;
    cr_expect_eq(*device_word(own, BYTES - sizeof(uint64_t)), 11);
    cr_expect_eq(eepi_window_header(mapped)->beats, 12);
    eepi_window_close(own);
    *device_word(mapped, BYTES - sizeof(uint64_t)) = 13; /* it outlives the owner's mapping */
    cr_expect_eq(*device_word(mapped, BYTES - sizeof(uint64_t)), 13);
    eepi_window_close(mapped);
    eep_device_close(device);
}

Test(window, whole_it_is_one_mapping)
{
    check_both_sides(0);
}

Test(window, apart_each_side_is_shared)
{
    check_both_sides(1);
}

Test(window, only_the_one_that_is_meant_is_mapped)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        eepi_window *own = make(device), *mapped = NULL;
        eepi_window_descriptor descriptor;
        eepi_window_spec wrong[] = {spec, spec, spec};
        char why[512];
        wrong[0].seat++;
        wrong[1].generation++;
        wrong[2].bytes += 128;
        eepi_window_describe(own, &descriptor);
        for (int i = 0; i < 3; i++) {
            why[0] = '\0';
            cr_expect_eq(window_map_whole(device, &descriptor, &wrong[i], why, sizeof why, &mapped),
                         EEP_ERR_UNREACHABLE, "%d", i);
            cr_expect_neq(why[0], '\0');
        }
        cr_expect_null(mapped);
        eepi_window_close(own);
        cr_expect_eq(window_map_whole(device, &descriptor, &spec, why, sizeof why, &mapped),
                     EEP_ERR_UNREACHABLE, "its descriptors are closed");
        eep_device_close(device);
    }
}

Test(window, devices_of_two_kinds_do_not_share)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *mine = open_device(is_discrete), *other = open_device(!is_discrete);
        eepi_window *own = make(mine), *mapped = NULL;
        eepi_window_descriptor descriptor;
        char why[512] = "";
        eepi_window_describe(own, &descriptor);
        cr_expect_eq(window_map_whole(other, &descriptor, &spec, why, sizeof why, &mapped),
                     EEP_ERR_UNSUPPORTED);
        cr_expect(strstr(why, "discrete"), "'%s'", why);
        eepi_window_close(own);
        eep_device_close(mine);
        eep_device_close(other);
    }
}

/* A rank that has just taken its seat has none yet; its record says zeros. */
Test(window, a_record_without_a_window_is_told_as_such)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        const eepi_window_descriptor none = {0};
        eepi_window *window;
        char why[256] = "";
        cr_expect_eq(window_map_whole(device, &none, &spec, why, sizeof why, &window),
                     EEP_ERR_NOT_FOUND);
        cr_expect(strstr(why, "names no window yet"), "%s", why);
        eep_device_close(device);
    }
}

/* Magic and version are the first two words of every version. */
Test(window, a_descriptor_of_another_version_is_refused_by_name)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        eepi_window *own = make(device), *mapped = NULL;
        eepi_window_descriptor descriptor;
        char why[256] = "";
        uint32_t words[2];
        eepi_window_describe(own, &descriptor);
        memcpy(words, descriptor.bytes, sizeof words);
        cr_assert_eq(words[1], EEPI_WINDOW_DESCRIPTOR_VERSION);
        words[1]++;
        memcpy(descriptor.bytes, words, sizeof words);
        cr_expect_eq(eepi_window_map(device, &descriptor, &spec, why, sizeof why, &mapped),
                     EEP_ERR_UNSUPPORTED);
        cr_expect(strstr(why, "version 3") && strstr(why, "run one version"), "%s", why);
        words[0]++;
        memcpy(descriptor.bytes, words, sizeof words);
        cr_expect_eq(eepi_window_map(device, &descriptor, &spec, why, sizeof why, &mapped),
                     EEP_ERR_UNREACHABLE);
        eepi_window_close(own);
        eep_device_close(device);
    }
}

Test(window, what_mapping_costs_is_counted)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        eepi_window_close(make(device));
        eepi_share_cost cost = eepi_share_cost_of(device);
        cr_expect_eq(cost.calls, 2 * EEPK_COLOURS);
        cr_expect_leq(cost.longest_us, cost.total_us);
        eep_device_close(device);
    }
}

/* ---------------------------------------------------------------- other memory (P7) */

static int count_of(const char *folder)
{
    DIR *directory = opendir(folder);
    int n = 0;
    cr_assert_not_null(directory);
    while (readdir(directory)) {
        n++;
    }
    closedir(directory);
    return n;
}

static int num_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int n = 0;
    cr_assert_not_null(maps);
    for (int c; (c = fgetc(maps)) != EOF;) {
        n += c == '\n';
    }
    fclose(maps);
    return n;
}

static void renew(eepi_window *own, eepi_window *mapped, uint32_t colour, uint32_t serial)
{
    eepi_window_descriptor descriptor;
    char why[512] = "";
    cr_assert_eq(eepi_window_renew(own, colour, serial, why, sizeof why), EEP_OK, "%s", why);
    eepi_window_describe(own, &descriptor);
    cr_assert_eq(eepi_window_reach(mapped, &descriptor, colour, serial, why, sizeof why), EEP_OK,
                 "%s", why);
}

/* Nothing is left of what was dropped, here or at a peer, and each memory is a new one. */
Test(window, memory_is_replaced_a_thousand_times)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        eepi_window *own = make(device), *mapped;
        eepi_window_descriptor descriptor;
        eepi_window_describe(own, &descriptor);
        mapped = map(device, &descriptor);
        const int fds = count_of("/proc/self/fd"), mappings = num_mappings();
        for (uint32_t serial = 2; serial <= 1001; serial++) {
            const uint32_t colour = serial % 2, idle = serial / 2 + 1;
            uint64_t *word;
            renew(own, mapped, colour, idle);
            word = eepi_window_memory(mapped, colour, idle);
            cr_assert_eq(*word, 0, "it was used before");
            *word = serial;
            cr_assert_eq(*(uint64_t *)eepi_window_memory(own, colour, idle), serial);
            eepi_window_drop(own, colour, idle, 0);
            eepi_window_drop(mapped, colour, idle, 0);
            cr_assert_null(eepi_window_memory(own, colour, idle - 1));
            cr_assert_null(eepi_window_memory(mapped, colour, idle - 1));
        }
        cr_expect_eq(count_of("/proc/self/fd"), fds);
        cr_expect_leq(num_mappings(), mappings + 2); /* neighbours may have merged */
        eepi_window_close(mapped);
        eepi_window_close(own);
        eep_device_close(device);
    }
}

/* P7: what was dropped is never used again, and no more is kept than three of a colour. */
Test(window, what_was_dropped_does_not_come_back)
{
    eep_device *device = open_device(0);
    eepi_window *own = make(device), *mapped;
    eepi_window_descriptor descriptor;
    char why[512] = "";
    eepi_window_describe(own, &descriptor);
    mapped = map(device, &descriptor);
    renew(own, mapped, 1, 2);
    cr_expect_not_null(eepi_window_memory(own, 1, 1), "until a view is committed without it");
    eepi_window_drop(own, 1, 2, 1);
    cr_expect_not_null(eepi_window_memory(own, 1, 1), "it is live");
    eepi_window_drop(own, 1, 2, 0);
    cr_expect_null(eepi_window_memory(own, 1, 1));
    cr_expect_eq(eepi_window_renew(own, 1, 1, why, sizeof why), EEP_ERR_STATE);
    cr_expect(strstr(why, "was dropped"), "%s", why);
    cr_expect(eepi_window_has_dropped(own, (uint32_t[EEPK_COLOURS]){1, 1}));
    cr_expect(!eepi_window_has_dropped(own, (uint32_t[EEPK_COLOURS]){1, 2}));
    eepi_window_drop(mapped, 1, 2, 0);
    cr_expect_eq(eepi_window_reach(mapped, &descriptor, 1, 1, why, sizeof why), EEP_ERR_NOT_FOUND);
    renew(own, mapped, 1, 3);
    renew(own, mapped, 1, 4);
    cr_expect_eq(eepi_window_renew(own, 1, 5, why, sizeof why), EEP_ERR_STATE);
    cr_expect(strstr(why, "one more than are kept"), "%s", why);
    eepi_window_close(mapped);
    eepi_window_close(own);
    eep_device_close(device);
}

/* A peer's record is older than the owner's last change: the number of the descriptor that it names
 * is another memory's by now. That one is not taken for it. */
Test(window, a_descriptor_that_names_other_memory_by_now_is_not_mapped)
{
    for (int is_discrete = 0; is_discrete < 2; is_discrete++) {
        eep_device *device = open_device(is_discrete);
        eepi_window *own = make(device), *late = NULL;
        eepi_window_descriptor before;
        char why[512] = "";
        const int number = eepi_window_memory_fd(own, 1, 1);
        eepi_window_describe(own, &before);
        cr_assert_eq(eepi_window_map(device, &before, &spec, why, sizeof why, &late), EEP_OK);
        eepi_window_drop(own, 1, 2, 0);
        cr_assert_eq(eepi_window_renew(own, 1, 2, why, sizeof why), EEP_OK);
        cr_assert_eq(eepi_window_memory_fd(own, 1, 2), number, "the number is given again");
        cr_expect_eq(eepi_window_reach(late, &before, 1, 1, why, sizeof why), EEP_ERR_NOT_FOUND);
        cr_expect_eq(eepi_window_reach(late, &before, 1, 2, why, sizeof why), EEP_ERR_NOT_FOUND,
                     "another record names it");
        cr_expect_null(eepi_window_memory(late, 1, 1));
        eepi_window_close(late);
        eepi_window_close(own);
        eep_device_close(device);
    }
}

Test(window, nothing_is_mapped_by_a_thread_that_captures)
{
    eep_device *device = open_device(1);
    eepi_window *window = NULL;
    eep_stream *stream;
    eep_graph *graph;
    char why[256] = "";
    cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
    cr_assert_eq(eep_capture_begin(stream), EEP_OK);
    cr_expect_eq(window_make(device, &spec, why, sizeof why, &window), EEP_ERR_STATE);
    cr_assert_eq(eep_capture_end(stream, &graph), EEP_OK);
    eep_graph_close(graph);
    eep_stream_close(stream);
    eep_device_close(device);
}

/* ---------------------------------------------------------------- an owner that dies */

typedef struct owner {
    pid_t pid;
    eepi_window_descriptor descriptor;
} owner;

/* It makes a window, says where, and counts in its last word for ever. */
static void own_and_count(int to, int is_discrete)
{
    eepi_window_descriptor descriptor;
    eepi_window *window = make(open_device(is_discrete));
    uint64_t *word = device_word(window, BYTES - sizeof(uint64_t));
    eepi_window_describe(window, &descriptor);
    cr_assert_eq(write(to, &descriptor, sizeof descriptor), (ssize_t)sizeof descriptor);
    for (;;) {
        __atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
    }
}

static owner start_owner(int is_discrete)
{
    owner o;
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    o.pid = fork();
    cr_assert_geq(o.pid, 0);
    if (o.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        own_and_count(ends[1], is_discrete);
    }
    cr_assert_eq(read(ends[0], &o.descriptor, sizeof o.descriptor), (ssize_t)sizeof o.descriptor);
    close(ends[0]);
    close(ends[1]);
    return o;
}

static void kill_owner(const owner *o)
{
    cr_assert_eq(kill(o->pid, SIGKILL), 0);
    cr_assert_eq(waitpid(o->pid, NULL, 0), o->pid);
}

typedef struct storer {
    eepi_window *window;
    uint64_t rounds;
    int stop;
} storer;

/* As a survivor's kernel would: all over the window, all the time. */
static void *store_all_over(void *argument)
{
    storer *s = argument;
    while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        for (size_t at = sizeof(eepk_window_header); at < BYTES - 64; at += 64) {
            __atomic_store_n(device_word(s->window, at), s->rounds, __ATOMIC_RELAXED);
        }
        __atomic_fetch_add(&s->rounds, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void await_rounds(const storer *s, uint64_t more)
{
    uint64_t until = __atomic_load_n(&s->rounds, __ATOMIC_ACQUIRE) + more;
    for (int i = 0; i < 10000 && __atomic_load_n(&s->rounds, __ATOMIC_ACQUIRE) < until; i++) {
        poll(NULL, 0, 1);
    }
    cr_assert_geq(__atomic_load_n(&s->rounds, __ATOMIC_ACQUIRE), until);
}

static void check_owner_dies(int is_discrete)
{
    eep_device *device = open_device(is_discrete);
    owner o = start_owner(is_discrete), successor;
    storer s = {.window = map(device, &o.descriptor)};
    uint64_t *count = device_word(s.window, BYTES - sizeof(uint64_t)), last;
    eepi_window *again, *refused = NULL;
    pthread_t thread;
    char why[512] = "";
    cr_assert_eq(pthread_create(&thread, NULL, store_all_over, &s), 0);
    await_rounds(&s, 100);
    cr_expect_gt(__atomic_load_n(count, __ATOMIC_RELAXED), 0, "the owner's stores are seen");
    kill_owner(&o);
    last = __atomic_load_n(count, __ATOMIC_RELAXED);
    await_rounds(&s, 1000);
    cr_expect_eq(__atomic_load_n(count, __ATOMIC_RELAXED), last,
                 "it has ended, so it stores no more");
    cr_expect_eq(window_map_whole(device, &o.descriptor, &spec, why, sizeof why, &refused),
                 EEP_ERR_UNREACHABLE, "its process is gone");
    successor = start_owner(is_discrete);
    again = map(device, &successor.descriptor);
    cr_expect_neq(window_memory(again), window_memory(s.window));
    cr_expect_neq(eepi_window_header(again), eepi_window_header(s.window));
    await_rounds(&s, 100);
    __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    cr_expect_eq(*device_word(s.window, sizeof(eepk_window_header)), s.rounds - 1);
    kill_owner(&successor);
    eepi_window_close(again);
    eepi_window_close(s.window);
    eep_device_close(device);
}

Test(window, whole_it_survives_its_owner)
{
    check_owner_dies(0);
}

Test(window, apart_it_survives_its_owner)
{
    check_owner_dies(1);
}

/* ---------------------------------------------------------------- who may not */

/* In a process that may not trace the owner: status and text come back. */
static void map_as_nobody(int to, const eepi_window_descriptor *descriptor)
{
    eep_device *device = open_device(1);
    eepi_window *window = NULL;
    struct {
        eep_status status;
        char why[512];
    } answer = {.why = ""};
    if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        _exit(1);
    }
    answer.status =
        window_map_whole(device, descriptor, &spec, answer.why, sizeof answer.why, &window);
    if (write(to, &answer, sizeof answer) != (ssize_t)sizeof answer) {
        _exit(1);
    }
    _exit(0);
}

Test(window, where_the_kernel_forbids_it_the_remedy_is_named)
{
    struct {
        eep_status status;
        char why[512];
    } answer;
    int ends[2];
    pid_t child;
    owner o;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    o = start_owner(1);
    cr_assert_eq(pipe(ends), 0);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        map_as_nobody(ends[1], &o.descriptor);
    }
    close(ends[1]);
    cr_assert_eq(read(ends[0], &answer, sizeof answer), (ssize_t)sizeof answer);
    close(ends[0]);
    waitpid(child, NULL, 0);
    kill_owner(&o);
    cr_expect_eq(answer.status, EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(answer.why, "ptrace_scope") && strstr(answer.why, "SYS_PTRACE"), "'%s'",
              answer.why);
    cr_expect(strstr(answer.why, "--threads"), "'%s'", answer.why);
}

/* As in a sandbox that has no such call: this process is told ENOSYS from now on. */
static int take_pidfd_getfd_away(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_getfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {sizeof code / sizeof code[0], code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

Test(window, without_pidfd_getfd_ranks_are_threads)
{
    eep_device *device = open_device(1);
    eepi_window *own = make(device), *mapped = NULL;
    eepi_window_descriptor descriptor;
    char why[512] = "";
    owner o = start_owner(1);
    if (!take_pidfd_getfd_away()) {
        cr_skip_test("no seccomp filters here");
    }
    cr_expect_eq(window_map_whole(device, &o.descriptor, &spec, why, sizeof why, &mapped),
                 EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "no such call") && strstr(why, "--threads"), "'%s'", why);
    kill_owner(&o);
    eepi_window_describe(own, &descriptor);
    mapped = map(device, &descriptor);
    eepi_window_close(mapped);
    eepi_window_close(own);
    eep_device_close(device);
}

Test(window, descriptors_come_all_or_none)
{
    int32_t fds[2] = {0, 9999};
    int copies[2] = {-1, -1}, lowest = dup(0);
    char why[256] = "";
    close(lowest);
    cr_expect_eq(eepi_peer_descriptors_copy(getpid(), fds, 2, copies, why, sizeof why),
                 EEP_ERR_UNREACHABLE);
    cr_expect_eq(dup(0), lowest, "a copy was left open");
}
