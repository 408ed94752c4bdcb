/* SPDX-License-Identifier: MIT */
/* trine bench: time of inference or of a training step of one network on random data. */
#include "cli_layers.h"
#include "cli_network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3 };

static const cli_option own_options[] = {
    {"arch", CLI_TEXT, CLI_AT(arch), "A", "resnet18", 0, 0, "variant"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "8", 1, 65536, "images at a time"},
    {"size", CLI_INT, CLI_AT(size), "N", NULL, 1, 16384,
     "rows and columns of an image [224, or 32 for *_cifar]"},
    {"mode", CLI_CHOICE, CLI_AT(mode), "infer|train", "infer", 0, 0,
     "train: forward, softmax cross-entropy, backward, SGD with momentum, batch statistics"},
    {"checkpoint-activations", CLI_FLAG, CLI_AT(checkpoint_activations), NULL, NULL, 0, 0,
     "of --mode train: as in train"},
    {"runs", CLI_INT, CLI_AT(runs), "N", "11", 7, 100000, "timed runs, after a warm-up"},
    {"layers", CLI_FLAG, CLI_AT(layers), NULL, NULL, 0, 0,
     "then profile: every distinct convolution, everything else, and the time outside kernels"},
};
static const cli_section own_section = CLI_SECTION("Benchmark", own_options);
static const cli_section *const sections[] = {&own_section, &cli_precision_section};

/* One network ready to run a step again and again. */
typedef struct bench_job {
    trine_session *session;
    trine_tensor x, d_logits;
    trine_buffer *labels, *stats;
    trine_cross_entropy *loss;
    trine_gradients *gradients;
    trine_optimizer *optimizer;
    int train;
} bench_job;

static void close_job(bench_job *job)
{
    trine_session_destroy(&job->session);
    trine_gradients_destroy(&job->gradients);
    trine_optimizer_destroy(&job->optimizer);
    trine_cross_entropy_destroy(&job->loss);
    trine_buffer_release(&job->x.buffer);
    trine_buffer_release(&job->d_logits.buffer);
    trine_buffer_release(&job->labels);
    trine_buffer_release(&job->stats);
    *job = (bench_job){0};
}

