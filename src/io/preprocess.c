/* SPDX-License-Identifier: MIT */
/* torchvision's Resize(int), Pad, CenterCrop, ToTensor and Normalize, and the place of each random change among
 * them. Only the resize makes an image (and what colours are changed in): padding and cropping are a window over
 * it, and scaling and normalising a table of 256 values per channel, computed in float32 in torchvision's order
 * so that the values are its values. */
#include "io/preprocess.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/text.h"
#include "io/image_private.h"

/* He et al. 2016, section 4.2: four pixels on each side. */
enum { AUGMENT_BORDER = 4 };

static const trine_preprocess imagenet = {256, 0, 224, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
static const trine_preprocess idx = {0, 32, 0, {0.f, 0.f, 0.f}, {1.f, 1.f, 1.f}};

trine_status trine_preprocess_named(const char *name, trine_preprocess *out)
{
    trine_preprocess p = imagenet;
    if (strcmp(name, "cifar") == 0)
        p.resize = p.crop = 0;
    else if (strcmp(name, "idx") == 0)
        p = idx;
    else
        TRINE_CHECK(strcmp(name, "imagenet") == 0, TRINE_ERR_ARG,
                    "preprocess: '%s' is unknown, expected imagenet, cifar or idx", name);
    *out = p;
    return TRINE_OK;
}

static trine_status check_side(const char *key, int value)
{
    TRINE_CHECK(value >= 0 && value <= TRINE__PREPROCESS_SIDE_MAX, TRINE_ERR_ARG,
                "preprocess: %s is %d, expected 0 (none) to %d", key, value, (int)TRINE__PREPROCESS_SIDE_MAX);
    return TRINE_OK;
}

trine_status trine__preprocess_check(const trine_preprocess *p)
{
    TRINE_TRY(check_side("resize", p->resize));
    TRINE_TRY(check_side("pad", p->pad));
    TRINE_TRY(check_side("crop", p->crop));
    for (int c = 0; c < 3; c++) {
        TRINE_CHECK(isfinite(p->mean[c]), TRINE_ERR_ARG,
                    "preprocess: mean[%d] is %g, expected a finite number", c, (double)p->mean[c]);
        TRINE_CHECK(isfinite(p->std[c]) && p->std[c] > 0, TRINE_ERR_ARG,
                    "preprocess: std[%d] is %g, expected a positive number", c, (double)p->std[c]);
    }
    return TRINE_OK;
}

/* The fewest digits that read back as the same float. A decimal comma (the program's locale) becomes a point. */
static void add_float(trine__text *t, float value)
{
    char digits[32];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if ((float)strtod(digits, NULL) == value) break;
    }
    for (char *p = digits; *p; p++) {
        if (*p == ',') *p = '.';
    }
    trine__text_add(t, "%s", digits);
}

static void add_triple(trine__text *t, const char *key, const float v[3])
{
    trine__text_add(t, ",\"%s\":[", key);
    for (int c = 0; c < 3; c++) {
        if (c) trine__text_add(t, ",");
        add_float(t, v[c]);
    }
    trine__text_add(t, "]");
}

trine_status trine_preprocess_to_json(const trine_preprocess *p, char **out)
{
    TRINE_TRY(trine__preprocess_check(p));
    trine__text t = {0};
    trine__text_add(&t, "{\"resize\":%d,\"pad\":%d,\"crop\":%d", p->resize, p->pad, p->crop);
    add_triple(&t, "mean", p->mean);
    add_triple(&t, "std", p->std);
    trine__text_add(&t, "}");
    return trine__text_take(&t, out);
}

static trine_status take_side(const cJSON *item, int *out)
{
    const double v = item->valuedouble;
    TRINE_CHECK(cJSON_IsNumber(item) && v >= 0 && v <= TRINE__PREPROCESS_SIDE_MAX && v == floor(v),
                TRINE_ERR_FORMAT, "preprocess: '%s' is no integer from 0 to %d", item->string,
                (int)TRINE__PREPROCESS_SIDE_MAX);
    *out = (int)v;
    return TRINE_OK;
}

static trine_status take_triple(const cJSON *item, float out[3])
{
    TRINE_CHECK(cJSON_IsArray(item) && cJSON_GetArraySize(item) == 3, TRINE_ERR_FORMAT,
                "preprocess: '%s' is no list of three numbers", item->string);
    for (int c = 0; c < 3; c++) {
        const cJSON *v = cJSON_GetArrayItem(item, c);
        TRINE_CHECK(cJSON_IsNumber(v) && fabs(v->valuedouble) <= 1e30, TRINE_ERR_FORMAT,
                    "preprocess: '%s' is no list of three finite numbers", item->string);
        out[c] = (float)v->valuedouble;
    }
    return TRINE_OK;
}

