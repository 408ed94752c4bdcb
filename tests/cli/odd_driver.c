/* SPDX-License-Identifier: MIT */
/* An OpenCL driver that misbehaves, for tests: loaded before the real loader (LD_PRELOAD), it hands everything on but what these
 * variables of the environment say.
 *   ODD_SPLIT=1           there are two devices: the first that can be divided, and a part of it
 *   ODD_PLATFORM=NAME, ODD_PLATFORM_VERSION=TEXT, ODD_DRIVER=VERSION, ODD_NAME=NAME   other answers about all of them
 *   ODD_AT=0|1            which of these two the following are about; not set: every device
 *   ODD_CRASH=1           opening it ends the process
 *   ODD_FAIL=1            opening it fails
 *   ODD_KERNEL=STEM, ODD_TEXT=LINE   the source of that kernel begins with a line of its own: a miscompilation */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The real function under its own type. */
#define REAL(name)                                                                                           \
    __typeof__(&name) real = NULL;                                                                           \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

static cl_device_id pair[2];
static cl_context
    meant_context; /* the last one on a device that ODD_AT means; a context of a part may list the whole */

static int wanted(const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0';
}

/* Is the device the one that ODD_AT says? */
static int is_meant(cl_device_id device)
{
    const char *at = getenv("ODD_AT");
    return at == NULL || pair[0] == NULL || pair[atoi(at) != 0] == device;
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint room, cl_device_id *devices,
                      cl_uint *count)
{
    const cl_device_partition_property one[] = {CL_DEVICE_PARTITION_BY_COUNTS, 1,
                                                CL_DEVICE_PARTITION_BY_COUNTS_LIST_END, 0};
    cl_uint found = 0;
    REAL(clGetDeviceIDs);
    const cl_int code = real(platform, type, room, devices, &found);
    if (count != NULL) *count = found;
    if (code != CL_SUCCESS || !wanted("ODD_SPLIT")) return code;
    if (devices == NULL || room < 2) return CL_DEVICE_NOT_FOUND;
    if (pair[0] == NULL && clCreateSubDevices(devices[0], one, 1, &pair[1], NULL) == CL_SUCCESS)
        pair[0] = devices[0];
    if (pair[0] != devices[0]) return CL_DEVICE_NOT_FOUND;
    devices[1] = pair[1];
    if (count != NULL) *count = 2;
    return CL_SUCCESS;
}

static cl_int answer(const char *text, size_t room, void *value, size_t *size)
{
    const size_t length = strlen(text) + 1;
    if (value != NULL && room < length) return CL_INVALID_VALUE;
    if (value != NULL) memcpy(value, text, length);
    if (size != NULL) *size = length;
    return CL_SUCCESS;
}

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info key, size_t room, void *value, size_t *size)
{
    REAL(clGetDeviceInfo);
    if (key == CL_DRIVER_VERSION && wanted("ODD_DRIVER"))
        return answer(getenv("ODD_DRIVER"), room, value, size);
    if (key == CL_DEVICE_NAME && wanted("ODD_NAME")) return answer(getenv("ODD_NAME"), room, value, size);
    return real(device, key, room, value, size);
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info key, size_t room, void *value,
                         size_t *size)
{
    REAL(clGetPlatformInfo);
    if (key == CL_PLATFORM_NAME && wanted("ODD_PLATFORM"))
        return answer(getenv("ODD_PLATFORM"), room, value, size);
    if (key == CL_PLATFORM_VERSION && wanted("ODD_PLATFORM_VERSION"))
        return answer(getenv("ODD_PLATFORM_VERSION"), room, value, size);
    return real(platform, key, room, value, size);
}

cl_context clCreateContext(const cl_context_properties *properties, cl_uint count,
                           const cl_device_id *devices,
                           void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user,
                           cl_int *code)
{
    REAL(clCreateContext);
    if (is_meant(devices[0]) && wanted("ODD_CRASH")) abort();
    if (is_meant(devices[0]) && wanted("ODD_FAIL")) {
        *code = CL_OUT_OF_RESOURCES;
        return NULL;
    }
    const cl_context context = real(properties, count, devices, notify, user, code);
    if (context != NULL && is_meant(devices[0])) meant_context = context;
    return context;
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **texts,
                                     const size_t *lengths, cl_int *code)
{
    REAL(clCreateProgramWithSource);
    if (count != 1 || !wanted("ODD_KERNEL") || !wanted("ODD_TEXT") || context != meant_context)
        return real(context, count, texts, lengths, code);
    const size_t length = lengths != NULL ? lengths[0] : strlen(texts[0]);
    char entry[128], *odd = malloc(length + 1024);
    if (odd == NULL) abort();
    const int used = snprintf(odd, 1000, "%s\n", getenv("ODD_TEXT"));
    memcpy(odd + used, texts[0], length);
    odd[(size_t)used + length] = '\0';
    snprintf(entry, sizeof entry, " void %s(", getenv("ODD_KERNEL"));
    const int meant = strstr(odd + used, entry) != NULL;
    const char *whole = odd;
    const cl_program program =
        meant ? real(context, 1, &whole, NULL, code) : real(context, count, texts, lengths, code);
    free(odd);
    return program;
}
