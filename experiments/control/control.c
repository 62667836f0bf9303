/* Lines from eep-ctl become commands and questions; answers that must wait are kept. */
#include "experiments/control/control.h"

#include "experiments/control/control_listen.h"
#include "experiments/control/control_path.h"
#include "experiments/control/control_peer.h"
#include "experiments/base/utf8.h"
#include "experiments/script/script_parse.h"
#include "transport/holder/holder_socket.h"
#include "graphs/base/reserve.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAX_WAIT_S = 86400,
    MOST_AT_ONCE = 128,    /* connections that are taken in a round */
    HELLO_MS = 10000,      /* a connection that has asked for nothing for so long is dropped */
    ACCEPT_PAUSE_MS = 100, /* after no descriptor could be had */
};

static const double TOO_LARGE_ID = 1e15; /* cJSON writes 15 digits */

typedef enum wait_goal { GOAL_NONE, GOAL_SETTLED, GOAL_DONE } wait_goal;

/* The answers that a peer still waits for. */
typedef struct debt {
    bool watches;
    wait_goal goal;
    cJSON *id; /* of the wait */
    double timeout_s, deadline_ms;
    bool asked;      /* a whole line has come */
    uint64_t heard;  /* grows; of its last line, or of its coming */
    double since_ms; /* when the connection came */
} debt;

struct control {
    const control_ops *ops;
    void *user;
    control_socket socket;
    int reserve_fd; /* given up for a moment to turn a connection away when descriptors run out */
    double now_ms;
    uint64_t num_heard;
    double accept_again_ms; /* until then no connection is taken */
    char path[CONTROL_PATH_BYTES];
    debt owed[CONTROL_MAX_PEERS];
    control_peer peer[CONTROL_MAX_PEERS];
};

/* ---------------------------------------------------------------- answers */

static cJSON *answer_to(const cJSON *id, bool ok)
{
    cJSON *answer = cJSON_CreateObject();
    if (id) {
        cJSON_AddItemToObject(answer, "id", cJSON_Duplicate(id, false));
    }
    cJSON_AddBoolToObject(answer, "ok", ok);
    return answer;
}

/* Frees the answer. */
static void say(control *self, int index, cJSON *answer)
{
    char *text = cJSON_PrintUnformatted(answer);
    if (text) {
        utf8_mend(
            text); /* where a longer text was cut, or the script of the command line is none */
        control_peer_say(&self->peer[index], text);
    } else {
        control_peer_close(&self->peer[index]); /* no memory: better no answer than half of one */
    }
    cJSON_free(text);
    cJSON_Delete(answer);
}

static void refuse(control *self, int index, const cJSON *id, const char *error)
{
    cJSON *answer = answer_to(id, false);
    cJSON_AddStringToObject(answer, "error", error);
    say(self, index, answer);
}

/* A wait that is not over by its bound. */
static void refuse_late(control *self, int index, const cJSON *id, const char *error)
{
    cJSON *answer = answer_to(id, false);
    cJSON_AddTrueToObject(answer, "timeout");
    cJSON_AddStringToObject(answer, "error", error);
    say(self, index, answer);
}

static void hang_up(control *self, int index)
{
    control_peer_close(&self->peer[index]);
    cJSON_Delete(self->owed[index].id);
    self->owed[index] = (debt){0};
}

/* ---------------------------------------------------------------- requests */

/* Errors of the script name the flag of eep-run: here the verb as it was given. */
static void name_as_given(verb action, char error[CONTROL_ERROR_BYTES])
{
    const verb_info *info = &verb_table[action];
    size_t length = strlen(info->option);
    if (strncmp(error, info->option, length) == 0 && error[length] == ':') {
        char rest[CONTROL_ERROR_BYTES];
        snprintf(rest, sizeof rest, "%s", error + length);
        snprintf(error, CONTROL_ERROR_BYTES, "%s%.*s", info->name, CONTROL_ERROR_BYTES - 32, rest);
    }
}

