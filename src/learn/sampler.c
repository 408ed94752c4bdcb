/* SPDX-License-Identifier: MIT */
/* Samplers. Each batch (each epoch, when classifying) draws from a random stream of its own, so that any
 * batch can be asked for again: by a second run, by another number of threads, by a resumed run. */
#include "learn/sampler.h"

#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"

/* Purposes of the random streams: "classes", "epochs". */
static const uint64_t classes_purpose = 0x636c6173736573u, epochs_purpose = 0x65706f636873u;

struct member {
    int label, index;
};

struct trine__sampler {
    uint64_t seed;
    size_t count;         /* images */
    int batch;            /* images of a full batch */
    size_t epoch;         /* batches */
    int images_per_class; /* K; 0: epochs */
    int class_count;      /* that have images */
    size_t *starts;       /* [class_count + 1] into members, classes by ascending label */
    int *members;         /* [count] indices, ascending within a class */
    int *classes;         /* [class_count] scratch */
    int *pool;            /* [count] scratch, or the order of epoch `shuffled` */
    size_t shuffled;      /* SIZE_MAX: none */
};

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static trine_status allocate_ints(size_t count, int **out)
{
    void *memory;
    TRINE_TRY(trine__calloc(count, sizeof **out, &memory));
    *out = memory;
    return TRINE_OK;
}

/* Fill members, starts and class_count. */
static trine_status group(trine__sampler *s, const int *labels)
{
    void *memory;
    TRINE_TRY(trine__calloc(s->count, sizeof(struct member), &memory));
    struct member *sorted = memory;
    for (size_t i = 0; i < s->count; i++) sorted[i] = (struct member){labels[i], (int)i};
    qsort(sorted, s->count, sizeof *sorted, compare_members);
    trine_status status;
    TRINE_TRY_GOTO(allocate_ints(s->count, &s->members));
    TRINE_TRY_GOTO(trine__calloc(s->count + 1, sizeof *s->starts, &memory));
    s->starts = memory;
    for (size_t i = 0; i < s->count; i++) {
        if (i == 0 || sorted[i].label != sorted[i - 1].label) s->starts[s->class_count++] = i;
        s->members[i] = sorted[i].index;
    }
    s->starts[s->class_count] = s->count;
cleanup:
    free(sorted);
    return status;
}

static trine_status create(size_t count, uint64_t seed, trine__sampler **out)
{
    TRINE_CHECK(count <= INT_MAX, TRINE_ERR_DATA, "sampler: %zu images, at most %d", count, INT_MAX);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine__sampler), &memory));
    trine__sampler *s = memory;
    s->seed = seed;
    s->count = count;
    s->shuffled = SIZE_MAX;
    const trine_status status = allocate_ints(count, &s->pool);
    if (status != TRINE_OK) {
        free(s);
        return status;
    }
    *out = s;
    return TRINE_OK;
}

trine_status trine__sampler_create_classes(const int *labels, size_t count, int classes_per_batch,
                                           int images_per_class, uint64_t seed, trine__sampler **out)
{
    TRINE_CHECK(classes_per_batch >= 1 && images_per_class >= 1, TRINE_ERR_ARG,
                "batches of %d classes x %d images, expected at least 1 x 1", classes_per_batch,
                images_per_class);
    TRINE_CHECK(classes_per_batch <= INT_MAX / images_per_class, TRINE_ERR_ARG,
                "batches of %d classes x %d images are too large", classes_per_batch, images_per_class);
    trine__sampler *s = NULL;
    TRINE_TRY(create(count, seed, &s));
    s->images_per_class = images_per_class;
    s->batch = classes_per_batch * images_per_class;
    s->epoch = (count + (size_t)s->batch - 1) / (size_t)s->batch;
    trine_status status;
    TRINE_TRY_GOTO(group(s, labels));
    TRINE_CHECK_GOTO(s->class_count >= classes_per_batch, TRINE_ERR_DATA,
                     "batches of %d classes, but the data have %d", classes_per_batch, s->class_count);
    TRINE_TRY_GOTO(allocate_ints((size_t)s->class_count, &s->classes));
    *out = s;
    return TRINE_OK;
cleanup:
    trine__sampler_destroy(&s);
    return status;
}

