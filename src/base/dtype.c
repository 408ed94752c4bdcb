/* SPDX-License-Identifier: MIT */
#include "base/dtype.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [TRINE_F32] = {"F32", 4},   [TRINE_F64] = {"F64", 8}, [TRINE_F16] = {"F16", 2},
    [TRINE_BF16] = {"BF16", 2}, [TRINE_I64] = {"I64", 8}, [TRINE_I32] = {"I32", 4},
    [TRINE_I16] = {"I16", 2},   [TRINE_I8] = {"I8", 1},   [TRINE_U8] = {"U8", 1},
    [TRINE_BOOL] = {"BOOL", 1},
};

static bool known(trine_dtype dtype)
{
    return (size_t)dtype < TRINE_COUNTOF(dtypes);
}

size_t trine_dtype_bytes(trine_dtype dtype)
{
    return known(dtype) ? dtypes[dtype].bytes : 0;
}

const char *trine_dtype_name(trine_dtype dtype)
{
    return known(dtype) ? dtypes[dtype].name : "?";
}

bool trine__dtype_from_name(const char *name, trine_dtype *out)
{
    for (size_t i = 0; i < TRINE_COUNTOF(dtypes); i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        *out = (trine_dtype)i;
        return true;
    }
    return false;
}

float trine__half_to_float(uint16_t half)
{
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    float value;
    if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else
        value = exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24);
    return half >> 15 ? -value : value;
}

uint16_t trine__half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 */
    if (magnitude < 0x38800000) /* below the smallest normal half: a multiple of 2^-24 */
        return (uint16_t)(sign | (uint16_t)lrintf(ldexpf(fabsf(value), 24)));
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}
