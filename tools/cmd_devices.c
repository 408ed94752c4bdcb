/* SPDX-License-Identifier: MIT */
/* trine devices: every device of every platform, and which one --device auto takes. */
#include "cli_common.h"

#include <stdio.h>
#include <string.h>

enum { INDENT = 5 };

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
    cJSON *rows = cJSON_AddArrayToObject(object, "quirk_list");
    for (int i = 0; i < info->quirk_count; i++) {
        cJSON *row = cJSON_CreateObject();
        cli_set_text(row, "id", info->quirk[i].id);
        cli_set_text(row, "effect", info->quirk[i].effect);
        cli_set_text(row, "reason", info->quirk[i].reason);
        cli_set_text(row, "source", info->quirk[i].source);
        cJSON_AddBoolToObject(row, "ignored", info->quirk[i].ignored);
        cJSON_AddItemToArray(rows, row);
    }
    cli_set(object, "compute_units", info->compute_units);
    cli_set(object, "vector_width", info->vector_width);
    cli_set(object, "memory_bytes", (double)info->memory_bytes);
    cli_set(object, "allocation_bytes", (double)info->allocation_bytes);
    return object;
}

/* A line of its own at the indent, wrapped. */
static void print_line(const cli_run *run, const char *text)
{
    cli_print(run, "%*s", INDENT, "");
    cli_print_wrapped(run, INDENT, INDENT, text);
}

static void print_device(const cli_run *run, const trine_device_info *info)
{
    char line[1024];
    cli_print(run, "%c %d  %-11s ", info->is_default ? '*' : ' ', info->index, info->type);
    cli_print_wrapped(run, 17, 17, info->name);
    snprintf(line, sizeof line, "%s, driver %s, %d units, %.1f GiB%s", info->platform, info->driver,
             info->compute_units, (double)info->memory_bytes / (1 << 30), info->usable ? "" : ", not usable");
    print_line(run, line);
    if (info->reason[0] != '\0') print_line(run, info->reason);
    for (int i = 0; i < info->quirk_count; i++) {
        const trine_quirk *q = &info->quirk[i];
        const int told = strncmp(info->reason, q->reason, strlen(q->reason)) == 0; /* by the reason above */
        snprintf(line, sizeof line, "quirk %s (%s%s)%s%s [%s]", q->id, q->effect,
                 q->ignored ? ", ignored" : "", told ? "" : ": ", told ? "" : q->reason, q->source);
        print_line(run, line);
    }
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
        print_device(run, info);
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

const cli_command cmd_devices = {{"devices", "", "list the OpenCL devices and say which one is taken", 0, 0,
                                  NULL, 0,
                                  "Quirks are what is known of a driver, with what trine does about it: "
                                  "refuse the device, warn when it is "
                                  "opened, keep no compiled programs (no-cache), take it last, or nothing "
                                  "(note). TRINE_IGNORE_QUIRKS=ID,... "
                                  "in the environment takes their effect away."},
                                 devices};
