/* SPDX-License-Identifier: MIT */
/* Runs losses and optimizers on files of raw float32 (labels: int32) for torch_losses.py. Reads one command a
 * line on stdin: normalize N D CB  X DY  Y NORMS DX cross_entropy N K  Z LABELS  STATS DZ triplet BATCHES N D CB
 * MEMORY FIELD=VALUE,...  E LABELS  STATS DE [DT: with learn_temperature] time_triplet N D CB PER_CLASS REPEATS FIELD=VALUE,... triplet_margin N D CB MARGIN P EPS SWAP REDUCTION  A P N
 * LOSS TOTAL DA DP DN optimizer KIND MOMENTUM NESTEROV DECAY BETA1 BETA2 EPS COUNT STEPS  RATES PARAMETERS
 * GRADIENTS  OUT STATE Inputs first, then outputs. GRADIENTS [STEPS][COUNT]; STATE gets every state buffer,
 * one after the other. */
#include <math.h>
#include <time.h>

#include "op/optimizer.h"
#include "support/line_tool.h"
#include "trine/loss.h"

static int next_int(void)
{
    return (int)strtol(next_word(), NULL, 10);
}

static float next_float(void)
{
    return strtof(next_word(), NULL);
}

/* The next file's `count` 32-bit values. */
static void *read_values(size_t count)
{
    const char *path = next_word();
    void *values = calloc(count ? count : 1, 4);
    FILE *f = fopen(path, "rb");
    if (!values || !f || fread(values, 4, count, f) != count) die(path, "cannot be read");
    fclose(f);
    return values;
}

static void write_values(const void *values, size_t count)
{
    const char *path = next_word();
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(values, 4, count, f) != count || fclose(f) != 0) die(path, "cannot be written");
}

static trine_buffer *new_buffer(size_t count)
{
    trine_buffer *b = NULL;
    must(trine_buffer_create(dev.context, (count ? count : 1) * 4, &b));
    return b;
}

static trine_buffer *read_buffer(size_t count)
{
    void *values = read_values(count);
    trine_buffer *b = new_buffer(count);
    must(trine_buffer_write(dev.stream, b, 0, values, count * 4));
    free(values);
    return b;
}

static void write_buffer(trine_buffer **b, size_t count)
{
    void *values = calloc(count ? count : 1, 4);
    if (!values) die(line_words[0], "out of memory");
    must(trine_buffer_read(dev.stream, *b, 0, values, count * 4));
    write_values(values, count);
    free(values);
    trine_buffer_release(b);
}

static trine_tensor new_tensor(int n, int d, int cb)
{
    trine_tensor t;
    must(trine_tensor_create(dev.context, &(trine_shape){n, d, 1, 1}, cb, &t));
    return t;
}

static trine_tensor read_tensor(int n, int d, int cb)
{
    trine_tensor t = new_tensor(n, d, cb);
    float *values = read_values((size_t)n * (size_t)d);
    must(trine_tensor_upload(dev.stream, values, &t));
    free(values);
    return t;
}

static void write_tensor(trine_tensor *t)
{
    const size_t count = (size_t)t->shape.n * (size_t)t->shape.c;
    float *values = calloc(count, sizeof *values);
    if (!values) die(line_words[0], "out of memory");
    must(trine_tensor_download(dev.stream, t, values));
    write_values(values, count);
    free(values);
    trine_buffer_release(&t->buffer);
}

static void run_normalize(void)
{
    const int n = next_int(), d = next_int(), cb = next_int();
    trine_tensor x = read_tensor(n, d, cb), dy = read_tensor(n, d, cb), y = new_tensor(n, d, cb);
    trine_buffer *norms = new_buffer((size_t)n);
    trine_l2norm *op;
    must(trine_l2norm_create(dev.context, &op));
    must(trine_l2norm_forward(op, dev.stream, &x, &y, norms));
    must(trine_l2norm_backward(op, dev.stream, &y, norms, &dy, &dy));
    write_tensor(&y);
    write_buffer(&norms, (size_t)n);
    write_tensor(&dy);
    trine_buffer_release(&x.buffer);
    trine_l2norm_destroy(&op);
}

static void run_cross_entropy(void)
{
    const int n = next_int(), k = next_int();
    trine_tensor z = read_tensor(n, k, 1), dz = new_tensor(n, k, 1);
    trine_buffer *labels = read_buffer((size_t)n), *stats = new_buffer(2);
    trine_cross_entropy *op;
    must(trine_cross_entropy_create(dev.context, &op));
    must(trine_cross_entropy_run(op, dev.stream, &z, labels, &dz, stats, 0));
    write_buffer(&stats, 2);
    write_tensor(&dz);
    trine_buffer_release(&z.buffer);
    trine_buffer_release(&labels);
    trine_cross_entropy_destroy(&op);
}

