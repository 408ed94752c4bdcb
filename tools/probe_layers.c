/* SPDX-License-Identifier: MIT */
/* Known answers of batch normalization, pooling, linear and element-wise operators. */
#include "probe.h"

#include <math.h>
#include <string.h>

enum { N = 3, C = 20, H = 5, W = 7, HW = H * W, COUNT = N * C * HW, M = N * HW, ROUNDED = 32 };

static const trine_shape shape = {N, C, H, W};

/* What batch normalization of x gives, and its gradients. */
typedef struct bn_answer {
    float *y, *dx, mean[ROUNDED], var[ROUNDED], dgamma[ROUNDED], dbeta[ROUNDED];
} bn_answer;

static void bn_channel(int c, const float *x, const float *dy, const float *gamma, const float *beta,
                       bn_answer *want)
{
    double sum = 0, squares = 0, dgamma = 0, dbeta = 0;
    for (int n = 0; n < N; n++)
        for (int i = 0; i < HW; i++) sum += (double)x[(n * C + c) * HW + i];
    const double mean = sum / M;
    for (int n = 0; n < N; n++)
        for (int i = 0; i < HW; i++) squares += pow((double)x[(n * C + c) * HW + i] - mean, 2);
    const double rstd = 1 / sqrt(squares / M + 1e-5), g = (double)gamma[c];
    for (int n = 0; n < N; n++)
        for (int i = 0; i < HW; i++) {
            const int at = (n * C + c) * HW + i;
            const double hat = ((double)x[at] - mean) * rstd, y = g * hat + (double)beta[c];
            want->y[at] = y > 0 ? (float)y : 0;
            dgamma += y > 0 ? (double)dy[at] * hat : 0;
            dbeta += y > 0 ? (double)dy[at] : 0;
        }
    for (int n = 0; n < N; n++)
        for (int i = 0; i < HW; i++) {
            const int at = (n * C + c) * HW + i;
            const double hat = ((double)x[at] - mean) * rstd, in = want->y[at] > 0 ? (double)dy[at] : 0;
            want->dx[at] = (float)(g * rstd * (in - dbeta / M - hat * dgamma / M));
        }
    want->mean[c] = (float)(0.1 * mean);
    want->var[c] = (float)(0.9 + 0.1 * squares / (M - 1));
    want->dgamma[c] = (float)dgamma;
    want->dbeta[c] = (float)dbeta;
}

