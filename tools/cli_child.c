/* SPDX-License-Identifier: MIT */
#include "cli_child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* All that comes until the other end closes, or until `end` on cli_seconds()' clock; *late says which. */
static cJSON *read_object(int fd, double end, int *late)
{
    char *text = NULL;
    size_t length = 0, capacity = 0;
    for (;;) {
        const double left = end - cli_seconds();
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        *late = left <= 0;
        if (*late) break;
        const int ready = poll(&wait, 1, left > 1000 ? 1000000 : (int)(1e3 * left) + 1);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
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

/* Never returns. */
static void be_child(const cli_run *run, const char *device, double limit_s,
                     int (*work)(cli_run *run, void *user), void *user, int fd)
{
    cli_run own = *run;
    alarm((unsigned)limit_s + 2); /* should nobody be left to end it */
    own.json = cJSON_CreateObject();
    own.v.device = device;
    own.start = cli_seconds();
    const int code = work(&own, user);
    if (code != CLI_OK && !own.complete) cli_set_text(own.json, "error", trine_last_error());
    write_object(fd, own.json);
    cli_close(&own);
    fflush(NULL);
    _exit(code); /* not by way of what drivers do at exit */
}

int cli_in_child(const cli_run *run, const char *device, double limit_s,
                 int (*work)(cli_run *run, void *user), void *user, cli_outcome *out)
{
    int ends[2], status = 0;
    *out = (cli_outcome){.code = CLI_FAILED};
    if (pipe(ends) != 0) return cli_error(CLI_FAILED, "pipe: %s", strerror(errno));
    fflush(NULL); /* or the child prints it once more */
    const pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return cli_error(CLI_FAILED, "fork: %s", strerror(errno));
    }
    if (child == 0) {
        close(ends[0]);
        be_child(run, device, limit_s, work, user, ends[1]);
    }
    close(ends[1]);
    const double end = cli_seconds() + limit_s;
    out->json = read_object(ends[0], end, &out->timed_out);
    close(ends[0]);
    if (out->timed_out) kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status)) out->code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) out->signal = WTERMSIG(status);
    return CLI_OK;
}

void cli_child_end(const cli_outcome *outcome, double limit_s, char *text, size_t size)
{
    text[0] = '\0';
    if (outcome->timed_out)
        snprintf(text, size, "took longer than %g s", limit_s);
    else if (outcome->signal != 0)
        snprintf(text, size, "crashed (signal %d, %s)", outcome->signal, strsignal(outcome->signal));
}
