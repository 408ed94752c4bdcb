/* SPDX-License-Identifier: MIT */
/* Preprocessing: torchvision's sizes and roundings, padding, values, JSON. */
#include "trine/image.h"

#include <locale.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "support/check_main.h"

static trine_preprocess plain(int resize, int pad, int crop)
{
    return (trine_preprocess){resize, pad, crop, {0, 0, 0}, {1, 1, 1}};
}

START_TEST(names)
{
    trine_preprocess p;
    ASSERT_OK(trine_preprocess_named("imagenet", &p));
    ck_assert(p.resize == 256 && p.pad == 0 && p.crop == 224);
    ck_assert(p.mean[0] == 0.485f && p.mean[1] == 0.456f && p.mean[2] == 0.406f);
    ck_assert(p.std[0] == 0.229f && p.std[1] == 0.224f && p.std[2] == 0.225f);
    ASSERT_OK(trine_preprocess_named("cifar", &p));
    ck_assert(p.resize == 0 && p.pad == 0 && p.crop == 0 && p.mean[2] == 0.406f && p.std[0] == 0.229f);
    ASSERT_OK(trine_preprocess_named("idx", &p));
    ck_assert(p.resize == 0 && p.pad == 32 && p.crop == 0 && p.mean[0] == 0.f && p.std[2] == 1.f);
    p.crop = 77;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_preprocess_named("ImageNet", &p));
    ck_assert_int_eq(p.crop, 77);
}
END_TEST

/* torchvision: int(256 * 500 / 375) = 341, and so on. */
START_TEST(sizes)
{
    static const int cases[][7] = {/* resize, pad, crop, width, height -> width, height */
                                   {256, 0, 0, 500, 375, 341, 256},
                                   {256, 0, 0, 375, 500, 256, 341},
                                   {256, 0, 0, 100, 100, 256, 256},
                                   {100, 0, 0, 3, 1000, 100, 33333},
                                   {256, 0, 224, 500, 375, 224, 224},
                                   {0, 0, 0, 32, 31, 32, 31},
                                   {0, 32, 0, 28, 28, 32, 32},
                                   {0, 32, 0, 40, 20, 40, 32},
                                   {0, 0, 50, 20, 90, 50, 50},
                                   {0, 32, 24, 28, 28, 24, 24},
                                   {256, 0, 0, 1, 268435456, 256, 2147483647}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int *c = cases[i];
        const trine_preprocess p = plain(c[0], c[1], c[2]);
        int w, h;
        trine_preprocess_size(&p, c[3], c[4], &w, &h);
        ck_assert_msg(w == c[5] && h == c[6], "case %zu: %dx%d", i, w, h);
    }
}
END_TEST

/* Where the pixel that holds 255 goes: (in - 1) wide image, centre crops of every size; Python's round,
 * halves to even. */
START_TEST(crop_position)
{
    enum { SIDE = 9 };
    static const int first_of[SIDE + 4] = {0, 4, 4, 3, 2,  2, 2,
                                           1, 0, 0, 0, -1, -1}; /* round((9 - crop) / 2) */
    unsigned char rgb[SIDE][SIDE][3];
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            rgb[y][x][0] = (unsigned char)(10 + x);
            rgb[y][x][1] = (unsigned char)(10 + y);
            rgb[y][x][2] = 255;
        }
    }
    const trine_image image = {SIDE, SIDE, &rgb[0][0][0]};
    for (int crop = 1; crop <= SIDE + 3; crop++) {
        const trine_preprocess p = plain(0, 0, crop);
        float out[3 * (SIDE + 3) * (SIDE + 3)];
        ASSERT_OK(trine_preprocess_apply(&p, &image, out));
        for (int y = 0; y < crop; y++) {
            for (int x = 0; x < crop; x++) {
                const int sx = x + first_of[crop], sy = y + first_of[crop];
                const int inside = sx >= 0 && sx < SIDE && sy >= 0 && sy < SIDE, plane = crop * crop;
                const float *v = out + y * crop + x;
                ck_assert_msg(v[0] == (inside ? (float)(10 + sx) / 255.f : 0.f), "crop %d at %d,%d", crop, x,
                              y);
                ck_assert_msg(v[plane] == (inside ? (float)(10 + sy) / 255.f : 0.f), "crop %d at %d,%d", crop,
                              x, y);
                ck_assert_msg(v[2 * plane] == (inside ? 1.f : 0.f), "crop %d at %d,%d", crop, x, y);
            }
        }
    }
}
END_TEST

