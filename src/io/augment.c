/* SPDX-License-Identifier: MIT */
/* What is drawn for an image: torchvision's get_params() functions with our random numbers. */
#include "io/augment.h"

#include <math.h>
#include <string.h>

enum { TRIES = 10 };

static const double part_ratio[2] = {3.0 / 4, 4.0 / 3}, erase_scale[2] = {0.02, 0.33},
                    erase_ratio[2] = {0.3, 3.3};

bool trine__augment_repeats(const trine_augment *a)
{
    return !a->crop && !trine__augments_resized_crop(a) && !trine__augments_colors(a) && !(a->erase > 0);
}

bool trine__augments(const trine_augment *a)
{
    return a->flip || !trine__augment_repeats(a);
}

static void complete(double range[2], const double preset[2])
{
    if (range[0] == 0 && range[1] == 0) memcpy(range, preset, 2 * sizeof *range);
}

trine_augment trine__augment_complete(const trine_augment *augment)
{
    trine_augment a = *augment;
    complete(a.ratio, part_ratio);
    complete(a.erase_scale, erase_scale);
    complete(a.erase_ratio, erase_ratio);
    return a;
}

static trine_status check_scale(const char *what, const double range[2])
{
    TRINE_CHECK(range[0] >= 0 && range[0] <= range[1] && range[1] <= 1, TRINE_ERR_ARG,
                "augment: %s:scale=%g-%g, expected A-B, 0 <= A <= B <= 1", what, range[0], range[1]);
    return TRINE_OK;
}

static trine_status check_ratio(const char *what, const double range[2])
{
    TRINE_CHECK(range[0] > 0 && range[0] <= range[1] && isfinite(range[1]), TRINE_ERR_ARG,
                "augment: %s:ratio=%g-%g, expected A-B, 0 < A <= B", what, range[0], range[1]);
    return TRINE_OK;
}

static trine_status check_number(const char *what, double x, double most)
{
    TRINE_CHECK(x >= 0 && x <= most, TRINE_ERR_ARG, "augment: %s=%g, expected a number from 0 to %g", what, x,
                most);
    return TRINE_OK;
}

trine_status trine_augment_check(const trine_augment *augment)
{
    TRINE_CHECK(augment, TRINE_ERR_ARG, "augment: nothing is given");
    const trine_augment a = trine__augment_complete(augment);
    TRINE_TRY(check_scale("rrc", a.scale));
    TRINE_TRY(check_ratio("rrc", a.ratio));
    TRINE_CHECK(!a.crop || !trine__augments_resized_crop(&a), TRINE_ERR_ARG,
                "augment: crop and rrc exclude each other");
    TRINE_TRY(check_number("jitter:brightness", a.brightness, 100));
    TRINE_TRY(check_number("jitter:contrast", a.contrast, 100));
    TRINE_TRY(check_number("jitter:saturation", a.saturation, 100));
    TRINE_TRY(check_number("jitter:hue", a.hue, 0.5));
    TRINE_TRY(check_number("erase:p", a.erase, 1));
    TRINE_TRY(check_scale("erase", a.erase_scale));
    return check_ratio("erase", a.erase_ratio);
}

static double uniform(trine__random *r, double low, double high)
{
    return low + (high - low) * trine__random_unit(r);
}

/* One try: sides of a rectangle of a drawn area and ratio (of `a` to `b`); halves are rounded to even, as Python's round() does. */
static void draw_sides(trine__random *r, double area, const double scale[2], const double ratio[2], double *a,
                       double *b)
{
    const double part = area * uniform(r, scale[0], scale[1]);
    const double aspect = exp(uniform(r, log(ratio[0]), log(ratio[1])));
    *a = nearbyint(sqrt(part * aspect));
    *b = nearbyint(sqrt(part / aspect));
}

static int draw_place(trine__random *r, int slack)
{
    return (int)trine__random_below(r, (uint64_t)slack + 1);
}

/* The whole of one side, and of the other what the ratio leaves, at least a pixel. */
static trine__window central_part(const double ratio[2], int width, int height)
{
    const double own = (double)width / height;
    int w = width, h = height;
    if (own < ratio[0]) h = (int)fmax(nearbyint(width / ratio[0]), 1);
    if (own > ratio[1]) w = (int)fmax(nearbyint(height * ratio[1]), 1);
    return (trine__window){(width - w) / 2, (height - h) / 2, w, h};
}

trine__window trine__draw_resized_crop(const trine_augment *augment, trine__random *random, int width,
                                       int height)
{
    for (int i = 0; i < TRIES; i++) {
        double w, h;
        draw_sides(random, (double)width * height, augment->scale, augment->ratio, &w, &h);
        if (!(w > 0 && w <= width && h > 0 && h <= height)) continue;
        const int top = draw_place(random, height - (int)h), left = draw_place(random, width - (int)w);
        return (trine__window){left, top, (int)w, (int)h};
    }
    return central_part(augment->ratio, width, height);
}

trine__jitter trine__draw_jitter(const trine_augment *augment, trine__random *random)
{
    const double amount[] = {augment->brightness, augment->contrast, augment->saturation};
    trine__jitter j = {.order = {0, 1, 2, 3}};
    trine__random_shuffle(random, j.order, TRINE__COLORS);
    for (int i = 0; i < TRINE__HUE; i++)
        j.factor[i] = amount[i] > 0 ? uniform(random, fmax(1 - amount[i], 0), 1 + amount[i]) : NAN;
    j.factor[TRINE__HUE] = augment->hue > 0 ? uniform(random, -augment->hue, augment->hue) : NAN;
    return j;
}

trine__window trine__draw_erasing(const trine_augment *augment, trine__random *random, int width, int height)
{
    const trine__window nothing = {0};
    if (!(trine__random_unit(random) < augment->erase)) return nothing;
    for (int i = 0; i < TRIES; i++) {
        double h, w;
        draw_sides(random, (double)width * height, augment->erase_scale, augment->erase_ratio, &h, &w);
        if (!(h < height && w < width)) continue;
        const int top = draw_place(random, height - (int)h), left = draw_place(random, width - (int)w);
        return (trine__window){left, top, (int)w, (int)h};
    }
    return nothing;
}

void trine__erase(float *x, int width, int height, const trine__window *rectangle, const trine__random *noise)
{
    trine__random random = noise ? *noise : (trine__random){0};
    for (int c = 0; c < 3; c++) {
        for (int y = rectangle->top; y < rectangle->top + rectangle->height; y++) {
            float *row = x + ((size_t)c * (size_t)height + (size_t)y) * (size_t)width + rectangle->left;
            for (int i = 0; i < rectangle->width; i++)
                row[i] = noise ? (float)trine__random_normal(&random) : 0.0f;
        }
    }
}
