/* SPDX-License-Identifier: MIT */
/* Small copies of images for a page that stands alone. */
#ifndef TRINE_TOOLS_CLI_THUMBNAIL_H
#define TRINE_TOOLS_CLI_THUMBNAIL_H

#include "cli_text.h"
#include "trine/image.h"

/* Image i as the data URI of a JPEG whose longer side is at most `side`. @return 0, or -1: it cannot be read, nothing is added */
int cli_thumbnail(cli_text *out, const trine_dataset *data, size_t i, int side);

#endif
