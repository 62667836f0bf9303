/* SPDX-License-Identifier: Apache-2.0 */
/* eep-ctl: control and watch a running eep-run through its control socket (docs/CONTROL.md). */
#include "eep/eep.h"
#include "experiments/control/control_client.h"
#include "experiments/control/control_path.h"
#include "experiments/base/output.h"
#include "experiments/base/utf8.h"
#include "experiments/script/verbs.h"
#include "experiments/base/args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_REFUSED = 1, EXIT_USAGE = ARGS_EXIT_USAGE };
static const double ANSWER_S = 10; /* for what is answered at once */

typedef struct ctl_options {
    const char *socket, *out_dir, *command, *what;
    double timeout_s; /* of wait; < 0: none */
    bool json;
    args_given given;
} ctl_options;

/* ---------------------------------------------------------------- the command line */

#define AT(field) ARGS_AT(ctl_options, field)
static const args_row asked_rows[] = {
    {"status", ARGS_NOTE, .doc = "the instance now: seats, requests, tokens per second"},
    {"pending", ARGS_NOTE,
     .doc = "what is noted or scripted and not done yet, and what it waits for"},
    {"cancel NUMBER", ARGS_NOTE, .doc = "withdraw what has that number in the list of pending"},
    {"watch", ARGS_NOTE, .doc = "a line per event as it happens, until the run ends"},
    {"wait settled", ARGS_NOTE, .doc = "until nothing is left to do and nobody joins or leaves"},
    {"wait done", ARGS_NOTE, .doc = "until the run has ended and its summary is written"},
    {"finish", ARGS_NOTE, .doc = "no new requests; the run ends when all are served"},
    {"COMMAND", ARGS_TEXT, AT(command), .doc = "one of all these"},
    {"WHAT", ARGS_TEXT, AT(what), .doc = "to whom or what; see above"},
};
static const args_row option_rows[] = {
    {"--out", ARGS_TEXT, AT(out_dir), 0, 0, NULL, "DIR", "eep-run-out",
     "the folder that the run writes into: its socket is found from there"},
    {"--socket", ARGS_TEXT, AT(socket), 0, 0, NULL, "PATH", NULL, "the socket itself"},
    {"--timeout", ARGS_NUMBER, AT(timeout_s), 0, 86400, NULL, "S", NULL,
     "of wait, in seconds; default: a day"},
    {"--json", ARGS_FLAG, AT(json), 0, 0, NULL, NULL, NULL,
     "print the lines of the run as they are"},
};

static const args_table *table(void)
{
    static args_row verb_rows[NUM_VERBS];
    static const args_table all = {
        .program = "eep-ctl",
        .synopsis = "[OPTION]... COMMAND [WHAT]",
        .about =
            "Control a running eep-run. WHAT is as behind the option of that name of eep-run;\n"
            "without @WHEN it is done at once (kill 3, kill random:2, stop 3=400ms, kill\n"
            "3@ready:5).",
        .section = {ARGS_SECTION("Done to it", verb_rows), ARGS_SECTION("Asked of it", asked_rows),
                    ARGS_SECTION(NULL, option_rows)},
        .notes = "Exit status: 0 done; 1 refused, timed out or (wait done) the run was not good;\n"
                 "2 usage, or no run is there.",
        .given = offsetof(ctl_options, given),
    };
    for (int v = 0; v < NUM_VERBS; v++) {
        verb_rows[v] = (args_row){verb_table[v].name, ARGS_NOTE, .doc = verb_table[v].doc};
    }
    return &all;
}

static __attribute__((format(printf, 1, 2))) int usage_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("eep-ctl: ", stderr);
    vfprintf(stderr, format, args);
    fputs(" (see eep-ctl --help)\n", stderr);
    va_end(args);
    return EXIT_USAGE;
}

static bool is_command(const char *name)
{
    verb action = VERB_KILL;
    return verb_find(name, &action) || strcmp(name, "status") == 0 || strcmp(name, "watch") == 0 ||
           strcmp(name, "wait") == 0 || strcmp(name, "finish") == 0 ||
           strcmp(name, "pending") == 0 || strcmp(name, "cancel") == 0;
}

