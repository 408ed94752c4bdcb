/* SPDX-License-Identifier: MIT */
/* The table of quirks and its matcher. What trine avoids on every device needs no row: include paths, half precision, relaxed
 * mathematics, atomics on floats, barriers in divergent code, local sizes that a kernel's own limit does not allow. */
#include "rt/quirks.h"

#include <ctype.h>
#include <string.h>

#include "base/glob.h"

const trine__quirk trine__quirk_table[] = {
    {.id = "clover",
     .pattern = {.platform = "Clover"},
     .effect = TRINE__EFFECT_REFUSE,
     .reason = "Mesa's Clover is unmaintained and miscompiles; use its successor rusticl",
     .source = "hashcat backend.c"},
    {.id = "beignet",
     .pattern = {.platform_version = "*beignet*"},
     .effect = TRINE__EFFECT_REFUSE,
     .reason = "Beignet is unmaintained and unstable; use Intel's compute-runtime",
     .source = "hashcat backend.c, CLBlast README"},
    {.id = "pocl-before-1.5",
     .pattern = {.platform = "Portable Computing Language"},
     .after = "pocl ",
     .below = "1.5",
     .effect = TRINE__EFFECT_REFUSE,
     .reason = "PoCL before 1.5 miscompiles",
     .source = "hashcat backend.c"},
    {.id = "pocl-llvm-before-9",
     .pattern = {.platform = "Portable Computing Language"},
     .after = "LLVM ",
     .below = "9",
     .effect = TRINE__EFFECT_REFUSE,
     .reason = "PoCL with an LLVM before 9 miscompiles",
     .source = "hashcat backend.c"},
    {.id = "pocl-local-size",
     .pattern = {.platform = "Portable Computing Language"},
     .effect = TRINE__EFFECT_NOTE,
     .reason = "each new local size costs a compilation: trine keeps local sizes fixed",
     .source = "measured with PoCL 3.1"},
    {.id = "pocl-barriers",
     .pattern = {.platform = "Portable Computing Language"},
     .effect = TRINE__EFFECT_NOTE,
     .reason = "barriers in conditional code and partial work-groups go wrong: trine's kernels have neither",
     .source = "pocl#1167, pocl#1990, OpenCL.jl#460"},
    {.id = "llvmpipe",
     .pattern = {.device = "llvmpipe*"},
     .effect = TRINE__EFFECT_LAST,
     .reason = "llvmpipe is a renderer that runs on the CPU, far slower there than PoCL",
     .source = "measured with Mesa 22.3"},
    {.id = "oclgrind",
     .pattern = {.platform = "Oclgrind"},
     .effect = TRINE__EFFECT_LAST,
     .reason = "Oclgrind is a simulator that looks for errors in kernels, not for speed",
     .source = "Oclgrind README"},
    {.id = "nvidia-own-cache",
     .pattern = {.platform = "NVIDIA CUDA"},
     .effect = TRINE__EFFECT_NO_CACHE,
     .reason = "the driver keeps compiled programs itself, and what it hands out as binaries is PTX to be "
               "compiled again",
     .source = "dlprimitives kernel_cache.md"},
    {.id = "intel-windows-6881",
     .pattern = {.platform = "Intel(R) OpenCL*"},
     .from = "32.0.101.6557",
     .below = "32.0.101.6882",
     .effect = TRINE__EFFECT_WARN,
     .reason = "long runs have crashed with Intel's drivers after 32.0.101.6556 up to 32.0.101.6881",
     .source = "KataGo#1083"},
    {.id = "amd-rx5700",
     .pattern = {.platform = "AMD Accelerated Parallel Processing", .device = "gfx1010*"},
     .effect = TRINE__EFFECT_WARN,
     .reason = "early drivers for the RX 5700 series give wrong results: run trine probe",
     .source = "KataGo#199, CLBlast#669"},
    {.id = "amd-southern-islands",
     .pattern = {.platform = "AMD Accelerated Parallel Processing",
                 .device = "Tahiti*|Pitcairn*|Capeverde*|Oland*|Hainan*"},
     .effect = TRINE__EFFECT_WARN,
     .reason = "matrix products have come out wrong on AMD's Southern Islands: run trine probe",
     .source = "CLBlast#301"},
    {.id = "intel-arc-a770",
     .pattern = {.platform = "Intel(R) OpenCL*", .device = "*A770*"},
     .effect = TRINE__EFFECT_NOTE,
     .reason = "CLBlast 1.6.2 gets matrix products wrong: trine takes CLBlast only where it is asked "
               "to, or where trine tune found it right",
     .source = "CLBlast#533"},
};
const size_t trine__quirk_count = TRINE_COUNTOF(trine__quirk_table);

