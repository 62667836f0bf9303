/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket, with a fake launcher behind it: whatever comes in gets an answer, bounds hold
 * and nothing disturbs the owner. Both ends are in one thread: `turn` is one round of the owner's
 * loop. */
#include "experiments/control/control_socket.h"
#include "experiments/control/control_path.h"
#include "experiments/control/control_peer.h"
#include "experiments/base/poll_open.h"
#include "tests/lib/control_fixture.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct fake {
    script_event last;
    int num_commands, num_finishes;
    bool settled;
} fake;

static fake owner;
static double now_ms;

static bool on_command(void *user, const script_event *event, int seats_out[SCRIPT_MAX_SEATS],
                       int *num_seats_out, int *id_out, char error[CONTROL_ERROR_BYTES])
{
    fake *of = user;
    of->last = *event;
    of->num_commands++;
    if (event->target == TARGET_SEATS && event->seat[0] == 9) {
        snprintf(error, CONTROL_ERROR_BYTES, "rank 9 has no process");
        return false;
    }
    if (event->when != WHEN_TIME) {
        *num_seats_out = 0;
        *id_out = 12;
        return true;
    }
    *num_seats_out = event->target == TARGET_SEATS ? event->num_seats : 0;
    memcpy(seats_out, event->seat, (size_t)*num_seats_out * sizeof *seats_out);
    return true;
}

static void take_finish(void *user)
{
    ((fake *)user)->num_finishes++;
}

static void tell_status(void *user, cJSON *answer)
{
    (void)user;
    cJSON_AddNumberToObject(answer, "epoch", 7);
}

static bool is_settled(void *user, char why[CONTROL_ERROR_BYTES])
{
    if (why && !((fake *)user)->settled) {
        snprintf(why, CONTROL_ERROR_BYTES, "rank 3 is joining");
    }
    return ((fake *)user)->settled;
}

static void tell_pending(void *user, cJSON *answer)
{
    (void)user;
    cJSON_AddArrayToObject(answer, "pending");
}

static bool cancel(void *user, int number, char error[CONTROL_ERROR_BYTES])
{
    (void)user;
    snprintf(error, CONTROL_ERROR_BYTES, "nothing of number %d is pending", number);
    return number == 12;
}

static const control_ops ops = {on_command, take_finish,  tell_status,
                                is_settled, tell_pending, cancel};

static void set_up(void)
{
    control_set_up(&ops, &owner);
}

TestSuite(control, .init = set_up, .fini = control_tear_down, .timeout = 20);

static void turn(void)
{
    struct pollfd set[CONTROL_MAX_FDS];
    control_fds(self, set);
    cr_assert_geq(poll_open(set, CONTROL_MAX_FDS, 0), 0);
    control_handle(self, set, now_ms);
}

static int connect_to(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    turn();
    return fd;
}