static void do_command(control *self, int index, const cJSON *id, verb action, const char *what)
{
    char error[CONTROL_ERROR_BYTES] = "";
    int seats[SCRIPT_MAX_SEATS], num_seats = 0, number = -1;
    script_event event;
    if (script_parse(action, what, false, &event, error) != EEP_OK ||
        !self->ops->command(self->user, &event, seats, &num_seats, &number, error)) {
        name_as_given(action, error);
        refuse(self, index, id, error);
        return;
    }
    cJSON *answer = answer_to(id, true);
    cJSON_AddItemToObject(answer, "seats", cJSON_CreateIntArray(seats, num_seats));
    if (number >= 0) {
        cJSON_AddTrueToObject(answer, "pending");
        cJSON_AddNumberToObject(answer, "number", number);
    }
    say(self, index, answer);
}

static void do_cancel(control *self, int index, const cJSON *id, const char *what)
{
    char error[CONTROL_ERROR_BYTES] = "", *end = NULL;
    long number = strtol(what, &end, 10);
    if (*what < '0' || *what > '9' || *end != '\0' || number > INT_MAX) {
        snprintf(error, sizeof error,
                 "cancel: '%.64s' is not a number; 'pending' lists what can be withdrawn", what);
        refuse(self, index, id, error);
    } else if (!self->ops->cancel(self->user, (int)number, error)) {
        refuse(self, index, id, error);
    } else {
        say(self, index, answer_to(id, true));
    }
}

static void do_wait(control *self, int index, const cJSON *id, const cJSON *request)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "for"));
    const cJSON *timeout = cJSON_GetObjectItemCaseSensitive(request, "timeout_s");
    debt *owed = &self->owed[index];
    wait_goal goal = !text                          ? GOAL_NONE
                     : strcmp(text, "settled") == 0 ? GOAL_SETTLED
                     : strcmp(text, "done") == 0    ? GOAL_DONE
                                                    : GOAL_NONE;
    double seconds = timeout ? cJSON_GetNumberValue(timeout) : MAX_WAIT_S;
    if (goal == GOAL_NONE) {
        refuse(self, index, id, "wait: \"for\" must be \"settled\" or \"done\"");
    } else if (!(seconds >= 0 && seconds <= MAX_WAIT_S)) {
        refuse(self, index, id, "wait: \"timeout_s\" must be a number from 0 to 86400");
    } else if (owed->goal != GOAL_NONE) {
        refuse(self, index, id, "wait: this connection waits already");
    } else {
        owed->goal = goal;
        owed->id = id ? cJSON_Duplicate(id, false) : NULL;
        owed->timeout_s = seconds;
        owed->deadline_ms = self->now_ms + seconds * 1e3;
    }
}

static void refuse_unknown(control *self, int index, const cJSON *id, const char *name)
{
    char error[CONTROL_ERROR_BYTES];
    int used = snprintf(error, sizeof error, "'%.64s' is not a command; known are ", name);
    for (int v = 0; v < NUM_VERBS; v++) {
        used += snprintf(error + used, sizeof error - (size_t)used, "%s, ", verb_table[v].name);
    }
    snprintf(error + used, sizeof error - (size_t)used,
             "status, pending, cancel, watch, wait, finish");
    refuse(self, index, id, error);
}

