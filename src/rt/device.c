/* SPDX-License-Identifier: MIT */
/* Lists every device of every platform, says which are usable, and picks one. */
#include "rt/device.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "base/memory.h"
#include "base/text.h"
#include "rt/launch.h"

enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };

static bool contains(const char *text, const char *part)
{
    const size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
        if (i == n) return true;
    }
    return n == 0;
}

static void device_text(cl_device_id id, cl_device_info key, char *out, size_t size)
{
    char text[1024] = "";
    if (clGetDeviceInfo(id, key, sizeof text - 1, text, NULL) != CL_SUCCESS) text[0] = '\0';
    const char *start = text;
    while (*start == ' ') start++;
    snprintf(out, size, "%s", start);
    for (size_t n = strlen(out); n && out[n - 1] == ' '; n--) out[n - 1] = '\0';
}

static uint64_t device_number(cl_device_id id, cl_device_info key, size_t size)
{
    union {
        cl_uint u32;
        cl_ulong u64;
    } value = {.u64 = 0};
    if (clGetDeviceInfo(id, key, size, &value, NULL) != CL_SUCCESS) return 0;
    return size == sizeof value.u32 ? value.u32 : value.u64;
}

static void refuse(trine_device_info *info, const char *format, ...) TRINE_PRINTF(2, 3);

/* The first reason stays. */
static void refuse(trine_device_info *info, const char *format, ...)
{
    if (!info->usable) return;
    va_list args;
    va_start(args, format);
    info->usable = 0;
    vsnprintf(info->reason, sizeof info->reason, format, args);
    va_end(args);
}

