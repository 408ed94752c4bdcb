/* SPDX-License-Identifier: MIT */
/* Thumbnails by libjpeg. */
#include "cli_thumbnail.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

enum { QUALITY = 85 };

typedef struct failure {
    struct jpeg_error_mgr manager; /* first: libjpeg's pointer is one to this */
    jmp_buf back;
} failure;

static void fail(j_common_ptr jpeg)
{
    longjmp(((failure *)jpeg->err)->back, 1);
}

static void be_silent(j_common_ptr jpeg, int level)
{
    (void)jpeg, (void)level;
}

/* *bytes is malloc'ed by libjpeg. */
static int encode(const trine_image *image, unsigned char **bytes, unsigned long *size)
{
    struct jpeg_compress_struct jpeg;
    failure error;
    jpeg.err = jpeg_std_error(&error.manager);
    error.manager.error_exit = fail;
    error.manager.emit_message = be_silent;
    if (setjmp(error.back)) {
        jpeg_destroy_compress(&jpeg);
        return -1;
    }
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, bytes, size);
    jpeg.image_width = (JDIMENSION)image->width;
    jpeg.image_height = (JDIMENSION)image->height;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, QUALITY, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW row = image->rgb + (size_t)jpeg.next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return 0;
}

int cli_thumbnail(cli_text *out, const trine_dataset *data, size_t i, int side)
{
    trine_image image = {0}, small = {0};
    unsigned char *bytes = NULL;
    unsigned long size = 0;
    int result = -1;
    if (trine_dataset_image(data, i, &image) != TRINE_OK) return -1;
    const int longer = image.width > image.height ? image.width : image.height;
    const trine_image *source = &image;
    if (longer > side) {
        const int width = (int)((long long)image.width * side / longer),
                  height = (int)((long long)image.height * side / longer);
        if (trine_image_resize(&image, width > 0 ? width : 1, height > 0 ? height : 1, &small) != TRINE_OK)
            goto cleanup;
        source = &small;
    }
    if (encode(source, &bytes, &size) != 0) goto cleanup;
    cli_text_add(out, "data:image/jpeg;base64,");
    cli_text_base64(out, bytes, size);
    result = 0;
cleanup:
    free(bytes);
    trine_image_free(&small);
    trine_image_free(&image);
    return result;
}
