/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of weights, against its definition and xxHash's own code. */
#include "repair/checksum.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL /* other code than libxxhash's, by the vectors of this compiler */
#include <xxhash.h>

enum { BLOCK = EEPI_CHECKSUM_BLOCK_BYTES, MOST = 5 * BLOCK + 777 };

static unsigned char bytes[MOST];

static const size_t sizes[] = {1, 8, 4000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, MOST};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0] };

static void fill(void)
{
    for (size_t i = 0; i < MOST; i++) {
        bytes[i] = (unsigned char)(i * 131 + (i >> 8) + 7);
    }
}

TestSuite(checksum, .init = fill);

static uint64_t by_definition(size_t size)
{
    uint64_t sums[MOST / BLOCK + 1];
    size_t num = 0;

    for (size_t at = 0; at < size; at += BLOCK) {
        sums[num++] = XXH3_64bits(bytes + at, size - at < BLOCK ? size - at : BLOCK);
    }
    return XXH3_64bits(sums, num * sizeof sums[0]);
}

Test(checksum, of_all_bytes_at_once_is_as_defined)
{
    for (int i = 0; i < NUM_SIZES; i++) {
        cr_expect_eq(eepi_checksum_bytes(bytes, sizes[i]), by_definition(sizes[i]), "%zu bytes",
                     sizes[i]);
    }
    cr_expect_neq(eepi_checksum_bytes(bytes, 0), 0, "0 stands for unknown");
}

Test(checksum, of_pieces_one_after_the_other_is_the_same)
{
    static const size_t pieces[] = {1, 77, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5};

    for (int i = 0; i < NUM_SIZES; i++) {
        eepi_checksum *sum = eepi_checksum_new(sizes[i]);
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++) {
            eepi_checksum_begin(sum);
            for (size_t at = 0; at < sizes[i]; at += pieces[j]) {
                const size_t rest = sizes[i] - at;
                eepi_checksum_add(sum, bytes + at, rest < pieces[j] ? rest : pieces[j]);
            }
            cr_expect_eq(eepi_checksum_end(sum), by_definition(sizes[i]),
                         "%zu bytes in pieces of %zu", sizes[i], pieces[j]);
        }
        eepi_checksum_free(sum);
    }
}

Test(checksum, of_blocks_in_any_order_is_the_same)
{
    static const unsigned char other[BLOCK] = {1};

    for (int i = 0; i < NUM_SIZES; i++) {
        eepi_checksum *sum = eepi_checksum_new(sizes[i]);
        for (size_t at = (sizes[i] - 1) / BLOCK * BLOCK;; at -= BLOCK) {
            const size_t rest = sizes[i] - at;
            eepi_checksum_blocks(sum, at, other, rest < BLOCK ? rest : BLOCK); /* replaced */
            eepi_checksum_blocks(sum, at, bytes + at, rest < BLOCK ? rest : BLOCK);
            if (at == 0) {
                break;
            }
        }
        cr_expect_eq(eepi_checksum_end(sum), by_definition(sizes[i]), "%zu bytes", sizes[i]);
        eepi_checksum_free(sum);
    }
}

Test(checksum, any_bit_and_any_order_of_blocks_counts)
{
    const uint64_t good = eepi_checksum_bytes(bytes, MOST);

    for (size_t at = 0; at < MOST; at += 1021) {
        bytes[at] ^= 4;
        cr_expect_neq(eepi_checksum_bytes(bytes, MOST), good, "byte %zu", at);
        bytes[at] ^= 4;
    }
    unsigned char *swapped = malloc(MOST);
    memcpy(swapped, bytes, MOST);
    memcpy(swapped, bytes + BLOCK, BLOCK);
    memcpy(swapped + BLOCK, bytes, BLOCK);
    cr_expect_neq(eepi_checksum_bytes(swapped, MOST), good);
    free(swapped);
}
