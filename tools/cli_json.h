/* SPDX-License-Identifier: MIT */
/* The one JSON object of --json. Numbers read back as the same double; NaN and infinities are null. */
#ifndef TRINE_TOOLS_CLI_JSON_H
#define TRINE_TOOLS_CLI_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>

/* A string; bytes that are not UTF-8, as file names may have them, become U+FFFD. */
cJSON *cli_json_text(const char *text);

/* Write `text` (of `bytes` bytes) to `path` through a temporary file beside it: the old file stays until the
 * new one is complete. Returns 0, or -1 with errno set and nothing left behind. */
int cli_write_file(const char *path, const void *text, size_t bytes);

/* Write the object and a newline to `path`; "-" is stdout. Returns 0, or -1 with errno set. */
int cli_json_write(const cJSON *object, const char *path);

#endif