const char *trine__effect_name(trine__effect effect)
{
    switch (effect) {
    case TRINE__EFFECT_NOTE:
        return "note";
    case TRINE__EFFECT_WARN:
        return "warn";
    case TRINE__EFFECT_REFUSE:
        return "refuse";
    case TRINE__EFFECT_NO_CACHE:
        return "no-cache";
    case TRINE__EFFECT_LAST:
        return "last";
    }
    return "?";
}

/* Past the zeros in front of a number's digits; *count of them are left. */
static const char *number_at(const char *text, size_t *count)
{
    while (*text == '0') text++;
    for (*count = 0; isdigit((unsigned char)text[*count]);) ++*count;
    return text;
}

/* Past the number and the dot in front of the next one. */
static const char *next_number(const char *text)
{
    while (isdigit((unsigned char)*text)) text++;
    return text[0] == '.' && isdigit((unsigned char)text[1]) ? text + 1 : text;
}

static bool begins(const char *text, const char *words)
{
    for (; *words; text++, words++)
        if (tolower((unsigned char)*text) != tolower((unsigned char)*words)) return false;
    return true;
}

static bool before_release(const char *rest)
{
    static const char *const marks[] = {"pre", "rc", "alpha", "beta"};
    if (*rest && strchr("-~_.", *rest)) rest++;
    for (size_t i = 0; i < TRINE_COUNTOF(marks); i++)
        if (begins(rest, marks[i])) return true;
    return false;
}

int trine__version_compare(const char *a, const char *b)
{
    while (isdigit((unsigned char)*a) || isdigit((unsigned char)*b)) {
        size_t m, n;
        const char *x = number_at(a, &m), *y = number_at(b, &n);
        const int order = m != n ? (m < n ? -1 : 1) : memcmp(x, y, n);
        if (order) return order;
        a = next_number(a);
        b = next_number(b);
    }
    return (int)before_release(b) - (int)before_release(a);
}

static void lower(const char *text, size_t length, char out[1024])
{
    if (length > 1023) length = 1023;
    for (size_t i = 0; i < length; i++) out[i] = (char)tolower((unsigned char)text[i]);
    out[length] = '\0';
}

/* Globs with '|' between them; NULL matches anything. */
static bool matches(const char *patterns, const char *text)
{
    char glob[1024], low[1024];
    if (!patterns) return true;
    if (!text) return false;
    lower(text, strlen(text), low);
    for (;; patterns++) {
        const size_t length = strcspn(patterns, "|");
        lower(patterns, length, glob);
        if (trine__glob_match(glob, low)) return true;
        patterns += length;
        if (!*patterns) return false;
    }
}

/* The first digit after the words; NULL where there is none at once. */
static const char *version_in(const char *text, const char *after)
{
    for (; text && *text; text++) {
        if (!begins(text, after)) continue;
        text += strlen(after);
        return isdigit((unsigned char)*text) ? text : NULL;
    }
    return NULL;
}

bool trine__quirk_applies(const trine__quirk *quirk, const trine__driver *driver)
{
    const trine__driver *p = &quirk->pattern;
    if (!matches(p->platform, driver->platform) || !matches(p->platform_version, driver->platform_version) ||
        !matches(p->vendor, driver->vendor) || !matches(p->device, driver->device) ||
        !matches(p->version, driver->version))
        return false;
    if (!quirk->from && !quirk->below) return true;
    const char *version =
        quirk->after ? version_in(driver->platform_version, quirk->after) : version_in(driver->version, "");
    return version && (!quirk->from || trine__version_compare(version, quirk->from) >= 0) &&
           (!quirk->below || trine__version_compare(version, quirk->below) < 0);
}
