/* SPDX-License-Identifier: MIT */
/* Host threads that live for one call: the work here lasts seconds, a pool would save microseconds. */
#include "learn/threads.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/memory.h"

enum { MAX_THREADS = 1024 };

struct call {
    pthread_t thread;
    bool started;
    int number;
    void (*work)(void *user, int number);
    void *user;
};

int trine__threads(int asked)
{
    const long processors = asked > 0 ? asked : sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors > MAX_THREADS ? MAX_THREADS : (int)processors;
}

static void *run(void *user)
{
    struct call *c = user;
    c->work(c->user, c->number);
    return NULL;
}

void trine__parallel(int threads, void (*work)(void *user, int number), void *user)
{
    struct call calls[MAX_THREADS];
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    for (int i = 1; i < threads; i++) {
        calls[i] = (struct call){.number = i, .work = work, .user = user};
        calls[i].started = pthread_create(&calls[i].thread, NULL, run, &calls[i]) == 0;
    }
    work(user, 0);
    for (int i = 1; i < threads; i++) {
        if (calls[i].started) pthread_join(calls[i].thread, NULL);
    }
}
