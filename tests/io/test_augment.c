/* SPDX-License-Identifier: MIT */
/* What is drawn for an image: ranges, means, orders, fall-backs; the text of it; and the changes themselves on small images. That their
 * bytes are torchvision's is tests/io/torchvision_augment.py's. */
#include "io/augment.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "support/check_main.h"

enum { DRAWS = 20000 };

static trine_augment parsed(const char *text)
{
    trine_augment a;
    ASSERT_OK(trine_augment_parse(text, &a));
    return trine__augment_complete(&a);
}

static trine__random stream(int i)
{
    return trine__random_stream(7, 8, (uint64_t)i);
}

/* The mean of DRAWS uniform numbers lies within five of its standard deviations. */
static void assert_uniform(double sum, double least, double most, double low, double high)
{
    const double deviation = (high - low) / sqrt(12.0 * DRAWS), end = (high - low) * 1e-2;
    ck_assert_double_eq_tol(sum / DRAWS, (low + high) / 2, 5 * deviation);
    ck_assert(least >= low && least < low + end && most <= high && most > high - end);
}

/* Of a large image, where rounding does not show: area and ratio of the parts, and that all places are as likely. */
START_TEST(resized_crops)
{
    enum { W = 4000, H = 4000 };
    const trine_augment a = parsed("rrc:scale=0.1-0.5:ratio=0.8-1.25");
    double area = 0, ratio = 0, left = 0, least[2] = {1e9, 1e9}, most[2] = {-1e9, -1e9};
    for (int i = 0; i < DRAWS; i++) {
        trine__random r = stream(i);
        const trine__window w = trine__draw_resized_crop(&a, &r, W, H);
        ck_assert(w.left >= 0 && w.top >= 0 && w.left + w.width <= W && w.top + w.height <= H);
        const double is[2] = {(double)w.width * w.height / ((double)W * H), log((double)w.width / w.height)};
        for (int k = 0; k < 2; k++) {
            least[k] = fmin(least[k], is[k]);
            most[k] = fmax(most[k], is[k]);
        }
        area += is[0];
        ratio += is[1];
        left += (double)w.left / (W - w.width);
    }
    const double edge = 1e-3; /* of rounding to whole pixels */
    assert_uniform(area, least[0], most[0], 0.1 - edge, 0.5 + edge);
    assert_uniform(ratio, least[1], most[1], log(0.8) - edge, log(1.25) + edge);
    ck_assert_double_eq_tol(left / DRAWS, 0.5, 5 / sqrt(12.0 * DRAWS));
}
END_TEST

/* Ten tries of a whole image's area at ratios it does not have find nothing: torchvision's central part. */
START_TEST(central_parts)
{
    static const struct {
        int width, height;
        trine__window want;
    } rows[] = {{100, 10, {43, 0, 13, 10}}, /* 10 * 4/3 = 13.33; (100 - 13) / 2 */
                {10, 100, {0, 43, 10, 13}}, /* 10 / (3/4) = 13.33 */
                {1, 1, {0, 0, 1, 1}},
                {1, 7, {0, 3, 1, 1}},
                {7, 1, {3, 0, 1, 1}}};
    const trine_augment a = parsed("rrc:scale=1-1");
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++) {
        trine__random r = stream((int)i);
        const trine__window w = trine__draw_resized_crop(&a, &r, rows[i].width, rows[i].height);
        ck_assert_msg(memcmp(&w, &rows[i].want, sizeof w) == 0, "%dx%d: %d %d %d %d", rows[i].width,
                      rows[i].height, w.left, w.top, w.width, w.height);
    }
}
END_TEST

START_TEST(jitters)
{
    const trine_augment a = parsed("jitter:brightness=0.4:contrast=1.5:hue=0.2");
    double sum[TRINE__COLORS] = {0}, least[TRINE__COLORS], most[TRINE__COLORS];
    int place[TRINE__COLORS][TRINE__COLORS] = {{0}};
    for (int k = 0; k < TRINE__COLORS; k++) {
        least[k] = 1e9;
        most[k] = -1e9;
    }
    for (int i = 0; i < DRAWS; i++) {
        trine__random r = stream(i);
        const trine__jitter j = trine__draw_jitter(&a, &r);
        for (int k = 0; k < TRINE__COLORS; k++) {
            place[j.order[k]][k]++;
            sum[k] += j.factor[k];
            least[k] = fmin(least[k], j.factor[k]);
            most[k] = fmax(most[k], j.factor[k]);
        }
    }
    assert_uniform(sum[TRINE__BRIGHTNESS], least[TRINE__BRIGHTNESS], most[TRINE__BRIGHTNESS], 0.6, 1.4);
    assert_uniform(sum[TRINE__CONTRAST], least[TRINE__CONTRAST], most[TRINE__CONTRAST], 0, 2.5);
    assert_uniform(sum[TRINE__HUE], least[TRINE__HUE], most[TRINE__HUE], -0.2, 0.2);
    ck_assert(isnan(sum[TRINE__SATURATION]));
    for (int c = 0; c < TRINE__COLORS; c++)
        for (int k = 0; k < TRINE__COLORS; k++) /* five standard deviations of a quarter */
            ck_assert_double_eq_tol(place[c][k] / (double)DRAWS, 0.25, 5 * sqrt(0.1875 / DRAWS));
}
END_TEST