static void do_request(control *self, int index, const cJSON *id, const cJSON *request)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "do"));
    const cJSON *what = cJSON_GetObjectItemCaseSensitive(request, "what");
    verb action = VERB_KILL;
    if (!name) {
        refuse(self, index, id, "\"do\" is missing or not a text");
    } else if (what && !cJSON_IsString(what)) {
        refuse(self, index, id, "\"what\" is not a text");
    } else if (verb_find(name, &action)) {
        do_command(self, index, id, action, what ? what->valuestring : "");
    } else if (strcmp(name, "status") == 0) {
        cJSON *answer = answer_to(id, true);
        self->ops->status(self->user, answer);
        say(self, index, answer);
    } else if (strcmp(name, "pending") == 0) {
        cJSON *answer = answer_to(id, true);
        self->ops->pending(self->user, answer);
        say(self, index, answer);
    } else if (strcmp(name, "cancel") == 0) {
        do_cancel(self, index, id, what ? what->valuestring : "");
    } else if (strcmp(name, "watch") == 0) {
        self->owed[index].watches = true;
        say(self, index, answer_to(id, true));
    } else if (strcmp(name, "wait") == 0) {
        do_wait(self, index, id, request);
    } else if (strcmp(name, "finish") == 0) {
        self->ops->finish(self->user);
        say(self, index, answer_to(id, true));
    } else {
        refuse_unknown(self, index, id, name);
    }
}

/* In JSON: as an escape, which cJSON would end the text at. */
static bool has_nul(const char *line)
{
    for (const char *at = strchr(line, '\\'); at; at = strchr(at + 2, '\\')) {
        if (strncmp(at + 1, "u0000", 5) == 0) {
            return true;
        }
        if (at[1] == '\0') {
            break;
        }
    }
    return false;
}

static void on_line(control *self, int index, const char *line, size_t bytes)
{
    const char *end = NULL;
    cJSON *request = cJSON_ParseWithLengthOpts(line, bytes + 1, &end, true);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(request, "id");
    if (!utf8_is(line, bytes)) {
        refuse(self, index, NULL, "the line is not one JSON object: it is not UTF-8");
    } else if (!cJSON_IsObject(request)) {
        refuse(self, index, NULL, "the line is not one JSON object");
    } else if (has_nul(line)) {
        refuse(self, index, NULL, "a text has \\u0000 in it");
    } else if (cJSON_IsNumber(id) && !(fabs(id->valuedouble) < TOO_LARGE_ID)) {
        refuse(self, index, NULL, "\"id\" is a number of 1e15 or more, which cannot be given back");
    } else if (id && !cJSON_IsNumber(id) && !cJSON_IsString(id)) {
        refuse(self, index, NULL, "\"id\" is neither a number nor a text");
    } else {
        do_request(self, index, id, request);
    }
    cJSON_Delete(request);
}

/* ---------------------------------------------------------------- connections */

static void read_peer(control *self, int index)
{
    control_peer *peer = &self->peer[index];
    char *line = NULL;
    size_t bytes = 0;
    control_peer_read(peer);
    while (peer->fd >= 0) {
        control_line found = control_peer_next(peer, &line, &bytes);
        if (found == LINE_NONE) {
            return;
        }
        if (found == LINE_TOO_LONG) {
            char error[64];
            snprintf(error, sizeof error, "the line is longer than %d bytes",
                     CONTROL_LINE_BYTES - 1);
            refuse(self, index, NULL, error);
        } else if (bytes > 0) {
            self->owed[index].asked = true;
            self->owed[index].heard = ++self->num_heard;
            on_line(self, index, line, bytes);
        }
    }
}

/* A wait that is over is answered; a timeout is not a success. */
static void settle_debt(control *self, int index)
{
    debt *owed = &self->owed[index];
    if (owed->goal == GOAL_NONE) {
        return;
    }
    char why[CONTROL_ERROR_BYTES] = "";
    bool times_out = self->now_ms >= owed->deadline_ms;
    bool reached = owed->goal == GOAL_SETTLED && self->ops->settled(self->user, NULL);
    if (!reached && !times_out) {
        return;
    }
    if (reached) {
        say(self, index, answer_to(owed->id, true));
    } else {
        char error[CONTROL_ERROR_BYTES];
        (void)self->ops->settled(self->user, why);
        snprintf(error, sizeof error, "wait: not %s after %g s%s%.400s",
                 owed->goal == GOAL_SETTLED ? "settled" : "done", owed->timeout_s, *why ? ": " : "",
                 why);
        refuse_late(self, index, owed->id, error);
    }
    cJSON_Delete(owed->id);
    owed->id = NULL;
    owed->goal = GOAL_NONE;
}

