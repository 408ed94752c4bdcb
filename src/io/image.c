/* SPDX-License-Identifier: MIT */
/* Images: which decoder a file belongs to, told by its first bytes (names lie), and the life of the pixels. */
#include "trine/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/image_private.h"

trine_status trine__image_new(const char *name, uint64_t width, uint64_t height, trine_image *out)
{
    TRINE_CHECK(width >= 1 && height >= 1, TRINE_ERR_FORMAT, "%s: an image of %llux%llu pixels is empty",
                name, (unsigned long long)width, (unsigned long long)height);
    TRINE_CHECK(width <= TRINE__IMAGE_PIXELS_MAX && height <= TRINE__IMAGE_PIXELS_MAX / width,
                TRINE_ERR_FORMAT, "%s: an image of %llux%llu pixels exceeds the limit of %d pixels", name,
                (unsigned long long)width, (unsigned long long)height, (int)TRINE__IMAGE_PIXELS_MAX);
    void *rgb;
    TRINE_TRY(trine__calloc((size_t)(width * height), 3, &rgb));
    *out = (trine_image){(int)width, (int)height, rgb};
    return TRINE_OK;
}

trine_status trine_image_decode(const void *data, size_t bytes, const char *name, trine_image *out)
{
    static const unsigned char png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const unsigned char *p = data;
    TRINE_CHECK(bytes > 0, TRINE_ERR_FORMAT, "%s: is empty, expected a JPEG, PNG or PNM image", name);
    if (bytes >= 3 && p[0] == 0xff && p[1] == 0xd8 && p[2] == 0xff)
        return trine__jpeg_decode(p, bytes, name, out);
    if (bytes >= sizeof png && memcmp(p, png, sizeof png) == 0) return trine__png_decode(p, bytes, name, out);
    if (bytes >= 3 && p[0] == 'P' && p[1] >= '1' && p[1] <= '6')
        return trine__pnm_decode(p, bytes, name, out);
    return trine__fail(TRINE_ERR_FORMAT, "%s: is not a JPEG, PNG or PNM image", name);
}

trine_status trine_image_read(const char *path, trine_image *out)
{
    trine__map map;
    TRINE_TRY(trine__map_open(path, &map));
    const trine_status status = trine_image_decode(map.data, map.bytes, path, out);
    trine__map_close(&map);
    return status;
}

void trine_image_free(trine_image *image)
{
    if (!image) return;
    free(image->rgb);
    *image = (trine_image){0};
}
