/* SPDX-License-Identifier: MIT */
/* Known-answer tests of trine probe: public operators on small data against loops on the host.
 * A test is linear code: the first failure sticks in `status` and what follows does nothing. */
#ifndef TRINE_TOOLS_PROBE_H
#define TRINE_TOOLS_PROBE_H

#include "cli_common.h"

enum { PROBE_FLOATS = 1 << 17, PROBE_BUFFERS = 64 };

typedef struct probe {
    cli_run *run;
    trine_context *context;
    trine_stream *stream;
    trine_status status; /* of the test that runs */
    double error;        /* the largest so far in this test; NaN stays */
    char worst[160];     /* where that is: "y[17] is 0.5, expected 0.25"; "" if nothing differs */
    cJSON *tests;
    int failed, passed;
    char first_wrong[640]; /* the first test that failed, in words */
    float *floats;         /* arena of PROBE_FLOATS, emptied after each test */
    size_t floats_used;
    trine_buffer *buffers[PROBE_BUFFERS];
    int buffer_count;
    uint32_t random;
} probe;

#define PROBE_DO(p, expr)                                                                                    \
    do {                                                                                                     \
        if ((p)->status == TRINE_OK) (p)->status = (expr);                                                   \
    } while (0)

/* Host floats: zero, or drawn from [-1, 1). They live until probe_report(). */
float *probe_zeros(probe *p, size_t count);
float *probe_draw(probe *p, size_t count);
/* Device memory with these bytes (NULL: undefined). It lives until probe_report(). */
trine_buffer *probe_buffer(probe *p, const void *host, size_t bytes);
/* A tensor of a shape; host is dense NCHW or NULL. */
trine_tensor probe_tensor(probe *p, const trine_shape *shape, int cb, const float *host);
/* The same as floats or halves. */
trine_tensor probe_tensor_as(probe *p, const trine_shape *shape, int cb, trine_dtype dtype,
                             const float *host);
/* Compare what the device has with what it should have. An error is |device - want| / terms: sums of so many terms are allowed so much
 * more. The test's error is the largest of all its comparisons; NaN anywhere is NaN. */
void probe_check(probe *p, const char *what, const float *got, const float *want, size_t count, double terms);
void probe_check_tensor(probe *p, const char *what, const trine_tensor *tensor, const float *want);
void probe_check_buffer(probe *p, const char *what, const trine_buffer *buffer, const float *want,
                        size_t count, double terms);
/* Judge a test: it passed if nothing failed and its error is <= bound. The next one begins; what is in the arenas stays. */
void probe_judge(probe *p, const char *name, const char *implementation, double bound);
/* The same, and empty the arenas. */
void probe_report(probe *p, const char *name, const char *implementation, double bound);

/* Run `one` for every usable device, in a process of its own: a driver that crashes takes only that with it. */
int probe_all(cli_run *run, int (*one)(cli_run *run));

void probe_conv2d(probe *p);
void probe_batchnorm(probe *p);
void probe_pool2d(probe *p);
void probe_linear(probe *p);
void probe_elementwise(probe *p);
void probe_losses(probe *p);
void probe_optimizers(probe *p);
void probe_network(probe *p);

#endif
