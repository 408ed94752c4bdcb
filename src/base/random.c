/* SPDX-License-Identifier: MIT */
#include "base/random.h"

#include <math.h>

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

trine__random trine__random_stream(uint64_t seed, uint64_t purpose, uint64_t index)
{
    return (trine__random){mix(mix(mix(seed + 0x9e3779b97f4a7c15u) + purpose) + index)};
}

uint64_t trine__random_u64(trine__random *r)
{
    r->state += 0x9e3779b97f4a7c15u;
    return mix(r->state);
}

uint64_t trine__random_below(trine__random *r, uint64_t n)
{
    const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t x;
    do x = trine__random_u64(r);
    while (x >= limit);
    return x % n;
}

double trine__random_unit(trine__random *r)
{
    return (double)(trine__random_u64(r) >> 11) * 0x1p-53;
}

double trine__random_normal(trine__random *r)
{
    const double u = 1.0 - trine__random_unit(r), v = trine__random_unit(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

void trine__random_shuffle(trine__random *r, int *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        const size_t j = (size_t)trine__random_below(r, i);
        const int t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}