trine_status trine_preprocess_from_json(const char *json, trine_preprocess *out)
{
    static const char *const keys[] = {"resize", "pad", "crop", "mean", "std"};
    trine_status status = TRINE_OK;
    trine_preprocess p = {0};
    int *const sides[] = {&p.resize, &p.pad, &p.crop};
    unsigned seen = 0;
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithOpts(json, &end, 1);
    TRINE_CHECK(cJSON_IsObject(root) || (cJSON_Delete(root), 0), TRINE_ERR_FORMAT,
                "preprocess: '%.200s' is no JSON object", json);
    const cJSON *item;
    cJSON_ArrayForEach(item, root)
    {
        size_t k = 0;
        while (k < TRINE_COUNTOF(keys) && strcmp(item->string, keys[k]) != 0) k++;
        TRINE_CHECK_GOTO(k < TRINE_COUNTOF(keys), TRINE_ERR_FORMAT, "preprocess: key '%.200s' is unknown",
                         item->string);
        TRINE_CHECK_GOTO(!(seen & 1u << k), TRINE_ERR_FORMAT, "preprocess: key '%s' occurs twice", keys[k]);
        seen |= 1u << k;
        if (k < TRINE_COUNTOF(sides))
            TRINE_TRY_GOTO(take_side(item, sides[k]));
        else
            TRINE_TRY_GOTO(take_triple(item, k == 3 ? p.mean : p.std));
    }
    for (size_t k = 0; k < TRINE_COUNTOF(keys); k++)
        TRINE_CHECK_GOTO(seen & 1u << k, TRINE_ERR_FORMAT, "preprocess: key '%s' is missing", keys[k]);
    if (trine__preprocess_check(&p) != TRINE_OK) {
        status = TRINE_ERR_FORMAT; /* the sentence fits */
        goto cleanup;
    }
    *out = p;
cleanup:
    cJSON_Delete(root);
    return status;
}

/* torchvision's int(size * long / short). */
static int longer_side(int size, int longer, int shorter)
{
    const double side = (double)size * (double)longer / (double)shorter;
    return side < INT_MAX ? (int)side : INT_MAX;
}

static void resized_size(const trine_preprocess *p, int width, int height, int *w, int *h)
{
    *w = width;
    *h = height;
    if (p->resize == 0) return;
    *w = width <= height ? p->resize : longer_side(p->resize, width, height);
    *h = width <= height ? longer_side(p->resize, height, width) : p->resize;
}

/* Python's round(n / 2): halves to even. */
static int round_half(int n)
{
    return n % 2 == 0 ? n / 2 : n / 2 + n / 2 % 2;
}

/* One direction of padding and cropping. `random` NULL: centre crop. */
static void window_side(const trine_preprocess *p, int size, bool random_crop, trine__random *random,
                        int *out_size, int *out_first)
{
    int canvas = size > p->pad ? size : p->pad;
    int first = -((canvas - size) / 2);
    int crop = p->crop;
    if (random_crop &&
        (crop == 0 || crop == canvas)) { /* no room: a border, then back to the size without it */
        crop = canvas;
        canvas += 2 * AUGMENT_BORDER;
        first -= AUGMENT_BORDER;
    }
    if (crop > canvas) {
        first -= (crop - canvas) / 2;
    } else if (crop > 0) {
        const int slack = canvas - crop;
        first += random_crop ? (int)trine__random_below(random, (uint64_t)slack + 1) : round_half(slack);
    }
    *out_size = crop > 0 ? crop : canvas;
    *out_first = first;
}

void trine_preprocess_size(const trine_preprocess *p, int width, int height, int *out_width, int *out_height)
{
    int w, h, first;
    resized_size(p, width, height, &w, &h);
    window_side(p, w, false, NULL, out_width, &first);
    window_side(p, h, false, NULL, out_height, &first);
}

/* Columns [first, end) of the output lie inside the image. */
static void write_line(const unsigned char *rgb, int first, int end, int width, bool mirrored,
                       float table[3][256], float *out, size_t plane)
{
    for (int c = 0; c < 3; c++) {
        float *row = out + plane * (size_t)c;
        for (int x = 0; x < first; x++) row[mirrored ? width - 1 - x : x] = table[c][0];
        for (int x = end; x < width; x++) row[mirrored ? width - 1 - x : x] = table[c][0];
        if (mirrored) {
            for (int x = first; x < end; x++) row[width - 1 - x] = table[c][rgb[3 * (x - first) + c]];
        } else {
            for (int x = first; x < end; x++) row[x] = table[c][rgb[3 * (x - first) + c]];
        }
    }
}

static int clamp(int value, int most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

void trine__preprocess_write(const trine_preprocess *p, const trine_image *resized, const trine__view *view,
                             float *out)
{
    const trine__window *w = &view->window;
    const size_t plane = (size_t)w->width * (size_t)w->height;
    const int first = clamp(-w->left, w->width), end = clamp(resized->width - w->left, w->width);
    float table[3][256];
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) table[c][v] = ((float)v / 255.0f - p->mean[c]) / p->std[c];
    }
    for (int y = 0; y < w->height; y++) {
        const int sy = y + w->top;
        const bool inside = sy >= 0 && sy < resized->height && first < end;
        const unsigned char *rgb =
            inside ? resized->rgb + ((size_t)sy * (size_t)resized->width + (size_t)(first + w->left)) * 3
                   : NULL;
        write_line(rgb, inside ? first : 0, inside ? end : 0, w->width, view->mirrored, table,
                   out + (size_t)y * (size_t)w->width, plane);
    }
    trine__erase(out, w->width, w->height, &view->erased, view->noisy ? &view->noise : NULL);
}