static void put(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything that has come back; "": nothing yet; NULL: hung up. */
static const char *got(int fd)
{
    static char text[65536];
    turn();
    ssize_t bytes = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    if (bytes == 0) {
        return NULL;
    }
    text[bytes > 0 ? bytes : 0] = '\0';
    return text;
}

static void asks(int fd, const char *line, const char *answer)
{
    put(fd, line);
    const char *text = got(fd);
    cr_assert_str_eq(text ? text : "hung up", answer, "to %s", line);
}

static void asks_badly(int fd, const char *line, const char *part)
{
    put(fd, line);
    const char *text = got(fd);
    cr_assert(text && strstr(text, "\"ok\":false") && strstr(text, part), "to %s: %s", line,
              text ? text : "hung up");
}

/* ---------------------------------------------------------------- requests */

Test(control, verbs_arrive_parsed)
{
    int fd = connect_to();
    asks(fd, "{\"id\":1,\"do\":\"kill\",\"what\":\"3\"}\n",
         "{\"id\":1,\"ok\":true,\"seats\":[3]}\n");
    cr_assert(owner.last.verb == VERB_KILL && owner.last.target == TARGET_SEATS);
    cr_assert(owner.last.num_seats == 1 && owner.last.seat[0] == 3);
    asks(fd, "{\"id\":\"x\",\"do\":\"stop\",\"what\":\"2,4=400ms\"}\n",
         "{\"id\":\"x\",\"ok\":true,\"seats\":[2,4]}\n");
    cr_assert(owner.last.verb == VERB_STOP && owner.last.lasts.ms == 400);
    asks(fd, "{\"do\":\"kill\",\"what\":\"3@ready:5\"}\n",
         "{\"ok\":true,\"seats\":[],\"pending\":true,\"number\":12}\n");
    asks(fd, "{\"do\":\"pending\"}\n", "{\"ok\":true,\"pending\":[]}\n");
    asks(fd, "{\"do\":\"cancel\",\"what\":\"12\"}\n", "{\"ok\":true}\n");
    asks(fd, "{\"do\":\"cancel\",\"what\":\"13\"}\n",
         "{\"ok\":false,\"error\":\"nothing of number 13 is pending\"}\n");
    asks(fd, "{\"do\":\"cancel\",\"what\":\"1x\"}\n",
         "{\"ok\":false,\"error\":\"cancel: '1x' is not a number; 'pending' lists what can be "
         "withdrawn\"}\n");
    cr_assert(owner.last.when == WHEN_STATE && owner.last.awaited.state == STATE_READY);
    cr_assert_eq(owner.last.awaited.seat, 5);
    asks(fd, "{\"do\":\"kill\",\"what\":\"random:2\"}\n", "{\"ok\":true,\"seats\":[]}\n");
    cr_assert(owner.last.target == TARGET_RANDOM && owner.last.named.count == 2);
    close(fd);
}

Test(control, answers_are_utf8_and_an_id_comes_back_or_the_line_is_refused)
{
    static const char *const bad[] = {"\xff\xfe",         "\xc3(",   "\xc0\x80", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80", "\xe2\x82"};
    int fd = connect_to();
    char line[256], name[80] = "";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(line, sizeof line, "{\"do\":\"%s\"}\n", bad[i]);
        asks(fd, line,
             "{\"ok\":false,\"error\":\"the line is not one JSON object: it is not UTF-8\"}\n");
    }
    asks(fd, "{\"id\":\"\\u0000x\",\"do\":\"status\"}\n",
         "{\"ok\":false,\"error\":\"a text has \\\\u0000 in it\"}\n");
    asks(fd, "{\"id\":\"\\\\u0000\",\"do\":\"status\"}\n",
         "{\"id\":\"\\\\u0000\",\"ok\":true,\"epoch\":7}\n");
    asks_badly(fd, "{\"id\":1000000000000000,\"do\":\"status\"}\n{\"id\":1e400}\n", "1e15 or more");
    asks(fd, "{\"id\":999999999999999,\"do\":\"status\"}\n",
         "{\"id\":999999999999999,\"ok\":true,\"epoch\":7}\n");
    for (int i = 0; i < 33; i++) {
        strcat(name, i ? "\xc3\xbc" : "x"); /* cut within a letter */
    }
    snprintf(line, sizeof line, "{\"do\":\"%s\"}\n", name);
    asks_badly(fd, line, "\xc3\xbc?' is not a command");
    close(fd);
}

Test(control, every_verb_of_the_table_is_known)
{
    int fd = connect_to();
    for (int v = 0; v < NUM_VERBS; v++) {
        char line[128], begin[64]; /* the verb as it was given, and not its flag */
        snprintf(line, sizeof line, "{\"do\":\"%s\",\"what\":\"nonsense!@\"}\n",
                 verb_table[v].name);
        snprintf(begin, sizeof begin, "\"error\":\"%s: ", verb_table[v].name);
        asks_badly(fd, line, begin);
    }
    close(fd);
}

Test(control, status_finish_and_requests_in_one_packet)
{
    int fd = connect_to();
    asks(fd,
         "{\"id\":1,\"do\":\"status\"}\n{\"id\":2,\"do\":\"finish\"}\n\n{\"id\":3,\"do\":"
         "\"status\"}\n",
         "{\"id\":1,\"ok\":true,\"epoch\":7}\n{\"id\":2,\"ok\":true}\n{\"id\":3,\"ok\":true,"
         "\"epoch\":7}\n");
    cr_assert_eq(owner.num_finishes, 1);
    put(fd, "{\"id\":4,\"do\":");
    cr_assert_str_eq(got(fd), "", "half a line has no answer");
    asks(fd, "\"status\"}\n", "{\"id\":4,\"ok\":true,\"epoch\":7}\n");
    /* The last line needs no newline: the end of the input ends it. */
    put(fd, "{\"id\":5,\"do\":\"status\"}");
    shutdown(fd, SHUT_WR);
    turn(); /* the text, then its end */
    cr_assert_str_eq(got(fd), "{\"id\":5,\"ok\":true,\"epoch\":7}\n");
    cr_assert_null(got(fd));
    close(fd);
}

Test(control, garbage_gets_an_error_line)
{
    int fd = connect_to();
    asks_badly(fd, "hello\n", "not one JSON object");
    asks_badly(fd, "[1]\n", "not one JSON object");
    asks_badly(fd, "{\"do\":\"status\"} x\n", "not one JSON object");
    asks_badly(fd, "\xff\xfe\x01\n", "not one JSON object");
    asks_badly(fd, "{}\n", "\\\"do\\\" is missing");
    asks_badly(fd, "{\"do\":3}\n", "\\\"do\\\" is missing");
    asks_badly(fd, "{\"do\":\"explode\"}\n", "'explode' is not a command; known are kill, ");
    asks_badly(fd, "{\"do\":\"kill\",\"what\":3}\n", "\\\"what\\\" is not a text");
    asks_badly(fd, "{\"do\":\"kill\"}\n", "\"kill: ''");
    asks_badly(fd, "{\"do\":\"kill\",\"what\":\"9\"}\n", "rank 9 has no process");
    asks_badly(fd, "{\"id\":[1],\"do\":\"status\"}\n", "\\\"id\\\"");
    asks_badly(fd, "{\"do\":\"wait\",\"for\":\"godot\"}\n", "\\\"for\\\"");
    asks_badly(fd, "{\"do\":\"wait\",\"for\":\"done\",\"timeout_s\":-1}\n", "timeout_s");
    cr_assert_eq(send(fd, "\0\n", 2, MSG_NOSIGNAL), 2);
    cr_assert(strstr(got(fd), "not one JSON object"));
    cr_assert_eq(owner.num_commands, 1, "only rank 9 reached the owner");
    asks(fd, "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    close(fd);
}

Test(control, a_line_that_is_too_long_is_said_once)
{
    static char line[3 * CONTROL_LINE_BYTES];
    int fd = connect_to();
    memset(line, 'x', sizeof line - 1);
    put(fd, line);
    const char *text = got(fd);
    cr_assert_str_eq(text, "{\"ok\":false,\"error\":\"the line is longer than 4095 bytes\"}\n");
    for (int i = 0; i < 4; i++) {
        cr_assert_str_eq(got(fd), "");
    }
    asks(fd, "\n{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    /* The longest that is taken: 4095 bytes and the newline. */
    memset(line, ' ', CONTROL_LINE_BYTES);
    memcpy(line, "{\"do\":\"status\"}", strlen("{\"do\":\"status\"}"));
    line[CONTROL_LINE_BYTES - 1] = '\n';
    line[CONTROL_LINE_BYTES] = '\0';
    asks(fd, line, "{\"ok\":true,\"epoch\":7}\n");
    close(fd);
}

/* Requests with bytes changed at random: each line has its answer, and the next request works. */
Test(control, no_line_is_without_an_answer)
{
    static const char *const lines[] = {
        "{\"id\":1,\"do\":\"kill\",\"what\":\"3,4@ready:5#2+1.5\"}",
        "{\"id\":\"x\",\"do\":\"stop\",\"what\":\"random:2=400ms\"}",
        "{\"do\":\"burn\",\"what\":\"0.5@step:100+1\"}", "{\"do\":\"status\",\"id\":1e3}"};
    uint64_t random = 12345; /* xorshift64: the same lines in each run */
    int fd = connect_to();
    for (int i = 0; i < 20000; i++) {
        char line[128];
        int bytes = snprintf(line, sizeof line, "%s\n", lines[i % 4]);
        for (int changes = 1 + i % 3; changes > 0; changes--) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            char byte = (char)(random >> 8);
            line[random % (uint64_t)(bytes - 1)] = byte == '\n' ? ' ' : byte;
        }
        cr_assert_eq(send(fd, line, (size_t)bytes, MSG_NOSIGNAL), bytes);
        const char *text = got(fd);
        cr_assert(text && strstr(text, "\"ok\":") && text[strlen(text) - 1] == '\n',
                  "line %d: %s got %s", i, line, text ? text : "hung up");
    }
    asks(fd, "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    close(fd);
}

/* ---------------------------------------------------------------- waits and events */

Test(control, a_wait_is_answered_when_it_is_over)
{
    int fd = connect_to();
    asks(fd, "{\"id\":1,\"do\":\"wait\",\"for\":\"settled\",\"timeout_s\":5}\n", "");
    asks(fd, "{\"id\":2,\"do\":\"status\"}\n", "{\"id\":2,\"ok\":true,\"epoch\":7}\n");
    asks_badly(fd, "{\"id\":3,\"do\":\"wait\",\"for\":\"settled\"}\n", "waits already");
    owner.settled = true;
    cr_assert_str_eq(got(fd), "{\"id\":1,\"ok\":true}\n");
    owner.settled = false;
    asks(fd, "{\"id\":4,\"do\":\"wait\",\"for\":\"settled\",\"timeout_s\":0.5}\n", "");
    now_ms += 499;
    cr_assert_str_eq(got(fd), "");
    now_ms += 2;
    cr_assert(strstr(got(fd), "{\"id\":4,\"ok\":false,\"timeout\":true,\"error\":\"wait: not "
                              "settled after 0.5 s: rank 3 is joining\"}"));
    close(fd);
}

Test(control, the_end_answers_waits_and_watchers)
{
    char error[CONTROL_ERROR_BYTES];
    int done = connect_to(), settled = connect_to(), watcher = connect_to();
    asks(done, "{\"id\":1,\"do\":\"wait\",\"for\":\"done\"}\n", "");
    asks(settled, "{\"id\":2,\"do\":\"wait\",\"for\":\"settled\"}\n", "");
    asks(watcher, "{\"id\":3,\"do\":\"watch\"}\n", "{\"id\":3,\"ok\":true}\n");
    control_close(self, false);
    cr_assert_eq(control_open(path, &ops, &owner, &self, error), EEP_OK, "%s", error);
    cr_assert_str_eq(got(done), "{\"id\":1,\"ok\":true,\"good\":false}\n");
    cr_assert_null(got(done));
    cr_assert(strstr(got(settled), "\"ok\":false,\"error\":\"wait: the run has ended\""));
    cr_assert_str_eq(got(watcher), "{\"event\":\"end\",\"good\":false}\n");
    cr_assert_null(got(watcher));
    close(done);
    close(settled);
    close(watcher);
}

Test(control, events_go_to_watchers_alone)
{
    int watcher = connect_to(), other = connect_to();
    cr_assert_not(control_is_watched(self));
    control_event(self, "{\"event\":\"early\"}");
    asks(watcher, "{\"do\":\"watch\"}\n", "{\"ok\":true}\n");
    cr_assert(control_is_watched(self));
    control_event(self, "{\"event\":\"kill\"}");
    control_event(self, "{\"event\":\"exit\"}");
    cr_assert_str_eq(got(watcher), "{\"event\":\"kill\"}\n{\"event\":\"exit\"}\n");
    cr_assert_str_eq(got(other), "");
    close(watcher);
    turn();
    cr_assert_not(control_is_watched(self));
    close(other);
}

Test(control, a_slow_reader_is_dropped_and_nobody_else)
{
    int slow = connect_to(), good = connect_to();
    char line[512];
    snprintf(line, sizeof line, "{\"event\":\"%0400d\"}", 0);
    asks(slow, "{\"do\":\"watch\"}\n", "{\"ok\":true}\n");
    asks(good, "{\"do\":\"watch\"}\n", "{\"ok\":true}\n");
    int told = 0;
    size_t seen = 0;
    for (; told < 100000; told++) {
        control_event(self, line);
        const char *text = got(good);
        cr_assert_not_null(text);
        seen += strlen(text);
        struct pollfd set = {.fd = slow, .events = 0};
        if (poll(&set, 1, 0) == 1 && set.revents & POLLHUP) {
            break;
        }
    }
    cr_assert_lt(told, 100000, "its bound was never met");
    cr_assert_gt(told * (int)strlen(line), 200 * 1024, "it had room before");
    cr_assert_eq(seen, (size_t)(told + 1) * (strlen(line) + 1), "the other one has all");
    close(slow);
    close(good);
}

/* ---------------------------------------------------------------- the socket */

Test(control, sixteen_connections_and_no_more)
{
    int fd[CONTROL_MAX_PEERS];
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        fd[i] = connect_to();
        asks(fd[i], "{\"do\":\"watch\"}\n", "{\"ok\":true}\n");
    }
    int late = connect_to();
    cr_assert(strstr(got(late), "too many connections"));
    cr_assert_null(got(late));
    close(late);
    close(fd[3]);
    turn();
    fd[3] = connect_to();
    asks(fd[3], "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        close(fd[i]);
    }
}

Test(control, connections_that_are_merely_held_keep_nobody_out)
{
    int held[3 * CONTROL_MAX_PEERS];
    int watcher = connect_to();
    asks(watcher, "{\"do\":\"watch\"}\n", "{\"ok\":true}\n");
    int asked = connect_to();
    asks(asked, "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    for (int i = 0; i < 3 * CONTROL_MAX_PEERS; i++) {
        held[i] = connect_to();
    }
    asks(asked, "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    int late = connect_to();
    asks(late, "{\"do\":\"status\"}\n", "{\"ok\":true,\"epoch\":7}\n");
    cr_assert(strstr(got(held[0]), "try again"), "it is told why");
    cr_assert_null(got(held[0]), "the oldest of those that asked nothing went first");
    cr_assert_str_eq(got(held[3 * CONTROL_MAX_PEERS - 1]), "");
    now_ms += 10001;
    turn();
    cr_assert_null(got(held[3 * CONTROL_MAX_PEERS - 1]), "nor may it ask nothing for 10 s");
    cr_assert_str_eq(got(late), "");
    control_event(self, "{\"event\":\"still\"}");
    cr_assert_str_eq(got(watcher), "{\"event\":\"still\"}\n");
    for (int i = 0; i < 3 * CONTROL_MAX_PEERS; i++) {
        close(held[i]);
    }
    close(late);
    close(asked);
    close(watcher);
}

/* More of them at a time than there are places, and nothing is read before they are there. */
Test(control, a_request_that_has_come_is_done_before_its_connection_makes_way)
{
    enum { NUM = 2 * CONTROL_MAX_PEERS < 120 ? 2 * CONTROL_MAX_PEERS : 120 };
    static const char request[] = "{\"do\":\"status\"}\n";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd[NUM];
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    for (int i = 0; i < NUM; i++) {
        fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(fd[i], (struct sockaddr *)&address, sizeof address), 0);
        put(fd[i], request);
    }
    for (int i = 0; i < NUM; i++) {
        const char *answer = got(fd[i]);
        cr_expect(answer && strcmp(answer, "{\"ok\":true,\"epoch\":7}\n") == 0, "%d: %s", i,
                  answer ? answer : "hung up");
        close(fd[i]);
    }
}

Test(control, without_descriptors_the_limit_is_named_and_nothing_spins)
{
    struct rlimit before, none;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct pollfd set[CONTROL_MAX_FDS];
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), lowest = dup(0);
    close(lowest);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)lowest;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    cr_expect(strstr(got(fd), "limit"), "it is told why it is turned away");
    control_fds(self, set);
    cr_expect_eq(poll_open(set, CONTROL_MAX_FDS, 0), 0, "nothing is left to take");
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(fd);
}