/* "mining=3,swap=1" into a description of that loss. */
static trine_triplet_desc parse_triplet(const char *text)
{
    trine_triplet_desc desc = {.mining = TRINE_BATCH_HARD};
    const struct {
        const char *name;
        float *real;
        int *integer;
    } fields[] = {{"margin", &desc.margin, NULL},
                  {"soft", NULL, &desc.soft},
                  {"swap", NULL, &desc.swap},
                  {"learn_temperature", NULL, &desc.learn_temperature},
                  {"temperature", &desc.temperature, NULL},
                  {"fraction", &desc.fraction, NULL},
                  {"window_lower", &desc.window_lower, NULL},
                  {"window_upper", &desc.window_upper, NULL},
                  {"weight_lower", &desc.weight_lower, NULL},
                  {"weight_upper", &desc.weight_upper, NULL},
                  {"angle", &desc.angle, NULL},
                  {"alpha", &desc.alpha, NULL},
                  {"beta", &desc.beta, NULL},
                  {"base", &desc.base, NULL},
                  {"epsilon", &desc.epsilon, NULL}};
    for (const char *at = text; *at; at += *at == ',') {
        const char *equals = strchr(at, '=');
        if (!equals) die(at, "want FIELD=VALUE");
        const size_t length = (size_t)(equals - at);
        char *end;
        const double value = strtod(equals + 1, &end);
        size_t k = 0;
        while (k < sizeof fields / sizeof fields[0] &&
               (strlen(fields[k].name) != length || strncmp(at, fields[k].name, length) != 0))
            k++;
        if (k < sizeof fields / sizeof fields[0] && fields[k].real)
            *fields[k].real = (float)value;
        else if (k < sizeof fields / sizeof fields[0])
            *fields[k].integer = (int)value;
        else if (strncmp(at, "loss=", 5) == 0)
            desc.loss = (trine_triplet_loss)value;
        else if (strncmp(at, "mining=", 7) == 0)
            desc.mining = (trine_mining)value;
        else if (strncmp(at, "distance=", 9) == 0)
            desc.distance = (trine_distance)value;
        else if (strncmp(at, "negative=", 9) == 0)
            desc.negative = (trine_negative)value;
        else if (strncmp(at, "seed=", 5) == 0)
            desc.seed = (uint64_t)value;
        else
            die(at, "unknown field");
        at = end;
    }
    return desc;
}

/* Batches one after the other, as the steps of a training would. */
static void run_triplet(void)
{
    const int batches = next_int(), n = next_int(), d = next_int(), cb = next_int(), remembered = next_int();
    const trine_triplet_desc desc = parse_triplet(next_word());
    const size_t row = (size_t)n * (size_t)d, all = (size_t)batches;
    float *e = read_values(all * row), *de = calloc(all * row, sizeof *de), *dt = calloc(all, sizeof *dt);
    int32_t *labels = read_values(all * (size_t)n);
    trine_tensor te = new_tensor(n, d, cb), tde = new_tensor(n, d, cb);
    trine_buffer *tlabels = new_buffer((size_t)n), *stats = new_buffer(all * TRINE_TRIPLET_STATS), *workspace;
    trine_triplet *op;
    trine_triplet_memory *memory = NULL;
    if (!de || !dt) die(line_words[0], "out of memory");
    must(trine_triplet_create(dev.context, &desc, &op));
    if (remembered) {
        must(trine_triplet_memory_create(dev.context, remembered, d, cb, &memory));
        must(trine_triplet_set_memory(op, memory));
    }
    workspace = new_buffer(trine_triplet_workspace_bytes(op, n) / 4);
    for (size_t i = 0; i < all; i++) {
        must(trine_tensor_upload(dev.stream, e + i * row, &te));
        must(trine_buffer_write(dev.stream, tlabels, 0, labels + i * (size_t)n, (size_t)n * 4));
        trine_triplet_set_step(op, i);
        must(trine_triplet_run(op, dev.stream, &te, tlabels, &tde, stats, (int)i, workspace));
        if (memory) must(trine_triplet_memory_add(memory, dev.stream, &te, tlabels));
        must(trine_tensor_download(dev.stream, &tde, de + i * row));
        if (desc.learn_temperature) must(trine_triplet_read_temperature(op, dev.stream, NULL, &dt[i]));
    }
    write_buffer(&stats, all * TRINE_TRIPLET_STATS);
    write_values(de, all * row);
    if (desc.learn_temperature) write_values(dt, all);
    free(dt);
    free(e);
    free(de);
    free(labels);
    trine_buffer_release(&te.buffer);
    trine_buffer_release(&tde.buffer);
    trine_buffer_release(&tlabels);
    trine_buffer_release(&workspace);
    trine_triplet_memory_destroy(&memory);
    trine_triplet_destroy(&op);
}

