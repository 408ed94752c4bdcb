/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

bool trine__mul_size(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool trine__add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

trine_status trine__calloc(size_t count, size_t size, void **out)
{
    size_t bytes;
    TRINE_CHECK(trine__mul_size(count, size, &bytes), TRINE_ERR_NOMEM,
                "%zu items of %zu bytes exceed the address space", count, size);
    void *p = calloc(bytes ? bytes : 1, 1);
    TRINE_CHECK(p, TRINE_ERR_NOMEM, "out of host memory: %zu bytes refused", bytes);
    *out = p;
    return TRINE_OK;
}

trine_status trine__reserve(void **items, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) return TRINE_OK;
    size_t grown = *capacity ? *capacity * 2 : 16;
    if (grown < need) grown = need;
    size_t bytes;
    TRINE_CHECK(trine__mul_size(grown, size, &bytes), TRINE_ERR_NOMEM,
                "%zu items of %zu bytes exceed the address space", grown, size);
    void *p = realloc(*items, bytes);
    TRINE_CHECK(p, TRINE_ERR_NOMEM, "out of host memory: %zu bytes refused", bytes);
    *items = p;
    *capacity = grown;
    return TRINE_OK;
}

trine_status trine__strdup(const char *text, char **out)
{
    const size_t bytes = strlen(text) + 1;
    void *p = NULL;
    TRINE_TRY(trine__calloc(bytes, 1, &p));
    memcpy(p, text, bytes);
    *out = p;
    return TRINE_OK;
}