/* Though most of its entries are free: ppoll counts those, too. */
Test(control, a_set_larger_than_the_limit_is_polled)
{
    enum { LIMIT = 20, ENTRIES = 100 };
    struct rlimit limit;
    struct pollfd set[ENTRIES];
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = LIMIT;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < ENTRIES; i++) {
        set[i] = (struct pollfd){.fd = i == 70 ? ends[0] : -1, .events = POLLIN};
    }
    cr_assert_eq(write(ends[1], "x", 1), 1);
    cr_assert_lt(poll(set, ENTRIES, 0), 0);
    cr_assert_eq(poll_open(set, ENTRIES, 0), 1);
    cr_assert(set[70].revents == POLLIN && set[69].revents == 0);
    close(ends[0]);
    close(ends[1]);
}

/* Nobody writes into the FIFO, so an open that waits would wait for ever. */
Test(control, a_fifo_in_place_of_the_pointer_is_named_at_once)
{
    char error[CONTROL_PATH_ERROR_BYTES] = "", name[256], chosen[CONTROL_PATH_BYTES];
    private_dir own;
    struct stat info;
    snprintf(name, sizeof name, "%s/control.path", dir);
    cr_assert_eq(mkfifo(name, 0600), 0);
    cr_expect_eq(control_path_find(dir, chosen, error), EEP_ERR_INVALID);
    cr_expect(strstr(error, "control.path' is no regular file"), "%s", error);
    /* a run that begins takes the name */
    cr_assert_eq(control_path_choose(dir, path, &own, chosen, error), EEP_OK, "%s", error);
    cr_expect(stat(name, &info) == 0 && S_ISREG(info.st_mode));
    cr_expect_eq(control_path_find(dir, chosen, error), EEP_OK, "%s", error);
    control_path_forget(dir, &own);
}