/* Times of loss and gradient on random unit vectors, on stdout. */
static void time_triplet(void)
{
    const int n = next_int(), d = next_int(), cb = next_int(), per_class = next_int(), repeats = next_int();
    const trine_triplet_desc desc = parse_triplet(next_word());
    double *values = test_random((size_t)n * (size_t)d, 1, -1, 1);
    int32_t *labels = calloc((size_t)n, sizeof *labels);
    if (!labels) die(line_words[0], "out of memory");
    for (int i = 0; i < n; i++) {
        double norm = 0;
        labels[i] = i / per_class;
        for (int c = 0; c < d; c++) norm += values[i * d + c] * values[i * d + c];
        for (int c = 0; c < d; c++) values[i * d + c] /= sqrt(norm);
    }
    test_tensor e = test_tensor_from((trine_shape){n, d, 1, 1}, cb, values),
                de = test_tensor_create(e.t.shape, cb);
    trine_buffer *tlabels = new_buffer((size_t)n), *stats = new_buffer(TRINE_TRIPLET_STATS);
    must(trine_buffer_write(dev.stream, tlabels, 0, labels, (size_t)n * sizeof *labels));
    trine_triplet *op;
    must(trine_triplet_create(dev.context, &desc, &op));
    const size_t bytes = trine_triplet_workspace_bytes(op, n);
    trine_buffer *workspace = new_buffer(bytes / 4);
    printf("{\"workspace_bytes\": %zu, \"ms\": [", bytes);
    for (int i = -2; i < repeats; i++) { /* two to warm up */
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        must(trine_triplet_run(op, dev.stream, &e.t, tlabels, &de.t, stats, 0, workspace));
        must(trine_stream_sync(dev.stream));
        clock_gettime(CLOCK_MONOTONIC, &end);
        const double ms =
            (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
        if (i >= 0) printf("%s%.3f", i ? ", " : "", ms);
    }
    printf("]}\n");
    test_tensor_release(&e);
    test_tensor_release(&de);
    trine_buffer_release(&tlabels);
    trine_buffer_release(&stats);
    trine_buffer_release(&workspace);
    trine_triplet_destroy(&op);
    free(values);
    free(labels);
}

static void run_triplet_margin(void)
{
    const int n = next_int(), d = next_int(), cb = next_int();
    trine_triplet_margin_desc desc;
    desc.margin = next_float();
    desc.p = next_float();
    desc.eps = next_float();
    desc.swap = next_int();
    desc.reduction = (trine_reduction)next_int();
    trine_tensor x[3], g[3];
    for (int i = 0; i < 3; i++) x[i] = read_tensor(n, d, cb);
    for (int i = 0; i < 3; i++) g[i] = new_tensor(n, d, cb);
    trine_buffer *loss = new_buffer((size_t)n), *total = new_buffer(1);
    const float zero = 0;
    must(trine_buffer_write(dev.stream, total, 0, &zero, sizeof zero));
    trine_triplet_margin *op;
    must(trine_triplet_margin_create(dev.context, &desc, &op));
    must(trine_triplet_margin_run(op, dev.stream, &x[0], &x[1], &x[2], &g[0], &g[1], &g[2], loss, total));
    write_buffer(&loss, (size_t)n);
    write_buffer(&total, 1);
    for (int i = 0; i < 3; i++) write_tensor(&g[i]);
    for (int i = 0; i < 3; i++) trine_buffer_release(&x[i].buffer);
    trine_triplet_margin_destroy(&op);
}

static void run_optimizer(void)
{
    trine_optimizer_desc desc;
    desc.kind = (trine_optimizer_kind)next_int();
    desc.momentum = next_float();
    desc.nesterov = next_int();
    desc.weight_decay = next_float();
    desc.beta1 = next_float();
    desc.beta2 = next_float();
    desc.eps = next_float();
    const size_t count = (size_t)next_int(), steps = (size_t)next_int();
    float *rates = read_values(steps);
    trine_buffer *parameters = read_buffer(count), *gradients = new_buffer(count);
    float *all = read_values(count * steps);
    trine_optimizer *op;
    must(trine_optimizer_create(dev.context, &desc, count, &op));
    for (size_t i = 0; i < steps; i++) {
        must(trine_buffer_write(dev.stream, gradients, 0, all + i * count, count * 4));
        trine_optimizer_advance(op);
        must(trine_optimizer_step(op, dev.stream, parameters, gradients, 0, count, rates[i]));
    }
    write_buffer(&parameters, count);
    const size_t states = (size_t)trine__optimizer_state_count(op);
    float *state = calloc(count * 2, sizeof *state);
    if (!state) die(line_words[0], "out of memory");
    for (size_t i = 0; i < states; i++)
        must(trine__optimizer_state_export(op, dev.stream, (int)i, state + i * count));
    write_values(state, count * states);
    free(state);
    free(all);
    free(rates);
    trine_buffer_release(&gradients);
    trine_optimizer_destroy(&op);
}

int main(void)
{
    static const line_command commands[] = {
        {"normalize", run_normalize},   {"cross_entropy", run_cross_entropy},   {"triplet", run_triplet},
        {"time_triplet", time_triplet}, {"triplet_margin", run_triplet_margin}, {"optimizer", run_optimizer}};
    return line_tool_main(commands, sizeof commands / sizeof commands[0], NULL);
}
