/* SPDX-License-Identifier: MIT */
/* OpenCL's header at the version trine asks for, and the check around every call. */
#ifndef TRINE_RT_OPENCL_H
#define TRINE_RT_OPENCL_H

#include <CL/cl.h>
#include <stdbool.h>

#include "base/error.h"

/* "CL_OUT_OF_RESOURCES", or "unknown OpenCL error". */
const char *trine__cl_name(cl_int code);

/* TRINE_OK for CL_SUCCESS; else TRINE_ERR_OPENCL, or TRINE_ERR_NOMEM where the code says so, with "CALL: NAME
 * (code)". */
trine_status trine__cl_check(cl_int code, const char *call);

#define TRINE_CL(call)      TRINE_TRY(trine__cl_check((call), #call))
#define TRINE_CL_GOTO(call) TRINE_TRY_GOTO(trine__cl_check((call), #call))

#endif