static int free_place(const control *self)
{
    int index = 0;
    while (index < CONTROL_MAX_PEERS && self->peer[index].fd >= 0) {
        index++;
    }
    return index;
}

static const char NO_ROOM[] = "the run has too many connections now: try again";

/* A peer that only holds a connection makes way for a new one: first a peer that has asked for
 * nothing, then the peer that was silent longest. A peer that waits, watches, or has not read all
 * of its answers stays. What has come by now is done first. Returns the place that is free then;
 * CONTROL_MAX_PEERS: none. */
static int make_place(control *self)
{
    int least = -1;
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        read_peer(self, i);
        if (self->peer[i].fd < 0) {
            hang_up(self, i);
            return i;
        }
    }
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        const debt *owed = &self->owed[i];
        if (owed->watches || owed->goal != GOAL_NONE || control_peer_is_pending(&self->peer[i])) {
            continue;
        }
        if (least < 0 || owed->asked < self->owed[least].asked ||
            (owed->asked == self->owed[least].asked && owed->heard < self->owed[least].heard)) {
            least = i;
        }
    }
    if (least < 0) {
        return CONTROL_MAX_PEERS;
    }
    if (!self->owed[least].asked) {
        refuse(self, least, NULL, NO_ROOM);
    }
    hang_up(self, least);
    return least;
}

static void turn_away(int fd, const char *error)
{
    char line[CONTROL_ERROR_BYTES];
    int bytes = snprintf(line, sizeof line, "{\"ok\":false,\"error\":\"%s\"}\n", error);
    (void)!send(fd, line, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

static void tell_limit(int fd, const void *user)
{
    char error[128];
    struct rlimit limit = {0};
    (void)user;
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(error, sizeof error, "eep-run has no descriptor left: limit %llu (ulimit -n)",
             (unsigned long long)limit.rlim_cur);
    turn_away(fd, error);
}

static void accept_peers(control *self)
{
    int fd = -1, num = 0; /* not for ever, if they come as fast as they are taken */
    while (num++ < MOST_AT_ONCE &&
           (fd = accept4(self->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        int index = free_place(self);
        if (!eepi_holder_is_trusted(fd)) {
            close(fd);
            continue;
        }
        index = index < CONTROL_MAX_PEERS ? index : make_place(self);
        if (index == CONTROL_MAX_PEERS) {
            turn_away(fd, NO_ROOM); /* all of them watch or wait */
            continue;
        }
        control_peer_open(&self->peer[index], fd);
        self->owed[index] = (debt){.since_ms = self->now_ms, .heard = ++self->num_heard};
    }
    if (fd >= 0) {
        return;
    }
    if (errno == EMFILE || errno == ENFILE) {
        if (!eepi_reserve_turn_away(&self->reserve_fd, self->socket.fd, tell_limit, NULL)) {
            self->accept_again_ms = self->now_ms + ACCEPT_PAUSE_MS;
        }
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        self->accept_again_ms = self->now_ms + ACCEPT_PAUSE_MS;
    }
}

void control_fds(const control *self, struct pollfd set_out[CONTROL_MAX_FDS])
{
    bool takes = self->now_ms >= self->accept_again_ms;
    set_out[0] = (struct pollfd){.fd = takes ? self->socket.fd : -1, .events = POLLIN};
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        const control_peer *peer = &self->peer[i];
        short in = peer->at_end ? 0 : POLLIN, out = control_peer_is_pending(peer) ? POLLOUT : 0;
        set_out[1 + i] = (struct pollfd){.fd = peer->fd, .events = (short)(in | out)};
    }
}

void control_handle(control *self, const struct pollfd set[CONTROL_MAX_FDS], double now_ms)
{
    self->now_ms = now_ms;
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        control_peer *peer = &self->peer[i];
        short seen = set[1 + i].fd == peer->fd ? set[1 + i].revents : 0;
        if (peer->fd >= 0 && seen & POLLOUT) {
            control_peer_flush(peer);
        }
        if (peer->fd >= 0 && seen & (POLLIN | POLLHUP | POLLERR)) {
            read_peer(self, i);
        }
        if (peer->fd >= 0) {
            settle_debt(self, i);
        }
        if (peer->fd >= 0 && !self->owed[i].asked && now_ms - self->owed[i].since_ms > HELLO_MS) {
            hang_up(self, i);
        }
        /* Who sends no more and has all its answers is done; waiting or watching needs the
         * connection to stay open. */
        if (peer->fd < 0 || (peer->at_end && !control_peer_is_pending(peer))) {
            hang_up(self, i);
        }
    }
    if (set[0].revents) {
        accept_peers(self);
    }
}

/* ---------------------------------------------------------------- events */

bool control_is_watched(const control *self)
{
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        if (self->peer[i].fd >= 0 && self->owed[i].watches) {
            return true;
        }
    }
    return false;
}

void control_event(control *self, const char *line)
{
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        if (self->peer[i].fd >= 0 && self->owed[i].watches) {
            control_peer_say(&self->peer[i], line);
        }
    }
}

