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

/* Pixels in memory of which row 0 is row `first` of the image. */
struct lines {
    const unsigned char *rgb;
    size_t stride; /* bytes */
    int first;
};

/* The window's columns of in's rows first, first + 1, ...: as many as `out` has. */
static trine_status resize_rows(const trine_image *in, int width, const trine__window *window, int first,
                                trine_image *out)
{
    struct taps t;
    TRINE_TRY(taps_make(in->width, width, &t));
    for (int y = 0; y < out->height; y++) {
        const unsigned char *row = in->rgb + (size_t)(first + y) * (size_t)in->width * 3;
        unsigned char *to = out->rgb + (size_t)y * (size_t)out->width * 3;
        for (int x = window->left; x < window->left + window->width; x++, to += 3) {
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
    return TRINE_OK;
}

/* The window's rows; `in` begins at its first column. */
static trine_status resize_columns(const struct lines *in, const struct taps *t, const trine__window *window,
                                   trine_image *out)
{
    void *memory = NULL;
    const size_t bytes = (size_t)out->width * 3;
    TRINE_TRY(trine__calloc(bytes, sizeof(int32_t), &memory));
    int32_t *const sums = memory;
    for (int y = 0; y < out->height; y++) { /* whole rows at a time: the inner loops vectorise */
        const size_t row = (size_t)(window->top + y);
        unsigned char *to = out->rgb + (size_t)y * bytes;
        for (size_t i = 0; i < bytes; i++) sums[i] = 1 << (FRACTION_BITS - 1);
        for (size_t j = t->start[row]; j < t->start[row + 1]; j++) {
            const size_t line = (size_t)(t->first[row] - in->first) + (j - t->start[row]);
            const unsigned char *from = in->rgb + line * in->stride;
            const int32_t k = t->weights[j];
            for (size_t i = 0; i < bytes; i++) sums[i] += from[i] * k;
        }
        for (size_t i = 0; i < bytes; i++) to[i] = to_byte(sums[i]);
    }
    free(memory);
    return TRINE_OK;
}

static void copy_lines(const struct lines *in, trine_image *out)
{
    const size_t bytes = (size_t)out->width * 3;
    for (int y = 0; y < out->height; y++)
        memcpy(out->rgb + (size_t)y * bytes, in->rgb + (size_t)y * in->stride, bytes);
}

static trine_status check_size(const trine_image *image, int width, int height)
{
    TRINE_CHECK(width >= 1 && height >= 1, TRINE_ERR_ARG,
                "resize: %dx%d pixels asked for, expected at least 1x1", width, height);
    const int64_t most =
        image->height > height ? image->height : height; /* rows of the intermediate and the result */
    TRINE_CHECK(width <= TRINE__IMAGE_PIXELS_MAX / most, TRINE_ERR_DATA,
                "resize: %dx%d to %dx%d pixels exceeds the limit of %d pixels on the way", image->width,
                image->height, width, height, (int)TRINE__IMAGE_PIXELS_MAX);
    return TRINE_OK;
}

trine_status trine__image_resize_window(const trine_image *image, int width, int height,
                                        const trine__window *window, trine_image *out)
{
    TRINE_TRY(check_size(image, width, height));
    trine_image rows = {0}, result = {0};
    struct taps t = {0};
    trine_status status = TRINE_OK;
    int first = window->top, end = window->top + window->height; /* rows of the image that are needed */
    if (height != image->height) {
        TRINE_TRY_GOTO(taps_make(image->height, height, &t));
        const int last = end - 1;
        first = t.first[window->top];
        end = t.first[last] + (int)(t.start[last + 1] - t.start[last]);
    }
    struct lines lines = {image->rgb + ((size_t)first * (size_t)image->width + (size_t)window->left) * 3,
                          (size_t)image->width * 3, first};
    TRINE_TRY_GOTO(trine__image_new("resize", (uint64_t)window->width, (uint64_t)window->height, &result));
    if (width != image->width) {
        trine_image *to = &result;
        if (height != image->height) {
            to = &rows;
            TRINE_TRY_GOTO(
                trine__image_new("resize", (uint64_t)window->width, (uint64_t)(end - first), &rows));
        }
        TRINE_TRY_GOTO(resize_rows(image, width, window, first, to));
        lines = (struct lines){rows.rgb, (size_t)window->width * 3, first};
    }
    if (height != image->height)
        TRINE_TRY_GOTO(resize_columns(&lines, &t, window, &result));
    else if (width == image->width)
        copy_lines(&lines, &result);
    *out = result;
    result = (trine_image){0};
cleanup:
    trine_image_free(&rows);
    trine_image_free(&result);
    taps_free(&t);
    return status;
}

trine_status trine_image_resize(const trine_image *image, int width, int height, trine_image *out)
{
    return trine__image_resize_window(image, width, height, &(trine__window){0, 0, width, height}, out);
}
