/* eep-ctl: control and watch a running eep-run through its control socket (docs/CONTROL.md). */
#include "eep/eep.h"
#include "experiments/control/control_client.h"
#include "experiments/control/control_path.h"
#include "experiments/base/decimal.h"
#include "experiments/base/output.h"
#include "experiments/base/utf8.h"
#include "experiments/script/verbs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_REFUSED = 1, EXIT_USAGE = 2 };
static const double ANSWER_S = 10; /* for what is answered at once */

typedef struct ctl_options {
    const char *socket, *out_dir, *command, *what;
    double timeout_s; /* of wait; < 0: none */
    bool json, help, version;
} ctl_options;

static const char *const ctl_commands[] = {
    "status        the instance now: seats, requests, tokens per second",
    "pending       what is noted or scripted and not done yet, and what it waits for",
    "cancel NUMBER withdraw what has that number in the list of pending",
    "watch         a line per event as it happens, until the run ends",
    "wait settled  until nothing is left to do and nobody joins or leaves",
    "wait done     until the run has ended and its summary is written",
    "finish        no new requests; the run ends when all are served",
};

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

static void print_help(void)
{
    fputs("Usage: eep-ctl [OPTION]... COMMAND [WHAT]\n"
          "Control a running eep-run.\n\n"
          "Done to it; WHAT is as behind the option of that name of eep-run, and without @WHEN\n"
          "it is done at once (kill 3, kill random:2, stop 3=400ms, kill 3@ready:5):\n",
          stdout);
    for (int v = 0; v < NUM_VERBS; v++) {
        printf("  %-12s  %s\n", verb_table[v].name, verb_table[v].doc);
    }
    fputs("\nAsked of it:\n", stdout);
    for (size_t i = 0; i < sizeof ctl_commands / sizeof ctl_commands[0]; i++) {
        printf("  %s\n", ctl_commands[i]);
    }
    fputs(
        "\n"
        "  --out DIR      what the run writes into (default eep-run-out): its socket is found\n"
        "                 from there\n"
        "  --socket PATH  the socket itself\n"
        "  --timeout S    of wait, in seconds (default: a day)\n"
        "  --json         print the lines of the run as they are\n"
        "  --version, --help\n"
        "\n"
        "Exit code: 0 done, 1 refused, timed out or (wait done) the run was not good, 2 usage, or\n"
        "no run is there.\n",
        stdout);
}

/* ---------------------------------------------------------------- the command line */

static bool is_command(const char *name)
{
    verb action = VERB_KILL;
    return verb_find(name, &action) || strcmp(name, "status") == 0 || strcmp(name, "watch") == 0 ||
           strcmp(name, "wait") == 0 || strcmp(name, "finish") == 0 ||
           strcmp(name, "pending") == 0 || strcmp(name, "cancel") == 0;
}

static int set_timeout(const char *text, ctl_options *options)
{
    if (!decimal_is(text, &options->timeout_s) || options->timeout_s > 86400) {
        return usage_error("--timeout: '%s' is not a number of seconds from 0 to 86400", text);
    }
    return 0;
}

/* --NAME VALUE or --NAME=VALUE: the value, or NULL if it is another option. */
static const char *value_of(const char *name, char **argv, int *i)
{
    size_t length = strlen(name);
    if (strncmp(argv[*i], name, length) == 0 && argv[*i][length] == '=') {
        return argv[*i] + length + 1;
    }
    if (strcmp(argv[*i], name) != 0) {
        return NULL;
    }
    return argv[*i + 1] ? argv[++*i] : "";
}

static int take_option(char **argv, int *i, ctl_options *options)
{
    const char *option = argv[*i], *value = NULL;
    if (strcmp(option, "--json") == 0) {
        options->json = true;
    } else if (strcmp(option, "--help") == 0) {
        options->help = true;
    } else if (strcmp(option, "--version") == 0) {
        options->version = true;
    } else if ((value = value_of("--socket", argv, i))) {
        options->socket = value;
    } else if ((value = value_of("--out", argv, i))) {
        options->out_dir = value;
    } else if ((value = value_of("--timeout", argv, i))) {
        return *value ? set_timeout(value, options) : usage_error("--timeout needs a value");
    } else {
        return usage_error("unknown option '%s'", option);
    }
    return value && !*value ? usage_error("%s needs a value", option) : 0;
}

/* What the words mean together. */
static int check(const ctl_options *options)
{
    const char *command = options->command, *what = options->what;
    if (options->help || options->version) {
        return 0;
    }
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

static int parse(char **argv, ctl_options *options)
{
    *options = (ctl_options){.out_dir = "eep-run-out", .timeout_s = -1};
    for (int i = 1; argv[i]; i++) {
        int failed = 0;
        if (argv[i][0] == '-' && argv[i][1] == '-') {
            failed = take_option(argv, &i, options);
        } else if (!options->command) {
            options->command = argv[i];
        } else if (!options->what) {
            options->what = argv[i];
        } else {
            failed = usage_error("unexpected '%s'", argv[i]);
        }
        if (failed) {
            return failed;
        }
    }
    return check(options);
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
static void print_escaped(FILE *to, const char *text, const char *escape)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t length = utf8_length(text, left);
        unsigned char first = (unsigned char)*text,
                      last = (unsigned char)text[length ? length - 1 : 0];
        if (length == 0 || first < ' ' || first == 0x7f || (first == 0xc2 && last < 0xa0)) {
            fputs(escape, to);
            fprintf(to, "%02x", last);
            length += length == 0;
        } else {
            fwrite(text, 1, length, to);
        }
        text += length;
        left -= length;
    }
}

static void print_text(FILE *to, const char *text)
{
    print_escaped(to, text, "\\x");
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
    ctl_options options;
    char path[CONTROL_PATH_BYTES], error[CONTROL_PATH_ERROR_BYTES];
    control_client *client = NULL;
    (void)argc;
    output_begin();
    setvbuf(stdout, NULL, _IOLBF, 0);
    int failed = parse(argv, &options);
    if (failed) {
        return failed;
    }
    if (options.help || options.version) {
        if (options.help) {
            print_help();
        } else {
            printf("eep-ctl %d.%d\n", EEP_VERSION_MAJOR, EEP_VERSION_MINOR);
        }
        return 0;
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