static void check_limits(trine__device *d)
{
    trine_device_info *info = &d->info;
    int major = 0, minor = 0;
    if (sscanf(info->version, "OpenCL %d.%d", &major, &minor) != 2 || major * 10 + minor < 12)
        refuse(info, "needs OpenCL 1.2, device has '%s'", info->version);
    if (!device_number(d->id, CL_DEVICE_AVAILABLE, sizeof(cl_bool)))
        refuse(info, "the driver says that it is not available");
    if (!device_number(d->id, CL_DEVICE_COMPILER_AVAILABLE, sizeof(cl_bool)))
        refuse(info, "the driver has no compiler");
    const uint64_t most = device_number(d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    if (most < TRINE__LOCAL)
        refuse(info, "needs work-groups of %d work-items, device allows %llu", (int)TRINE__LOCAL,
               (unsigned long long)most);
}

/* Rows of the table that apply, and what follows from those that are not ignored. */
static void apply_quirks(trine__device *d, const char *platform_version, const bool *ignored)
{
    trine_device_info *info = &d->info;
    const trine__driver driver = {.platform = info->platform,
                                  .platform_version = platform_version,
                                  .vendor = info->vendor,
                                  .device = info->name,
                                  .version = info->driver};
    for (size_t i = 0; i < trine__quirk_count && info->quirk_count < TRINE_DEVICE_QUIRKS; i++) {
        const trine__quirk *row = &trine__quirk_table[i];
        if (!trine__quirk_applies(row, &driver)) continue;
        info->quirk[info->quirk_count++] =
            (trine_quirk){row->id, trine__effect_name(row->effect), row->reason, row->source, ignored[i]};
        const size_t used = strlen(info->quirks);
        snprintf(info->quirks + used, sizeof info->quirks - used, "%s%s", used ? "; " : "", row->reason);
        if (ignored[i]) continue;
        d->effects |= (unsigned)row->effect;
        if (row->effect == TRINE__EFFECT_REFUSE)
            refuse(info, "%s (TRINE_IGNORE_QUIRKS=%s in the environment uses it all the same)", row->reason,
                   row->id);
    }
}

static void platform_text(cl_platform_id id, cl_platform_info key, char *out, size_t size)
{
    char text[1024] = "";
    if (clGetPlatformInfo(id, key, sizeof text - 1, text, NULL) != CL_SUCCESS) text[0] = '\0';
    snprintf(out, size, "%s", text);
}

static void examine(cl_platform_id platform, cl_device_id id, int index, const bool *ignored,
                    trine__device *d)
{
    *d = (trine__device){.platform = platform, .id = id};
    trine_device_info *info = &d->info;
    char platform_version[512];
    info->index = index;
    info->usable = 1;
    platform_text(platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    platform_text(platform, CL_PLATFORM_VERSION, platform_version, sizeof platform_version);
    device_text(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    device_text(id, CL_DEVICE_VENDOR, info->vendor, sizeof info->vendor);
    device_text(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    device_text(id, CL_DEVICE_VERSION, info->version, sizeof info->version);
    d->type = device_number(id, CL_DEVICE_TYPE, sizeof(cl_device_type));
    const char *type = d->type & CL_DEVICE_TYPE_GPU           ? "gpu"
                       : d->type & CL_DEVICE_TYPE_CPU         ? "cpu"
                       : d->type & CL_DEVICE_TYPE_ACCELERATOR ? "accelerator"
                                                              : "other";
    snprintf(info->type, sizeof info->type, "%s", type);
    info->compute_units = (int)device_number(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(cl_uint));
    info->vector_width = (int)device_number(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof(cl_uint));
    info->memory_bytes = device_number(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
    info->allocation_bytes = device_number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
    check_limits(d);
    apply_quirks(d, platform_version, ignored);
}

/* GPUs before other accelerators before CPUs; then compute units times clock; CPUs by vector width first,
 * because every CPU implementation sees the same cores. What a quirk puts last comes after all of these. */
static double score(const trine__device *d)
{
    const double clock = (double)device_number(d->id, CL_DEVICE_MAX_CLOCK_FREQUENCY, sizeof(cl_uint)) + 1.0;
    const double speed = d->info.compute_units * clock;
    if (d->effects & TRINE__EFFECT_LAST) return speed - 1e12;
    if (d->type & CL_DEVICE_TYPE_GPU) return 4e12 + speed;
    if (d->type & CL_DEVICE_TYPE_CPU) return 1e12 + 1e10 * d->info.vector_width + speed;
    return 2e12 + speed;
}

static void mark_default(trine_device_list *list)
{
    int best = -1, usable = 0;
    for (int i = 0; i < list->count; i++) {
        if (!list->devices[i].info.usable) continue;
        usable++;
        if (best < 0 || score(&list->devices[i]) > score(&list->devices[best])) best = i;
    }
    if (best < 0) return;
    trine_device_info *info = &list->devices[best].info;
    info->is_default = 1;
    snprintf(info->reason, sizeof info->reason, "default: %s",
             usable == 1                      ? "the only usable device"
             : strcmp(info->type, "gpu") == 0 ? "the GPU with the most compute units times clock"
             : strcmp(info->type, "cpu") == 0 ? "no GPU; the CPU implementation with the widest vectors"
                                              : "no GPU");
}

static bool quirk_named(const void *user, const char *glob, int i)
{
    (void)user;
    return trine__glob_match(glob, trine__quirk_table[i].id);
}

/* ignored[i]: TRINE_IGNORE_QUIRKS names row i of the table. */
static trine_status read_ignored(bool *ignored)
{
    const trine__glob_items rows = {
        .count = (int)trine__quirk_count, .matches = quirk_named, .kind = "quirk of a driver"};
    return trine__glob_list("TRINE_IGNORE_QUIRKS", getenv("TRINE_IGNORE_QUIRKS"), &rows, ignored);
}

trine_status trine_device_list_create(trine_device_list **out)
{
    trine_device_list *list = NULL;
    bool *ignored = NULL;
    trine_status status = TRINE_OK;
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof *list, &p));
    list = p;
    TRINE_TRY_GOTO(trine__calloc(MAX_DEVICES, sizeof *list->devices, &p));
    list->devices = p;
    TRINE_TRY_GOTO(trine__calloc(trine__quirk_count, sizeof *ignored, &p));
    ignored = p;
    TRINE_TRY_GOTO(read_ignored(ignored));
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint platform_count = 0;
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &platform_count) != CL_SUCCESS) platform_count = 0;
    if (platform_count > MAX_PLATFORMS) platform_count = MAX_PLATFORMS;
    for (cl_uint i = 0; i < platform_count; i++) {
        cl_device_id ids[MAX_DEVICES];
        cl_uint count = 0; /* a platform without a device answers CL_DEVICE_NOT_FOUND: not an error here */
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &count) != CL_SUCCESS)
            continue;
        for (cl_uint j = 0; j < count && j < MAX_DEVICES && list->count < MAX_DEVICES; j++, list->count++)
            examine(platforms[i], ids[j], list->count, ignored, &list->devices[list->count]);
    }
    mark_default(list);
    *out = list;
    list = NULL;