/* ---------------------------------------------------------------- open and close */

eep_status control_open(const char *path, const control_ops *ops, void *user, control **control_out,
                        char error[CONTROL_ERROR_BYTES])
{
    if (*path == '\0' || strlen(path) >= CONTROL_PATH_BYTES) {
        snprintf(error, CONTROL_ERROR_BYTES, "a socket's path has 1 to %d bytes, '%.128s' has %zu",
                 CONTROL_PATH_BYTES - 1, path, strlen(path));
        return EEP_ERR_INVALID;
    }
    control *self = calloc(1, sizeof *self);
    if (!self) {
        snprintf(error, CONTROL_ERROR_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    self->ops = ops;
    self->user = user;
    self->socket.fd = -1;
    self->reserve_fd = eepi_reserve_open();
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        self->peer[i].fd = -1;
    }
    memcpy(self->path, path, strlen(path));
    eep_status status = control_listen(self->path, &self->socket, error);
    if (status != EEP_OK) {
        if (self->socket.fd >= 0) {
            close(self->socket.fd);
        }
        if (self->reserve_fd >= 0) {
            close(self->reserve_fd);
        }
        free(self);
        return status;
    }
    *control_out = self;
    return EEP_OK;
}

void control_close(control *self, bool good)
{
    struct stat info;
    if (!self) {
        return;
    }
    control_event(self, good ? "{\"event\":\"end\",\"good\":true}"
                             : "{\"event\":\"end\",\"good\":false}");
    for (int i = 0; i < CONTROL_MAX_PEERS; i++) {
        debt *owed = &self->owed[i];
        if (self->peer[i].fd >= 0 && owed->goal == GOAL_DONE) {
            cJSON *answer = answer_to(owed->id, true);
            cJSON_AddBoolToObject(answer, "good", good);
            say(self, i, answer);
        } else if (self->peer[i].fd >= 0 && owed->goal == GOAL_SETTLED) {
            refuse(self, i, owed->id, "wait: the run has ended");
        }
        hang_up(self, i);
    }
    if (lstat(self->path, &info) == 0 && info.st_dev == self->socket.device &&
        info.st_ino == self->socket.inode) {
        unlink(self->path);
    }
    shutdown(self->socket.fd, SHUT_RDWR);
    close(self->socket.fd);
    if (self->reserve_fd >= 0) {
        close(self->reserve_fd);
    }
    free(self);
}
