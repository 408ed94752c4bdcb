/* SPDX-License-Identifier: MIT */
/* PBM, PGM and PPM, plain (P1 P2 P3) and raw (P4 P5 P6), as Pillow reads them: a '#' starts a comment
 * anywhere in the header and in plain data, samples are scaled to round(v / maxval * 255) with halves to
 * even, and grey with a maxval above 255 goes through a 16-bit image that convert('RGB') clamps at 255.
 * Format: https://netpbm.sourceforge.net/doc/ */
#include <math.h>
#include <stdlib.h>

#include "io/image_private.h"

struct reader {
    const unsigned char *data;
    size_t bytes, offset;
    const char *name;
    int kind; /* the digit after 'P' */
};

static bool is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Next character outside comments, -1 at the end. */
static int next_char(struct reader *r)
{
    while (r->offset < r->bytes) {
        const int c = r->data[r->offset++];
        if (c != '#') return c;
        while (r->offset < r->bytes) {
            const int end = r->data[r->offset++];
            if (end == '\n' || end == '\r') break;
        }
    }
    return -1;
}

/* Decimal number and the one white space after it. */
static trine_status read_number(struct reader *r, const char *what, long limit, long *out)
{
    int c = next_char(r);
    while (is_space(c)) c = next_char(r);
    TRINE_CHECK(c >= 0, TRINE_ERR_FORMAT, "%s: is truncated: the PNM file ends before its %s", r->name, what);
    long value = 0;
    for (; c >= 0 && !is_space(c); c = next_char(r)) {
        TRINE_CHECK(c >= '0' && c <= '9', TRINE_ERR_FORMAT,
                    "%s: byte %zu of the PNM file is no digit of its %s", r->name, r->offset - 1, what);
        value = value * 10 + (c - '0');
        TRINE_CHECK(value <= limit, TRINE_ERR_FORMAT, "%s: the PNM file's %s exceeds %ld", r->name, what,
                    limit);
    }
    *out = value;
    return TRINE_OK;
}

static trine_status read_bits(struct reader *r, trine_image *image)
{
    const size_t width = (size_t)image->width, height = (size_t)image->height, row_bytes = (width + 7) / 8;
    TRINE_CHECK(r->kind == 1 || row_bytes * height <= r->bytes - r->offset, TRINE_ERR_FORMAT,
                "%s: is truncated: %zu bytes of pixels, expected %zu", r->name, r->bytes - r->offset,
                row_bytes * height);
    unsigned char *out = image->rgb;
    for (size_t y = 0; y < height; y++) {
        const unsigned char *row = r->data + r->offset + y * row_bytes;
        for (size_t x = 0; x < width; x++, out += 3) {
            int ink;
            if (r->kind == 1) {
                int c = next_char(r);
                while (is_space(c)) c = next_char(r);
                TRINE_CHECK(c >= 0, TRINE_ERR_FORMAT, "%s: is truncated: the file ends in row %zu of %zu",
                            r->name, y, height);
                TRINE_CHECK(c == '0' || c == '1', TRINE_ERR_FORMAT,
                            "%s: byte %zu of the PBM file is neither 0 nor 1", r->name, r->offset - 1);
                ink = c == '1';
            } else {
                ink = row[x / 8] >> (7 - x % 8) & 1;
            }
            out[0] = out[1] = out[2] = ink ? 0 : 255;
        }
    }
    return TRINE_OK;
}

/* table[v] for v = 0..maxval */
static trine_status scale_table(long maxval, bool grey, unsigned char **out)
{
    void *memory;
    TRINE_TRY(trine__calloc((size_t)maxval + 1, 1, &memory));
    const double top = grey && maxval > 255 ? 65535 : 255;
    unsigned char *table = memory;
    for (long v = 0; v <= maxval; v++) {
        const double scaled = nearbyint((double)v / (double)maxval * top);
        table[v] = (unsigned char)(scaled < 255 ? scaled : 255);
    }
    *out = table;
    return TRINE_OK;
}

static trine_status read_samples(struct reader *r, long maxval, trine_image *image)
{
    trine_status status = TRINE_OK;
    unsigned char *table = NULL;
    const bool grey = r->kind == 2 || r->kind == 5, plain = r->kind < 4;
    const size_t pixels = (size_t)image->width * (size_t)image->height, samples = grey ? pixels : pixels * 3;
    const size_t width = maxval > 255 ? 2 : 1; /* bytes of a raw sample, big-endian */
    TRINE_CHECK(plain || samples * width <= r->bytes - r->offset, TRINE_ERR_FORMAT,
                "%s: is truncated: %zu bytes of pixels, expected %zu", r->name, r->bytes - r->offset,
                samples * width);
    TRINE_TRY(scale_table(maxval, grey, &table));
    unsigned char *out = image->rgb;
    const unsigned char *in = r->data + r->offset;
    for (size_t i = 0; i < samples; i++, in += width) {
        long v;
        if (plain)
            TRINE_TRY_GOTO(read_number(r, "sample", maxval, &v));
        else
            v = width == 2 ? in[0] << 8 | in[1] : in[0];
        *out++ = table[v < maxval ? v : maxval]; /* Pillow clamps raw samples above maxval */
        if (grey) {
            out[0] = out[1] = out[-1];
            out += 2;
        }
    }
cleanup:
    free(table);
    return status;
}

trine_status trine__pnm_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out)
{
    struct reader r = {.data = data, .bytes = bytes, .offset = 3, .name = name, .kind = data[1] - '0'};
    TRINE_CHECK(is_space(data[2]), TRINE_ERR_FORMAT, "%s: is not a JPEG, PNG or PNM image", name);
    long width, height, maxval = 1;
    TRINE_TRY(read_number(&r, "width", TRINE__IMAGE_PIXELS_MAX, &width));
    TRINE_TRY(read_number(&r, "height", TRINE__IMAGE_PIXELS_MAX, &height));
    const bool bitmap = r.kind == 1 || r.kind == 4;
    if (!bitmap) TRINE_TRY(read_number(&r, "maxval", 65535, &maxval));
    TRINE_CHECK(maxval >= 1, TRINE_ERR_FORMAT, "%s: the PNM file's maxval is 0, expected 1 to 65535", name);
    trine_image image;
    TRINE_TRY(trine__image_new(name, (uint64_t)width, (uint64_t)height, &image));
    const trine_status status = bitmap ? read_bits(&r, &image) : read_samples(&r, maxval, &image);
    if (status == TRINE_OK)
        *out = image;
    else
        trine_image_free(&image);
    return status;
}
