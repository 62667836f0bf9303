/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls that reach a store without a rank: what they refuse, with which words, within
 * which time, and what nobody can do while a store is cleared. */
#include "tests/lib/store_fixture.h"

#include "eep/eep.h"
#include "tests/lib/store/store_port.h"
#include "eep/watch.h"
#include "membership/process/process.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/store/store_socket.h"
#include "membership/store/store_wire.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { NOBODY = 65534, SEAT = 7, HOUR_S = 3600 };

static void tear_down(void)
{
    eepi_seats_remove(path, EEP_MAX_RANKS);
    remove_directory();
}

TestSuite(store_calls, .init = make_directory, .fini = tear_down, .timeout = 30);

/* ---------------------------------------------------------------- words */

/* What is to be done is said of what is wrong, and of nothing else. */
Test(store_calls, the_remedy_fits_what_is_wrong_with_the_directory)
{
    char error[512] = "";
    eep_store *store = NULL;
    cr_assert_eq(chmod(directory, 0755), 0);
    cr_assert_eq(eep_store_open(path, error, sizeof error, &store), EEP_ERR_INVALID);
    cr_expect(strstr(error, "0755") && strstr(error, "chmod 0700") && !strstr(error, "uid"), "%s",
              error);
    if (geteuid() != 0) {
        cr_skip_test("only root can give a directory away");
    }
    cr_assert_eq(chmod(directory, 0700), 0);
    cr_assert_eq(chown(directory, NOBODY, NOBODY), 0);
    cr_assert_eq(eep_store_open(path, error, sizeof error, &store), EEP_ERR_INVALID);
    cr_expect(strstr(error, "uid 65534") && !strstr(error, "chmod"), "%s", error);
    cr_assert_eq(chmod(directory, 0770), 0);
    cr_assert_eq(eep_store_open(path, error, sizeof error, &store), EEP_ERR_INVALID);
    cr_expect(strstr(error, "uid 65534") && strstr(error, "0770") && !strstr(error, "chmod"), "%s",
              error);
}

/* A caller may leave error_out out, and ask its thread's text. */
Test(store_calls, each_refusal_is_the_threads_text_too)
{
    char error[512] = "";
    eep_store *store = NULL;
    eep_watch *watch = NULL;
    eep_config config;
    cr_expect_eq(eep_store_open("/nowhere/at/all", error, sizeof error, &store), EEP_ERR_SYSTEM);
    cr_expect(strstr(error, "/nowhere/at") && strcmp(eep_error_text(), error) == 0, "%s: %s", error,
              eep_error_text());
    cr_expect_eq(eep_watch_open("/nowhere/watch", 0, error, sizeof error, &watch),
                 EEP_ERR_UNREACHABLE);
    cr_expect(strstr(error, "/nowhere/watch") && strcmp(eep_error_text(), error) == 0);
    eep_config_init(EEP_SIZED(&config));
    cr_expect_eq(eep_config_profile(&config, (eep_profile)7), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "profile is 7"), "%s", eep_error_text());
    store = open_store();
    eepi_seat_holder own = {.pid = getpid(),
                            .pid_start = eepi_process_start(getpid()),
                            .home = eepi_process_home()},
                     before;
    cr_assert_eq(eepi_seat_take(path, SEAT, 0, &own, &before), EEP_OK);
    cr_expect_eq(eep_store_forget(path, NULL, 0), EEP_ERR_STATE);
    cr_expect(strstr(eep_error_text(), "holds seat 7"), "%s", eep_error_text());
    eep_store_close(store);
}

/* No store can be at such a path: that is no store that does not answer. */
Test(store_calls, a_path_that_is_too_long_is_named_as_that)
{
    char error[512] = "", longer[301];
    eep_watch *watch = NULL;
    eep_store *store = NULL;
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    cr_expect_eq(eep_watch_open(longer, 1000, error, sizeof error, &watch), EEP_ERR_INVALID);
    cr_expect(strstr(error, "1 to 107 bytes, this one has 300"), "%s", error);
    cr_expect_eq(eep_store_forget(longer, error, sizeof error), EEP_ERR_INVALID);
    cr_expect(strstr(error, "1 to 107 bytes, this one has 300"), "%s", error);
    cr_expect_eq(eep_store_open(longer, error, sizeof error, &store), EEP_ERR_INVALID);
    cr_expect(strstr(error, "1 to 107 bytes, this one has 300"), "%s", error);
    cr_expect_eq(eep_watch_open("", 1000, error, sizeof error, &watch), EEP_ERR_INVALID);
    cr_expect(strstr(error, "1 to 107 bytes, this one has 0"), "%s", error);
}

