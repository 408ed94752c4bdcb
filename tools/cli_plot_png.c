/* SPDX-License-Identifier: MIT */
/* The SVG is the picture; a PNG is what librsvg makes of it. */
#include "cli_plot_png.h"

#include "cli_common.h"

#if TRINE_PNG_PLOTS

#include <cairo.h>
#include <librsvg/rsvg.h>
#include <stdlib.h>
#include <string.h>

enum { SCALE = 2 }; /* pixels a unit: text stays sharp on paper and on dense screens */

typedef struct bytes {
    unsigned char *data;
    size_t used, capacity;
} bytes;

static cairo_status_t append(void *closure, const unsigned char *data, unsigned length)
{
    bytes *b = closure;
    if (length > b->capacity - b->used) {
        const size_t capacity = 2 * (b->used + length);
        unsigned char *more = realloc(b->data, capacity);
        if (more == NULL) return CAIRO_STATUS_NO_MEMORY;
        b->data = more;
        b->capacity = capacity;
    }
    memcpy(b->data + b->used, data, length);
    b->used += length;
    return CAIRO_STATUS_SUCCESS;
}

/* Everything on the surface; *error is for the caller to free. */
static gboolean render(const char *svg, size_t svg_bytes, cairo_t *cr, int width, int height, GError **error)
{
    RsvgHandle *handle = rsvg_handle_new_from_data((const guint8 *)svg, svg_bytes, error);
    if (handle == NULL) return FALSE;
    const RsvgRectangle page = {0, 0, width, height};
    const gboolean drawn = rsvg_handle_render_document(handle, cr, &page, error);
    g_object_unref(handle);
    return drawn;
}

int cli_has_png(void)
{
    return 1;
}

int cli_draw_png(const char *path, const char *svg, size_t svg_bytes, int width, int height, void **png,
                 size_t *png_bytes)
{
    GError *error = NULL;
    bytes out = {0};
    int code = CLI_OK;
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, SCALE * width, SCALE * height);
    cairo_t *cr = cairo_create(surface); /* carries the surface's error, if any, to the end */
    if (!render(svg, svg_bytes, cr, SCALE * width, SCALE * height, &error)) {
        code = cli_error(CLI_FAILED, "--plot %s: cannot be drawn: %s", path,
                         error != NULL ? error->message : "");
        goto cleanup;
    }
    cairo_status_t status = cairo_status(cr);
    if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_write_to_png_stream(surface, append, &out);
    if (status != CAIRO_STATUS_SUCCESS) {
        code = cli_error(CLI_FAILED, "--plot %s: cannot be drawn: %s", path, cairo_status_to_string(status));
        goto cleanup;
    }
    *png = out.data;
    *png_bytes = out.used;
    out.data = NULL;
cleanup:
    g_clear_error(&error);
    free(out.data);
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return code;
}

#else

int cli_has_png(void)
{
    return 0;
}

int cli_draw_png(const char *path, const char *svg, size_t svg_bytes, int width, int height, void **png,
                 size_t *png_bytes)
{
    (void)svg, (void)svg_bytes, (void)width, (void)height, (void)png, (void)png_bytes;
    return cli_error(CLI_USAGE, "--plot %s: this build has no PNG plots", path);
}

#endif