/* Values in [-1, 1) and class numbers, the same in every run. */
static int fill(cli_run *run, bench_job *job, const trine_shape *shape)
{
    const size_t count = (size_t)shape->n * (size_t)shape->c * (size_t)shape->h * (size_t)shape->w;
    float *x = NULL;
    int32_t *labels = NULL;
    uint32_t state = 1;
    int code = CLI_OK;
    CLI_TRY(trine_tensor_create(run->context, shape, 1, &job->x)); /* the device says if this is too much */
    x = malloc(count * sizeof *x);
    labels = malloc((size_t)shape->n * sizeof *labels);
    if (x == NULL || labels == NULL) {
        code = cli_error(CLI_FAILED, "out of memory");
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        x[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    for (int i = 0; i < shape->n; i++) labels[i] = i % trine_resnet_outputs(run->net);
    CLI_TRY(trine_tensor_upload(run->stream, x, &job->x));
    CLI_TRY(trine_buffer_create(run->context, (size_t)shape->n * sizeof *labels, &job->labels));
    CLI_TRY(trine_buffer_write(run->stream, job->labels, 0, labels, (size_t)shape->n * sizeof *labels));
cleanup:
    free(x);
    free(labels);
    return code;
}

static int open_job(cli_run *run, const trine_shape *shape, bench_job *job)
{
    int code = CLI_OK;
    job->train = run->v.mode == 1;
    CLI_RUN(fill(run, job, shape));
    if (!job->train) {
        CLI_TRY(trine_session_create_inference(run->net, run->stream, shape, &job->session));
        goto cleanup;
    }
    const trine_shape logits = {shape->n, trine_resnet_outputs(run->net), 1, 1};
    trine_optimizer_desc sgd = trine_optimizer_desc_default(TRINE_SGD);
    sgd.momentum = 0.9f;
    const int keep = run->v.checkpoint_activations ? TRINE_BACKWARD_CHECKPOINT : TRINE_BACKWARD_KEEP;
    CLI_TRY(trine_session_create_training(run->net, run->stream, shape, TRINE_EMBED_FC, keep, &job->session));
    CLI_TRY(trine_tensor_create(run->context, &logits, 1, &job->d_logits));
    CLI_TRY(trine_buffer_create(run->context, 2 * sizeof(float), &job->stats));
    CLI_TRY(trine_cross_entropy_create(run->context, &job->loss));
    CLI_TRY(trine_gradients_create(run->net, run->stream, &job->gradients));
    CLI_TRY(trine_optimizer_create(run->context, &sgd, trine_resnet_flat_count(run->net), &job->optimizer));
cleanup:
    return code;
}

static int step(cli_run *run, bench_job *job)
{
    int code = CLI_OK;
    CLI_TRY(trine_session_forward(job->session, &job->x));
    if (job->train) {
        const trine_tensor logits = trine_session_logits(job->session);
        CLI_TRY(trine_cross_entropy_run(job->loss, run->stream, &logits, job->labels, &job->d_logits,
                                        job->stats, 0));
        trine_gradients_clear(job->gradients);
        CLI_TRY(trine_session_backward(job->session, &job->d_logits, job->gradients));
        CLI_TRY(trine_resnet_step(run->net, run->stream, job->optimizer, job->gradients, 1e-4f));
    }
    CLI_TRY(trine_stream_sync(run->stream));
cleanup:
    return code;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(cli_run *run, bench_job *job, double *first_s, double *median_ms, double *min_ms)
{
    const int runs = run->v.runs;
    double *ms = malloc((size_t)runs * sizeof *ms);
    int code = CLI_OK;
    if (ms == NULL) return cli_error(CLI_FAILED, "out of memory");
    CLI_RUN(step(run, job));
    *first_s = cli_seconds() - run->start;
    for (int i = 0; i < WARM_UP; i++) CLI_RUN(step(run, job));
    for (int i = 0; i < runs; i++) {
        const double start = cli_seconds();
        CLI_RUN(step(run, job));
        ms[i] = 1e3 * (cli_seconds() - start);
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    *median_ms = runs % 2 ? ms[runs / 2] : 0.5 * (ms[runs / 2 - 1] + ms[runs / 2]);
    *min_ms = ms[0];
cleanup:
    free(ms);
    return code;
}

/* The same steps on a stream that times every launch; the step's time is that of these runs. */
static int profile(cli_run *run, const trine_shape *shape)
{
    const trine_profile_row *rows = NULL;
    size_t count = 0;
    double first_s, median_ms, min_ms;
    bench_job job = {0};
    int code = CLI_OK;
    trine_stream_destroy(&run->stream);
    CLI_TRY(trine_stream_create(run->context, 1, &run->stream));
    CLI_RUN(open_job(run, shape, &job));
    CLI_RUN(step(run, &job));
    CLI_RUN(step(run, &job));
    CLI_TRY(trine_stream_profile(run->stream, &rows, &count));
    const int warm_up = WARM_UP + 1; /* of measure() */
    CLI_RUN(measure(run, &job, &first_s, &median_ms, &min_ms));
    CLI_TRY(trine_stream_profile(run->stream, &rows, &count));
    CLI_RUN(cli_print_layers(run, job.session, shape->n, rows, count, run->v.runs + warm_up, median_ms));
cleanup:
    close_job(&job);
    return code;
}

static int bench(cli_run *run)
{
    const cli_values *v = &run->v;
    const trine_resnet_options what = {.arch = v->arch, .seed = v->seed};
    const int size = v->size != CLI_UNSET ? v->size : cli_has_ending(v->arch, "_cifar") ? 32 : 224;
    const trine_shape shape = {v->batch, 3, size, size};
    bench_job job = {0};
    double first_s = 0, median_ms = 0, min_ms = 0;
    uint64_t now_bytes = 0, peak_bytes = 0;
    int code = CLI_OK;
    if (v->checkpoint_activations && v->mode != 1)
        return cli_usage(&run->command->syntax, "--checkpoint-activations belongs to --mode train");
    CLI_RUN(cli_open_device(run, 0));
    CLI_TRY(trine_resnet_create(run->context, &what, &run->net));
    if (v->mode == 1) CLI_TRY(trine_resnet_set_bn(run->net, "train"));
    CLI_RUN(cli_set_precision(run));
    CLI_RUN(open_job(run, &shape, &job));
    const trine_device_info *device = trine_context_device(run->context);
    cli_talk(run, "%s, batch %d, %dx%d, %s in %s on %s", v->arch, v->batch, size, size,
             v->mode == 1 ? "training" : "inference", cli_precision_name(run), device->name);
    trine_context_memory(run->context, &now_bytes, NULL);
    cli_set(run->json, "planned_bytes", (double)now_bytes);
    cli_talk(run, "%.0f MiB on the device", (double)now_bytes / (1 << 20));
    char tuning[TRINE_SESSION_TUNING];
    CLI_TRY(trine_session_tuning(job.session, tuning));
    cli_set_tuning(run, tuning);
    CLI_RUN(measure(run, &job, &first_s, &median_ms, &min_ms));
    trine_context_memory(run->context, &now_bytes, &peak_bytes);
    const double flops = 2 * trine_resnet_macs(run->net, size, size) * v->batch * (v->mode == 1 ? 3 : 1);
    cli_set(run->json, "ms_median", median_ms);
    cli_set(run->json, "ms_min", min_ms);
    cli_set(run->json, "images_per_s", 1e3 * v->batch / median_ms);
    cli_set(run->json, "gflops", flops / median_ms / 1e6);
    cli_set(run->json, "first_run_s", first_s);
    cli_set(run->json, "peak_bytes", (double)peak_bytes);
    cli_set_text(run->json, "arch", v->arch);
    cli_set(run->json, "batch", v->batch);
    cli_set(run->json, "size", size);
    cli_set_text(run->json, "mode", v->mode == 1 ? "train" : "infer");
    cli_set(run->json, "runs", v->runs);
    cli_set_text(run->json, "device", device->name);
    cli_set_text(run->json, "driver", device->driver);
    cli_print(run, "ms_median     %.3f\nms_min        %.3f\nimages_per_s  %.1f\ngflops        %.1f\n",
              median_ms, min_ms, 1e3 * v->batch / median_ms, flops / median_ms / 1e6);
    cli_print(run, "first_run_s   %.2f\npeak_bytes    %llu (%.0f MiB)\n", first_s,
              (unsigned long long)peak_bytes, (double)peak_bytes / (1 << 20));
    close_job(&job);
    if (v->layers) CLI_RUN(profile(run, &shape));
cleanup:
    close_job(&job);
    return code;
}

const cli_command cmd_bench = {
    {"bench", "", "time inference or training of a network", 0, 0, sections, CLI_COUNTOF(sections),
     "Random weights and images. first_run_s is the time from the start of the program to its first result; "
     "gflops "
     "counts two operations a multiply-add, and training as three times inference."},
    bench};