START_TEST(erasings)
{
    enum { W = 3000, H = 2000 };
    const trine_augment a = parsed("erase:p=0.3:scale=0.02-0.2:ratio=0.5-2");
    double area = 0;
    int erased = 0;
    for (int i = 0; i < DRAWS; i++) {
        trine__random r = stream(i);
        const trine__window w = trine__draw_erasing(&a, &r, W, H);
        if (w.width == 0) continue;
        const double part = (double)w.width * w.height / ((double)W * H);
        ck_assert(w.left >= 0 && w.top >= 0 && w.left + w.width <= W && w.top + w.height <= H);
        ck_assert(part > 0.0198 && part < 0.2002 && w.height < 2.01 * w.width && w.width < 2.01 * w.height);
        area += part;
        erased++;
    }
    ck_assert_double_eq_tol(erased / (double)DRAWS, 0.3, 5 * sqrt(0.21 / DRAWS));
    ck_assert_double_eq_tol(area / erased, 0.11, 5 * 0.18 / sqrt(12.0 * erased));
    const trine_augment always = parsed("erase:p=1"); /* nothing fits, but nothing breaks */
    for (int i = 0; i < 100; i++) {
        trine__random r = stream(i);
        const trine__window w = trine__draw_erasing(&always, &r, 1, 1);
        ck_assert(w.width == 0 || w.height == 0);
    }
}
END_TEST

START_TEST(erasing_values)
{
    enum { W = 40, H = 30 };
    static float x[3 * H * W];
    const trine__window w = {5, 7, 31, 20};
    for (int noisy = 0; noisy <= 1; noisy++) {
        const trine__random noise = stream(3);
        double sum = 0, squares = 0;
        for (int i = 0; i < 3 * H * W; i++) x[i] = 9;
        trine__erase(x, W, H, &w, noisy ? &noise : NULL);
        for (int i = 0; i < 3 * H * W; i++) {
            const int left = i % W - w.left, top = i / W % H - w.top;
            const bool inside = left >= 0 && left < w.width && top >= 0 && top < w.height;
            ck_assert(inside || x[i] == 9);
            if (!inside) continue;
            ck_assert(noisy ? x[i] != 0 : x[i] == 0);
            sum += x[i];
            squares += (double)x[i] * x[i];
        }
        const int count = 3 * w.width * w.height;
        if (!noisy) continue;
        ck_assert_double_eq_tol(sum / count, 0, 5 / sqrt(count));
        ck_assert_double_eq_tol(squares / count, 1, 5 * sqrt(2.0 / count));
    }
}
END_TEST

/* Grey stays grey, whatever is done to it; one pixel is an image. */
START_TEST(grey_and_tiny_images)
{
    const trine_augment a = parsed("jitter:brightness=0.8:contrast=0.8:saturation=0.8:hue=0.5");
    for (int i = 0; i < 300; i++) {
        unsigned char rgb[3 * 3 * 5];
        const bool tiny = i % 3 == 0;
        trine_image image = {tiny ? 1 : 5, tiny ? 1 : 3, rgb};
        trine__random r = stream(i);
        for (int p = 0; p < 15; p++)
            rgb[3 * p] = rgb[3 * p + 1] = rgb[3 * p + 2] = (unsigned char)(17 * p + i);
        const trine__jitter j = trine__draw_jitter(&a, &r);
        trine__image_jitter(&image, &j);
        for (int p = 0; p < image.width * image.height; p++)
            ck_assert(rgb[3 * p] == rgb[3 * p + 1] && rgb[3 * p] == rgb[3 * p + 2]);
    }
}
END_TEST