bool trine__preprocess_flips(trine__random *random)
{
    return trine__random_below(random, 2) == 1;
}

/* What the window shows of an image of width x height pixels. */
static trine__window shown(const trine__window *w, int width, int height)
{
    const int left = clamp(w->left, width), top = clamp(w->top, height);
    return (trine__window){left, top, clamp(w->left + w->width, width) - left,
                           clamp(w->top + w->height, height) - top};
}

/* Choose the view of a resize, pad and crop. *resized stays empty where nothing is resized. */
static trine_status resize(const trine_preprocess *p, const trine_image *image, bool crop,
                           trine__random *random, trine__view *view, trine_image *resized)
{
    int width, height;
    trine__window *w = &view->window;
    resized_size(p, image->width, image->height, &width, &height);
    window_side(p, width, crop, random, &w->width, &w->left);
    window_side(p, height, crop, random, &w->height, &w->top);
    if (width == image->width && height == image->height) return TRINE_OK;
    trine__window part = shown(w, width, height);
    if (part.width == 0 || part.height == 0) part = (trine__window){0, 0, 1, 1};
    TRINE_TRY(trine__image_resize_window(image, width, height, &part, resized));
    w->left -= part.left;
    w->top -= part.top;
    return TRINE_OK;
}

/* The window's pixels, black outside the image. */
static trine_status cut(const trine_image *image, const trine__window *w, trine_image *out)
{
    const trine__window part = shown(w, image->width, image->height);
    TRINE_TRY(trine__image_new("augment", (uint64_t)w->width, (uint64_t)w->height, out));
    for (int y = 0; y < part.height; y++)
        memcpy(out->rgb +
                   ((size_t)(part.top - w->top + y) * (size_t)w->width + (size_t)(part.left - w->left)) * 3,
               image->rgb + ((size_t)(part.top + y) * (size_t)image->width + (size_t)part.left) * 3,
               (size_t)part.width * 3);
    return TRINE_OK;
}

static trine_status resize_part(const trine_preprocess *p, const trine_augment *augment,
                                const trine_image *image, trine__random *random, trine__view *view,
                                trine_image *resized)
{
    trine_image part = {0};
    int width, height;
    const trine__window w = trine__draw_resized_crop(augment, random, image->width, image->height);
    trine_preprocess_size(p, image->width, image->height, &width, &height);
    view->window = (trine__window){0, 0, width, height};
    TRINE_TRY(cut(image, &w, &part));
    const trine_status status = trine_image_resize(&part, width, height, resized);
    trine_image_free(&part);
    return status;
}

static void replace(trine_image *image, const trine_image *by)
{
    if (!by->rgb) return;
    trine_image_free(image);
    *image = *by;
}

/* Of what the view shows, which becomes the image. */
static trine_status change_colors(const trine_augment *augment, trine__random *random, trine_image *image,
                                  trine__view *view)
{
    trine_image seen = {0};
    trine__window *w = &view->window;
    const trine__jitter jitter = trine__draw_jitter(augment, random);
    if (w->left != 0 || w->top != 0 || w->width != image->width || w->height != image->height)
        TRINE_TRY(cut(image, w, &seen));
    replace(image, &seen);
    w->left = w->top = 0;
    trine__image_jitter(image, &jitter);
    return TRINE_OK;
}

trine_status trine__preprocess_resize(const trine_preprocess *p, const trine_augment *augment,
                                      trine__random *random, trine_image *image, trine__view *view)
{
    trine_image resized = {0};
    *view = (trine__view){.mirrored = augment->flip && trine__preprocess_flips(random)};
    if (trine__augments_resized_crop(augment))
        TRINE_TRY(resize_part(p, augment, image, random, view, &resized));
    else
        TRINE_TRY(resize(p, image, augment->crop, random, view, &resized));
    replace(image, &resized);
    if (trine__augments_colors(augment)) TRINE_TRY(change_colors(augment, random, image, view));
    if (augment->erase > 0) {
        view->erased = trine__draw_erasing(augment, random, view->window.width, view->window.height);
        view->noisy = augment->erase_random;
        view->noise = *random;
    }
    return TRINE_OK;
}

trine_status trine_preprocess_apply(const trine_preprocess *p, const trine_image *image, float *out)
{
    trine_image resized = {0};
    trine__view view = {0};
    TRINE_TRY(trine__preprocess_check(p));
    TRINE_TRY(resize(p, image, false, NULL, &view, &resized));
    trine__preprocess_write(p, resized.rgb ? &resized : image, &view, out);
    trine_image_free(&resized);
    return TRINE_OK;
}
