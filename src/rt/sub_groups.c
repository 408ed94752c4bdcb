/* SPDX-License-Identifier: MIT */
#include "rt/sub_groups.h"

#include <CL/cl_ext.h>
#include <stdlib.h>
#include <string.h>

/* Is `name` one of the words? */
static bool has_word(const char *words, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = words; (at = strstr(at, name)) != NULL; at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0')) return true;
    return false;
}

trine__sub_groups trine__sub_groups_of(const char *extensions, const size_t *sizes, size_t count)
{
    const bool intel = has_word(extensions, "cl_intel_subgroups");
    if (intel && has_word(extensions, "cl_intel_required_subgroup_size"))
        for (size_t i = 0; i < count; i++)
            if (sizes[i] == TRINE__SUB_LANES) return TRINE__SUB_GROUPS;
    /* Intel's extension has all of the other one's functions. */
    return intel || has_word(extensions, "cl_khr_subgroups") ? TRINE__SUB_GROUPS_KHR : TRINE__NO_SUB_GROUPS;
}

trine__sub_groups trine__sub_groups_find(cl_device_id id)
{
    enum { MOST_SIZES = 16 };
    size_t sizes[MOST_SIZES], bytes = 0, sizes_bytes = 0;
    trine__sub_groups found = TRINE__NO_SUB_GROUPS;
    char *extensions = NULL;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) == CL_SUCCESS && bytes > 0 &&
        (extensions = malloc(bytes)) &&
        clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, extensions, NULL) == CL_SUCCESS) {
        if (!strstr(extensions, "cl_intel_required_subgroup_size") ||
            clGetDeviceInfo(id, CL_DEVICE_SUB_GROUP_SIZES_INTEL, sizeof sizes, sizes, &sizes_bytes) !=
                CL_SUCCESS)
            sizes_bytes = 0;
        found = trine__sub_groups_of(extensions, sizes, sizes_bytes / sizeof *sizes);
    }
    free(extensions);
    return found;
}

trine_status trine__sub_groups_check(const trine__kernel *kernel, const size_t local[3])
{
    const trine__device *d = &kernel->context->device;
    const size_t items = local[0] * local[1] * local[2];
    cl_platform_id platform = NULL;
    size_t size = 0;
    TRINE_CL(clGetDeviceInfo(d->id, CL_DEVICE_PLATFORM, sizeof platform, &platform, NULL));
    void *const address = clGetExtensionFunctionAddressForPlatform(platform, "clGetKernelSubGroupInfoKHR");
    clGetKernelSubGroupInfoKHR_fn ask = NULL;
    memcpy(&ask, &address, sizeof ask); /* ISO C converts no object's address to a function's */
    TRINE_CHECK(ask, TRINE_ERR_BUILD,
                "kernel %s: %s has no clGetKernelSubGroupInfoKHR to tell of its sub-groups", kernel->name,
                d->info.name);
    TRINE_TRY(trine__cl_check(ask(kernel->cl, d->id, CL_KERNEL_MAX_SUB_GROUP_SIZE_FOR_NDRANGE_KHR,
                                  3 * sizeof *local, local, sizeof size, &size, NULL),
                              "clGetKernelSubGroupInfoKHR"));
    TRINE_CHECK(size >= TRINE__SUB_LANES && size % TRINE__SUB_LANES == 0 && items % size == 0,
                TRINE_ERR_BUILD,
                "kernel %s: sub-groups of %zu in a work-group of %zu on %s: expected a multiple of %d that "
                "divides it",
                kernel->name, size, items, d->info.name, TRINE__SUB_LANES);
    return TRINE_OK;
}
