/* SPDX-License-Identifier: MIT */
/* Image headers: enough to tell that a data set's images differ in size before a long run meets the first. */
#include "io/image_size.h"

#include <string.h>

#include "base/file.h"
#include "io/dataset_private.h"
#include "io/image_private.h"

static unsigned big_endian(const unsigned char *p, int bytes)
{
    unsigned value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | p[i];
    return value;
}

static bool accept(uint64_t w, uint64_t h, int *width, int *height)
{
    if (w < 1 || h < 1 || w > TRINE__IMAGE_PIXELS_MAX || h > TRINE__IMAGE_PIXELS_MAX / w) return false;
    *width = (int)w;
    *height = (int)h;
    return true;
}

/* ITU T.81, annex B: segments of marker and length, up to the frame header (SOF0 to SOF15 but DHT, JPG and DAC). */
static bool jpeg_size(const unsigned char *p, size_t bytes, int *width, int *height)
{
    for (size_t at = 2; at + 9 <= bytes && p[at] == 0xff;) {
        const unsigned marker = p[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc)
            return accept(big_endian(p + at + 7, 2), big_endian(p + at + 5, 2), width, height);
        at += 2 + big_endian(p + at + 2, 2);
    }
    return false;
}

/* Two numbers after the magic, spaces and comments between them. */
static bool pnm_size(const unsigned char *p, size_t bytes, int *width, int *height)
{
    uint64_t size[2] = {0, 0};
    size_t at = 2;
    for (int i = 0; i < 2; i++) {
        while (at < bytes && (p[at] == '#' || memchr(" \t\r\n\v\f", p[at], 6))) {
            if (p[at] == '#')
                while (at < bytes && p[at] != '\n') at++;
            else
                at++;
        }
        for (; at < bytes && p[at] >= '0' && p[at] <= '9'; at++) {
            size[i] = size[i] * 10 + (uint64_t)(p[at] - '0');
            if (size[i] > TRINE__IMAGE_PIXELS_MAX) return false;
        }
    }
    return accept(size[0], size[1], width, height);
}

bool trine__image_header_size(const unsigned char *data, size_t bytes, int *width, int *height)
{
    static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (bytes >= 3 && data[0] == 0xff && data[1] == 0xd8) return jpeg_size(data, bytes, width, height);
    if (bytes >= 24 && memcmp(data, png, sizeof png) == 0)
        return accept(big_endian(data + 16, 4), big_endian(data + 20, 4), width, height);
    if (bytes >= 3 && data[0] == 'P' && data[1] >= '1' && data[1] <= '6')
        return pnm_size(data, bytes, width, height);
    return false;
}

bool trine__dataset_image_size(const trine_dataset *ds, size_t i, int *width, int *height)
{
    trine__map map;
    if (ds->pixels.channels || trine__map_open(trine_dataset_name(ds, i), &map) != TRINE_OK) return false;
    const bool known = trine__image_header_size(map.data, map.bytes, width, height);
    trine__map_close(&map);
    return known;
}

bool trine__dataset_known_size(const trine_dataset *ds, int *width, int *height)
{
    const unsigned long long known = atomic_load(ds->one_size);
    *width = (int)(known >> 32);
    *height = (int)(known & 0xffffffffu);
    return known != 0;
}

int trine_dataset_one_size(const trine_dataset *ds, int *width, int *height)
{
    int w0 = 0, h0 = 0;
    if (ds->pixels.channels) {
        *width = (int)ds->pixels.width;
        *height = (int)ds->pixels.height;
        return 1;
    }
    if (trine__dataset_known_size(ds, width, height)) return 1;
    for (size_t i = 0; i < ds->count; i++) {
        int w, h;
        if (!trine__dataset_image_size(ds, i, &w, &h)) continue;
        if (w0 && (w != w0 || h != h0)) return 0;
        w0 = w;
        h0 = h;
    }
    if (!w0) return 0;
    *width = w0;
    *height = h0;
    atomic_store(ds->one_size, (unsigned long long)w0 << 32 | (unsigned long long)h0);
    return 1;
}