/* What the words mean together. */
static int check(const ctl_options *options)
{
    const char *command = options->command, *what = options->what;
    if (!command) {
        return usage_error("no command is given");
    }
    if (!is_command(command)) {
        return usage_error("'%s' is not a command", command);
    }
    bool waits = strcmp(command, "wait") == 0;
    bool alone = strcmp(command, "status") == 0 || strcmp(command, "watch") == 0 ||
                 strcmp(command, "finish") == 0 || strcmp(command, "pending") == 0;
    if (waits && (!what || (strcmp(what, "settled") != 0 && strcmp(what, "done") != 0))) {
        return usage_error("wait: '%s' is neither 'settled' nor 'done'", what ? what : "");
    }
    verb action = VERB_KILL;
    if (verb_find(command, &action) && verb_table[action].has_seat && !what) {
        return usage_error("%s: no rank is given", command);
    }
    if (strcmp(command, "cancel") == 0 && !what) {
        return usage_error("cancel: no number is given; 'pending' lists them");
    }
    if (alone && what) {
        return usage_error("%s: unexpected '%s'", command, what);
    }
    if (!waits && options->timeout_s >= 0) {
        return usage_error("--timeout is only for wait");
    }
    return 0;
}

/* ---------------------------------------------------------------- what is shown */

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* What a run says is shown, and does nothing to the terminal: control characters, those above
 * U+007F too, and what is no UTF-8 are written as `escape` says. */
static void print_escaped(FILE *file, const char *text, const char *escape)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = utf8_length(text, left);
        unsigned char first = (unsigned char)*text,
                      last = (unsigned char)text[length ? length - 1 : 0];
        if (length == 0 || first < ' ' || first == 0x7f || (first == 0xc2 && last < 0xa0)) {
            fputs(escape, file);
            fprintf(file, "%02x", last);
            length += length == 0;
        } else {
            fwrite(text, 1, length, file);
        }
        text += length;
        left -= length;
    }
}

static void print_text(FILE *file, const char *text)
{
    print_escaped(file, text, "\\x");
}

/* JSON, in which all below a space is escaped already. */
static void print_json(const cJSON *line)
{
    char *text = cJSON_PrintUnformatted(line);
    print_escaped(stdout, text ? text : "{}", "\\u00");
    putchar('\n');
    cJSON_free(text);
}

static void show_padded(const char *text, int width)
{
    print_text(stdout, text);
    for (int i = (int)strlen(text); i < width; i++) {
        putchar(' ');
    }
}

static void show_status(const cJSON *answer)
{
    const cJSON *requests = cJSON_GetObjectItemCaseSensitive(answer, "requests"), *seat = NULL;
    printf("%.1f s, epoch %.0f, %.0f tok/s, %.0f faults%s%s\n", number_of(answer, "time_ms") / 1e3,
           number_of(answer, "epoch"), number_of(answer, "tokens_per_s"),
           number_of(answer, "faults"),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "serving")) ? "" : ", starting",
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "settled")) ? ", settled" : "");
    printf("requests: %.0f queued, %.0f running, %.0f completed, %.0f failed, %.0f lost\n",
           number_of(requests, "queued"), number_of(requests, "running"),
           number_of(requests, "completed"), number_of(requests, "failed"),
           number_of(requests, "lost"));
    if (*text_of(answer, "waits")) {
        printf("not settled: ");
        print_text(stdout, text_of(answer, "waits"));
        putchar('\n');
    }
    if (number_of(answer, "uncovered") > 0) {
        printf("uncovered: %.0f experts are held by no living rank; nothing is served until one "
               "that has them joins\n",
               number_of(answer, "uncovered"));
    }
    if (number_of(answer, "pending") > 0) {
        printf("pending: %.0f (eep-ctl pending lists them)\n", number_of(answer, "pending"));
    }
    cJSON_ArrayForEach(seat, cJSON_GetObjectItemCaseSensitive(answer, "seats"))
    {
        printf("  rank %-4.0f generation %-4.0f ", number_of(seat, "seat"),
               number_of(seat, "generation"));
        show_padded(text_of(seat, "state"), 9);
        printf(" %.0f requests\n", number_of(seat, "requests"));
    }
}

