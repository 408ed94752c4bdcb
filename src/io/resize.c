/* SPDX-License-Identifier: MIT */
/* Pillow's antialiased bilinear resize, bit for bit (its Resample.c for 8-bit images): a triangle as wide as
 * one output pixel, but at least two input pixels, sampled in double, normalised, rounded to 22 fractional
 * bits; first along rows, then along columns, each rounded to 8 bits. A direction that keeps its size is not
 * touched. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/image_private.h"

enum { FRACTION_BITS = 32 - 8 - 2 };

/* Output pixel i is the sum of weights[start[i] + j] * input[first[i] + j] for j < start[i + 1] - start[i]. */
struct taps {
    int *first;
    size_t *start; /* [out + 1] */
    int32_t *weights;
};

static void taps_free(struct taps *t)
{
    free(t->first);
    free(t->start);
    free(t->weights);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static trine_status taps_make(int in, int out, struct taps *taps)
{
    trine_status status = TRINE_OK;
    struct taps t = {0};
    void *first = NULL, *start = NULL, *weights = NULL, *exact = NULL;
    const double scale = (double)in / out, support = scale < 1.0 ? 1.0 : scale, inverse = 1.0 / support;
    TRINE_TRY_GOTO(trine__calloc((size_t)out, sizeof *t.first, &first));
    t.first = first;
    TRINE_TRY_GOTO(trine__calloc((size_t)out + 1, sizeof *t.start, &start));
    t.start = start;
    size_t most = 0;
    for (int i = 0; i < out; i++) {
        const double center = (i + 0.5) * scale;
        const double low = center - support + 0.5, high = center + support + 0.5;
        t.first[i] = low < 0 ? 0 : (int)low;
        const size_t count = (size_t)((high > in ? in : (int)high) - t.first[i]);
        t.start[i + 1] = t.start[i] + count;
        if (count > most) most = count;
    }
    TRINE_TRY_GOTO(trine__calloc(t.start[out], sizeof *t.weights, &weights));
    t.weights = weights;
    TRINE_TRY_GOTO(trine__calloc(most, sizeof(double), &exact));
    double *const k = exact;
    for (int i = 0; i < out; i++) {
        const double center = (i + 0.5) * scale;
        const int count = (int)(t.start[i + 1] - t.start[i]);
        double sum = 0.0;
        for (int j = 0; j < count; j++) {
            k[j] = triangle((j + t.first[i] - center + 0.5) * inverse);
            sum += k[j];
        }
        for (int j = 0; j < count; j++) {
            const double weight = sum != 0.0 ? k[j] / sum : k[j];
            t.weights[t.start[i] + (size_t)j] = (int32_t)(0.5 + weight * (1 << FRACTION_BITS));
        }
    }
    *taps = t;
cleanup:
    free(exact);
    if (status != TRINE_OK) taps_free(&t);
    return status;
}

static unsigned char to_byte(int32_t sum)
{
    const int32_t v = sum >> FRACTION_BITS; /* weights are positive, so sum is */
    return (unsigned char)(v > 255 ? 255 : v);
}

static trine_status resize_rows(const trine_image *in, int width, trine_image *out)
{
    struct taps t;
    TRINE_TRY(taps_make(in->width, width, &t));
    const trine_status status = trine__image_new("resize", (uint64_t)width, (uint64_t)in->height, out);
    for (int y = 0; status == TRINE_OK && y < in->height; y++) {
        const unsigned char *row = in->rgb + (size_t)y * (size_t)in->width * 3;
        unsigned char *to = out->rgb + (size_t)y * (size_t)width * 3;
        for (int x = 0; x < width; x++, to += 3) {
            const unsigned char *from = row + (size_t)t.first[x] * 3;
            const int32_t *k = t.weights + t.start[x], *end = t.weights + t.start[x + 1];
            int32_t r = 1 << (FRACTION_BITS - 1), g = r, b = r;
            for (; k < end; k++, from += 3) {
                r += from[0] * *k;
                g += from[1] * *k;
                b += from[2] * *k;
            }
            to[0] = to_byte(r);
            to[1] = to_byte(g);
            to[2] = to_byte(b);
        }
    }
    taps_free(&t);
    return status;
}

static trine_status resize_columns(const trine_image *in, int height, trine_image *out)
{
    trine_status status = TRINE_OK;
    struct taps t;
    void *memory = NULL;
    const size_t bytes = (size_t)in->width * 3;
    TRINE_TRY(taps_make(in->height, height, &t));
    TRINE_TRY_GOTO(trine__calloc(bytes, sizeof(int32_t), &memory));
    TRINE_TRY_GOTO(trine__image_new("resize", (uint64_t)in->width, (uint64_t)height, out));
    int32_t *const sums = memory;
    for (int y = 0; y < height; y++) { /* whole rows at a time: the inner loops vectorise */
        unsigned char *to = out->rgb + (size_t)y * bytes;
        for (size_t i = 0; i < bytes; i++) sums[i] = 1 << (FRACTION_BITS - 1);
        for (size_t j = t.start[y]; j < t.start[y + 1]; j++) {
            const unsigned char *from = in->rgb + ((size_t)t.first[y] + (j - t.start[y])) * bytes;
            const int32_t k = t.weights[j];
            for (size_t i = 0; i < bytes; i++) sums[i] += from[i] * k;
        }
        for (size_t i = 0; i < bytes; i++) to[i] = to_byte(sums[i]);
    }
cleanup:
    free(memory);
    taps_free(&t);
    return status;
}

trine_status trine_image_resize(const trine_image *image, int width, int height, trine_image *out)
{
    TRINE_CHECK(width >= 1 && height >= 1, TRINE_ERR_ARG,
                "resize: %dx%d pixels asked for, expected at least 1x1", width, height);
    const int64_t most =
        image->height > height ? image->height : height; /* rows of the intermediate and the result */
    TRINE_CHECK(width <= TRINE__IMAGE_PIXELS_MAX / most, TRINE_ERR_DATA,
                "resize: %dx%d to %dx%d pixels exceeds the limit of %d pixels on the way", image->width,
                image->height, width, height, (int)TRINE__IMAGE_PIXELS_MAX);
    const trine_image *source = image;
    trine_image rows = {0}, result = {0};
    trine_status status = TRINE_OK;
    if (width != image->width) {
        TRINE_TRY_GOTO(resize_rows(image, width, &rows));
        source = &rows;
    }
    if (height != image->height) {
        TRINE_TRY_GOTO(resize_columns(source, height, &result));
    } else if (source == &rows) {
        result = rows;
        rows = (trine_image){0};
    } else {
        TRINE_TRY_GOTO(trine__image_new("resize", (uint64_t)width, (uint64_t)height, &result));
        memcpy(result.rgb, image->rgb, (size_t)width * (size_t)height * 3);
    }
    *out = result;
cleanup:
    trine_image_free(&rows);
    return status;
}
