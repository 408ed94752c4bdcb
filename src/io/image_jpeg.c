/* SPDX-License-Identifier: MIT */
/* JPEG through libjpeg-turbo with the settings Pillow leaves alone (JDCT_ISLOW, fancy upsampling), so that
 * pixels agree. Like Pillow we feed libjpeg a source that suspends at the end of the data: a file that ends
 * before its last scan line is an error rather than a half-grey image, one that lacks only the end marker is
 * read. Warnings (bad Huffman codes) are not errors there either. Baseline, progressive, 1, 3 or 4
 * components; four are taken as Adobe's inverted CMYK. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

#include "io/image_private.h"

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    jmp_buf jump;
    const char *name;
    trine_image image;
    unsigned char *row; /* [width][4], CMYK or grey samples of one line */
};

static void on_error(j_common_ptr jpeg)
{
    struct decoder *d = jpeg->client_data;
    longjmp(d->jump, 1);
}

static void on_message(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void on_source(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

static boolean on_empty(j_decompress_ptr jpeg)
{
    (void)jpeg;
    return FALSE; /* suspend: all the data there is was given at the start */
}

static void on_skip(j_decompress_ptr jpeg, long count)
{
    struct jpeg_source_mgr *source = jpeg->src;
    if (count <= 0) return;
    const size_t skip = (size_t)count < source->bytes_in_buffer ? (size_t)count : source->bytes_in_buffer;
    source->next_input_byte += skip;
    source->bytes_in_buffer -= skip;
}

/* a * b / 255, rounded, as Pillow's MULDIV255. */
static int scale255(int a, int b)
{
    const int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

static void grey_to_rgb(const unsigned char *in, unsigned char *out, int width)
{
    for (int x = 0; x < width; x++) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = in[x];
}

/* in: inverted CMYK (255 = no ink). Pillow's cmyk2rgb. */
static void cmyk_to_rgb(const unsigned char *in, unsigned char *out, int width)
{
    for (int x = 0; x < width; x++, in += 4, out += 3) {
        const int light = in[3];
        for (int c = 0; c < 3; c++) out[c] = (unsigned char)(light - scale255(255 - in[c], light));
    }
}

static trine_status truncated(const struct decoder *d)
{
    return trine__fail(TRINE_ERR_FORMAT, "%s: is truncated: the JPEG data end before the image does",
                       d->name);
}

static trine_status read_header(struct decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    int found;
    do found = jpeg_read_header(jpeg, FALSE);
    while (found == JPEG_HEADER_TABLES_ONLY);
    if (found == JPEG_SUSPENDED) return truncated(d);
    const int components = jpeg->num_components;
    TRINE_CHECK(components == 1 || components == 3 || components == 4, TRINE_ERR_FORMAT,
                "%s: a JPEG of %d components is not supported", d->name, components);
    jpeg->out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    TRINE_TRY(trine__image_new(d->name, jpeg->image_width, jpeg->image_height, &d->image));
    void *row;
    TRINE_TRY(trine__calloc(jpeg->image_width, 4, &row));
    d->row = row;
    return TRINE_OK;
}

/* Runs under setjmp: everything that must survive an error is in d. */
static trine_status decode(struct decoder *d)
{
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    TRINE_TRY(read_header(d));
    if (!jpeg_start_decompress(jpeg)) return truncated(d);
    const int width = d->image.width, components = jpeg->num_components;
    while (jpeg->output_scanline < jpeg->output_height) {
        unsigned char *out = d->image.rgb + (size_t)jpeg->output_scanline * (size_t)width * 3;
        JSAMPROW line = components == 3 ? out : d->row;
        if (jpeg_read_scanlines(jpeg, &line, 1) != 1) return truncated(d);
        if (components == 1) grey_to_rgb(d->row, out, width);
        if (components == 4) cmyk_to_rgb(d->row, out, width);
    }
    jpeg_finish_decompress(jpeg); /* suspended: only the end marker is missing */
    return TRINE_OK;
}

trine_status trine__jpeg_decode(const unsigned char *data, size_t bytes, const char *name, trine_image *out)
{
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(struct decoder), &memory));
    struct decoder *d = memory;
    d->name = name;
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.output_message = on_message;
    d->source = (struct jpeg_source_mgr){
        .next_input_byte = data,
        .bytes_in_buffer = bytes,
        .init_source = on_source,
        .fill_input_buffer = on_empty,
        .skip_input_data = on_skip,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = on_source,
    };
    trine_status status;
    if (setjmp(d->jump)) {
        char reason[JMSG_LENGTH_MAX];
        d->errors.format_message((j_common_ptr)&d->jpeg, reason);
        status = trine__fail(d->errors.msg_code == JERR_OUT_OF_MEMORY ? TRINE_ERR_NOMEM : TRINE_ERR_FORMAT,
                             "%s: cannot be decoded as JPEG: %s", name, reason);
    } else {
        jpeg_create_decompress(&d->jpeg); /* clears all but err and client_data */
        d->jpeg.src = &d->source;
        status = decode(d);
    }
    jpeg_destroy_decompress(&d->jpeg);
    if (status == TRINE_OK)
        *out = d->image;
    else
        trine_image_free(&d->image);
    free(d->row);
    free(d);
    return status;
}
