/* SPDX-License-Identifier: MIT */
/* A child of trine tune: one candidate, compared with the reference and then timed. */
#include "tune.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHECK_IMAGES = 2, GUARD_BYTES = 4096, GUARD = 0xa5, MOST_RUNS = 15, LEAST_RUNS = 3 };
static const double time_enough_s = 0.4;
static const double allowed_error =
    1e-3; /* of the largest result: far above rounding, F(4x4, 3x3)'s included, far below a mistake */
static const double allowed_half_error = 1e-2; /* and TF32's, which has as many bits */

/* Device memory between two guards. */
typedef struct guarded {
    trine_buffer *all, *inner;
    size_t bytes; /* of the inner part, rounded up */
} guarded;

static int make_guarded(cli_run *run, size_t bytes, guarded *g)
{
    int code = CLI_OK;
    g->bytes = (bytes + GUARD_BYTES - 1) / GUARD_BYTES * GUARD_BYTES;
    const size_t all = g->bytes + 2 * GUARD_BYTES;
    void *pattern = malloc(all);
    if (pattern == NULL) return cli_error(CLI_FAILED, "out of memory");
    memset(pattern, GUARD, all);
    CLI_TRY(trine_buffer_create(run->context, all, &g->all));
    CLI_TRY(trine_buffer_write(run->stream, g->all, 0, pattern, all));
    CLI_TRY(trine_buffer_view(g->all, GUARD_BYTES, g->bytes, &g->inner));
cleanup:
    free(pattern);
    return code;
}

static void release_guarded(guarded *g)
{
    trine_buffer_release(&g->inner);
    trine_buffer_release(&g->all);
}

static int check_guards(cli_run *run, const guarded *g)
{
    unsigned char seen[GUARD_BYTES];
    int code = CLI_OK;
    for (int end = 0; g->all != NULL && end < 2; end++) {
        CLI_TRY(trine_buffer_read(run->stream, g->all, end ? GUARD_BYTES + g->bytes : 0, seen, sizeof seen));
        for (size_t i = 0; i < sizeof seen; i++)
            if (seen[i] != GUARD) {
                cli_set_text(run->json, "error", "wrote outside its buffer");
                return CLI_CHECK;
            }
    }
cleanup:
    return code;
}

/* Operands of n images, and the operator on them. What is written lies between guards. */
typedef struct bench {
    const tune_problem *p;
    trine_conv2d *op;
    trine_linear *fc; /* instead of op */
    trine_tensor x, y;
    guarded out, workspace;
    trine_buffer *weights, *bias; /* of fc: 0, or its gradient */
} bench;

static void close_bench(bench *b)
{
    const int x_is_out = b->p != NULL && b->p->direction == TRINE_BACKWARD_DATA,
              y_is_out = b->p != NULL && b->p->direction == TRINE_FORWARD;
    trine_conv2d_destroy(&b->op);
    trine_linear_destroy(&b->fc);
    trine_buffer_release(&b->bias);
    if (!x_is_out) trine_buffer_release(&b->x.buffer);
    if (!y_is_out) trine_buffer_release(&b->y.buffer);
    trine_buffer_release(&b->weights);
    release_guarded(&b->out);
    release_guarded(&b->workspace);
    *b = (bench){0};
}

/* Random values in [-1, 1), the same for every candidate. */
static float *draw(size_t count, uint32_t state)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; values != NULL && i < count; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        values[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return values;
}