static void batchnorm_block(probe *p, int cb, const char *forward_name, const char *backward_name)
{
    trine_batchnorm *bn = NULL;
    float *x = probe_draw(p, COUNT), *dy_host = probe_draw(p, COUNT), ones[ROUNDED], zeros[ROUNDED] = {0};
    float *gamma = probe_draw(p, ROUNDED), *beta = probe_draw(p, ROUNDED);
    bn_answer want = {.y = probe_zeros(p, COUNT), .dx = probe_zeros(p, COUNT)};
    for (int i = 0; i < COUNT; i++) x[i] += 10; /* a mean far from 0 shows cancellation */
    for (int c = 0; c < ROUNDED; c++) {
        ones[c] = 1;
        gamma[c] += 2;
        if (c >= C) gamma[c] = beta[c] = 0;
    }
    for (int c = 0; c < C; c++) bn_channel(c, x, dy_host, gamma, beta, &want);
    PROBE_DO(p, trine_batchnorm_create(p->context, C, cb, 1e-5f, &bn));
    if (p->status != TRINE_OK) {
        probe_report(p, forward_name, "batchnorm", 0);
        return;
    }
    const size_t bytes = ROUNDED * sizeof(float);
    const trine_tensor tx = probe_tensor(p, &shape, cb, x);
    trine_tensor ty = probe_tensor(p, &shape, cb, NULL), dy = probe_tensor(p, &shape, cb, dy_host),
                 dx = probe_tensor(p, &shape, cb, NULL);
    trine_buffer *partials = probe_buffer(p, NULL, trine_batchnorm_partial_bytes(bn, &shape));
    trine_batchnorm_saved saved = {probe_buffer(p, zeros, bytes), probe_buffer(p, zeros, bytes)};
    trine_buffer *mean = probe_buffer(p, zeros, bytes), *var = probe_buffer(p, ones, bytes),
                 *g = probe_buffer(p, gamma, bytes), *b = probe_buffer(p, beta, bytes),
                 *dgamma = probe_buffer(p, zeros, bytes), *dbeta = probe_buffer(p, zeros, bytes);
    PROBE_DO(p, trine_batchnorm_partials(bn, p->stream, &tx, partials));
    PROBE_DO(p, trine_batchnorm_statistics(bn, p->stream, &shape, partials, &saved, mean, var, 0.1f));
    PROBE_DO(p, trine_batchnorm_apply(bn, p->stream, &tx, &saved, g, b, NULL, 1, &ty));
    probe_check_tensor(p, "y", &ty, want.y);
    probe_check_buffer(p, "running_mean", mean, want.mean, C, 1);
    probe_check_buffer(p, "running_var", var, want.var, C, 1);
    probe_judge(p, forward_name, "batchnorm", 2e-5);
    const trine_batchnorm_gradients gradients = {.x = &tx,
                                                 .y = &ty,
                                                 .dy = &dy,
                                                 .dx = &dx,
                                                 .saved = &saved,
                                                 .gamma = g,
                                                 .dgamma = dgamma,
                                                 .dbeta = dbeta,
                                                 .partials = partials,
                                                 .batch = 1};
    PROBE_DO(p, trine_batchnorm_backward(bn, p->stream, &gradients));
    probe_check_tensor(p, "dx", &dx, want.dx);
    probe_check_buffer(p, "dgamma", dgamma, want.dgamma, C, M);
    probe_check_buffer(p, "dbeta", dbeta, want.dbeta, C, M);
    trine_batchnorm_destroy(&bn);
    probe_report(p, backward_name, "batchnorm", 2e-5);
}

void probe_batchnorm(probe *p)
{
    batchnorm_block(p, 1, "batchnorm_forward block 1", "batchnorm_backward block 1");
    batchnorm_block(p, 16, "batchnorm_forward block 16", "batchnorm_backward block 16");
}

static void pool(probe *p, const char *name, const trine_pool2d_desc *desc, int cb)
{
    trine_pool2d *op = NULL;
    trine_shape out;
    PROBE_DO(p, trine_pool2d_create(p->context, desc, cb, H, W, &op));
    if (p->status != TRINE_OK) {
        probe_report(p, name, "pool2d", 0);
        return;
    }
    trine_pool2d_output_shape(op, N, C, &out);
    const size_t count = (size_t)(N * C * out.h * out.w);
    float *x = probe_draw(p, COUNT), *dy = probe_draw(p, count), *y = probe_zeros(p, count),
          *dx = probe_zeros(p, COUNT);
    const int is_max = desc->kind == TRINE_POOL_MAX, adaptive = desc->kind == TRINE_POOL_ADAPTIVE_AVERAGE;
    for (size_t i = 0; i < count; i++) {
        const int q = (int)i % out.w, row = (int)i / out.w % out.h;
        const int plane = (int)i / (out.w * out.h) * HW;
        const int top = adaptive ? 0 : row * desc->stride_h - desc->pad_h,
                  left = adaptive ? 0 : q * desc->stride_w - desc->pad_w;
        const int height = adaptive ? H : desc->kernel_h, width = adaptive ? W : desc->kernel_w;
        int best = -1;
        double sum = 0;
        for (int r = top < 0 ? 0 : top; r < top + height && r < H; r++)
            for (int s = left < 0 ? 0 : left; s < left + width && s < W; s++) {
                const int at = plane + r * W + s;
                sum += (double)x[at];
                if (best < 0 || x[at] > x[best]) best = at;
                if (!is_max) dx[at] += dy[i] / (float)(height * width);
            }
        y[i] = is_max ? x[best] : (float)(sum / (height * width));
        if (is_max) dx[best] += dy[i];
    }
    const trine_tensor tx = probe_tensor(p, &shape, cb, x), tdy = probe_tensor(p, &out, cb, dy);
    trine_tensor ty = probe_tensor(p, &out, cb, NULL), tdx = probe_tensor(p, &shape, cb, NULL);
    trine_buffer *index =
        is_max ? probe_buffer(p, NULL, trine_tensor_elements(&out, cb) * sizeof(int)) : NULL;
    PROBE_DO(p, trine_pool2d_forward(op, p->stream, &tx, &ty, index));
    PROBE_DO(p, trine_pool2d_backward(op, p->stream, &tdy, index, &tdx));
    probe_check_tensor(p, "y", &ty, y);
    probe_check_tensor(p, "dx", &tdx, dx);
    trine_pool2d_destroy(&op);
    probe_report(p, name, "pool2d", is_max ? 1e-6 : 8 * 6e-8 * HW);
}

