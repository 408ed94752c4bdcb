/* SPDX-License-Identifier: MIT */
/* trine cache: what the cache of program binaries holds, and --clear. */
#include "cli_common.h"

#include <trine/cache.h>

static const cli_option own_options[] = {
    {"clear", CLI_FLAG, CLI_AT(clear), NULL, NULL, 0, 0, "drop everything first"},
};
static const cli_section own_section = CLI_SECTION("Cache", own_options);
static const cli_section *const sections[] = {&own_section};

static int cache(cli_run *run)
{
    trine_cache_info info;
    trine_status status = run->v.clear ? trine_cache_clear() : TRINE_OK;
    if (status == TRINE_OK) status = trine_cache_get_info(&info);
    if (status != TRINE_OK) return cli_fail(status);
    cli_set_text(run->json, "path", info.path);
    cJSON_AddBoolToObject(run->json, "damaged", info.damaged);
    cli_set(run->json, "programs", (double)info.programs);
    cli_set(run->json, "measured", (double)info.measured);
    cli_set(run->json, "bytes", (double)info.bytes);
    cli_set(run->json, "limit_bytes", (double)info.limit_bytes);
    cli_print(run, "%s\n", info.path);
    if (info.damaged) cli_print(run, "damaged: the next run starts a new one\n");
    cli_print(run, "%llu programs, %.1f MiB of at most %.0f\n", (unsigned long long)info.programs,
              (double)info.bytes / (1 << 20), (double)info.limit_bytes / (1 << 20));
    cli_print(run, "%llu measurements of trine tune\n", (unsigned long long)info.measured);
    return CLI_OK;
}

const cli_command cmd_cache = {{"cache", "", "show or clear the cache of compiled programs", 0, 0, sections,
                                CLI_COUNTOF(sections),
                                "The cache is $TRINE_CACHE_DIR/trine.db, else in "
                                "$XDG_CACHE_HOME/trine or ~/.cache/trine. TRINE_CACHE=off does without."},
                               cache};