/* What is no address, or of a store that is not served like this, is refused before anything is
 * begun. */
Test(store_calls, addresses_are_refused_by_name)
{
    static const char *const refused[][2] = {
        {"tcp://10.0.0.1:7000?local=/tmp/s", "not authenticated"},
        {"tcp://127.0.0.1:7000", "needs local=PATH"},
        {"etcd://127.0.0.1:2379?local=/tmp/s", "serves itself"},
        {"ftp://127.0.0.1", "no kind of store"},
    };
    char error[512] = "";
    eep_store *store = NULL;
    eep_watch *watch = NULL;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cr_expect_eq(eep_store_open(refused[i][0], error, sizeof error, &store), EEP_ERR_INVALID);
        cr_expect(strstr(error, refused[i][1]), "%s: %s", refused[i][0], error);
    }
    cr_expect_eq(eep_watch_open(refused[0][0], 0, error, sizeof error, &watch), EEP_ERR_INVALID);
    cr_expect(strstr(error, refused[0][1]), "%s", error);
}

/* A watch, and clearing, reach a store over TCP; a port is not shared. */
Test(store_calls, a_store_over_tcp)
{
    char error[512] = "", address[200], other[200];
    eep_store *store = NULL, *second = NULL;
    eep_watch *watch = NULL;
    unsigned port = test_free_port();
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u?local=%s", port, path);
    snprintf(other, sizeof other, "tcp://127.0.0.1:%u?local=%s2", port, path);
    cr_expect_eq(eep_watch_open(address, 0, error, sizeof error, &watch), EEP_ERR_UNREACHABLE);
    cr_expect(strstr(error, "refused"), "%s", error);
    cr_assert_eq(eep_store_open(address, error, sizeof error, &store), EEP_OK, "%s", error);
    cr_expect_eq(eep_store_open(other, error, sizeof error, &second), EEP_ERR_CONFLICT);
    cr_expect(strstr(error, "cannot listen on port"), "%s", error);
    cr_expect_eq(access(strchr(other, '=') + 1, F_OK), -1);
    cr_assert_eq(eep_watch_open(address, BOUND_US, error, sizeof error, &watch), EEP_OK, "%s",
                 error);
    eep_watch_close(watch);
    cr_expect_eq(eep_store_forget(address, error, sizeof error), EEP_OK, "%s", error);
    snprintf(other, sizeof other, "tcp://127.0.0.1:%u", port);
    cr_expect_eq(eep_store_forget(other, error, sizeof error), EEP_ERR_INVALID);
    cr_expect(strstr(error, "local=PATH"), "%s", error);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- time */

static bool hurry;  /* an hour goes by at each look at the clock */
static long skew_s; /* the clock has gone on by so much; atomic */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long hours;
    long failed = syscall(SYS_clock_gettime, clock, now);
    now->tv_sec += hurry ? HOUR_S * ++hours : __atomic_load_n(&skew_s, __ATOMIC_ACQUIRE);
    return (int)failed;
}

/* No wait is without a bound, for any timeout that is given. */
Test(store_calls, a_watch_waits_for_its_store_a_day_at_most)
{
    char error[512] = "";
    eep_watch *watch = NULL;
    hurry = true;
    cr_expect_eq(eep_watch_open(path, UINT64_MAX, error, sizeof error, &watch),
                 EEP_ERR_UNREACHABLE);
    hurry = false;
    cr_expect(strstr(error, "No such file"), "%s", error);
}

/* Opens a watch in a thread of its own, in which it has 10 s. */
static eep_watch *opened_watch;
static char watch_error[512];

static void *open_watch(void *status_out)
{
    *(eep_status *)status_out =
        eep_watch_open(path, 10000000, watch_error, sizeof watch_error, &opened_watch);
    return NULL;
}

