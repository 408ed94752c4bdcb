/* SPDX-License-Identifier: MIT */
/* PNG through libpng, which here only unpacks: samples become RGB in this file, because Pillow's rules are
 * not libpng's (16-bit grey is clamped, not scaled; indices beyond the palette are grey; alpha and tRNS are
 * dropped; gamma is not applied). Ancillary chunks are skipped unread. */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "io/image_private.h"

struct decoder {
    const unsigned char *data;
    size_t bytes, offset;
    const char *name;
    bool truncated;
    char reason[128];
    png_structp png;
    png_infop info;
    int color_type, bit_depth,
        channels; /* depth of a stored sample: 8 or 16, smaller ones are unpacked to a byte */
    unsigned char palette[256][3]; /* also the grey ramp of 1, 2, 4 and 8 bits */
    unsigned char *raw;            /* [height or 1][row_bytes]: interlaced images need all rows */
    trine_image image;
};

static void on_error(png_structp png, png_const_charp reason)
{
    struct decoder *d = png_get_error_ptr(png);
    strncpy(d->reason, reason, sizeof d->reason - 1);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp reason)
{
    (void)png;
    (void)reason;
}

static void on_read(png_structp png, png_bytep out, size_t count)
{
    struct decoder *d = png_get_io_ptr(png);
    if (count > d->bytes - d->offset) {
        d->truncated = true;
        png_error(png, "the file ends early");
    }
    memcpy(out, d->data + d->offset, count);
    d->offset += count;
}

static void fill_palette(struct decoder *d)
{
    png_colorp colors = NULL;
    int count = 0;
    const bool indexed = d->color_type == PNG_COLOR_TYPE_PALETTE;
    const int top = d->bit_depth < 8 && !indexed ? (1 << d->bit_depth) - 1 : 255;
    if (indexed) png_get_PLTE(d->png, d->info, &colors, &count);
    for (int i = 0; i < 256; i++) {
        const unsigned char grey = (unsigned char)(i <= top ? i * 255 / top : 255);
        for (int c = 0; c < 3; c++) d->palette[i][c] = grey;
        if (i >= count) continue;
        d->palette[i][0] = colors[i].red;
        d->palette[i][1] = colors[i].green;
        d->palette[i][2] = colors[i].blue;
    }
}

static void convert_row(const struct decoder *d, const unsigned char *in, unsigned char *out)
{
    const int step = d->channels * (d->bit_depth == 16 ? 2 : 1), next = d->bit_depth == 16 ? 2 : 1;
    for (int x = 0; x < d->image.width; x++, in += step, out += 3) {
        if (d->channels >= 3) { /* of 16 bits, the high byte */
            for (int c = 0; c < 3; c++) out[c] = in[c * next];
        } else if (d->bit_depth ==
                   16) { /* Pillow: grey clamped (its mode I), grey with alpha by the high byte */
            const int clamped = in[0] ? 255 : in[1];
            out[0] = out[1] = out[2] = (unsigned char)(d->channels == 1 ? clamped : in[0]);
        } else {
            memcpy(out, d->palette[in[0]], 3);
        }
    }
}

/* Runs under setjmp: everything that must survive an error is in d. */
static trine_status decode(struct decoder *d)
{
    png_set_read_fn(d->png, d, on_read);
    png_set_user_limits(d->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* trine__image_new() has the limit */
    png_set_chunk_malloc_max(d->png, 0);
    png_set_keep_unknown_chunks(d->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(d->png, d->info);
    d->color_type = png_get_color_type(d->png, d->info);
    d->bit_depth = png_get_bit_depth(d->png, d->info);
    d->channels = png_get_channels(d->png, d->info);
    fill_palette(d);
    TRINE_TRY(trine__image_new(d->name, png_get_image_width(d->png, d->info),
                               png_get_image_height(d->png, d->info), &d->image));
    png_set_packing(d->png);
    const int passes = png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    const size_t row_bytes = png_get_rowbytes(d->png, d->info), height = (size_t)d->image.height;
    void *raw;
    TRINE_TRY(trine__calloc(passes > 1 ? height : 1, row_bytes, &raw));
    d->raw = raw;
    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < height; y++) {
            unsigned char *row = d->raw + (passes > 1 ? y * row_bytes : 0);
            png_read_row(d->png, row, NULL);
            if (pass == passes - 1) convert_row(d, row, d->image.rgb + y * (size_t)d->image.width * 3);
        }
    }
    png_read_end(d->png, NULL); /* checksums of the last pixels are behind them */
    return TRINE_OK;
}

trine_status trine__png_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(struct decoder), &memory));
    struct decoder *d = memory;
    d->data = data;
    d->bytes = bytes;
    d->name = name;
    trine_status status;
    d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_warning);
    if (d->png) d->info = png_create_info_struct(d->png);
    if (!d->info) {
        status = trine__fail(TRINE_ERR_NOMEM, "%s: out of memory", name);
    } else if (setjmp(png_jmpbuf(d->png))) {
        status = d->truncated
                     ? trine__fail(TRINE_ERR_FORMAT, "%s: is truncated: the PNG data end early", name)
                     : trine__fail(TRINE_ERR_FORMAT, "%s: cannot be decoded as PNG: %s", name, d->reason);
    } else {
        status = decode(d);
    }
    png_destroy_read_struct(&d->png, &d->info, NULL);
    if (status == TRINE_OK)
        *out = d->image;
    else
        trine_image_free(&d->image);
    free(d->raw);
    free(d);
    return status;
}
