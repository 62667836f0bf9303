/* SPDX-License-Identifier: Apache-2.0 */
/* Every target with its seeds, with the inputs that fuzzing has kept, and with changes of both that
 * a seeded generator makes. No fuzzer is needed.
 *
 *     fuzz_replay CORPUS [CHANGES]   each of them, and so many changes of each; 200 unless given
 *     fuzz_replay CORPUS --unpack DIR   the inputs as files, a folder for each target
 *
 * CORPUS/TARGET.hex has an input a line, in hexadecimal digits. */
#include "tests/fuzz/fuzz_targets.h"

#include "tests/lib/check_or_abort.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

typedef struct input {
    uint8_t bytes[FUZZ_MAX_BYTES];
    size_t size;
} input;

typedef struct replay {
    const fuzz_target *target;
    const char *unpack_to; /* NULL: run them */
    int changes;
    uint64_t random;
    int num, num_taken; /* inputs, and those that were taken */
    int num_changed_taken;
} replay;

static uint64_t draw(replay *self, uint64_t limit)
{
    self->random = self->random * 6364136223846793005u + 1442695040888963407u;
    return (self->random >> 33) % limit;
}

static void change(replay *self, input *in)
{
    static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '[', ',', '-', '9', '\n'};
    for (uint64_t left = 1 + draw(self, 4); left > 0; left--) {
        const size_t at = in->size > 0 ? (size_t)draw(self, in->size) : 0;
        switch (draw(self, 5)) {
        case 0:
            in->bytes[at] ^= (uint8_t)(1 << draw(self, 8));
            break;
        case 1:
            in->bytes[at] = odd[draw(self, sizeof odd)];
            break;
        case 2: /* cut off */
            in->size = at;
            break;
        case 3: /* a piece once more */
            if (in->size > 0 && in->size < FUZZ_MAX_BYTES / 2) {
                const size_t more = 1 + (size_t)draw(self, in->size - at);
                memmove(in->bytes + at + more, in->bytes + at, in->size - at);
                in->size += more;
            }
            break;
        default: /* a piece less */
            if (in->size > at) {
                const size_t less = 1 + (size_t)draw(self, in->size - at);
                memmove(in->bytes + at, in->bytes + at + less, in->size - at - less);
                in->size -= less;
            }
            break;
        }
    }
}

static void unpack(replay *self, const input *in)
{
    char path[PATH_MAX];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s", self->unpack_to, self->target->name);
    CHECK(mkdir(path, 0777) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/%s/%d", self->unpack_to, self->target->name, self->num);
    file = fopen(path, "wb");
    CHECK(file && fwrite(in->bytes, 1, in->size, file) == in->size && fclose(file) == 0);
}

/* From memory of its own, so that a sanitizer sees each byte beyond it. */
static bool run(const replay *self, const input *in)
{
    uint8_t *copy = malloc(in->size > 0 ? in->size : 1);
    bool taken;
    CHECK(copy);
    memcpy(copy, in->bytes, in->size);
    taken = self->target->run(copy, in->size);
    free(copy);
    return taken;
}

static void take(replay *self, const input *in)
{
    static input changed;
    self->num++;
    if (self->unpack_to) {
        unpack(self, in);
        return;
    }
    self->num_taken += run(self, in);
    for (int i = 0; i < self->changes; i++) {
        changed = *in;
        change(self, &changed);
        self->num_changed_taken += run(self, &changed);
    }
}

static int digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void take_file(replay *self, const char *folder)
{
    static char line[2 * FUZZ_MAX_BYTES + 2];
    static input in;
    char path[PATH_MAX];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s.hex", folder, self->target->name);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        in.size = 0;
        for (const char *at = line; digit(at[0]) >= 0 && digit(at[1]) >= 0; at += 2) {
            in.bytes[in.size++] = (uint8_t)(digit(at[0]) << 4 | digit(at[1]));
        }
        if (line[0] != '#') {
            take(self, &in);
        }
    }
    if (file) {
        fclose(file);
    }
}

int main(int argc, char **argv)
{
    static input in;
    int wrong = 0;
    replay self = {.changes = argc == 3 ? atoi(argv[2]) : 200};
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "fuzz_replay CORPUS [CHANGES | --unpack DIR]\n");
        return 2;
    }
    self.unpack_to = argc == 4 ? argv[3] : NULL;
    for (int i = 0; (self.target = fuzz_target_at(i)); i++) {
        self.random = 7;
        self.num = self.num_taken = self.num_changed_taken = 0;
        for (int k = 0; (in.size = self.target->seed(k, in.bytes)) > 0; k++) {
            take(&self, &in);
            if (!self.unpack_to && self.num_taken != k + 1) {
                fprintf(stderr, "%s does not take its seed %d\n", self.target->name, k);
                wrong = 1;
                self.num_taken = k + 1;
            }
        }
        take_file(&self, argv[1]);
        printf("%s: %d inputs, %d taken, and %d of their changes\n", self.target->name, self.num,
               self.num_taken, self.num_changed_taken);
    }
    return wrong;
}