static void show_pending(const cJSON *answer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "pending"), *entry = NULL;
    const cJSON *leaving = cJSON_GetObjectItemCaseSensitive(answer, "leaving");
    if (cJSON_GetArraySize(list) == 0 && cJSON_GetArraySize(leaving) == 0) {
        puts("nothing is pending");
    }
    cJSON_ArrayForEach(entry, list)
    {
        printf("  %-5.0f ", number_of(entry, "number"));
        show_padded(text_of(entry, "what"), 40);
        putchar(' ');
        print_text(stdout, text_of(entry, "waits"));
        putchar('\n');
    }
    cJSON_ArrayForEach(entry, leaving)
    {
        printf("  rank %.0f ", number_of(entry, "seat"));
        print_text(stdout, text_of(entry, "waits"));
        putchar('\n');
    }
}

static void show_event(const cJSON *event)
{
    double seat = number_of(event, "seat"), about = number_of(event, "about_seat");
    if (cJSON_HasObjectItem(event, "time_ms")) {
        printf("%9.1f ms  ", number_of(event, "time_ms"));
    } else {
        printf("%9s     ", "");
    }
    show_padded(text_of(event, "event"), 10);
    if (cJSON_HasObjectItem(event, "good")) {
        printf("  %s", cJSON_IsTrue(cJSON_GetObjectItem(event, "good")) ? "good" : "not good");
    } else {
        if (number_of(event, "epoch") > 0) {
            printf("  epoch %-4.0f", number_of(event, "epoch"));
        } else {
            printf("  %-10s", "no view");
        }
        if (seat >= 0) {
            printf("  rank %.0f", seat);
        }
        if (about >= 0 && about != seat) {
            printf(" about rank %.0f", about);
        }
    }
    putchar('\n');
}

static void show_seats(const char *command, const cJSON *answer)
{
    const cJSON *seats = cJSON_GetObjectItemCaseSensitive(answer, "seats"), *seat = NULL;
    int num = 0;
    printf("%s:", command);
    cJSON_ArrayForEach(seat, seats)
    {
        printf("%s %.0f", num++ ? "," : " rank", cJSON_IsNumber(seat) ? seat->valuedouble : -1);
    }
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "pending"))) {
        printf(" when its time comes; number %.0f in the list of pending\n",
               number_of(answer, "number"));
    } else {
        puts(num ? "" : " done");
    }
}

static int show_answer(const ctl_options *options, const cJSON *answer)
{
    const cJSON *good = cJSON_GetObjectItemCaseSensitive(answer, "good");
    bool ok = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"));
    verb action = VERB_KILL;
    if (options->json) {
        print_json(answer);
    } else if (!ok) {
        const char *error = text_of(answer, "error");
        fputs("eep-ctl: ", stderr);
        print_text(stderr, *error ? error : "the run refuses, and does not say why");
        fputc('\n', stderr);
    } else if (strcmp(options->command, "status") == 0) {
        show_status(answer);
    } else if (strcmp(options->command, "pending") == 0) {
        show_pending(answer);
    } else if (good) {
        puts(cJSON_IsTrue(good) ? "the run is good" : "the run is not good");
    } else if (verb_find(options->command, &action)) {
        show_seats(options->command, answer);
    }
    return ok && !cJSON_IsFalse(good) ? 0 : EXIT_REFUSED;
}

/* ---------------------------------------------------------------- the talk */

