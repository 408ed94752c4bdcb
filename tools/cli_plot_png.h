/* SPDX-License-Identifier: MIT */
/* Pictures as PNG. The only part of the program that knows librsvg and cairo, and it can be left out of a build. */
#ifndef TRINE_TOOLS_CLI_PLOT_PNG_H
#define TRINE_TOOLS_CLI_PLOT_PNG_H

#include <stddef.h>

/* Was the program built with it? */
int cli_has_png(void);
/* Draw an SVG of width x height units, two pixels a unit. Returns 0 and a PNG file's bytes for free(), or an exit
 * code after one sentence. @param path begins the sentence */
int cli_draw_png(const char *path, const char *svg, size_t svg_bytes, int width, int height, void **png,
                 size_t *png_bytes);

#endif
