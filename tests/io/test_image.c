/* SPDX-License-Identifier: MIT */
/* Decoding: dispatch by content, each kind once with known pixels, and every refusal. Agreement with Pillow
 * over many files is in pillow_images.py. */
#include "trine/image.h"

#include <stdio.h>

#include <jpeglib.h>
#include <png.h>

#include "io/image_files.h"
#include "io/image_size.h"
#include "support/check_main.h"

static void decode_text(const char *text, trine_image *out)
{
    ASSERT_OK(trine_image_decode(text, strlen(text), "text", out));
}

static void assert_grey(const trine_image *image, const unsigned char *want)
{
    for (int i = 0; i < image->width * image->height; i++) {
        for (int c = 0; c < 3; c++)
            ck_assert_msg(image->rgb[3 * i + c] == want[i], "pixel %d: %d", i, image->rgb[3 * i]);
    }
}

static void refuse(const void *data, size_t bytes, const char *sentence)
{
    trine_image image = {7, 7, NULL};
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_image_decode(data, bytes, "some file", &image));
    ck_assert_msg(strncmp(trine_last_error(), "some file: ", 11) == 0, "%s", trine_last_error());
    ck_assert_msg(strstr(trine_last_error(), sentence) != NULL, "'%s' lacks '%s'", trine_last_error(),
                  sentence);
    ck_assert_int_eq(image.width, 7);
    ck_assert_ptr_null(image.rgb);
}

static unsigned char *make_jpeg(int width, int height, int components, unsigned long *bytes)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL, row[4 * 64];
    JSAMPROW line = row;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, bytes);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    memset(row, 200, sizeof row);
    while (jpeg.next_scanline < jpeg.image_height) jpeg_write_scanlines(&jpeg, &line, 1);
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return data;
}

static void make_png(int width, int height, unsigned format, const void *pixels, unsigned char *out,
                     size_t *bytes)
{
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = format};
    ck_assert(png_image_write_to_memory(&image, out, bytes, 0, pixels, 0, NULL));
}

START_TEST(pnm_kinds)
{
    trine_image image;
    decode_text("P1\n# comment\n3 1\n101", &image);
    assert_grey(&image, (const unsigned char[]){0, 255, 0});
    trine_image_free(&image);
    decode_text("P2 3 1 4 # four\n0 2\n4", &image);
    assert_grey(&image, (const unsigned char[]){0, 128, 255}); /* 127.5: half to even */
    trine_image_free(&image);
    decode_text("P2 3 1 1000 0 1 500", &image);
    assert_grey(&image, (const unsigned char[]){0, 66, 255}); /* through 16 bits, clamped */
    trine_image_free(&image);
    decode_text("P3 1 2 255 1 2 3\n4 5 6", &image);
    ck_assert_int_eq(image.width, 1);
    ck_assert_int_eq(image.height, 2);
    ck_assert_mem_eq(image.rgb, "\1\2\3\4\5\6", 6);
    trine_image_free(&image);
    decode_text("P4 9 1\n\x80\x80", &image);
    assert_grey(&image, (const unsigned char[]){0, 255, 255, 255, 255, 255, 255, 255, 0});
    trine_image_free(&image);
    decode_text("P5 2 1 255\nAB", &image);
    assert_grey(&image, (const unsigned char[]){'A', 'B'});
    trine_image_free(&image);
    decode_text("P6 1 1 255\nABC", &image);
    ck_assert_mem_eq(image.rgb, "ABC", 3);
    trine_image_free(&image);
    ck_assert_ptr_null(image.rgb);
    trine_image_free(&image);
    trine_image_free(NULL);
}
END_TEST

START_TEST(pnm_refused)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"P5 2 2 255\nABC", "truncated"},
        {"P6 1 1 255\nAB", "truncated"},
        {"P4 9 2\nABC", "truncated"},
        {"P1 3 1 1 0", "truncated"},
        {"P2 2 1 255 7", "truncated"},
        {"P5 2 2", "truncated"},
        {"P5", "not a JPEG, PNG or PNM"},
        {"P7 1 1 255\nA", "not a JPEG, PNG or PNM"},
        {"P52 2 255\n", "not a JPEG"},
        {"P5 0 2 255\n", "empty"},
        {"P5 2 2 0\nABCD", "maxval"},
        {"P5 2 2 65536\nABCD", "maxval"},
        {"P5 x 2 255\nABCD", "no digit"},
        {"P5 -2 2 255\nABCD", "no digit"},
        {"P2 1 1 255\n256", "exceeds 255"},
        {"P1 1 1 2", "neither 0 nor 1"},
        {"P5 20000 20000 255\n", "exceeds the limit of 268435456 pixels"},
        {"P5 99999999999999999999 1 255\n", "width exceeds"},
        {"hello, world", "not a JPEG"},
        {"", "is empty"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(cases[i].text, strlen(cases[i].text), cases[i].sentence);
}
END_TEST

