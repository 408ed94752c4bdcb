/* SPDX-License-Identifier: MIT */
/* What torchvision_augment.py talks to: one request a line on stdin, fields separated by spaces; an answer is a line and, after "ok",
 * raw bytes.
 *   jitter PATH ORDER B C S H         ORDER: four digits; factors as Python writes floats, nan: none       ok W H, then [H][W][3] bytes
 *   augment PATH TEXT RESIZE PAD CROP SEED SLOT    preprocessing with ImageNet's mean and std; ok W H, then what was drawn as a second
 *     line, "MIRRORED LEFT TOP WIDTH HEIGHT ORDER B C S H ELEFT ETOP EWIDTH EHEIGHT" (the part of rrc, the jitter, the erased rectangle),
 *     then [3][H][W] float32
 * A failure: error SENTENCE */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/preprocess.h"

enum { FIELDS = 9 };

static trine_status jitter(char *const field[FIELDS], trine_image *image)
{
    trine__jitter j;
    for (int i = 0; i < TRINE__COLORS; i++) {
        j.order[i] = field[2][i] - '0';
        j.factor[i] = strtod(field[3 + i], NULL);
    }
    trine__image_jitter(image, &j);
    printf("ok %d %d\n", image->width, image->height);
    fwrite(image->rgb, 3, (size_t)image->width * (size_t)image->height, stdout);
    return TRINE_OK;
}

/* The same numbers again, for the other side to use. */
static void print_drawn(const trine_augment *a, trine__random r, int width, int height,
                        const trine__view *view)
{
    trine__window part = {0};
    trine__jitter j = {.order = {0, 1, 2, 3}, .factor = {NAN, NAN, NAN, NAN}};
    if (a->flip) trine__preprocess_flips(&r);
    if (trine__augments_resized_crop(a)) part = trine__draw_resized_crop(a, &r, width, height);
    if (trine__augments_colors(a)) j = trine__draw_jitter(a, &r);
    printf("%d %d %d %d %d %d%d%d%d %.17g %.17g %.17g %.17g %d %d %d %d\n", view->mirrored, part.left,
           part.top, part.width, part.height, j.order[0], j.order[1], j.order[2], j.order[3], j.factor[0],
           j.factor[1], j.factor[2], j.factor[3], view->erased.left, view->erased.top, view->erased.width,
           view->erased.height);
}

static trine_status augment(char *const field[FIELDS], trine_image *image)
{
    trine_preprocess p;
    trine_augment a;
    trine__view view;
    int width, height;
    trine_status status = trine_preprocess_named("imagenet", &p);
    if (status == TRINE_OK) status = trine_augment_parse(field[2], &a);
    if (status != TRINE_OK) return status;
    a = trine__augment_complete(&a);
    p.resize = atoi(field[3]);
    p.pad = atoi(field[4]);
    p.crop = atoi(field[5]);
    const trine__random random =
        trine__random_stream(strtoull(field[6], NULL, 10), 1, strtoull(field[7], NULL, 10));
    trine__random r = random;
    const int w = image->width, h = image->height;
    trine_preprocess_size(&p, w, h, &width, &height);
    status = trine__preprocess_resize(&p, &a, &r, image, &view);
    if (status != TRINE_OK) return status;
    const size_t count = 3 * (size_t)width * (size_t)height;
    float *out = malloc(count * sizeof *out);
    if (!out) return TRINE_ERR_NOMEM;
    trine__preprocess_write(&p, image, &view, out);
    printf("ok %d %d\n", width, height);
    print_drawn(&a, random, w, h, &view);
    fwrite(out, sizeof *out, count, stdout);
    free(out);
    return TRINE_OK;
}

int main(void)
{
    static char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        char *field[FIELDS] = {"", "", "", "", "", "", "", "", ""};
        int count = 0;
        trine_image image = {0};
        for (char *p = strtok(line, " \n"); p && count < FIELDS; p = strtok(NULL, " \n")) field[count++] = p;
        trine_status status = trine_image_read(field[1], &image);
        if (status == TRINE_OK)
            status = strcmp(field[0], "jitter") == 0 ? jitter(field, &image) : augment(field, &image);
        if (status != TRINE_OK) printf("error %s\n", trine_last_error());
        trine_image_free(&image);
        fflush(stdout);
    }
    return 0;
}