static int lost(eep_status status, double bound_s)
{
    if (status == EEP_ERR_TIMEOUT) {
        fprintf(stderr,
                "eep-ctl: no answer within %g s: the run may be writing its results, or be "
                "stopped\n",
                bound_s);
    } else {
        fprintf(stderr, "eep-ctl: the run hung up: %s\n",
                status == EEP_ERR_UNREACHABLE ? "it has ended, or has too many connections now"
                                              : eep_strerror(status));
    }
    return EXIT_REFUSED;
}

/* Events until the run ends. */
static int watch(const ctl_options *options, control_client *client)
{
    for (;;) {
        cJSON *line = NULL;
        eep_status status = control_client_next(client, -1, &line);
        if (status != EEP_OK) {
            return lost(status, ANSWER_S);
        }
        if (options->json) {
            print_json(line);
        } else {
            show_event(line);
        }
        bool last = strcmp(text_of(line, "event"), "end") == 0;
        cJSON_Delete(line);
        if (last || output_is_lost()) {
            return 0;
        }
    }
}

static cJSON *request_of(const ctl_options *options)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "id", 1);
    cJSON_AddStringToObject(request, "do", options->command);
    if (options->what) {
        bool waits = strcmp(options->command, "wait") == 0;
        cJSON_AddStringToObject(request, waits ? "for" : "what", options->what);
    }
    if (options->timeout_s >= 0) {
        cJSON_AddNumberToObject(request, "timeout_s", options->timeout_s);
    }
    return request;
}

static bool is_answer(const cJSON *answer)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    return cJSON_IsBool(cJSON_GetObjectItemCaseSensitive(answer, "ok")) &&
           (!error || cJSON_IsString(error));
}

static int talk(const ctl_options *options, control_client *client)
{
    bool waits = strcmp(options->command, "wait") == 0;
    /* A run that writes its results looks at no wait: its own bound alone would not do. */
    double bound_s = !waits                    ? ANSWER_S
                     : options->timeout_s >= 0 ? options->timeout_s + ANSWER_S
                                               : -1;
    cJSON *request = request_of(options), *answer = NULL;
    eep_status status = control_client_send(client, request);
    cJSON_Delete(request);
    if (status == EEP_OK || status == EEP_ERR_UNREACHABLE) { /* it may have said why it hung up */
        status = control_client_next(client, bound_s, &answer);
    }
    if (status != EEP_OK) {
        return lost(status, bound_s);
    }
    if (!is_answer(answer)) {
        fputs("eep-ctl: what answers is no run: its answer has no \"ok\" of true or false, or an "
              "\"error\" that is no text\n",
              stderr);
        cJSON_Delete(answer);
        return EXIT_REFUSED;
    }
    bool watches = strcmp(options->command, "watch") == 0 &&
                   cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"));
    int code = watches ? watch(options, client) : show_answer(options, answer);
    cJSON_Delete(answer);
    return code;
}

int main(int argc, char **argv)
{
    ctl_options options = {.timeout_s = -1};
    char path[CONTROL_PATH_BYTES], error[CONTROL_PATH_ERROR_BYTES];
    control_client *client = NULL;
    int failed = 0;
    output_begin();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!args_begin(table(), &options, argc, argv, &failed)) {
        return failed;
    }
    failed = check(&options);
    if (failed) {
        return failed;
    }
    if (!options.socket && control_path_find(options.out_dir, path, error) != EEP_OK) {
        fprintf(stderr, "eep-ctl: %s\n", error);
        return EXIT_USAGE;
    }
    const char *address = options.socket ? options.socket : path;
    eep_status status = control_client_open(address, &client);
    if (status != EEP_OK) {
        int failure = errno;
        fputs("eep-ctl: no run is controlled by '", stderr);
        print_text(stderr, address); /* others may have written it, where they may write to OUT */
        fprintf(stderr, "': %s\n",
                status == EEP_ERR_SYSTEM || status == EEP_ERR_UNREACHABLE ? strerror(failure)
                : status == EEP_ERR_STATE ? "it belongs to another user"
                                          : eep_strerror(status));
        return EXIT_USAGE;
    }
    int code = talk(&options, client);
    control_client_close(client);
    return code;
}
