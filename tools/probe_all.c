/* SPDX-License-Identifier: MIT */
/* trine probe --all: a process a device. This process never calls OpenCL, so each child begins with drivers that nobody has touched,
 * and one that a broken driver ends is only one line of the report. */
#include "cli_child.h"
#include "probe.h"

#include <stdio.h>

static const double limit_s = 900; /* of one device: simulators take minutes */

/* The work of the first child: which devices there are. */
static int list_devices(cli_run *run, void *user)
{
    (void)user;
    trine_device_list *list = NULL;
    const trine_status status = trine_device_list_create(&list);
    if (status != TRINE_OK) return cli_fail(status);
    cJSON *array = cJSON_AddArrayToObject(run->json, "devices");
    for (int i = 0; i < trine_device_list_count(list); i++) {
        const trine_device_info *info = trine_device_list_at(list, i);
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "index", info->index);
        cli_set_text(row, "platform", info->platform);
        cli_set_text(row, "device", info->name);
        cJSON_AddBoolToObject(row, "usable", info->usable);
        cli_set_text(row, "reason", info->reason);
        cJSON_AddItemToArray(array, row);
    }
    trine_device_list_destroy(&list);
    run->complete = 1;
    return CLI_OK;
}

/* What a child runs on its device. */
typedef struct device_work {
    int (*one)(cli_run *run);
} device_work;

static int run_work(cli_run *run, void *user)
{
    return ((const device_work *)user)->one(run);
}

/* Everything of `from`, which is left empty, goes to `to`; keys that are there stay. */
static void merge(cJSON *to, cJSON *from)
{
    while (from != NULL && from->child != NULL) {
        cJSON *item = cJSON_DetachItemViaPointer(from, from->child);
        if (cJSON_HasObjectItem(to, item->string))
            cJSON_Delete(item);
        else
            cJSON_AddItemToObject(to, item->string, item);
    }
}

/* Probe the device of a row of the list; the row becomes what the report says of it. */
static int probe_one(const cli_run *run, cJSON *row, int (*one)(cli_run *run))
{
    char index[16];
    device_work work = {one};
    cli_outcome result;
    char end[128];
    const char *name = cJSON_GetObjectItem(row, "device")->valuestring;
    snprintf(index, sizeof index, "%d", cJSON_GetObjectItem(row, "index")->valueint);
    cli_print(run, "device %s: %s\n          %s\n", index, name,
              cJSON_GetObjectItem(row, "platform")->valuestring);
    int code = cli_in_child(run, index, limit_s, run_work, &work, &result);
    cli_child_end(&result, limit_s, end, sizeof end);
    if (code == CLI_OK && end[0] != '\0')
        code = cli_error(CLI_FAILED, "device %s (%s): the driver %s", index, name, end);
    else if (code == CLI_OK)
        code = result.code;
    cJSON_DeleteItemFromObject(row, "reason");
    cJSON_DeleteItemFromObject(row, "usable");
    merge(row, result.json);
    cJSON_Delete(result.json);
    if (end[0] != '\0') {
        char text[160];
        snprintf(text, sizeof text, "the driver %s", end);
        cli_set_text(row, "error", text);
    }
    if (!cJSON_HasObjectItem(row, "ok")) cJSON_AddBoolToObject(row, "ok", 0);
    cli_set(row, "exit_code", code);
    cli_print(run, "\n");
    return code;
}

int probe_all(cli_run *run, int (*one)(cli_run *run))
{
    cli_outcome listed;
    char end[128];
    int worst = cli_in_child(run, run->v.device, limit_s, list_devices, NULL, &listed), probed = 0;
    if (worst != CLI_OK) return worst;
    cJSON *devices = listed.json != NULL ? cJSON_DetachItemFromObject(listed.json, "devices") : NULL;
    cJSON_Delete(listed.json);
    cli_child_end(&listed, limit_s, end, sizeof end);
    if (end[0] != '\0') return cli_error(CLI_FAILED, "a driver %s while its devices were listed", end);
    if (devices == NULL) return listed.code;
    cJSON *report = cJSON_AddArrayToObject(run->json, "devices");
    while (devices->child != NULL) {
        cJSON *row = cJSON_DetachItemFromArray(devices, 0);
        if (!cJSON_IsTrue(cJSON_GetObjectItem(row, "usable"))) {
            cli_talk(run, "device %d: %s is left out: %s", cJSON_GetObjectItem(row, "index")->valueint,
                     cJSON_GetObjectItem(row, "device")->valuestring,
                     cJSON_GetObjectItem(row, "reason")->valuestring);
            cJSON_Delete(row);
            continue;
        }
        const int code = probe_one(run, row, one);
        if (code > worst) worst = code;
        cJSON_AddItemToArray(report, row);
        probed++;
    }
    cJSON_Delete(devices);
    cJSON_AddBoolToObject(run->json, "ok", probed > 0 && worst == CLI_OK);
    run->complete = 1;
    return probed > 0 ? worst : cli_error(CLI_NO_DEVICE, "no OpenCL device is usable");
}