void probe_pool2d(probe *p)
{
    const trine_pool2d_desc maximum = {.kind = TRINE_POOL_MAX,
                                       .kernel_h = 3,
                                       .kernel_w = 3,
                                       .stride_h = 2,
                                       .stride_w = 2,
                                       .pad_h = 1,
                                       .pad_w = 1,
                                       .dilation_h = 1,
                                       .dilation_w = 1};
    const trine_pool2d_desc average = {.kind = TRINE_POOL_AVERAGE,
                                       .kernel_h = 2,
                                       .kernel_w = 2,
                                       .stride_h = 2,
                                       .stride_w = 2,
                                       .dilation_h = 1,
                                       .dilation_w = 1};
    const trine_pool2d_desc global = {.kind = TRINE_POOL_ADAPTIVE_AVERAGE, .output_h = 1, .output_w = 1};
    pool(p, "pool2d_maximum block 1", &maximum, 1);
    pool(p, "pool2d_maximum block 16", &maximum, 16);
    pool(p, "pool2d_average block 1", &average, 1);
    pool(p, "pool2d_average block 16", &average, 16);
    pool(p, "pool2d_global block 1", &global, 1);
    pool(p, "pool2d_global block 16", &global, 16);
}

enum { ROWS = 5, FEATURES = 37, OUTPUTS = 11 };

