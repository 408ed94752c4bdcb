/* SPDX-License-Identifier: MIT */
/* trine devices: every device of every platform, and which one --device auto takes. */
#include "cli_common.h"

#include <stdio.h>

static cJSON *device_json(const trine_device_info *info)
{
    cJSON *object = cJSON_CreateObject();
    cli_set(object, "index", info->index);
    cli_set_text(object, "platform", info->platform);
    cli_set_text(object, "name", info->name);
    cli_set_text(object, "vendor", info->vendor);
    cli_set_text(object, "type", info->type);
    cli_set_text(object, "driver", info->driver);
    cli_set_text(object, "version", info->version);
    cJSON_AddBoolToObject(object, "usable", info->usable);
    cli_set_text(object, "reason", info->reason);
    cJSON_AddBoolToObject(object, "default", info->is_default);
    cli_set_text(object, "quirks", info->quirks);
    cli_set(object, "compute_units", info->compute_units);
    cli_set(object, "vector_width", info->vector_width);
    cli_set(object, "memory_bytes", (double)info->memory_bytes);
    cli_set(object, "allocation_bytes", (double)info->allocation_bytes);
    return object;
}

static int devices(cli_run *run)
{
    trine_device_list *list = NULL;
    const trine_status status = trine_device_list_create(&list);
    if (status != TRINE_OK) return cli_fail(status);
    cJSON *array = cJSON_AddArrayToObject(run->json, "devices");
    int usable = 0;
    for (int i = 0; i < trine_device_list_count(list); i++) {
        const trine_device_info *info = trine_device_list_at(list, i);
        cJSON_AddItemToArray(array, device_json(info));
        usable += info->usable != 0;
        cli_print(run, "%c %d  %-11s %s\n", info->is_default ? '*' : ' ', info->index, info->type,
                  info->name);
        cli_print(run, "     %s, driver %s, %d units, %.1f GiB%s\n", info->platform, info->driver,
                  info->compute_units, (double)info->memory_bytes / (1 << 30),
                  info->usable ? "" : ", not usable");
        if (info->reason[0] != '\0') cli_print(run, "     %s\n", info->reason);
        if (info->quirks[0] != '\0') cli_print(run, "     quirks: %s\n", info->quirks);
    }
    const int count = trine_device_list_count(list);
    trine_device_list_destroy(&list);
    run->complete = 1;
    if (count == 0)
        return cli_error(CLI_NO_DEVICE,
                         "no OpenCL device: no platform is installed (on Debian, a CPU needs the "
                         "package pocl-opencl-icd)");
    if (usable == 0) return cli_error(CLI_NO_DEVICE, "none of the %d OpenCL devices is usable", count);
    cli_print(run, "* is what --device auto takes\n");
    return CLI_OK;
}

const cli_command cmd_devices = {
    {"devices", "", "list the OpenCL devices and say which one is taken", 0, 0, NULL, 0, NULL}, devices};
