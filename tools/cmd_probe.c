/* SPDX-License-Identifier: MIT */
/* trine probe: does the device give the right answers, and how fast is it? */
#include "probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

float *probe_zeros(probe *p, size_t count)
{
    if (p->floats_used + count > PROBE_FLOATS) { /* a test that outgrew the arena */
        p->status = TRINE_ERR_NOMEM;
        p->floats_used = 0;
    }
    float *out = p->floats + p->floats_used;
    p->floats_used += count;
    memset(out, 0, count * sizeof *out);
    return out;
}

float *probe_draw(probe *p, size_t count)
{
    float *out = probe_zeros(p, count);
    for (size_t i = 0; i < count; i++) {
        p->random = p->random * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        out[i] = (float)(p->random >> 8) / 8388608.0f - 1.0f;
    }
    return out;
}

trine_buffer *probe_buffer(probe *p, const void *host, size_t bytes)
{
    trine_buffer *buffer = NULL;
    if (p->buffer_count == PROBE_BUFFERS) p->status = TRINE_ERR_NOMEM;
    PROBE_DO(p, trine_buffer_create(p->context, bytes, &buffer));
    if (host != NULL) PROBE_DO(p, trine_buffer_write(p->stream, buffer, 0, host, bytes));
    if (buffer != NULL) p->buffers[p->buffer_count++] = buffer;
    return buffer;
}

trine_tensor probe_tensor(probe *p, const trine_shape *shape, int cb, const float *host)
{
    return probe_tensor_as(p, shape, cb, TRINE_F32, host);
}

trine_tensor probe_tensor_as(probe *p, const trine_shape *shape, int cb, trine_dtype dtype, const float *host)
{
    trine_tensor tensor = {.shape = *shape, .cb = cb, .dtype = dtype};
    tensor.buffer = probe_buffer(p, NULL, trine_tensor_bytes(&tensor));
    if (host != NULL) PROBE_DO(p, trine_tensor_upload(p->stream, host, &tensor));
    return tensor;
}

void probe_check(probe *p, const char *what, const float *got, const float *want, size_t count, double terms)
{
    for (size_t i = 0; i < count && p->status == TRINE_OK && !isnan(p->error); i++) {
        const double error = fabs((double)got[i] - (double)want[i]) / terms;
        if (error <= p->error) continue;
        p->error = error;
        snprintf(p->worst, sizeof p->worst, "%s[%zu] is %.6g, expected %.6g", what, i, (double)got[i],
                 (double)want[i]);
    }
}

