/* SPDX-License-Identifier: MIT */
/* trine probe --all: a process a device. This process never calls OpenCL, so each child begins with drivers that nobody has touched,
 * and one that a broken driver ends is only one line of the report. */
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What became of a child. */
typedef struct outcome {
    int code;    /* its exit code; CLI_FAILED if it did not end by itself */
    int signal;  /* that ended it, or 0 */
    cJSON *json; /* the object that it filled, or NULL; the caller's */
} outcome;

static void write_object(int fd, const cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    if (text == NULL) return;
    const size_t length = strlen(text);
    for (size_t done = 0; done < length;) {
        const ssize_t part = write(fd, text + done, length - done);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break; /* the parent sees an object that is not complete, and says so */
        done += (size_t)part;
    }
    cJSON_free(text);
}

static cJSON *read_object(int fd)
{
    char *text = NULL;
    size_t length = 0, capacity = 0;
    for (;;) {
        if (length + 4096 > capacity) {
            char *more = realloc(text, capacity = 2 * capacity + 8192);
            if (more == NULL) break;
            text = more;
        }
        const ssize_t part = read(fd, text + length, capacity - length);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break;
        length += (size_t)part;
    }
    cJSON *object = text != NULL ? cJSON_ParseWithLength(text, length) : NULL;
    free(text);
    return object;
}

/* `work` in a child, on a run of its own. */
static int in_child(const cli_run *run, const char *device, int (*work)(cli_run *run), outcome *out)
{
    int ends[2], status = 0;
    *out = (outcome){.code = CLI_FAILED};
    if (pipe(ends) != 0) return cli_error(CLI_FAILED, "pipe: %s", strerror(errno));
    fflush(NULL); /* or the child prints it once more */
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return cli_error(CLI_FAILED, "fork: %s", strerror(errno));
    }
    if (child == 0) {
        cli_run own = *run;
        close(ends[0]);
        own.json = cJSON_CreateObject();
        own.v.device = device;
        const int code = work(&own);
        if (code != CLI_OK && !own.complete) cli_set_text(own.json, "error", trine_last_error());
        write_object(ends[1], own.json);
        cli_close(&own);
        fflush(NULL);
        _exit(code); /* not by way of what drivers do at exit */
    }
    close(ends[1]);
    out->json = read_object(ends[0]);
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status)) out->code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) out->signal = WTERMSIG(status);
    return CLI_OK;
}

/* The work of the first child: which devices there are. */
static int list_devices(cli_run *run)
{
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
    outcome result;
    const char *name = cJSON_GetObjectItem(row, "device")->valuestring;
    snprintf(index, sizeof index, "%d", cJSON_GetObjectItem(row, "index")->valueint);
    cli_print(run, "device %s: %s (%s)\n", index, name, cJSON_GetObjectItem(row, "platform")->valuestring);
    int code = in_child(run, index, one, &result);
    if (code == CLI_OK && result.signal != 0)
        code = cli_error(CLI_FAILED, "device %s (%s): the driver crashed (signal %d, %s)", index, name,
                         result.signal, strsignal(result.signal));
    else if (code == CLI_OK)
        code = result.code;
    cJSON_DeleteItemFromObject(row, "reason");
    cJSON_DeleteItemFromObject(row, "usable");
    merge(row, result.json);
    cJSON_Delete(result.json);
    if (result.signal != 0) {
        char text[96];
        snprintf(text, sizeof text, "the driver crashed (signal %d, %s)", result.signal,
                 strsignal(result.signal));
        cli_set_text(row, "error", text);
    }
    if (!cJSON_HasObjectItem(row, "ok")) cJSON_AddBoolToObject(row, "ok", 0);
    cli_set(row, "exit_code", code);
    cli_print(run, "\n");
    return code;
}

int probe_all(cli_run *run, int (*one)(cli_run *run))
{
    outcome listed;
    int worst = in_child(run, run->v.device, list_devices, &listed), probed = 0;
    if (worst != CLI_OK) return worst;
    cJSON *devices = listed.json != NULL ? cJSON_DetachItemFromObject(listed.json, "devices") : NULL;
    cJSON_Delete(listed.json);
    if (listed.signal != 0)
        return cli_error(CLI_FAILED, "a driver crashed while its devices were listed (signal %d, %s)",
                         listed.signal, strsignal(listed.signal));
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
