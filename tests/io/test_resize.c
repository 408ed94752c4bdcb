/* SPDX-License-Identifier: MIT */
/* Resizing against values that Pillow 9.4 gave, and against properties; pillow_images.py compares thousands
 * more. */
#include "io/image_private.h"

#include <string.h>

#include "support/check_main.h"

enum { W = 5, H = 3 };

static void gradient(unsigned char rgb[H][W][3])
{
    for (int y = 0; y < H; y++) {
        for (int x = 0; x < W; x++) {
            for (int c = 0; c < 3; c++) rgb[y][x][c] = (unsigned char)(37 * x + 91 * y + 53 * c);
        }
    }
}

START_TEST(pillow_values)
{
    static const struct {
        int width, height;
        unsigned char rgb[84];
    } cases[] = {
        {3, 2, {50, 103, 156, 108, 161, 140, 166, 164, 176, 164, 148, 110, 98, 115, 93, 120, 118, 130}},
        {7, 4, {0,   53,  106, 21,  74,  127, 48,  101, 154, 74,  127, 180, 100, 153, 206, 127, 180,
                233, 148, 201, 254, 57,  110, 163, 78,  131, 184, 105, 158, 165, 131, 184, 77,  157,
                210, 103, 184, 168, 130, 205, 98,  151, 125, 178, 135, 146, 144, 156, 145, 130, 137,
                103, 156, 49,  129, 182, 75,  156, 140, 102, 177, 70,  123, 182, 235, 32,  203, 110,
                53,  156, 27,  80,  0,   53,  106, 26,  79,  132, 53,  106, 159, 74,  127, 180}},
        {1, 1, {119, 139, 128}},
        {5, 1, {91, 144, 124, 128, 108, 161, 92, 145, 88, 129, 182, 125, 166, 109, 162}},
        {2, 3, {37, 90, 143, 111, 164, 217, 128, 181, 164, 202, 174, 64, 149, 97, 69, 49, 90, 143}},
    };
    unsigned char rgb[H][W][3];
    gradient(rgb);
    const trine_image image = {W, H, &rgb[0][0][0]};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trine_image out;
        ASSERT_OK(trine_image_resize(&image, cases[i].width, cases[i].height, &out));
        ck_assert_int_eq(out.width, cases[i].width);
        ck_assert_int_eq(out.height, cases[i].height);
        ck_assert_mem_eq(out.rgb, cases[i].rgb, (size_t)(out.width * out.height * 3));
        trine_image_free(&out);
    }
}
END_TEST

START_TEST(same_size_is_a_copy)
{
    unsigned char rgb[H][W][3];
    gradient(rgb);
    const trine_image image = {W, H, &rgb[0][0][0]};
    trine_image out;
    ASSERT_OK(trine_image_resize(&image, W, H, &out));
    ck_assert_ptr_ne(out.rgb, image.rgb);
    ck_assert_mem_eq(out.rgb, rgb, sizeof rgb);
    trine_image_free(&out);
}
END_TEST

/* One colour stays that colour at every size: the weights sum to one, also for white (no wrap above 255). */
START_TEST(constant)
{
    static const int sizes[] = {1, 2, 3, 5, 16, 31, 97, 300};
    unsigned char rgb[33 * 29 * 3];
    for (int value = 0; value <= 255; value += 51) {
        memset(rgb, value, sizeof rgb);
        const trine_image image = {33, 29, rgb};
        for (size_t w = 0; w < 8; w++) {
            for (size_t h = 0; h < 8; h++) {
                trine_image out;
                ASSERT_OK(trine_image_resize(&image, sizes[w], sizes[h], &out));
                int wrong = 0;
                for (int i = 0; i < out.width * out.height * 3; i++) wrong += out.rgb[i] != value;
                ck_assert_int_eq(wrong, 0);
                trine_image_free(&out);
            }
        }
    }
}
END_TEST

/* A window of a resized image is that part of all of it, wherever it lies, enlarged, shrunk or neither. */
START_TEST(windows)
{
    static const int sides[] = {7, 23, 29, 33, 61};
    static const trine__window parts[] = {
        {0, 0, 1, 1}, {0, 0, 7, 7}, {6, 6, 1, 1}, {2, 1, 3, 5}, {1, 4, 6, 2}};
    unsigned char rgb[29 * 33 * 3];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (unsigned char)(i * i >> 3);
    const trine_image image = {33, 29, rgb};
    for (size_t w = 0; w < sizeof sides / sizeof sides[0]; w++) {
        for (size_t h = 0; h < sizeof sides / sizeof sides[0]; h++) {
            trine_image all;
            ASSERT_OK(trine_image_resize(&image, sides[w], sides[h], &all));
            for (size_t i = 0; i < 2 * sizeof parts / sizeof parts[0];
                 i++) { /* at the first and last pixels */
                trine__window part = parts[i / 2];
                if (i % 2) part.left += sides[w] - 7, part.top += sides[h] - 7;
                trine_image out;
                ASSERT_OK(trine__image_resize_window(&image, sides[w], sides[h], &part, &out));
                ck_assert(out.width == part.width && out.height == part.height);
                for (int y = 0; y < part.height; y++)
                    ck_assert_mem_eq(out.rgb + y * part.width * 3,
                                     all.rgb + ((part.top + y) * all.width + part.left) * 3,
                                     (size_t)part.width * 3);
                trine_image_free(&out);
            }
            trine_image_free(&all);
        }
    }
}
END_TEST

START_TEST(refused)
{
    unsigned char rgb[H][W][3];
    gradient(rgb);
    const trine_image image = {W, H, &rgb[0][0][0]};
    trine_image out = {9, 9, NULL};
    ASSERT_FAILS(TRINE_ERR_ARG, trine_image_resize(&image, 0, 3, &out));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_image_resize(&image, 3, -1, &out));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_image_resize(&image, 20000, 20000, &out));
    ASSERT_FAILS(TRINE_ERR_DATA, trine_image_resize(&image, 2147483647, 2147483647, &out));
    ASSERT_FAILS(TRINE_ERR_DATA,
                 trine_image_resize(&image, 1 << 28, 1, &out)); /* on the way: three rows of them */
    ck_assert_int_eq(out.width, 9);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resize");
    TCase *tc = tcase_create("resize");
    tcase_add_test(tc, pillow_values);
    tcase_add_test(tc, same_size_is_a_copy);
    tcase_add_test(tc, constant);
    tcase_add_test(tc, windows);
    tcase_add_test(tc, refused);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