void probe_check_tensor(probe *p, const char *what, const trine_tensor *tensor, const float *want)
{
    const trine_shape *s = &tensor->shape;
    const size_t count = (size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w;
    float *got = probe_zeros(p, count);
    PROBE_DO(p, trine_tensor_download(p->stream, tensor, got));
    probe_check(p, what, got, want, count, 1);
}

void probe_check_buffer(probe *p, const char *what, const trine_buffer *buffer, const float *want,
                        size_t count, double terms)
{
    float *got = probe_zeros(p, count);
    PROBE_DO(p, trine_buffer_read(p->stream, buffer, 0, got, count * sizeof *got));
    probe_check(p, what, got, want, count, terms);
}

/* The kernels that the test has launched, by the profile: names as an array, and as a list for people. */
static cJSON *launched(probe *p, char *list, size_t size)
{
    const trine_profile_row *rows = NULL;
    size_t count = 0, used = 0;
    cJSON *names = cJSON_CreateArray();
    list[0] = '\0';
    if (p->stream == NULL || trine_stream_profile(p->stream, &rows, &count) != TRINE_OK) return names;
    for (size_t i = 0; i < count; i++) {
        char kernel[64]; /* a row's name is the kernel and, behind a blank, what it was launched for */
        int known = 0;
        snprintf(kernel, sizeof kernel, "%.*s", (int)strcspn(rows[i].name, " "), rows[i].name);
        for (const cJSON *name = names->child; name != NULL; name = name->next)
            known |= strcmp(name->valuestring, kernel) == 0;
        if (known) continue;
        cJSON_AddItemToArray(names, cli_json_text(kernel));
        if (used < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s", used > 0 ? ", " : "", kernel);
    }
    return names;
}

/* "y[17] is 0.5, expected 0.25 (error 0.25, allowed 1e-06)", or the library's sentence. */
static void describe(const probe *p, int ok, double bound, char *out, size_t size)
{
    if (p->status != TRINE_OK)
        snprintf(out, size, "%s",
                 trine_last_error()[0] != '\0' ? trine_last_error() : trine_status_text(p->status));
    else if (ok)
        snprintf(out, size, "error %.3g, allowed %.3g", p->error, bound);
    else
        snprintf(out, size, "%s (error %.3g, allowed %.3g)", p->worst, p->error, bound);
}

void probe_judge(probe *p, const char *name, const char *implementation, double bound)
{
    char detail[400], kernels[160];
    const int ok = p->status == TRINE_OK && p->error <= bound;
    describe(p, ok, bound, detail, sizeof detail);
    cJSON *row = cJSON_CreateObject();
    cli_set_text(row, "name", name);
    cJSON_AddBoolToObject(row, "ok", ok);
    cli_set_text(row, "detail", detail);
    cli_set_text(row, "implementation", implementation);
    cJSON_AddItemToObject(row, "kernels", launched(p, kernels, sizeof kernels));
    cJSON_AddItemToArray(p->tests, row);
    if (ok)
        cli_print(p->run, "ok %-60s %5.1g <= %.1g\n", name, p->error, bound);
    else
        cli_print(p->run, "FAILED %s: %s\n", name, detail);
    if (!ok && p->failed == 0)
        snprintf(p->first_wrong, sizeof p->first_wrong, "%s (kernels %s), test '%s': %s", implementation,
                 kernels[0] != '\0' ? kernels : "none", name, detail);
    p->passed += ok;
    p->failed += !ok;
    if (p->status == TRINE_ERR_BUILD && !p->run->v.quiet) fprintf(stderr, "%s\n", trine_last_build_log());
    p->error = 0;
    p->worst[0] = '\0';
}

void probe_report(probe *p, const char *name, const char *implementation, double bound)
{
    probe_judge(p, name, implementation, bound);
    if (p->stream != NULL) (void)trine_stream_sync(p->stream);
    while (p->buffer_count > 0) trine_buffer_release(&p->buffers[--p->buffer_count]);
    p->floats_used = 0;
    p->status = TRINE_OK;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { RUNS = 9 };

static double median(double *seconds)
{
    qsort(seconds, RUNS, sizeof *seconds, by_value);
    return seconds[RUNS / 2];
}

/* A 3x3 convolution of 64 channels at 56x56, batch 8. */
static int measure_gflops(cli_run *run, double *out)
{
    const int cb = strcmp(trine_context_device(run->context)->type, "cpu") == 0 ? 16 : 1;
    const trine_shape shape = {8, 64, 56, 56};
    trine_conv2d_desc desc = trine_conv2d_desc_default(64, 64, 3);
    trine_conv2d *op = NULL;
    trine_tensor x = {0}, y = {0};
    trine_buffer *weights = NULL, *workspace = NULL;
    const size_t count = 8 * 64 * 56 * 56;
    float *host = calloc(count, sizeof *host);
    double seconds[RUNS];
    int code = CLI_OK;
    desc.pad_h = desc.pad_w = 1;
    desc.in_cb = desc.out_cb = cb;
    if (host == NULL) return cli_error(CLI_FAILED, "out of memory");
    CLI_TRY(trine_conv2d_create(run->context, &desc, 56, 56, 1u << TRINE_FORWARD, &op));
    CLI_TRY(trine_tensor_create(run->context, &shape, cb, &x));
    CLI_TRY(trine_tensor_create(run->context, &shape, cb, &y));
    CLI_TRY(trine_tensor_upload(run->stream, host, &x));
    CLI_TRY(trine_buffer_create(run->context, 64 * 64 * 9 * sizeof(float), &weights));
    CLI_TRY(trine_buffer_write(run->stream, weights, 0, host, 64 * 64 * 9 * sizeof(float)));
    const size_t bytes = trine_conv2d_workspace_bytes(op, TRINE_FORWARD, 8);
    if (bytes > 0) CLI_TRY(trine_buffer_create(run->context, bytes, &workspace));
    CLI_TRY(trine_conv2d_prepare(op, run->stream, weights));
    for (int i = -2; i < RUNS; i++) {
        const double start = cli_seconds();
        CLI_TRY(trine_conv2d_forward(op, run->stream, &x, NULL, &y, workspace));
        CLI_TRY(trine_stream_sync(run->stream));
        if (i >= 0) seconds[i] = cli_seconds() - start;
    }
    *out = 2.0 * 64 * 64 * 9 * 56 * 56 * 8 / median(seconds) * 1e-9;
cleanup:
    trine_conv2d_destroy(&op);
    trine_buffer_release(&x.buffer);
    trine_buffer_release(&y.buffer);
    trine_buffer_release(&weights);
    trine_buffer_release(&workspace);
    free(host);
    return code;
}

/* Seconds of `repeat` sums of two tensors with one wait at the end. */
static int time_add(cli_run *run, trine_elementwise *op, const trine_shape *shape, int repeat, double *out)
{
    trine_tensor t[3] = {{0}};
    double seconds[RUNS];
    int code = CLI_OK;
    const size_t bytes = trine_tensor_elements(shape, 1) * sizeof(float);
    float *host = calloc(1, bytes);
    if (host == NULL) return cli_error(CLI_FAILED, "out of memory");
    for (int i = 0; i < 3; i++) {
        CLI_TRY(trine_tensor_create(run->context, shape, 1, &t[i]));
        CLI_TRY(trine_tensor_upload(run->stream, host, &t[i]));
    }
    for (int i = -2; i < RUNS; i++) {
        const double start = cli_seconds();
        for (int k = 0; k < repeat; k++) CLI_TRY(trine_add(op, run->stream, &t[0], &t[1], &t[2]));
        CLI_TRY(trine_stream_sync(run->stream));
        if (i >= 0) seconds[i] = (cli_seconds() - start) / repeat;
    }
    *out = median(seconds);
cleanup:
    for (int i = 0; i < 3; i++) trine_buffer_release(&t[i].buffer);
    free(host);
    return code;
}

static int measure(cli_run *run)
{
    static const trine_shape large = {8, 64, 128, 128}, small = {1, 1, 1, 1}; /* 32 MiB, 4 bytes */
    trine_elementwise *op = NULL;
    double gflops = 0, add_s = 0, launch_s = 0;
    int code = CLI_OK;
    CLI_TRY(trine_elementwise_create(run->context, &op));
    CLI_RUN(measure_gflops(run, &gflops));
    CLI_RUN(time_add(run, op, &large, 1, &add_s));
    CLI_RUN(time_add(run, op, &small, 200, &launch_s));
    const double gbps = 3.0 * sizeof(float) * (double)trine_tensor_elements(&large, 1) / add_s * 1e-9;
    cli_set(run->json, "gflops", gflops);
    cli_set(run->json, "gbps", gbps);
    cli_set(run->json, "launch_us", 1e6 * launch_s);
    cli_print(run, "\n3x3 convolution, 64 channels, 56x56, batch 8  %8.1f GFLOP/s\n", gflops);
    cli_print(run, "sum of two tensors of 32 MiB                  %8.1f GB/s\n", gbps);
    cli_print(run, "launch                                        %8.1f us\n", 1e6 * launch_s);
cleanup:
    trine_elementwise_destroy(&op);
    return code;
}

static void run_tests(probe *p)
{
    probe_elementwise(p);
    probe_conv2d(p);
    probe_batchnorm(p);
    probe_pool2d(p);
    probe_linear(p);
    probe_losses(p);
    probe_optimizers(p);
    probe_network(p);
}

static int probe_device(cli_run *run)
{
    probe p = {.run = run, .random = 1, .floats = malloc(PROBE_FLOATS * sizeof(float))};
    int code = CLI_OK;
    if (p.floats == NULL) return cli_error(CLI_FAILED, "out of memory");
    CLI_RUN(cli_open_device(run, 1)); /* the profile tells which kernels ran */
    const trine_device_info *device = trine_context_device(run->context);
    cli_talk(run, "device %d: %s (%s), driver %s", device->index, device->name, device->platform,
             device->driver);
    p.context = run->context;
    p.stream = run->stream;
    p.tests = cJSON_CreateArray();
    run_tests(&p);
    cJSON_AddBoolToObject(run->json, "ok", p.failed == 0);
    cli_set_text(run->json, "device", device->name);
    cJSON_AddItemToObject(run->json, "tests", p.tests);
    cli_print(run, "%d known-answer tests passed, %d failed\n", p.passed, p.failed);
    if (p.failed > 0) {
        run->complete = 1;
        code = cli_error(CLI_CHECK, "device %d (%s) is refused: %d of %d known-answer tests failed, first %s",
                         device->index, device->name, p.failed, p.passed + p.failed, p.first_wrong);
    } else {
        trine_stream_destroy(&run->stream); /* measured without the profile's cost */
        CLI_RUN(cli_open_device(run, 0));
        code = measure(run);
    }
cleanup:
    free(p.floats);
    return code;
}

static int probe_chosen(cli_run *run)
{
    if (!run->v.all) return probe_device(run);
    if (strcmp(run->v.device, "auto") != 0)
        return cli_usage(&run->command->syntax, "--all does not go with --device %s", run->v.device);
    return probe_all(run, probe_device);
}

static const cli_option own_options[] = {
    {"all", CLI_FLAG, CLI_AT(all), NULL, NULL, 0, 0, "probe every usable device, one after the other"},
};
static const cli_section own_section = CLI_SECTION("Probe", own_options);
static const cli_section *const sections[] = {&own_section};

const cli_command cmd_probe = {
    {"probe", "", "run known-answer tests on a device and measure its speed", 0, 0, sections,
     CLI_COUNTOF(sections),
     "Every implementation of every operator is compared with loops on the host. Exit code 5: a wrong "
     "answer; "
     "the sentence names implementation, kernels, what came out and what was expected. With --all the code "
     "is "
     "the highest of all devices', and a driver that crashes is reported (1) without ending the run."},
    probe_chosen};