/* Its connection to what listens there. */
static int accept_watch(const eepi_store_listener *listener)
{
    struct pollfd comes = {.fd = listener->fd, .events = POLLIN};
    cr_assert_eq(poll(&comes, 1, BOUND_US / 1000), 1);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

/* A store that ends still takes connections for a moment. */
Test(store_calls, a_watch_waits_for_the_store_that_follows_one_that_ends)
{
    eepi_store_listener ending;
    eep_status status = EEP_OK;
    pthread_t thread;
    cr_assert_eq(eepi_store_socket_listen(path, NULL, 0, &ending), EEP_OK);
    cr_assert_eq(pthread_create(&thread, NULL, open_watch, &status), 0);
    int fd = accept_watch(&ending);
    eepi_store_socket_unlisten(path, &ending);
    close(fd);
    eep_store *store = open_store();
    pthread_join(thread, NULL);
    cr_expect_eq(status, EEP_OK, "%s", watch_error);
    eep_watch_close(opened_watch);
    eep_store_close(store);
}

/* As one that is stopped for two seconds. */
Test(store_calls, a_watch_waits_for_a_slow_answer_as_long_as_it_is_told)
{
    const eepi_store_message answer = {.type = EEPI_STORE_MSG_REPLY, .id = 1, .key = ""};
    unsigned char frame[EEPI_STORE_HEAD_MAX];
    size_t bytes = eepi_store_wire_encode(&answer, frame);
    eepi_store_listener slow;
    eep_status status = EEP_OK;
    pthread_t thread;
    cr_assert_eq(eepi_store_socket_listen(path, NULL, 0, &slow), EEP_OK);
    cr_assert_eq(pthread_create(&thread, NULL, open_watch, &status), 0);
    int fd = accept_watch(&slow);
    cr_assert_gt(recv(fd, frame + bytes, sizeof frame - bytes, 0), 0, "its request");
    __atomic_store_n(&skew_s, 2, __ATOMIC_RELEASE);
    cr_assert_eq(send(fd, frame, 4, MSG_NOSIGNAL), 4); /* it looks at the clock now */
    poll(NULL, 0, 50);
    (void)!send(fd, frame + 4, bytes - 4, MSG_NOSIGNAL);
    pthread_join(thread, NULL);
    cr_expect_eq(status, EEP_OK, "%s", watch_error);
    eep_watch_close(opened_watch);
    close(fd);
    eepi_store_socket_unlisten(path, &slow);
}

/* A store of root, which serves root alone, in a folder that is open to others since. */
Test(store_calls, a_watch_learns_at_once_that_the_store_is_not_for_its_user)
{
    char error[512] = "";
    int status = 0;
    if (geteuid() != 0) {
        cr_skip_test("only root can become another user");
    }
    eep_store *store = open_store();
    cr_assert_eq(chmod(directory, 0755), 0);
    cr_assert_eq(chmod(path, 0777), 0);
    pid_t child = fork();
    if (child == 0) {
        eep_watch *watch = NULL;
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
            _exit(2);
        }
        eep_status opened = eep_watch_open(path, 20000000, error, sizeof error, &watch);
        if (opened != EEP_ERR_UNREACHABLE || !strstr(error, "processes of its own user only")) {
            fprintf(stderr, "%s: %s\n", eep_strerror(opened), error);
            _exit(1);
        }
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    eep_store_close(store);
}

/* ---------------------------------------------------------------- clearing */

static eep_status forgotten;
static char forget_error[512];

static void *forget(void *done)
{
    forgotten = eep_store_forget(path, forget_error, sizeof forget_error);
    __atomic_store_n((int *)done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static eep_status get(eepi_store_client *client, const char *key)
{
    return wait_for(client, eepi_store_get(client, key)).status;
}

/* A process that has been let in is seen: it looks at the store first, and takes its seat last. */
Test(store_calls, no_seat_is_taken_between_the_look_and_the_clearing)
{
    eepi_seat_holder own = {.pid = getpid(),
                            .pid_start = eepi_process_start(getpid()),
                            .home = eepi_process_home()},
                     before;
    pthread_t thread;
    int gate = -1, done = 0;
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    put(client, "instance", "found by a rank that opens just now");
    cr_assert_eq(eepi_seats_enter(path, 0, &gate), EEP_OK);
    cr_assert_eq(pthread_create(&thread, NULL, forget, &done), 0);
    for (int i = 0; i < 50; i++) { /* longer than it takes where nothing is in the way */
        cr_assert_eq(get(client, "instance"), EEP_OK, "cleared while a rank opens");
        poll(NULL, 0, 1);
    }
    cr_expect_eq(__atomic_load_n(&done, __ATOMIC_ACQUIRE), 0);
    cr_assert_eq(eepi_seat_take(path, SEAT, 0, &own, &before), EEP_OK);
    eepi_seats_leave(gate);
    pthread_join(thread, NULL);
    cr_expect_eq(forgotten, EEP_ERR_STATE);
    cr_expect(strstr(forget_error, "holds seat 7"), "%s", forget_error);
    cr_expect_eq(get(client, "instance"), EEP_OK);
    cr_assert_eq(eepi_seat_release(path, SEAT, &own), EEP_OK);
    cr_assert_eq(eep_store_forget(path, forget_error, sizeof forget_error), EEP_OK, "%s",
                 forget_error);
    cr_expect_eq(get(client, "instance"), EEP_ERR_NOT_FOUND);
    eepi_store_client_close(client);
    eep_store_close(store);
}

/* Many may open at once; nobody does while a store is cleared. A store that ends takes its gate
 * along, but not from under who is inside: he and those who come must meet. */
Test(store_calls, the_gate_lets_many_in_or_one)
{
    int first = -1, second = -1, alone = -1;
    char gate[100];
    struct stat before, after;
    eep_store *store = open_store();
    cr_assert_eq(eepi_seats_enter(path, 0, &first), EEP_OK);
    cr_assert_eq(eepi_seats_enter(path, 0, &second), EEP_OK);
    eepi_seats_leave(second);
    eepi_seats_leave(first);
    cr_assert_eq(eepi_seats_enter(path, 1, &alone), EEP_OK);
    snprintf(gate, sizeof gate, "%s.seats", path);
    cr_assert_eq(stat(gate, &before), 0);
    eep_store_close(store);
    cr_expect(stat(gate, &after) == 0 && after.st_ino == before.st_ino, "who is inside is alone");
    eepi_seats_leave(alone);
    eep_store_close(open_store());
    cr_expect_eq(access(gate, F_OK), -1, "it is left behind");
}

/* A file that nobody of an instance has written, at a seat that no instance may ever have had. */
Test(store_calls, what_is_no_seats_file_is_named_with_what_to_do)
{
    char stray[100];
    eep_store *store = open_store();
    snprintf(stray, sizeof stray, "%s.seat%d", path, SEAT);
    FILE *file = fopen(stray, "we");
    cr_assert(file && fputs("notes", file) >= 0 && fclose(file) == 0);
    cr_expect_eq(eep_store_forget(path, forget_error, sizeof forget_error), EEP_ERR_SYSTEM);
    cr_expect(strstr(forget_error, stray) && strstr(forget_error, "remove the file once"), "%s",
              forget_error);
    eep_store_close(store);
}

/* What is to be removed says nothing of who lives. */
Test(store_calls, a_wrong_number_in_the_store_hides_nobody)
{
    static const int32_t wrong[] = {1, 0, -1, INT32_MIN, INT32_MAX};
    eepi_seat_holder own = {.pid = getpid(),
                            .pid_start = eepi_process_start(getpid()),
                            .home = eepi_process_home()},
                     before;
    eep_store *store = open_store();
    eepi_store_client *client = open_client();
    cr_assert_eq(eepi_seat_take(path, SEAT, 0, &own, &before), EEP_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        eepi_instance instance = {.numbers[0] = wrong[i]};
        cr_assert_eq(wait_for(client, eepi_store_put(client, EEPI_KEY_INSTANCE, &instance,
                                                     sizeof instance, 0))
                         .status,
                     EEP_OK);
        cr_expect_eq(eep_store_forget(path, forget_error, sizeof forget_error), EEP_ERR_STATE,
                     "max_ranks %d", wrong[i]);
        cr_expect_eq(get(client, EEPI_KEY_INSTANCE), EEP_OK, "max_ranks %d", wrong[i]);
    }
    eepi_store_client_close(client);
    eep_store_close(store);
}
