/* SPDX-License-Identifier: Apache-2.0 */
/* Read the rows of a run. */
#include "experiments/oracle/oracle_rows.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <unistd.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __attribute__((format(printf, 2, 3))) void say(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, ORACLE_ERROR_BYTES, format, args);
    va_end(args);
}

/* ---------------------------------------------------------------- run.json */

/* Beyond them a model is no run's of ours, and would take all memory. */
enum {
    MOST_LAYERS = 255,
    MOST_WIDTH = 16384,
    MOST_EXPERTS = 65534,
    MOST_WORDS = 1 << 20,
    MOST_SKEW = 1000
};

/* A regular file: to open a FIFO would wait for a writer that may never come. */
static FILE *open_regular(const char *path, char *error)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool regular = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    FILE *file = regular ? fdopen(fd, "r") : NULL;
    if (file) {
        return file;
    }
    say(error, "%s: cannot open: %s", path,
        fd >= 0 && !regular ? "it is no regular file" : strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

/* Line and column (from 1) of a byte of a text. */
static void locate(const char *text, size_t offset, size_t *line_out, size_t *column_out)
{
    *line_out = *column_out = 1;
    for (size_t i = 0; i < offset; i++) {
        *column_out = text[i] == '\n' ? 1 : *column_out + 1;
        *line_out += text[i] == '\n';
    }
}

static eep_status read_text(const char *path, char **text_out, char *error)
{
    enum { LIMIT = 1 << 20 };
    FILE *file = open_regular(path, error);
    if (!file) {
        return EEP_ERR_SYSTEM;
    }
    char *text = malloc(LIMIT + 1);
    size_t length = text ? fread(text, 1, LIMIT, file) : 0;
    bool failed = ferror(file), whole = feof(file);
    fclose(file);
    if (!text || failed || !whole) {
        free(text);
        say(error, "%s: %s", path,
            !text    ? "out of memory"
            : failed ? "cannot read"
                     : "longer than 1 MiB");
        return !text ? EEP_ERR_NO_MEMORY : failed ? EEP_ERR_SYSTEM : EEP_ERR_INVALID;
    }
    text[length] = 0;
    *text_out = text;
    return EEP_OK;
}

static bool read_int(const cJSON *run, const char *path, const char *name, int32_t most,
                     int32_t *value_out, char *error)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(run, name);
    double value = cJSON_IsNumber(member) ? member->valuedouble : 0;
    if (!(value >= 1 && value <= most) || value != floor(value)) {
        say(error, "%s: \"%s\" is missing or not a whole number from 1 to %d", path, name, most);
        return false;
    }
    *value_out = (int32_t)value;
    return true;
}

static bool read_seed(const cJSON *run, const char *path, uint64_t *seed_out, char *error)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(run, "seed");
    /* Not 2^53 itself: 2^53 + 1 is read as the same double. */
    if (cJSON_IsNumber(member) && member->valuedouble >= 0 && member->valuedouble < 0x1p53 &&
        member->valuedouble == floor(member->valuedouble)) {
        *seed_out = (uint64_t)member->valuedouble;
        return true;
    }
    if (cJSON_IsString(member) && member->valuestring[0] >= '0' && member->valuestring[0] <= '9') {
        char *end;
        errno = 0;
        *seed_out = strtoull(member->valuestring, &end, 10);
        if (!errno && !*end) {
            return true;
        }
    }
    say(error, "%s: \"seed\" is neither a whole number below 2^53 nor a decimal string", path);
    return false;
}

static bool read_run_members(const cJSON *run, const char *path, oracle_rows *rows, char *error)
{
    oracle_shape *s = &rows->shape;
    const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(run, "dtype"));
    if (!read_seed(run, path, &rows->seed, error) ||
        !read_int(run, path, "num_layers", MOST_LAYERS, &s->num_layers, error) ||
        !read_int(run, path, "hidden", MOST_WIDTH, &s->hidden, error) ||
        !read_int(run, path, "inner", MOST_WIDTH, &s->inner, error) ||
        !read_int(run, path, "num_experts", MOST_EXPERTS, &s->num_experts, error) ||
        !read_int(run, path, "top_k", MOST_EXPERTS, &s->top_k, error) ||
        !read_int(run, path, "vocabulary", MOST_WORDS, &s->vocabulary, error)) {
        return false;
    }
    if (cJSON_HasObjectItem(run, "router_skew") &&
        !read_int(run, path, "router_skew", MOST_SKEW, &s->router_skew, error)) {
        return false; /* older runs have none */
    }
    s->fp8 = dtype && strcmp(dtype, "fp8") == 0;
    s->bf16 = s->fp8 || (dtype && strcmp(dtype, "bf16") == 0);
    if (!s->bf16 && (!dtype || strcmp(dtype, "fp32") != 0)) {
        say(error, "%s: \"dtype\" is none of \"fp32\", \"bf16\" and \"fp8\"", path);
        return false;
    }
    return true;
}