static atomic_bool swaps;

static void *swap(void *names)
{
    const char *const *of = names;
    while (swaps) {
        (void)renameat2(AT_FDCWD, of[0], AT_FDCWD, of[1], RENAME_EXCHANGE);
    }
    return NULL;
}

/* As another user does who may write into the folder. */
Test(control, a_fifo_that_takes_the_name_at_any_moment_is_not_waited_for)
{
    char error[CONTROL_PATH_ERROR_BYTES] = "", name[80], fifo[80], chosen[CONTROL_PATH_BYTES];
    const char *names[] = {name, fifo};
    pthread_t thread;
    snprintf(name, sizeof name, "%s/control.path", dir);
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    FILE *file = fopen(name, "w");
    cr_assert(fputs("/x\n", file) >= 0 && fclose(file) == 0 && mkfifo(fifo, 0600) == 0);
    swaps = true;
    cr_assert_eq(pthread_create(&thread, NULL, swap, names), 0);
    for (int i = 0; i < 20000; i++) {
        eep_status status = control_path_find(dir, chosen, error);
        cr_assert(status == EEP_OK || strstr(error, "is no regular file"), "%s", error);
    }
    swaps = false;
    pthread_join(thread, NULL);
    cr_assert(unlink(name) == 0 && unlink(fifo) == 0);
}
