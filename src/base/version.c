/* SPDX-License-Identifier: MIT */
/* The version that the library was built as. */
#include "trine/trine.h"

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *trine_version(void)
{
    return TEXT(TRINE_VERSION_MAJOR) "." TEXT(TRINE_VERSION_MINOR) "." TEXT(TRINE_VERSION_PATCH);
}
