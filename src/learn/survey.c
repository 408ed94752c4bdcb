/* SPDX-License-Identifier: MIT */
/* A look at a data set. Each image leaves a print of 16 x 16 grey levels, which other sizes and qualities of the same picture share, and the
 * signs of their differences along rows (dHash), which tell most pairs apart without looking at the levels. */
#include "trine/survey.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "learn/threads.h"

enum {
    SIDE = 16, /* of a print */
    WORDS = SIDE * SIDE / 64,
    MOST_SIGNS = 48,     /* that differ between two prints of one picture: a flat part's are chance */
    MOST_DIFFERENCE = 3, /* mean difference of grey levels, both prints having one mean */
    LEAST_CONTRAST = 8   /* mean difference of a print from its own mean; fewer: nothing to tell */
};

typedef struct print {
    uint64_t signs[WORDS];
    unsigned char levels[SIDE * SIDE];
    bool has_contrast;
    uint64_t pixels; /* hash of all of them */
} print;

typedef struct look {
    int width, height; /* 0: unreadable */
    bool grey;
    print print;
} look;

struct trine_survey {
    trine_survey_summary summary;
    look *looks;        /* [summary.looked_at] */
    size_t *unreadable; /* [summary.unreadable] image numbers */
};

typedef struct work {
    const trine_dataset *data;
    trine_survey *survey;
    atomic_size_t next;
} work;

/* Image number of look i: evenly spaced. */
static size_t image_of(const trine_survey *s, size_t i)
{
    const trine_survey_summary *m = &s->summary;
    return m->looked_at == m->images ? i : (size_t)((double)i * (double)m->images / (double)m->looked_at);
}

static int grey_of(const unsigned char *rgb)
{
    return (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000; /* ITU-R BT.601 */
}

/* From an image of SIDE + 1 columns and SIDE rows. */
static void make_print(const trine_image *small, print *out)
{
    int sum = 0, spread = 0;
    memset(out->signs, 0, sizeof out->signs);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const unsigned char *at = small->rgb + 3 * (i / SIDE * (SIDE + 1) + i % SIDE);
        const int level = grey_of(at);
        out->levels[i] = (unsigned char)level;
        sum += level;
        if (grey_of(at + 3) > level) out->signs[i / 64] |= (uint64_t)1 << i % 64;
    }
    for (int i = 0; i < SIDE * SIDE; i++) spread += abs(SIDE * SIDE * out->levels[i] - sum);
    out->has_contrast = spread >= LEAST_CONTRAST * SIDE * SIDE * SIDE * SIDE;
}

static bool is_grey(const trine_image *image)
{
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    for (size_t p = 0; p < pixels; p++) {
        const unsigned char *rgb = image->rgb + 3 * p;
        if (rgb[0] != rgb[1] || rgb[1] != rgb[2]) return false;
    }
    return true;
}

static void look_at(const trine_dataset *data, size_t number, look *out)
{
    trine_image image, small;
    if (trine_dataset_image(data, number, &image) != TRINE_OK) return;
    if (trine_image_resize(&image, SIDE + 1, SIDE, &small) == TRINE_OK) {
        out->width = image.width;
        out->height = image.height;
        out->grey = is_grey(&image);
        make_print(&small, &out->print);
        out->print.pixels =
            trine__hash(image.rgb, 3 * (size_t)image.width * (size_t)image.height, (uint64_t)image.width);
        trine_image_free(&small);
    }
    trine_image_free(&image);
}

static void work_on(void *user, int number)
{
    work *w = user;
    (void)number;
    for (;;) {
        const size_t i = atomic_fetch_add(&w->next, 1);
        if (i >= w->survey->summary.looked_at) return;
        look_at(w->data, image_of(w->survey, i), &w->survey->looks[i]);
    }
}

