/* SPDX-License-Identifier: MIT */
/* Random changes as text, as --augment takes them and saved runs keep them. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "base/text.h"
#include "io/augment.h"

/* What an item's ":name=" sets. */
typedef enum kind { REAL, RANGE, FILL } kind;

typedef struct field {
    const char *name;
    kind kind;
    size_t offset; /* in trine_augment: double, double[2] or int */
} field;

typedef struct item {
    const char *name;
    const field *fields;
    size_t count;
    void (*preset)(trine_augment *a); /* without numbers */
    void (*begin)(trine_augment *a);  /* what others do not say, with some */
} item;

#define AT(member) offsetof(trine_augment, member)

static const field rrc_fields[] = {{"scale", RANGE, AT(scale)}, {"ratio", RANGE, AT(ratio)}};
static const field jitter_fields[] = {{"brightness", REAL, AT(brightness)},
                                      {"contrast", REAL, AT(contrast)},
                                      {"saturation", REAL, AT(saturation)},
                                      {"hue", REAL, AT(hue)}};
static const field erase_fields[] = {{"p", REAL, AT(erase)},
                                     {"scale", RANGE, AT(erase_scale)},
                                     {"ratio", RANGE, AT(erase_ratio)},
                                     {"value", FILL, AT(erase_random)}};

static void flip(trine_augment *a)
{
    a->flip = 1;
}

static void crop(trine_augment *a)
{
    a->crop = 1;
}

static void flip_crop(trine_augment *a)
{
    a->flip = a->crop = 1;
}

static void rrc(trine_augment *a)
{
    a->scale[0] = 0.08;
    a->scale[1] = 1;
}

static void jitter(trine_augment *a)
{
    a->brightness = a->contrast = a->saturation = 0.4;
    a->hue = 0.1;
}

static void none(trine_augment *a)
{
    (void)a;
}

static void erase(trine_augment *a)
{
    a->erase = 0.5;
}

static const item items[] = {{"flip", NULL, 0, flip, flip},
                             {"crop", NULL, 0, crop, crop},
                             {"flip-crop", NULL, 0, flip_crop, flip_crop},
                             {"rrc", rrc_fields, TRINE_COUNTOF(rrc_fields), rrc, rrc},
                             {"jitter", jitter_fields, TRINE_COUNTOF(jitter_fields), jitter, none},
                             {"erase", erase_fields, TRINE_COUNTOF(erase_fields), erase, erase}};
enum { FLIP, CROP, FLIP_CROP, RRC, JITTER, ERASE, ITEMS };

/* ---- reading ---- */

/* "A-B". A minus begins B unless it belongs to A's exponent. */
static bool read_range(const char *text, size_t length, double out[2])
{
    size_t at = 1;
    while (at < length && (text[at] != '-' || text[at - 1] == 'e' || text[at - 1] == 'E')) at++;
    return at < length && trine__read_number(text, at, &out[0]) &&
           trine__read_number(text + at + 1, length - at - 1, &out[1]);
}

static bool read_value(const field *f, const char *text, size_t length, trine_augment *a)
{
    char *const at = (char *)a + f->offset;
    double range[2];
    int random;
    switch (f->kind) {
    case REAL:
        if (!trine__read_number(text, length, range)) return false;
        memcpy(at, range, sizeof *range);
        return true;
    case RANGE:
        if (!read_range(text, length, range)) return false;
        memcpy(at, range, sizeof range);
        return true;
    case FILL:
        random = length == 6 && strncmp(text, "random", length) == 0;
        if (!random && !(length == 1 && text[0] == '0')) return false;
        memcpy(at, &random, sizeof random);
        return true;
    }
    return false;
}

/* The ":name=value" of an item, from its first colon on. */
static trine_status read_fields(const item *of, const char *whole, const char *at, trine_augment *a)
{
    unsigned seen = 0;
    while (*at == ':') {
        const size_t length = strcspn(++at, ":"), name = strcspn(at, "=:");
        size_t i = 0;
        while (i < of->count &&
               (strlen(of->fields[i].name) != name || strncmp(of->fields[i].name, at, name) != 0))
            i++;
        TRINE_CHECK(i < of->count && at[name] == '=', TRINE_ERR_ARG,
                    "augment: '%s': '%.*s' is nothing that %s has", whole, (int)length, at, of->name);
        TRINE_CHECK(!(seen & 1u << i), TRINE_ERR_ARG, "augment: '%s' says %s twice", whole,
                    of->fields[i].name);
        seen |= 1u << i;
        const field *f = &of->fields[i];
        TRINE_CHECK(read_value(f, at + name + 1, length - name - 1, a), TRINE_ERR_ARG,
                    "augment: '%s': %.*s, expected %s", whole, (int)length, at,
                    f->kind == REAL    ? "a number"
                    : f->kind == RANGE ? "two numbers, A-B"
                                       : "0 or random");
        at += length;
    }
    return TRINE_OK;
}

