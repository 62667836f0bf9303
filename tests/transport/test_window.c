/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, whole and with two sides, made and mapped in one process and across processes that
 * really die. */
#include "transport/window/window.h"

#include "graphs/device/device_share.h"
#include "transport/window/peer_descriptor.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
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
    cr_assert_eq(eepi_window_create(device, &spec, why, sizeof why, &window), EEP_OK, "%s", why);
    return window;
}

static eepi_window *map(eep_device *device, const eepi_window_descriptor *descriptor)
{
    eepi_window *window;
    char why[512] = "";
    cr_assert_eq(eepi_window_map(device, descriptor, &spec, why, sizeof why, &window), EEP_OK, "%s",
                 why);
    return window;
}

static uint64_t *device_word(const eepi_window *window, size_t at)
{
    return (uint64_t *)((uint8_t *)eepi_window_device_address(window) + at);
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
    cr_expect_eq((void *)eepi_window_header(own) == eepi_window_device_address(own), !is_discrete);
    cr_expect_neq(eepi_window_device_address(own), eepi_window_device_address(mapped));
    cr_expect_eq(eepi_window_header(mapped)->seat, SEAT);
    cr_expect_eq(eepi_window_header(mapped)->generation, GENERATION);
    for (size_t at = is_discrete ? 0 : sizeof(eepk_window_header); at < BYTES;
         at += sizeof(uint64_t)) {
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
            cr_expect_eq(eepi_window_map(device, &descriptor, &wrong[i], why, sizeof why, &mapped),
                         EEP_ERR_UNREACHABLE, "%d", i);
            cr_expect_neq(why[0], '\0');
        }
        cr_expect_null(mapped);
        eepi_window_close(own);
        cr_expect_eq(eepi_window_map(device, &descriptor, &spec, why, sizeof why, &mapped),
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
        cr_expect_eq(eepi_window_map(other, &descriptor, &spec, why, sizeof why, &mapped),
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
        cr_expect_eq(eepi_window_map(device, &none, &spec, why, sizeof why, &window),
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
    eep_device *whole = open_device(0), *discrete = open_device(1);
    eepi_window *a = make(whole), *b = make(discrete);
    eepi_window_close(a);
    eepi_window_close(b);
    cr_expect_eq(eepi_share_cost_of(whole).calls, 0);
    eepi_share_cost cost = eepi_share_cost_of(discrete);
    cr_expect_eq(cost.calls, 2);
    cr_expect_leq(cost.longest_us, cost.total_us);
    eep_device_close(whole);
    eep_device_close(discrete);
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
    cr_expect_eq(eepi_window_create(device, &spec, why, sizeof why, &window), EEP_ERR_STATE);
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
    cr_expect_eq(eepi_window_map(device, &o.descriptor, &spec, why, sizeof why, &refused),
                 EEP_ERR_UNREACHABLE, "its process is gone");
    successor = start_owner(is_discrete);
    again = map(device, &successor.descriptor);
    cr_expect_neq(eepi_window_device_address(again), eepi_window_device_address(s.window));
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
        eepi_window_map(device, descriptor, &spec, answer.why, sizeof answer.why, &window);
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
    cr_expect_eq(eepi_window_map(device, &o.descriptor, &spec, why, sizeof why, &mapped),
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