static trine_status count_classes(const trine_dataset *data, trine_survey_summary *m)
{
    void *memory;
    const int classes = trine_dataset_class_count(data);
    TRINE_TRY(trine__calloc((size_t)classes, sizeof(size_t), &memory));
    size_t *have = memory;
    for (size_t i = 0; i < m->images; i++) have[trine_dataset_label(data, i)]++;
    for (int c = 0; c < classes; c++) {
        if (have[c] == 0) continue;
        m->single_classes += have[c] == 1;
        if (m->classes == 0 || have[c] < m->smallest_images) m->smallest = c, m->smallest_images = have[c];
        if (have[c] > m->largest_images) m->largest = c, m->largest_images = have[c];
        m->classes++;
    }
    free(memory);
    return TRINE_OK;
}

static trine_status sum_up(trine_survey *s)
{
    trine_survey_summary *m = &s->summary;
    void *memory;
    size_t k = 0;
    for (size_t i = 0; i < m->looked_at; i++) {
        const look *l = &s->looks[i];
        if (l->width == 0) {
            m->unreadable++;
            continue;
        }
        const bool first = m->max_width == 0;
        m->grey += l->grey;
        if (first || l->width < m->min_width) m->min_width = l->width;
        if (first || l->height < m->min_height) m->min_height = l->height;
        if (l->width > m->max_width) m->max_width = l->width;
        if (l->height > m->max_height) m->max_height = l->height;
    }
    m->mixed_sizes = m->min_width != m->max_width || m->min_height != m->max_height;
    TRINE_TRY(trine__calloc(m->unreadable, sizeof(size_t), &memory));
    s->unreadable = memory;
    for (size_t i = 0; i < m->looked_at; i++)
        if (s->looks[i].width == 0) s->unreadable[k++] = image_of(s, i);
    return TRINE_OK;
}

trine_status trine_survey_create(const trine_dataset *data, size_t most, int threads, trine_survey **out)
{
    trine_status status;
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_survey), &memory));
    trine_survey *s = memory;
    s->summary.images = trine_dataset_count(data);
    s->summary.looked_at = most && most < s->summary.images ? most : s->summary.images;
    TRINE_TRY_GOTO(trine__calloc(s->summary.looked_at, sizeof(look), &memory));
    s->looks = memory;
    work w = {.data = data, .survey = s};
    trine__parallel(trine__threads(threads), work_on, &w);
    TRINE_TRY_GOTO(count_classes(data, &s->summary));
    TRINE_TRY_GOTO(sum_up(s));
    *out = s;
    s = NULL;
cleanup:
    trine_survey_destroy(&s);
    return status;
}

trine_survey_summary trine_survey_get_summary(const trine_survey *survey)
{
    return survey->summary;
}

size_t trine_survey_unreadable(const trine_survey *survey, size_t k)
{
    return survey->unreadable[k];
}

static int ones(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (int)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

static bool alike(const print *a, const print *b)
{
    int signs = 0, shift = 0, difference = 0;
    if (a->pixels == b->pixels) return true;
    if (!a->has_contrast || !b->has_contrast) return false;
    for (int w = 0; w < WORDS; w++) signs += ones(a->signs[w] ^ b->signs[w]);
    if (signs > MOST_SIGNS) return false;
    for (int i = 0; i < SIDE * SIDE; i++) shift += a->levels[i] - b->levels[i];
    for (int i = 0; i < SIDE * SIDE; i++)
        difference += abs(SIDE * SIDE * (a->levels[i] - b->levels[i]) - shift);
    return difference <= MOST_DIFFERENCE * SIDE * SIDE * SIDE * SIDE;
}

size_t trine_survey_duplicates(const trine_survey *a, const trine_survey *b, trine_survey_pair *pairs,
                               size_t capacity)
{
    size_t count = 0;
    for (size_t j = 0; j < b->summary.looked_at; j++) {
        if (b->looks[j].width == 0) continue;
        const size_t end = a == b ? j : a->summary.looked_at;
        for (size_t i = 0; i < end; i++) {
            if (a->looks[i].width == 0 || !alike(&a->looks[i].print, &b->looks[j].print)) continue;
            if (count < capacity) pairs[count] = (trine_survey_pair){image_of(a, i), image_of(b, j)};
            count++;
            break;
        }
    }
    return count;
}

void trine_survey_destroy(trine_survey **survey)
{
    if (!survey || !*survey) return;
    free((*survey)->looks);
    free((*survey)->unreadable);
    free(*survey);
    *survey = NULL;
}