cleanup:
    free(ignored);
    trine_device_list_destroy(&list);
    return status;
}

int trine_device_list_count(const trine_device_list *list)
{
    return list->count;
}

const trine_device_info *trine_device_list_at(const trine_device_list *list, int i)
{
    return i >= 0 && i < list->count ? &list->devices[i].info : NULL;
}

void trine_device_list_destroy(trine_device_list **list)
{
    if (!list || !*list) return;
    free((*list)->devices);
    free(*list);
    *list = NULL;
}

static bool same_text(const char *a, const char *b)
{
    return strlen(a) == strlen(b) && contains(a, b);
}

/* How well a selector fits: 0 not at all, 1 a part of a name, 2 for certain. */
static int fit(const trine__device *d, const char *selector)
{
    static const char *const types[] = {"cpu", "gpu", "accelerator"};
    char *end;
    const long index = strtol(selector, &end, 10);
    if (selector[0] && *end == '\0') return index == d->info.index ? 2 : 0;
    for (size_t i = 0; i < TRINE_COUNTOF(types); i++)
        if (strcmp(selector, types[i]) == 0) return strcmp(selector, d->info.type) == 0 ? 2 : 0;
    if (same_text(d->info.name, selector)) return 2;
    return contains(d->info.name, selector) || contains(d->info.platform, selector);
}

trine_status trine__device_select(const trine_device_list *list, const char *selector,
                                  const trine__device **out, int *rivals)
{
    TRINE_CHECK(list->count > 0, TRINE_ERR_DEVICE,
                "no OpenCL device found: install a driver (for CPUs: PoCL, Debian package pocl-opencl-icd) "
                "and check with clinfo");
    const bool automatic = !selector || !selector[0] || strcmp(selector, "auto") == 0;
    const trine__device *best = NULL, *unusable = NULL;
    int best_fit = 1, equals = 0;
    for (int i = 0; i < list->count; i++) {
        const trine__device *d = &list->devices[i];
        const int how = automatic ? 1 : fit(d, selector);
        if (how == 0) continue;
        if (!d->info.usable) {
            unusable = d;
            continue;
        }
        if (how < best_fit) continue;
        equals = how > best_fit ? 1 : equals + 1;
        if (!best || how > best_fit || score(d) > score(best)) best = d;
        best_fit = how;
    }
    if (best) {
        if (rivals) *rivals = automatic ? 0 : equals - 1;
        *out = best;
        return TRINE_OK;
    }
    if (unusable)
        return trine__fail(TRINE_ERR_DEVICE, "device %d (%s) cannot be used: %s", unusable->info.index,
                           unusable->info.name, unusable->info.reason);
    trine__text names = {0};
    for (int i = 0; i < list->count; i++)
        trine__text_add(&names, "%s%d: %s", i ? ", " : "", i, list->devices[i].info.name);
    const trine_status status = trine__fail(TRINE_ERR_DEVICE, "no device matches '%s'; there are: %s",
                                            selector, names.data ? names.data : "?");
    trine__text_free(&names);
    return status;
}
