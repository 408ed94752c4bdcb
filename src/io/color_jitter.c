/* SPDX-License-Identifier: MIT */
/* ColorJitter's changes as torchvision makes them on Pillow images: 8 bits come out of each of them, by Pillow's arithmetic. Brightness,
 * contrast and saturation are blends with black, with the mean grey and with the grey image (ImageEnhance); hue is turned in Pillow's
 * HSV of three bytes. */
#include <math.h>

#include "io/augment.h"

/* ITU-R 601-2 luma in 16 bits after the point, as Pillow's convert('L'). */
static int grey_of(const unsigned char *rgb)
{
    return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16;
}

/* from + factor * (to - from) in single precision, towards zero; beyond [0, 1] it can leave the range. */
static unsigned char blend(int from, int to, float factor)
{
    const float value = (float)from + factor * (float)(to - from);
    return (unsigned char)(value <= 0.0f ? 0.0f : value >= 255.0f ? 255.0f : value);
}

static size_t pixels_of(const trine_image *image)
{
    return (size_t)image->width * (size_t)image->height;
}

/* Against one grey for all pixels. */
static void blend_with(trine_image *image, int grey, float factor)
{
    unsigned char table[256];
    for (int v = 0; v < 256; v++) table[v] = blend(grey, v, factor);
    for (size_t i = 0; i < 3 * pixels_of(image); i++) image->rgb[i] = table[image->rgb[i]];
}

static int mean_grey(const trine_image *image)
{
    const size_t count = pixels_of(image);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += (uint64_t)grey_of(image->rgb + 3 * i);
    return (int)((double)sum / (double)count + 0.5);
}

static void saturate(trine_image *image, float factor)
{
    for (size_t i = 0; i < pixels_of(image); i++) {
        unsigned char *p = image->rgb + 3 * i;
        const int grey = grey_of(p);
        for (int c = 0; c < 3; c++) p[c] = blend(grey, p[c], factor);
    }
}

static int most_of(int a, int b)
{
    return a > b ? a : b;
}

static int least_of(int a, int b)
{
    return a < b ? a : b;
}

/* Hue, saturation and value of a pixel that is not grey (Smith 1978): the first two in 255ths, cut off. The mixture of single and double
 * precision is Pillow's. */
static void to_hsv(const unsigned char *rgb, int hsv[3])
{
    const int r = rgb[0], g = rgb[1], b = rgb[2];
    const int most = most_of(r, most_of(g, b)), least = least_of(r, least_of(g, b));
    const float range = (float)(most - least), saturation = range / (float)most;
    const float red = (float)(most - r) / range, green = (float)(most - g) / range,
                blue = (float)(most - b) / range;
    float hue;
    if (r == most)
        hue = blue - green;
    else if (g == most)
        hue = (float)(2.0 + (double)red - (double)blue);
    else
        hue = (float)(4.0 + (double)green - (double)red);
    hue = (float)fmod((double)hue / 6.0 + 1.0, 1.0);
    hsv[0] = least_of((int)((double)hue * 255.0), 255);
    hsv[1] = least_of((int)((double)saturation * 255.0), 255);
    hsv[2] = most;
}

static void from_hsv(const int hsv[3], unsigned char *rgb)
{
    const float value = (float)hsv[2], part = (float)((double)(float)hsv[1] / 255.0);
    const double turn = (double)(float)hsv[0] * 6.0 / 255.0;
    const int sixth = (int)turn;
    const float rest = (float)(turn - (double)(float)sixth);
    const unsigned char v = (unsigned char)hsv[2],
                        p = (unsigned char)round((double)value * (1.0 - (double)part)),
                        q = (unsigned char)round((double)value * (1.0 - (double)(part * rest))),
                        t = (unsigned char)round((double)value * (1.0 - (double)part * (1.0 - (double)rest)));
    const unsigned char colors[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
    for (int c = 0; c < 3; c++) rgb[c] = colors[sixth % 6][c];
}

/* Greys have no hue to turn. */
static void turn_hue(trine_image *image, double factor)
{
    const int turn = (int)(factor * 255);
    for (size_t i = 0; i < pixels_of(image); i++) {
        unsigned char *p = image->rgb + 3 * i;
        int hsv[3];
        if (p[0] == p[1] && p[1] == p[2]) continue;
        to_hsv(p, hsv);
        if (hsv[1] == 0) {
            p[0] = p[1] = p[2] = (unsigned char)hsv[2];
            continue;
        }
        hsv[0] = (hsv[0] + turn) & 255;
        from_hsv(hsv, p);
    }
}

void trine__image_jitter(trine_image *image, const trine__jitter *jitter)
{
    for (int i = 0; i < TRINE__COLORS; i++) {
        const int change = jitter->order[i];
        const double factor = jitter->factor[change];
        if (isnan(factor)) continue;
        switch (change) {
        case TRINE__BRIGHTNESS:
            blend_with(image, 0, (float)factor);
            break;
        case TRINE__CONTRAST:
            blend_with(image, mean_grey(image), (float)factor);
            break;
        case TRINE__SATURATION:
            saturate(image, (float)factor);
            break;
        default:
            turn_hue(image, factor);
            break;
        }
    }
}
