/* SPDX-License-Identifier: MIT */
/* What pillow_images.py talks to: one request a line on stdin, fields separated by tabs; an answer is a line
 * and, after "ok", raw bytes. decode PATH                                         ok W H, then [H][W][3]
 * bytes resize PATH W H                                     likewise preprocess PATH RESIZE PAD CROP ok W H,
 * then [3][H][W] float32 (ImageNet mean and std) a failure                                           error
 * STATUS SENTENCE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/image_size.h"

enum { FIELDS = 5 };

static void failed(trine_status status)
{
    printf("error\t%d\t%s\n", (int)status, trine_last_error());
}

static void pixels(const trine_image *image)
{
    printf("ok\t%d\t%d\n", image->width, image->height);
    fwrite(image->rgb, 3, (size_t)image->width * (size_t)image->height, stdout);
}

static trine_status preprocess(char *const field[FIELDS], const trine_image *image)
{
    trine_preprocess p;
    int width, height;
    trine_status status = trine_preprocess_named("imagenet", &p);
    if (status != TRINE_OK) return status;
    p.resize = atoi(field[2]);
    p.pad = atoi(field[3]);
    p.crop = atoi(field[4]);
    trine_preprocess_size(&p, image->width, image->height, &width, &height);
    const size_t count = 3 * (size_t)width * (size_t)height;
    float *out = malloc(count * sizeof *out);
    if (!out) return TRINE_ERR_NOMEM;
    status = trine_preprocess_apply(&p, image, out);
    if (status == TRINE_OK) {
        printf("ok\t%d\t%d\n", width, height);
        fwrite(out, sizeof *out, count, stdout);
    }
    free(out);
    return status;
}

static void answer(char *const field[FIELDS])
{
    trine_image image, resized;
    trine_status status = trine_image_read(field[1], &image);
    if (status != TRINE_OK) {
        failed(status);
        return;
    }
    if (strcmp(field[0], "decode") == 0) {
        trine__map map;
        int w = 0, h = 0; /* the header alone must tell the same size */
        if (trine__map_open(field[1], &map) == TRINE_OK) {
            if (!trine__image_header_size(map.data, map.bytes, &w, &h) || w != image.width ||
                h != image.height)
                printf("error\t0\theader says %d x %d\n", w, h);
            else
                pixels(&image);
            trine__map_close(&map);
        }
    } else if (strcmp(field[0], "resize") == 0) {
        status = trine_image_resize(&image, atoi(field[2]), atoi(field[3]), &resized);
        if (status == TRINE_OK) {
            pixels(&resized);
            trine_image_free(&resized);
        }
    } else {
        status = preprocess(field, &image);
    }
    if (status != TRINE_OK) failed(status);
    trine_image_free(&image);
}

int main(void)
{
    static char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        char *field[FIELDS] = {"", "", "", "", ""};
        int count = 0;
        for (char *p = strtok(line, "\t\n"); p && count < FIELDS; p = strtok(NULL, "\t\n"))
            field[count++] = p;
        answer(field);
        fflush(stdout);
    }
    return 0;
}
