/* SPDX-License-Identifier: MIT */
/* Known defects and peculiarities of OpenCL drivers, as data: which drivers a row is about, what trine does there, why, and who
 * found out. Pure C: nothing here calls OpenCL. */
#ifndef TRINE_RT_QUIRKS_H
#define TRINE_RT_QUIRKS_H

#include "base/memory.h"

/* What trine does about a row. One bit each, so that those in force on a device are one word. */
typedef enum trine__effect {
    TRINE__EFFECT_NOTE = 1,     /* nothing: the user should know */
    TRINE__EFFECT_WARN = 2,     /* opening the device says so through the context's log */
    TRINE__EFFECT_REFUSE = 4,   /* the device is not usable */
    TRINE__EFFECT_NO_CACHE = 8, /* the context keeps no program binaries: the driver does */
    TRINE__EFFECT_LAST = 16     /* a selector takes it only if nothing else fits */
} trine__effect;

/* What a driver says of itself and its device. */
typedef struct trine__driver {
    const char *platform;         /* CL_PLATFORM_NAME */
    const char *platform_version; /* CL_PLATFORM_VERSION */
    const char *vendor;           /* CL_DEVICE_VENDOR */
    const char *device;           /* CL_DEVICE_NAME */
    const char *version;          /* CL_DRIVER_VERSION */
} trine__driver;

/* A row applies where everything that it gives holds; NULL is anything. Patterns are globs over the whole text, in any
 * case, with '|' between alternatives. */
typedef struct trine__quirk {
    const char *id; /* for people, TRINE_IGNORE_QUIRKS and tests */
    trine__driver pattern;
    /* Versions from `from` on and below `below`. The number is the driver's version or, where `after` is given, the one that
     * follows these words in the platform's version. A driver that tells no number there is not meant. */
    const char *after, *from, *below;
    trine__effect effect;
    const char *reason; /* one sentence for people, without a full stop */
    const char *source; /* project and issue, or the file in which that project acts on it */
} trine__quirk;

extern const trine__quirk trine__quirk_table[];
extern const size_t trine__quirk_count;

/* Does row `quirk` apply? */
bool trine__quirk_applies(const trine__quirk *quirk, const trine__driver *driver);
/* Below, at or above 0 as version a is older than, the same as or newer than b. Numbers between dots are compared as numbers
 * (22.3.6 < 22.10, 104.05 = 104.5), missing ones are 0 (1.4 = 1.4.0), what follows is left out (3.1+debian = 3.1) unless it
 * marks what comes before a release (1.5-pre, 3.0~rc1 < 1.5, 3.0). Both begin with a digit. */
int trine__version_compare(const char *a, const char *b);
/* "refuse" */
const char *trine__effect_name(trine__effect effect);

#endif