START_TEST(padding_and_values)
{
    const unsigned char rgb[6] = {255, 0, 51, 1, 2, 3};
    const trine_image image = {2, 1, (unsigned char *)rgb};
    trine_preprocess p = {0, 5, 0, {0.5f, 0.25f, 0.1f}, {0.5f, 2.f, 0.3f}};
    float out[3][5][5];
    ASSERT_OK(trine_preprocess_apply(&p, &image, &out[0][0][0]));
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < 5; y++) {
            for (int x = 0; x < 5; x++) { /* one column left, two right; two rows above and below */
                const int v = y == 2 && (x == 1 || x == 2) ? rgb[(x - 1) * 3 + c] : 0;
                ck_assert(out[c][y][x] == ((float)v / 255.0f - p.mean[c]) / p.std[c]);
            }
        }
    }
    p.std[1] = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_preprocess_apply(&p, &image, &out[0][0][0]));
    p.std[1] = NAN;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_preprocess_apply(&p, &image, &out[0][0][0]));
    p.std[1] = 1;
    p.resize = -1;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_preprocess_apply(&p, &image, &out[0][0][0]));
}
END_TEST

static void round_trip(const trine_preprocess *p)
{
    char *json;
    trine_preprocess back;
    ASSERT_OK(trine_preprocess_to_json(p, &json));
    ASSERT_OK(trine_preprocess_from_json(json, &back));
    ck_assert_msg(memcmp(p, &back, sizeof back) == 0, "%s", json);
    free(json);
}

START_TEST(json_text)
{
    trine_preprocess p;
    char *json;
    ASSERT_OK(trine_preprocess_named("imagenet", &p));
    ASSERT_OK(trine_preprocess_to_json(&p, &json));
    ck_assert_str_eq(json, "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0.485,0.456,0.406],"
                           "\"std\":[0.229,0.224,0.225]}");
    free(json);
    trine__random r = trine__random_stream(1, 2, 3);
    for (int i = 0; i < 20000; i++) {
        for (int c = 0; c < 3; c++) {
            p.mean[c] = (float)trine__random_normal(&r);
            p.std[c] = (float)exp(10 * trine__random_normal(&r));
        }
        round_trip(&p);
    }
    p.mean[0] = 0x1.fffffep+98f;
    p.std[0] = 0x1p-149f;
    round_trip(&p);
    p.std[0] = -1;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_preprocess_to_json(&p, &json));
}
END_TEST

/* A program with a decimal comma writes and reads the same text. */
START_TEST(json_locale)
{
    trine_preprocess p;
    char *json;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8")) return; /* locale not installed: nothing to test */
    ASSERT_OK(trine_preprocess_named("cifar", &p));
    ASSERT_OK(trine_preprocess_to_json(&p, &json));
    ck_assert_ptr_nonnull(strstr(json, "[0.485,0.456,0.406]"));
    round_trip(&p);
    free(json);
}
END_TEST

START_TEST(json_refused)
{
    static const char *const cases[] = {
        "",
        "[]",
        "null",
        "{",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]} x",
        "{\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1],\"gamma\":1}",
        "{\"resize\":256,\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":2.5,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":-1,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":99999,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":\"256\",\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0,0],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,\"0\"],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,1e400],\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":0.5,\"std\":[1,1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,0,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,-1,1]}",
        "{\"resize\":256,\"pad\":0,\"crop\":224,\"mean\":[0,0,0],\"std\":[1,1e-60,1]}",
    };
    trine_preprocess p = plain(5, 6, 7);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_preprocess_from_json(cases[i], &p));
        ck_assert_int_eq(p.crop, 7);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("preprocess");
    TCase *tc = tcase_create("preprocess");
    tcase_add_test(tc, names);
    tcase_add_test(tc, sizes);
    tcase_add_test(tc, crop_position);
    tcase_add_test(tc, padding_and_values);
    tcase_add_test(tc, json_text);
    tcase_add_test(tc, json_locale);
    tcase_add_test(tc, json_refused);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