static int fill(cli_run *run, trine_tensor *t, uint32_t seed)
{
    const trine_shape *s = &t->shape;
    float *values = draw((size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w, seed);
    int code = CLI_OK;
    if (values == NULL) return cli_error(CLI_FAILED, "out of memory");
    CLI_TRY(trine_tensor_create_as(run->context, s, t->cb, t->dtype, t));
    CLI_TRY(trine_tensor_upload(run->stream, values, t));
cleanup:
    free(values);
    return code;
}

/* The operator and the shape of y; *workspace: its bytes. The fully connected layer's reference is a convolution. */
static int open_operator(cli_run *run, const tune_problem *p, const char *algorithm, int n, bench *b,
                         size_t *workspace)
{
    trine_conv2d_desc d = p->desc;
    float *zeros = NULL;
    int code = CLI_OK;
    if (p->linear && strcmp(algorithm, TUNE_REFERENCE) != 0) {
        const size_t bytes = (size_t)d.out_channels * sizeof(float);
        b->y.shape = (trine_shape){n, d.out_channels, 1, 1};
        CLI_TRY(trine_linear_create(run->context, d.in_channels, d.out_channels, n, algorithm, &b->fc));
        *workspace = trine_linear_workspace_bytes(b->fc, run->stream, n);
        zeros = calloc(1, bytes);
        if (zeros == NULL) return cli_error(CLI_FAILED, "out of memory");
        CLI_TRY(trine_buffer_create(run->context, bytes, &b->bias));
        CLI_TRY(trine_buffer_write(run->stream, b->bias, 0, zeros, bytes));
    } else {
        d.algorithm = algorithm;
        CLI_TRY(trine_conv2d_create(run->context, &d, p->h, p->w, 1u << p->direction, &b->op));
        CLI_TRY(trine_conv2d_output_shape(b->op, n, &b->y.shape));
        *workspace = trine_conv2d_workspace_bytes(b->op, p->direction, n);
    }
cleanup:
    free(zeros);
    return code;
}

static int open_bench(cli_run *run, const tune_problem *p, const char *algorithm, int n, bench *b)
{
    const trine_conv2d_desc d = p->desc;
    float *weights = NULL;
    size_t workspace = 0;
    int code = CLI_OK;
    b->p = p;
    b->x = (trine_tensor){.shape = {n, d.in_channels, p->h, p->w}, .cb = d.in_cb, .dtype = d.in_dtype};
    b->y = (trine_tensor){.cb = d.out_cb, .dtype = d.out_dtype};
    CLI_RUN(open_operator(run, p, algorithm, n, b, &workspace));
    const size_t weight_bytes = trine_conv2d_weight_count(&d) * sizeof(float);
    const size_t out_bytes = p->direction == TRINE_FORWARD         ? trine_tensor_bytes(&b->y)
                             : p->direction == TRINE_BACKWARD_DATA ? trine_tensor_bytes(&b->x)
                                                                   : weight_bytes;
    CLI_RUN(make_guarded(run, out_bytes, &b->out));
    if (workspace > 0) CLI_RUN(make_guarded(run, workspace, &b->workspace));
    if (p->direction == TRINE_BACKWARD_DATA)
        b->x.buffer = b->out.inner;
    else
        CLI_RUN(fill(run, &b->x, 1));
    if (p->direction == TRINE_FORWARD)
        b->y.buffer = b->out.inner;
    else
        CLI_RUN(fill(run, &b->y, 2));
    weights = draw(weight_bytes / sizeof(float), 3);
    if (weights == NULL) {
        code = cli_error(CLI_FAILED, "out of memory");
        goto cleanup;
    }
    CLI_TRY(trine_buffer_create(run->context, weight_bytes, &b->weights));
    CLI_TRY(trine_buffer_write(run->stream, b->weights, 0, weights, weight_bytes));
    if (b->op != NULL) CLI_TRY(trine_conv2d_prepare(b->op, run->stream, b->weights));
cleanup:
    free(weights);
    return code;
}

static trine_status enqueue_linear(cli_run *run, bench *b)
{
    if (b->p->direction == TRINE_FORWARD)
        return trine_linear_forward(b->fc, run->stream, &b->x, b->weights, b->bias, &b->y,
                                    b->workspace.inner);
    if (b->p->direction == TRINE_BACKWARD_DATA)
        return trine_linear_backward_data(b->fc, run->stream, &b->y, b->weights, &b->x, b->workspace.inner);
    return trine_linear_backward_weights(b->fc, run->stream, &b->x, &b->y, 0, b->out.inner, b->bias,
                                         b->workspace.inner);
}

static int run_once(cli_run *run, bench *b, int with_weights)
{
    int code = CLI_OK;
    if (b->fc != NULL) {
        CLI_TRY(enqueue_linear(run, b));
        CLI_TRY(trine_stream_sync(run->stream));
        return CLI_OK;
    }
    if (with_weights) CLI_TRY(trine_conv2d_prepare(b->op, run->stream, b->weights));
    if (b->p->direction == TRINE_FORWARD)
        CLI_TRY(trine_conv2d_forward(b->op, run->stream, &b->x, NULL, &b->y, b->workspace.inner));
    else if (b->p->direction == TRINE_BACKWARD_DATA)
        CLI_TRY(trine_conv2d_backward_data(b->op, run->stream, &b->y, 0, &b->x, b->workspace.inner));
    else
        CLI_TRY(trine_conv2d_backward_weights(b->op, run->stream, &b->x, &b->y, 0, b->out.inner,
                                              b->workspace.inner));
    CLI_TRY(trine_stream_sync(run->stream));
cleanup:
    return code;
}

/* What it has written, dense; *count of them. NULL after an error. Weights' padding is left alone by some: their dense part. */
static float *results(cli_run *run, const bench *b, size_t *count)
{
    const trine_conv2d_desc *d = &b->p->desc;
    const int is_weights = b->p->direction == TRINE_BACKWARD_WEIGHTS;
    const trine_tensor *t = b->p->direction == TRINE_FORWARD ? &b->y : &b->x;
    const size_t stored = trine_conv2d_weight_count(d);
    *count = is_weights
                 ? (size_t)d->out_channels * (size_t)(d->in_channels / d->groups * d->kernel_h * d->kernel_w)
                 : (size_t)t->shape.n * (size_t)t->shape.c * (size_t)t->shape.h * (size_t)t->shape.w;
    float *values = malloc(*count * sizeof *values), *raw = malloc(stored * sizeof *raw);
    trine_status status = values == NULL || raw == NULL ? TRINE_ERR_NOMEM : TRINE_OK;
    if (status == TRINE_OK && is_weights) {
        status = trine_buffer_read(run->stream, b->out.inner, 0, raw, stored * sizeof *raw);
        if (status == TRINE_OK) trine_conv2d_weights_to_dense(d, raw, values);
    } else if (status == TRINE_OK) {
        status = trine_tensor_download(run->stream, t, values);
    }
    free(raw);
    if (status == TRINE_OK) return values;
    free(values);
    return NULL;
}

/* For tests: $TRINE_TUNE_PLANT is "NAME=hang", "crash", "wrong" or "outside", or several of them with commas between. */
static int planted(const char *algorithm, const char *what)
{
    const char *list = getenv("TRINE_TUNE_PLANT");
    char item[128];
    snprintf(item, sizeof item, "%s=%s", algorithm, what);
    for (const char *at = list; at != NULL && (at = strstr(at, item)) != NULL; at++)
        if ((at == list || at[-1] == ',') && (at[strlen(item)] == '\0' || at[strlen(item)] == ',')) return 1;
    return 0;
}

static int play(cli_run *run, const bench *b, const char *algorithm)
{
    static const float wrong[1] = {1e3f};
    static const unsigned char outside[1] = {0};
    int code = CLI_OK;
    if (planted(algorithm, "crash")) {
        signal(SIGSEGV, SIG_DFL); /* drivers may have a handler of their own */
        raise(SIGSEGV);
    }
    while (planted(algorithm, "hang")) pause();
    if (planted(algorithm, "wrong"))
        CLI_TRY(trine_buffer_write(run->stream, b->out.inner, 0, wrong, sizeof wrong));
    if (planted(algorithm, "outside"))
        CLI_TRY(trine_buffer_write(run->stream, b->out.all, GUARD_BYTES - 1, outside, sizeof outside));
cleanup:
    return code;
}

static int compare(cli_run *run, const bench *a, const bench *reference)
{
    size_t count, same;
    float *got = results(run, a, &count), *want = results(run, reference, &same);
    int code = got == NULL || want == NULL ? CLI_FAILED : CLI_OK;
    double largest = 0, worst = 0;
    char text[128];
    for (size_t i = 0; code == CLI_OK && i < count; i++) {
        const double error = fabs((double)got[i] - (double)want[i]);
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
        if (!(error <= worst)) worst = error; /* NaN stays */
    }
    const trine_conv2d_desc *d = &a->p->desc;
    const int rounded = d->in_dtype == TRINE_F16 || d->out_dtype == TRINE_F16 || d->allow_tf32;
    const double allowed = (rounded ? allowed_half_error : allowed_error) * largest;
    if (code == CLI_OK && !(worst <= allowed)) {
        snprintf(text, sizeof text, "wrong: off by %.3g where results are as large as %.3g", worst, largest);
        cli_set_text(run->json, "error", text);
        code = CLI_CHECK;
    }
    free(got);
    free(want);
    return code;
}

static int check(cli_run *run, const tune_candidate *c)
{
    bench b = {0}, reference = {0};
    const int n = run->v.batch < CHECK_IMAGES ? run->v.batch : CHECK_IMAGES;
    int code = CLI_OK;
    CLI_RUN(open_bench(run, c->problem, c->algorithm, n, &b));
    CLI_RUN(open_bench(run, c->problem, TUNE_REFERENCE, n, &reference));
    CLI_RUN(run_once(run, &reference, 0));
    CLI_RUN(run_once(run, &b, 0));
    CLI_RUN(play(run, &b, c->algorithm));
    CLI_RUN(compare(run, &b, &reference));
    CLI_RUN(check_guards(run, &b.out));
    CLI_RUN(check_guards(run, &b.workspace));
cleanup:
    close_bench(&b);
    close_bench(&reference);
    return code;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int tune_measure(cli_run *run, void *user)
{
    const tune_candidate *c = user;
    bench b = {0};
    double ms[MOST_RUNS], all = 0;
    int runs = 0, code = CLI_OK;
    CLI_RUN(cli_open_device(run, 0));
    CLI_RUN(check(run, c));
    CLI_RUN(open_bench(run, c->problem, c->algorithm, run->v.batch, &b));
    CLI_RUN(run_once(run, &b, c->with_weights));
    while (runs < MOST_RUNS && (runs < LEAST_RUNS || all < time_enough_s)) {
        const double start = cli_seconds();
        CLI_RUN(run_once(run, &b, c->with_weights));
        all += cli_seconds() - start;
        ms[runs++] = 1e3 * (cli_seconds() - start);
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    cli_set(run->json, "ms", runs % 2 ? ms[runs / 2] : 0.5 * (ms[runs / 2 - 1] + ms[runs / 2]));
    run->complete = 1;
cleanup:
    if (code != CLI_OK && cJSON_HasObjectItem(run->json, "error")) run->complete = 1; /* its own words stay */
    close_bench(&b);
    return code;
}
