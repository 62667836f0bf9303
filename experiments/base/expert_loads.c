/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/base/expert_loads.h"

#include "experiments/base/random.h"

#include <math.h>
#include <stdlib.h>

enum { DRAWS = 100000 };

static double uniform(uint64_t *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

static double normal(uint64_t *random)
{
    const double radius = sqrt(-2 * log(1 - uniform(random)));

    return radius * cos(2 * 3.14159265358979323846 * uniform(random));
}

/* How likely the expert in that place is chosen. */
static double likelihood(const char *law, int place, uint64_t *random)
{
    if (law[0] == 'z') {
        return pow(1 + place, -atof(law + 1));
    }
    return law[0] == 'l' ? exp(normal(random)) : 1;
}

eep_status expert_loads_draw(const char *law, int num, uint64_t *random_io, uint32_t *loads_out)
{
    double *sum = calloc((size_t)num + 1, sizeof *sum);
    int *place = calloc((size_t)num, sizeof *place);
    const bool is_whole = sum && place;

    for (int i = 0; is_whole && i < num; i++) {
        const int j = (int)(random_next(random_io) % (uint64_t)(i + 1));
        place[i] = place[j];
        place[j] = i;
    }
    for (int i = 0; is_whole && i < num; i++) {
        sum[i + 1] = sum[i] + likelihood(law, place[i], random_io);
        loads_out[i] = 0;
    }
    for (int k = 0; is_whole && k < DRAWS; k++) {
        const double at = uniform(random_io) * sum[num];
        int low = 0, high = num;
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (sum[middle] <= at) {
                low = middle;
            } else {
                high = middle;
            }
        }
        loads_out[low]++;
    }
    free(sum);
    free(place);
    return is_whole ? EEP_OK : EEP_ERR_NO_MEMORY;
}
