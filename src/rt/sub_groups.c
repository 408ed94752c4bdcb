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
    enum { WANTED = 16 }; /* SUB_LANES of cl/conv2d_gemm_subgroups.cl */
    if (!has_word(extensions, "cl_intel_subgroups") ||
        !has_word(extensions, "cl_intel_required_subgroup_size"))
        return TRINE__NO_SUB_GROUPS;
    for (size_t i = 0; i < count; i++)
        if (sizes[i] == WANTED) return TRINE__SUB_GROUPS;
    return TRINE__NO_SUB_GROUPS;
}

trine__sub_groups trine__sub_groups_find(cl_device_id id)
{
    enum { MOST_SIZES = 16 };
    size_t sizes[MOST_SIZES], bytes = 0, sizes_bytes = 0;
    trine__sub_groups found = TRINE__NO_SUB_GROUPS;
    char *extensions = NULL;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) == CL_SUCCESS && bytes > 0 &&
        (extensions = malloc(bytes)) &&
        clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, extensions, NULL) == CL_SUCCESS &&
        strstr(extensions, "cl_intel_required_subgroup_size") &&
        clGetDeviceInfo(id, CL_DEVICE_SUB_GROUP_SIZES_INTEL, sizeof sizes, sizes, &sizes_bytes) == CL_SUCCESS)
        found = trine__sub_groups_of(extensions, sizes, sizes_bytes / sizeof *sizes);
    free(extensions);
    return found;
}
