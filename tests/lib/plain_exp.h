/* SPDX-License-Identifier: Apache-2.0 */
/* docs/MODEL.md, "exp", a third time and in another way: each operation in double, which is exact
 * or rounds innocently, then rounded to float. */
#ifndef PLAIN_EXP_H
#define PLAIN_EXP_H

#include <math.h>

static inline float plain_exp(float x)
{
    const float c[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                       5.0000001201e-1f};
    if (!(x >= -87.0f && x <= 88.0f)) {
        return isnan(x) ? x : x < 0 ? 0.0f : (float)HUGE_VAL;
    }
    double n = nearbyint((float)((double)x * 1.44269504f));
    float r = (float)((double)x - (float)(n * 0.693359375f));
    r = (float)((double)r + (float)(n * 2.12194440e-4f));
    float p = 1.9875691500e-4f;
    for (int i = 0; i < 5; i++) {
        p = (float)((double)(float)((double)p * r) + c[i]);
    }
    float y = (float)((double)(float)((double)p * (float)((double)r * r)) + r);
    return (float)ldexp((float)((double)y + 1.0), (int)n);
}
#endif