static trine_status read_item(const char *text, unsigned *seen, trine_augment *a)
{
    const size_t length = strcspn(text, ":");
    size_t i = 0;
    while (i < ITEMS && (strlen(items[i].name) != length || strncmp(items[i].name, text, length) != 0)) i++;
    TRINE_CHECK(i < ITEMS, TRINE_ERR_ARG,
                "augment: '%s', expected none, or a list of flip, crop, flip-crop, rrc, jitter and erase",
                text);
    const unsigned bits = i == FLIP_CROP ? 1u << FLIP | 1u << CROP : 1u << i;
    TRINE_CHECK(!(*seen & bits), TRINE_ERR_ARG, "augment: '%s' is there twice", text);
    *seen |= bits;
    if (text[length] == ':')
        items[i].begin(a);
    else
        items[i].preset(a);
    TRINE_TRY(read_fields(&items[i], text, text + length, a));
    const bool off =
        (i == RRC && !trine__augments_resized_crop(a)) || (i == JITTER && !trine__augments_colors(a));
    TRINE_CHECK(!off, TRINE_ERR_ARG, "augment: '%s' changes nothing", text);
    return TRINE_OK;
}

trine_status trine_augment_parse(const char *text, trine_augment *out)
{
    trine_augment a = {0};
    char one[TRINE__ITEM_BYTES];
    unsigned seen = 0;
    TRINE_CHECK(text && out, TRINE_ERR_ARG, "augment: text or result is missing");
    if (strcmp(text, "none") != 0) {
        TRINE_TRY(trine__list_check("augment", text));
        for (const char *at = text; trine__list_next(&at, one);) TRINE_TRY(read_item(one, &seen, &a));
        TRINE_CHECK(seen, TRINE_ERR_ARG,
                    "augment: '%s', expected none, or a list of flip, crop, flip-crop, rrc, jitter and erase",
                    text);
        TRINE_TRY(trine_augment_check(&a));
    }
    *out = a;
    return TRINE_OK;
}

/* ---- writing ---- */

/* A decimal comma (the program's locale) becomes a point. */
static void add_number(trine__text *t, double value)
{
    char digits[40];
    snprintf(digits, sizeof digits, "%.*g", trine__shortest_digits(value, false), value);
    for (char *p = digits; *p; p++)
        if (*p == ',') *p = '.';
    trine__text_add(t, "%s", digits);
}

static void add_real(trine__text *t, const char *name, double value)
{
    if (value == 0) return;
    trine__text_add(t, ":%s=", name);
    add_number(t, value);
}

static void add_range(trine__text *t, const char *name, const double range[2], const double preset[2])
{
    if (range[0] == preset[0] && range[1] == preset[1]) return;
    trine__text_add(t, ":%s=", name);
    add_number(t, range[0]);
    trine__text_add(t, "-");
    add_number(t, range[1]);
}

static void add_item(trine__text *t, int i)
{
    trine__text_add(t, "%s%s", t->length > 0 ? "," : "", items[i].name);
}

static void add_all(trine__text *t, const trine_augment *augment)
{
    static const double none_such[2] = {-1, -1};
    const trine_augment zero = {0}, preset = trine__augment_complete(&zero),
                        a = trine__augment_complete(augment);
    if (a.flip || a.crop) add_item(t, a.flip && a.crop ? FLIP_CROP : a.flip ? FLIP : CROP);
    if (trine__augments_resized_crop(&a)) {
        add_item(t, RRC);
        add_range(t, "scale", a.scale, none_such);
        add_range(t, "ratio", a.ratio, preset.ratio);
    }
    if (trine__augments_colors(&a)) {
        add_item(t, JITTER);
        add_real(t, "brightness", a.brightness);
        add_real(t, "contrast", a.contrast);
        add_real(t, "saturation", a.saturation);
        add_real(t, "hue", a.hue);
    }
    if (a.erase > 0) {
        add_item(t, ERASE);
        add_real(t, "p", a.erase);
        add_range(t, "scale", a.erase_scale, preset.erase_scale);
        add_range(t, "ratio", a.erase_ratio, preset.erase_ratio);
        if (a.erase_random) trine__text_add(t, ":value=random");
    }
    if (t->length == 0) trine__text_add(t, "none");
}

trine_status trine_augment_text(const trine_augment *augment, char text[TRINE_AUGMENT_TEXT])
{
    trine__text t = {0};
    char *made;
    TRINE_TRY(trine_augment_check(augment));
    add_all(&t, augment);
    TRINE_TRY(trine__text_take(&t, &made));
    snprintf(text, TRINE_AUGMENT_TEXT, "%s", made);
    free(made);
    return TRINE_OK;
}