static eep_status read_run(const char *dir, oracle_rows *rows, char *error)
{
    char path[4096], *text;
    snprintf(path, sizeof path, "%s/run.json", dir);
    eep_status status = read_text(path, &text, error);
    if (status != EEP_OK) {
        return status;
    }
    const char *end = text;
    cJSON *run = cJSON_ParseWithOpts(text, &end, 1);
    if (!run) {
        size_t line, column;
        locate(text, (size_t)(end - text), &line, &column);
        say(error, "%s:%zu:%zu: malformed JSON", path, line, column);
        status = EEP_ERR_INVALID;
    } else if (!read_run_members(run, path, rows, error)) {
        status = EEP_ERR_INVALID;
    }
    cJSON_Delete(run);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- rows of a csv file */

typedef struct csv {
    char path[4096];
    FILE *file;
    char *line, *next; /* the row and its next field */
    size_t capacity, number;
    eep_status status; /* the first failure; every call after it does nothing */
    char *error;
} csv;

static void csv_fail(csv *c, const char *what)
{
    if (c->status != EEP_OK) {
        return;
    }
    c->status = EEP_ERR_INVALID;
    say(c->error, "%s:%zu:%zu: %s", c->path, c->number, (size_t)(c->next - c->line) + 1, what);
}

/* The next row; false at the end and after a failure. */
static bool csv_next(csv *c)
{
    if (c->status != EEP_OK) {
        return false;
    }
    errno = 0;
    ssize_t length = getline(&c->line, &c->capacity, c->file);
    if (length < 0) {
        if (ferror(c->file) || errno == ENOMEM) {
            c->status = errno == ENOMEM ? EEP_ERR_NO_MEMORY : EEP_ERR_SYSTEM;
            say(c->error, "%s: cannot read: %s", c->path, strerror(errno));
        }
        return false;
    }
    c->number++;
    c->next = c->line;
    if (length > 0 && c->line[length - 1] == '\n') {
        c->line[--length] = 0;
    }
    if (length > 0 && c->line[length - 1] == '\r') {
        c->line[--length] = 0;
    }
    if (strlen(c->line) != (size_t)length) {
        c->next += strlen(c->line);
        csv_fail(c, "a zero byte");
    }
    return c->status == EEP_OK;
}

static void csv_open(csv *c, const char *dir, const char *name, const char *header, char *error)
{
    *c = (csv){.error = error};
    snprintf(c->path, sizeof c->path, "%s/%s", dir, name);
    c->file = open_regular(c->path, error);
    if (!c->file) {
        c->status = EEP_ERR_SYSTEM;
        return;
    }
    bool found = csv_next(c);
    while (found && c->line[0] == '#') { /* how the rows were made */
        found = csv_next(c);
    }
    if (!found) {
        if (c->status == EEP_OK) {
            c->status = EEP_ERR_INVALID;
            say(error, "%s:1:1: empty file, no header", c->path);
        }
        return;
    }
    size_t same = 0;
    while (header[same] && header[same] == c->line[same]) {
        same++;
    }
    c->next += same;
    if (header[same] || c->line[same]) {
        csv_fail(c, "the header is another one");
    }
}

static void csv_close(csv *c)
{
    free(c->line);
    if (c->file) {
        fclose(c->file);
    }
}

/* The length of the field at c->next; moves past it and its comma. NULL: there is none. */
static const char *csv_field(csv *c, size_t *length_out)
{
    if (c->status != EEP_OK) {
        return NULL;
    }
    if (!c->next) {
        c->next = c->line + strlen(c->line);
        csv_fail(c, "a field is missing");
        return NULL;
    }
    const char *field = c->next;
    *length_out = strcspn(field, ",");
    c->next = field[*length_out] ? c->next + *length_out + 1 : NULL;
    return field;
}

static void csv_fail_field(csv *c, const char *field, const char *what)
{
    c->next = c->line + (field - c->line);
    csv_fail(c, what);
}

/* A decimal or 16-digit hexadecimal whole number up to max; 0 after a failure. */
static uint64_t csv_number(csv *c, int base, uint64_t max)
{
    size_t length, digits = 0;
    const char *field = csv_field(c, &length);
    if (!field) {
        return 0;
    }
    digits = strspn(field, base == 10 ? "0123456789" : "0123456789abcdef");
    errno = 0;
    uint64_t value = strtoull(field, NULL, base);
    if (length == 0 || digits != length || (base == 16 && length != 16)) {
        csv_fail_field(c, field, base == 10 ? "not a whole number" : "not 16 hexadecimal digits");
        return 0;
    }
    if (errno || value > max) {
        csv_fail_field(c, field, "out of range");
        return 0;
    }
    return value;
}

/* A time that the oracle does not use but that has to be one. */
static void csv_time(csv *c)
{
    size_t length;
    const char *field = csv_field(c, &length);
    if (!field) {
        return;
    }
    char *end;
    double value = strtod(field, &end);
    if (length == 0 || end != field + length || !isfinite(value)) {
        csv_fail_field(c, field, "not a time");
    }
}

/* The index of the field in the names; 0 after a failure. */
static int csv_name(csv *c, const char *const *names, int count)
{
    size_t length;
    const char *field = csv_field(c, &length);
    for (int i = 0; field && i < count; i++) {
        if (strlen(names[i]) == length && memcmp(names[i], field, length) == 0) {
            return i;
        }
    }
    if (field) {
        csv_fail_field(c, field, "unknown status");
    }
    return 0;
}

static void csv_end(csv *c)
{
    if (c->status == EEP_OK && c->next) {
        csv_fail(c, "a field too many");
    }
}

/* ---------------------------------------------------------------- requests and tokens */

static int by_id(const void *a, const void *b)
{
    const oracle_rows_request *x = a, *y = b;
    if (x->request != y->request) {
        return x->request < y->request ? -1 : 1;
    }
    return x->line < y->line ? -1 : x->line > y->line;
}

static bool append_request(oracle_rows *rows, size_t *capacity, oracle_rows_request request)
{
    if (rows->num_requests == *capacity) {
        size_t larger = *capacity ? 2 * *capacity : 256;
        oracle_rows_request *grown = realloc(rows->requests, larger * sizeof *grown);
        if (!grown) {
            return false;
        }
        rows->requests = grown;
        *capacity = larger;
    }
    rows->requests[rows->num_requests++] = request;
    return true;
}

static eep_status read_requests(const char *dir, oracle_rows *rows, char *error)
{
    enum { LONGEST = 1 << 24 };
    static const char *const names[] = {"completed", "failed", "lost", "running"};
    csv c;
    size_t capacity = 0;
    csv_open(&c, dir, "requests.csv", "request,input_length,output_length,arrival_ms,status",
             error);
    while (csv_next(&c)) {
        oracle_rows_request r = {.line = c.number};
        r.request = (uint32_t)csv_number(&c, 10, UINT32_MAX);
        const char *lengths = c.next;
        r.input_length = (uint32_t)csv_number(&c, 10, LONGEST);
        r.output_length = (uint32_t)csv_number(&c, 10, LONGEST);
        csv_time(&c);
        r.status = (oracle_request_status)csv_name(&c, names, 4);
        csv_end(&c);
        if (c.status == EEP_OK && (r.input_length == 0 || r.output_length == 0)) {
            csv_fail_field(&c, lengths, "a length is 0");
        }
        if (c.status == EEP_OK && !append_request(rows, &capacity, r)) {
            c.status = EEP_ERR_NO_MEMORY;
            say(error, "%s: out of memory", c.path);
        }
    }
    if (c.status == EEP_OK && rows->num_requests > 1) {
        qsort(rows->requests, rows->num_requests, sizeof *rows->requests, by_id);
        for (size_t i = 1; i < rows->num_requests && c.status == EEP_OK; i++) {
            if (rows->requests[i].request != rows->requests[i - 1].request) {
                continue;
            }
            c.status = EEP_ERR_INVALID;
            say(error, "%s:%zu:1: request %u is in line %zu too", c.path, rows->requests[i].line,
                rows->requests[i].request, rows->requests[i - 1].line);
        }
    }
    csv_close(&c);
    return c.status;
}

static bool grow(oracle_rows_request *r, uint32_t positions)
{
    if (positions <= r->capacity) {
        return true;
    }
    uint32_t larger = r->capacity ? r->capacity : 16;
    while (larger < positions) {
        larger *= 2;
    }
    uint32_t *tokens = realloc(r->tokens, larger * sizeof *tokens);
    r->tokens = tokens ? tokens : r->tokens;
    uint64_t *digests = realloc(r->digests, larger * sizeof *digests);
    r->digests = digests ? digests : r->digests;
    size_t *lines = realloc(r->lines, larger * sizeof *lines);
    r->lines = lines ? lines : r->lines;
    if (!tokens || !digests || !lines) {
        return false;
    }
    memset(lines + r->capacity, 0, (larger - r->capacity) * sizeof *lines);
    r->capacity = larger;
    return true;
}

static bool take_token(oracle_rows_request *r, uint32_t position, uint32_t token, uint64_t digest,
                       size_t line)
{
    if (position >= r->output_length) {
        r->num_surplus++;
        return true;
    }
    if (!grow(r, position + 1)) {
        return false;
    }
    if (r->lines[position]) {
        r->num_doubled++;
        return true;
    }
    r->tokens[position] = token;
    r->digests[position] = digest;
    r->lines[position] = line;
    r->num_present++;
    if (position >= r->num_positions) {
        r->num_positions = position + 1;
    }
    while (r->num_leading < r->num_positions && r->lines[r->num_leading]) {
        r->num_leading++;
    }
    return true;
}

static eep_status read_tokens(const char *dir, oracle_rows *rows, char *error)
{
    csv c;
    csv_open(&c, dir, "tokens.csv",
             "time_ms,request,position,token,digest,seat,generation,step,epoch", error);
    while (csv_next(&c)) {
        csv_time(&c);
        const char *id = c.next;
        oracle_rows_request key = {.request = (uint32_t)csv_number(&c, 10, UINT32_MAX)}, *r = NULL;
        uint32_t position = (uint32_t)csv_number(&c, 10, UINT32_MAX);
        uint32_t token = (uint32_t)csv_number(&c, 10, UINT32_MAX);
        uint64_t digest = csv_number(&c, 16, UINT64_MAX);
        for (int i = 0; i < 4; i++) { /* seat, generation, step, epoch */
            (void)csv_number(&c, 10, UINT64_MAX);
        }
        csv_end(&c);
        for (size_t low = 0, high = rows->num_requests; low < high && !r;) {
            size_t middle = low + (high - low) / 2;
            if (rows->requests[middle].request == key.request) {
                r = &rows->requests[middle];
            } else if (rows->requests[middle].request < key.request) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (c.status == EEP_OK && !r) {
            csv_fail_field(&c, id, "the request is not in requests.csv");
        }
        rows->num_rows++;
        if (c.status == EEP_OK && !take_token(r, position, token, digest, c.number)) {
            c.status = EEP_ERR_NO_MEMORY;
            say(error, "%s:%zu: out of memory", c.path, c.number);
        }
    }
    csv_close(&c);
    return c.status;
}

eep_status oracle_rows_read(const char *dir, oracle_rows *rows_out,
                            char error_out[ORACLE_ERROR_BYTES])
{
    oracle_rows rows = {0};
    eep_status status = read_run(dir, &rows, error_out);
    if (status == EEP_OK) {
        status = read_requests(dir, &rows, error_out);
    }
    if (status == EEP_OK) {
        status = read_tokens(dir, &rows, error_out);
    }
    if (status != EEP_OK) {
        oracle_rows_free(&rows);
        return status;
    }
    *rows_out = rows;
    return EEP_OK;
}

void oracle_rows_free(oracle_rows *rows)
{
    for (size_t i = 0; i < rows->num_requests; i++) {
        free(rows->requests[i].tokens);
        free(rows->requests[i].digests);
        free(rows->requests[i].lines);
    }
    free(rows->requests);
    *rows = (oracle_rows){0};
}