START_TEST(jpeg)
{
    for (int components = 1; components <= 4; components += components == 1 ? 2 : 1) {
        unsigned long bytes = 0;
        unsigned char *data = make_jpeg(20, 13, components, &bytes);
        trine_image image;
        ASSERT_OK(trine_image_decode(data, bytes, "j", &image));
        ck_assert_int_eq(image.width, 20);
        ck_assert_int_eq(image.height, 13);
        int w = 0, h = 0, known = 0;
        for (unsigned long n = 0; n <= bytes; n++) { /* every prefix: the size, or nothing */
            unsigned char *part = malloc(n ? n : 1);
            ck_assert_ptr_nonnull(part);
            memcpy(part, data, n);
            if (trine__image_header_size(part, n, &w, &h)) known += w == 20 && h == 13 ? 1 : 100000;
            free(part);
        }
        ck_assert(known > 0 && known <= (int)bytes);
        /* ink 200 of inverted CMYK: 200 - (55 * 200 / 255) */
        for (int i = 0; i < 20 * 13 * 3; i++) ck_assert_int_eq(image.rgb[i], components == 4 ? 157 : 200);
        trine_image_free(&image);
        refuse(data, bytes / 2, "truncated");
        refuse(data, 3, "truncated");
        refuse(data, bytes - 4, "truncated");
        free(data);
    }
    refuse("\xff\xd8\xff\xd8\xff\xd9", 6, "cannot be decoded as JPEG");
}
END_TEST

START_TEST(jpeg_over_limit)
{
    unsigned long bytes = 0;
    unsigned char *data = make_jpeg(16, 16, 3, &bytes);
    for (unsigned long i = 0; i + 8 < bytes; i++) {
        if (data[i] == 0xff && data[i + 1] == 0xc0) memset(data + i + 5, 0x7f, 4); /* 32639 x 32639 */
    }
    refuse(data, bytes, "exceeds the limit");
    free(data);
}
END_TEST

START_TEST(png)
{
    const unsigned char rgba[] = {1, 2, 3, 0, 4, 5, 6, 128};
    unsigned char data[4096];
    size_t bytes = sizeof data;
    make_png(2, 1, PNG_FORMAT_RGBA, rgba, data, &bytes);
    trine_image image;
    ASSERT_OK(trine_image_decode(data, bytes, "p", &image));
    ck_assert_int_eq(image.width, 2);
    ck_assert_mem_eq(image.rgb, "\1\2\3\4\5\6", 6); /* alpha dropped, not blended */
    trine_image_free(&image);
    for (size_t cut = 8; cut < bytes; cut++) refuse(data, cut, "truncated");
    for (size_t i = 0; i + 20 < bytes; i++) {
        if (memcmp(data + i, "IDAT", 4) == 0) data[i + 12] ^= 0x10;
    }
    refuse(data, bytes, "cannot be decoded as PNG");
    bytes = sizeof data;
    make_png(2, 1, PNG_FORMAT_RGBA, rgba, data, &bytes);
    data[8 + 8] = 0x7f; /* width, under the header's checksum */
    refuse(data, bytes, "cannot be decoded as PNG");
}
END_TEST

START_TEST(files)
{
    char root[PATH_BYTES], path[PATH_BYTES];
    trine_image image;
    make_root(root);
    write_ppm(root, "named.jpg", 3, 2, 10); /* content decides, not the name */
    in_root(path, root, "named.jpg");
    ASSERT_OK(trine_image_read(path, &image));
    ck_assert_int_eq(image.width, 3);
    ck_assert_int_eq(image.height, 2);
    trine_image_free(&image);
    in_root(path, root, "missing.png");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_image_read(path, &image));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), path));
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_image_read(root, &image));
    write_bytes(root, "empty.png", "", 0);
    in_root(path, root, "empty.png");
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_image_read(path, &image));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), path));
    remove_root(root);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image");
    TCase *tc = tcase_create("image");
    tcase_add_test(tc, pnm_kinds);
    tcase_add_test(tc, pnm_refused);
    tcase_add_test(tc, jpeg);
    tcase_add_test(tc, jpeg_over_limit);
    tcase_add_test(tc, png);
    tcase_add_test(tc, files);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