/* Text and back, and to the same text. */
START_TEST(texts)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"none", "none"},
        {"flip", "flip"},
        {"crop", "crop"},
        {"flip-crop", "flip-crop"},
        {"crop,flip", "flip-crop"},
        {"flip,rrc", "flip,rrc:scale=0.08-1"},
        {"rrc:ratio=0.5-2:scale=0.2-0.9,flip", "flip,rrc:scale=0.2-0.9:ratio=0.5-2"},
        {"rrc:scale=1e-2-1", "rrc:scale=0.01-1"},
        {"jitter", "jitter:brightness=0.4:contrast=0.4:saturation=0.4:hue=0.1"},
        {"jitter:hue=0.3333333333333333", "jitter:hue=0.3333333333333333"},
        {"erase", "erase:p=0.5"},
        {"erase:value=random:p=1,flip", "flip,erase:p=1:value=random"},
        {"erase:scale=0.02-0.33:ratio=0.3-3.3:value=0", "erase:p=0.5"},
        {"flip-crop,jitter:contrast=1,erase:ratio=1-1", "flip-crop,jitter:contrast=1,erase:p=0.5:ratio=1-1"}};
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++) {
        trine_augment a, b;
        char text[TRINE_AUGMENT_TEXT];
        ASSERT_OK(trine_augment_parse(rows[i].in, &a));
        ASSERT_OK(trine_augment_text(&a, text));
        ck_assert_str_eq(text, rows[i].out);
        ASSERT_OK(trine_augment_parse(text, &b));
        a = trine__augment_complete(&a);
        b = trine__augment_complete(&b);
        ck_assert(memcmp(&a, &b, sizeof a) == 0);
    }
}
END_TEST

START_TEST(bad_texts_are_refused)
{
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        {"", "augment: '', expected none, or a list of"},
        {"blur", "augment: 'blur', expected none, or a list of flip, crop, flip-crop, rrc, jitter and erase"},
        {"flip,none", "augment: 'none', expected none, or a list of"},
        {"flip,flip", "augment: 'flip' is there twice"},
        {"flip-crop,crop", "augment: 'crop' is there twice"},
        {"crop,rrc", "augment: crop and rrc exclude each other"},
        {"flip:p=1", "augment: 'flip:p=1': 'p=1' is nothing that flip has"},
        {"rrc:size=3", "'size=3' is nothing that rrc has"},
        {"rrc:scale", "'scale' is nothing that rrc has"},
        {"rrc:scale=0.5", "augment: 'rrc:scale=0.5': scale=0.5, expected two numbers, A-B"},
        {"rrc:scale=0.5-x", "expected two numbers, A-B"},
        {"rrc:scale=0.5-0.2", "augment: rrc:scale=0.5-0.2, expected A-B, 0 <= A <= B <= 1"},
        {"rrc:scale=0-0", "augment: 'rrc:scale=0-0' changes nothing"},
        {"rrc:scale=0.5-1.1", "expected A-B, 0 <= A <= B <= 1"},
        {"rrc:ratio=0-1", "augment: rrc:ratio=0-1, expected A-B, 0 < A <= B"},
        {"rrc:scale=0.1-1:scale=0.2-1", "says scale twice"},
        {"jitter:hue=0.6", "augment: jitter:hue=0.6, expected a number from 0 to 0.5"},
        {"jitter:hue=nan", "augment: "},
        {"jitter:hue=", "expected a number"},
        {"jitter:hue=0", "augment: 'jitter:hue=0' changes nothing"},
        {"jitter:brightness=-1", "augment: "},
        {"erase:p=2", "augment: erase:p=2, expected a number from 0 to 1"},
        {"erase:value=1", "augment: 'erase:value=1': value=1, expected 0 or random"}};
    for (size_t i = 0; i < TRINE_COUNTOF(rows); i++) {
        trine_augment a = {.flip = 5};
        ASSERT_FAILS(TRINE_ERR_ARG, trine_augment_parse(rows[i].text, &a));
        ck_assert_msg(strstr(trine_last_error(), rows[i].sentence) != NULL, "'%s': %s", rows[i].text,
                      trine_last_error());
        ck_assert(a.flip == 5 && a.scale[1] == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("augment");
    TCase *tc = tcase_create("augment");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, resized_crops);
    tcase_add_test(tc, central_parts);
    tcase_add_test(tc, jitters);
    tcase_add_test(tc, erasings);
    tcase_add_test(tc, erasing_values);
    tcase_add_test(tc, grey_and_tiny_images);
    tcase_add_test(tc, texts);
    tcase_add_test(tc, bad_texts_are_refused);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