trine_status trine__sampler_create_epochs(size_t count, int batch, uint64_t seed, trine__sampler **out)
{
    TRINE_CHECK(batch >= 2, TRINE_ERR_ARG, "batches of %d images, expected at least 2", batch);
    TRINE_CHECK(count >= 2, TRINE_ERR_DATA, "%zu images, expected at least 2", count);
    trine__sampler *s = NULL;
    TRINE_TRY(create(count, seed, &s));
    s->batch = batch;
    s->epoch = count / (size_t)batch + (count % (size_t)batch > 1);
    *out = s;
    return TRINE_OK;
}

void trine__sampler_small_classes(const trine__sampler *s, int *fewer, int *single)
{
    *fewer = *single = 0;
    for (int c = 0; s->images_per_class && c < s->class_count; c++) {
        const size_t size = s->starts[c + 1] - s->starts[c];
        *fewer += size < (size_t)s->images_per_class;
        *single += size == 1 && s->images_per_class > 1;
    }
}

int trine__sampler_capacity(const trine__sampler *s)
{
    return s->images_per_class || s->count > (size_t)s->batch ? s->batch : (int)s->count;
}

size_t trine__sampler_epoch(const trine__sampler *s)
{
    return s->epoch;
}

/* Move a random one of items[at..count) to `at`: one step of a shuffle from the front. */
static int draw(trine__random *r, int *items, size_t at, size_t count)
{
    const size_t j = at + (size_t)trine__random_below(r, count - at);
    const int drawn = items[j];
    items[j] = items[at];
    items[at] = drawn;
    return drawn;
}

static int classes_batch(trine__sampler *s, size_t number, int *indices)
{
    trine__random r = trine__random_stream(s->seed, classes_purpose, number);
    const size_t per_class = (size_t)s->images_per_class;
    for (int c = 0; c < s->class_count; c++) s->classes[c] = c;
    for (size_t p = 0; p < (size_t)s->batch / per_class; p++) {
        const int c = draw(&r, s->classes, p, (size_t)s->class_count);
        const int *members = s->members + s->starts[c];
        const size_t size = s->starts[c + 1] - s->starts[c];
        for (size_t i = 0; i < size; i++) s->pool[i] = members[i];
        for (size_t k = 0; k < per_class; k++) *indices++ = draw(&r, s->pool, k % size, size);
    }
    return s->batch;
}

static int epochs_batch(trine__sampler *s, size_t number, int *indices)
{
    const size_t epoch = number / s->epoch, first = number % s->epoch * (size_t)s->batch;
    if (s->shuffled != epoch) {
        trine__random r = trine__random_stream(s->seed, epochs_purpose, epoch);
        for (size_t i = 0; i < s->count; i++) s->pool[i] = (int)i;
        trine__random_shuffle(&r, s->pool, s->count);
        s->shuffled = epoch;
    }
    const size_t left = s->count - first, count = left < (size_t)s->batch ? left : (size_t)s->batch;
    for (size_t i = 0; i < count; i++) indices[i] = s->pool[first + i];
    return (int)count;
}

int trine__sampler_batch(trine__sampler *s, size_t number, int *indices)
{
    return s->images_per_class ? classes_batch(s, number, indices) : epochs_batch(s, number, indices);
}

void trine__sampler_destroy(trine__sampler **sampler)
{
    if (!sampler || !*sampler) return;
    trine__sampler *s = *sampler;
    free(s->starts);
    free(s->members);
    free(s->classes);
    free(s->pool);
    free(s);
    *sampler = NULL;
}
