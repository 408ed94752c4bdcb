/* SPDX-License-Identifier: MIT */
/* Shell globs over layer and parameter names: * ? [abc] [a-z] [!x]; '*' crosses dots. */
#ifndef TRINE_BASE_GLOB_H
#define TRINE_BASE_GLOB_H

#include "base/memory.h"

bool trine__glob_match(const char *glob, const char *name);
/* TRINE_ERR_ARG if the glob is empty or has an unclosed '['. */
trine_status trine__glob_check(const char *glob);

#endif
