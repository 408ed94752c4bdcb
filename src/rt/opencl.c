/* SPDX-License-Identifier: MIT */
#include "rt/opencl.h"

#include <string.h>

const char *trine__cl_name(cl_int code)
{
    switch (code) {
        /* clang-format off */
#define NAME(x)                                                                                              \
    case x:                                                                                                  \
        return #x;
        NAME(CL_SUCCESS)
        NAME(CL_DEVICE_NOT_FOUND) NAME(CL_DEVICE_NOT_AVAILABLE) NAME(CL_COMPILER_NOT_AVAILABLE)
            NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE) NAME(CL_OUT_OF_RESOURCES) NAME(CL_OUT_OF_HOST_MEMORY) NAME(
                CL_PROFILING_INFO_NOT_AVAILABLE) NAME(CL_MEM_COPY_OVERLAP) NAME(CL_BUILD_PROGRAM_FAILURE)
                NAME(CL_MAP_FAILURE) NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET) NAME(
                    CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) NAME(CL_INVALID_VALUE)
                    NAME(CL_INVALID_DEVICE_TYPE) NAME(CL_INVALID_PLATFORM) NAME(CL_INVALID_DEVICE) NAME(
                        CL_INVALID_CONTEXT) NAME(CL_INVALID_QUEUE_PROPERTIES) NAME(CL_INVALID_COMMAND_QUEUE)
                        NAME(CL_INVALID_HOST_PTR) NAME(CL_INVALID_MEM_OBJECT) NAME(CL_INVALID_BINARY)
                            NAME(CL_INVALID_BUILD_OPTIONS) NAME(CL_INVALID_PROGRAM)
                                NAME(CL_INVALID_PROGRAM_EXECUTABLE) NAME(CL_INVALID_KERNEL_NAME)
                                    NAME(CL_INVALID_KERNEL_DEFINITION) NAME(CL_INVALID_KERNEL)
                                        NAME(CL_INVALID_ARG_INDEX) NAME(CL_INVALID_ARG_VALUE)
                                            NAME(CL_INVALID_ARG_SIZE) NAME(CL_INVALID_KERNEL_ARGS) NAME(
                                                CL_INVALID_WORK_DIMENSION) NAME(CL_INVALID_WORK_GROUP_SIZE)
                                                NAME(CL_INVALID_WORK_ITEM_SIZE) NAME(CL_INVALID_GLOBAL_OFFSET)
                                                    NAME(CL_INVALID_EVENT_WAIT_LIST) NAME(CL_INVALID_EVENT)
                                                        NAME(CL_INVALID_OPERATION)
                                                            NAME(CL_INVALID_BUFFER_SIZE)
                                                                NAME(CL_INVALID_GLOBAL_WORK_SIZE)
#undef NAME
            /* clang-format on */
            case -1001 : return "CL_PLATFORM_NOT_FOUND_KHR";
    default:
        return "unknown OpenCL error";
    }
}

trine_status trine__cl_check(cl_int code, const char *call)
{
    if (code == CL_SUCCESS) return TRINE_OK;
    const bool memory = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY;
    const size_t name = strcspn(call, "("); /* the call's name without its arguments */
    return trine__fail(memory ? TRINE_ERR_NOMEM : TRINE_ERR_OPENCL, "%.*s: %s (%d)", (int)name, call,
                       trine__cl_name(code), (int)code);
}