static void linear(probe *p, const char *algorithm)
{
    const trine_shape in = {ROWS, FEATURES, 1, 1}, out = {ROWS, OUTPUTS, 1, 1};
    trine_linear *op = NULL;
    float *x = probe_draw(p, ROWS * FEATURES), *w = probe_draw(p, OUTPUTS * FEATURES),
          *b = probe_draw(p, OUTPUTS);
    float *dy = probe_draw(p, ROWS * OUTPUTS), *y = probe_zeros(p, ROWS * OUTPUTS),
          *dx = probe_zeros(p, ROWS * FEATURES);
    float *dw = probe_zeros(p, OUTPUTS * FEATURES), *db = probe_zeros(p, OUTPUTS);
    for (int n = 0; n < ROWS; n++)
        for (int k = 0; k < OUTPUTS; k++) {
            y[n * OUTPUTS + k] = b[k];
            db[k] += dy[n * OUTPUTS + k];
            for (int c = 0; c < FEATURES; c++) {
                y[n * OUTPUTS + k] += x[n * FEATURES + c] * w[k * FEATURES + c];
                dx[n * FEATURES + c] += dy[n * OUTPUTS + k] * w[k * FEATURES + c];
                dw[k * FEATURES + c] += dy[n * OUTPUTS + k] * x[n * FEATURES + c];
            }
        }
    PROBE_DO(p, trine_linear_create(p->context, FEATURES, OUTPUTS, ROWS, algorithm, &op));
    if (p->status != TRINE_OK) {
        probe_report(p, algorithm, algorithm, 0);
        return;
    }
    const size_t bytes = trine_linear_workspace_bytes(op, p->stream, ROWS);
    trine_buffer *workspace = bytes > 0 ? probe_buffer(p, NULL, bytes) : NULL;
    const trine_tensor tx = probe_tensor(p, &in, 1, x), tdy = probe_tensor(p, &out, 1, dy);
    trine_tensor ty = probe_tensor(p, &out, 1, NULL), tdx = probe_tensor(p, &in, 1, NULL);
    trine_buffer *tw = probe_buffer(p, w, OUTPUTS * FEATURES * sizeof *w),
                 *tb = probe_buffer(p, b, OUTPUTS * sizeof *b);
    trine_buffer *tdw = probe_buffer(p, NULL, OUTPUTS * FEATURES * sizeof *w),
                 *tdb = probe_buffer(p, NULL, OUTPUTS * sizeof *b);
    PROBE_DO(p, trine_linear_forward(op, p->stream, &tx, tw, tb, &ty, workspace));
    PROBE_DO(p, trine_linear_backward_data(op, p->stream, &tdy, tw, &tdx, workspace));
    PROBE_DO(p, trine_linear_backward_weights(op, p->stream, &tx, &tdy, 0, tdw, tdb, workspace));
    probe_check_tensor(p, "y", &ty, y);
    probe_check_tensor(p, "dx", &tdx, dx);
    probe_check_buffer(p, "dw", tdw, dw, OUTPUTS * FEATURES, 1);
    probe_check_buffer(p, "db", tdb, db, OUTPUTS, 1);
    trine_linear_destroy(&op);
    probe_report(p, algorithm, algorithm, 8 * 6e-8 * FEATURES);
}

void probe_linear(probe *p)
{
    const char *names[8];
    const size_t count = trine_linear_algorithms(names, CLI_COUNTOF(names));
    for (size_t i = 0; i < count && i < CLI_COUNTOF(names); i++) linear(p, names[i]);
}

void probe_elementwise(probe *p)
{
    trine_elementwise *op = NULL;
    float *a = probe_draw(p, COUNT), *b = probe_draw(p, COUNT), *sum = probe_zeros(p, COUNT);
    float *positive = probe_zeros(p, COUNT), *channels = probe_zeros(p, C);
    for (int i = 0; i < COUNT; i++) {
        sum[i] = a[i] + b[i];
        positive[i] = a[i] > 0 ? a[i] : 0;
        channels[i / HW % C] += a[i];
    }
    PROBE_DO(p, trine_elementwise_create(p->context, &op));
    if (p->status != TRINE_OK) {
        probe_report(p, "elementwise", "elementwise", 0);
        return;
    }
    const trine_tensor ta = probe_tensor(p, &shape, 16, a), tb = probe_tensor(p, &shape, 16, b);
    trine_tensor added = probe_tensor(p, &shape, 16, NULL), relu = probe_tensor(p, &shape, 16, NULL),
                 plain = probe_tensor(p, &shape, 1, NULL);
    trine_buffer *total = probe_buffer(p, NULL, C * sizeof *channels);
    PROBE_DO(p, trine_add(op, p->stream, &ta, &tb, &added));
    PROBE_DO(p, trine_relu_forward(op, p->stream, &ta, &relu));
    PROBE_DO(p, trine_reorder(op, p->stream, &ta, &plain));
    PROBE_DO(p, trine_channel_sum(op, p->stream, &ta, 0, total));
    probe_check_tensor(p, "sum", &added, sum);
    probe_check_tensor(p, "relu", &relu, positive);
    probe_check_tensor(p, "reordered", &plain, a);
    probe_check_buffer(p, "channel_sum", total, channels, C, M);
    trine_elementwise_destroy(&op);
    probe_report(p, "elementwise", "elementwise", 1e-6);
}
