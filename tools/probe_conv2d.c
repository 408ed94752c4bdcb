/* SPDX-License-Identifier: MIT */
/* Known answers of convolution: every implementation, every direction, both layouts of images, and weights both
 * dense and as the context would lay them out. */
#include "probe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct conv_case {
    const char *name;
    int n, c, h, w, k, r, stride, pad, groups;
} conv_case;

static const conv_case cases[] = {
    {"3x3", 2, 20, 7, 9, 24, 3, 1, 1, 1},       {"1x1 stride 2", 2, 16, 8, 8, 32, 1, 2, 0, 1},
    {"7x7 stem", 1, 3, 17, 16, 32, 7, 2, 3, 1}, {"3x3 groups", 1, 32, 6, 6, 32, 3, 1, 1, 2},
    {"3x3 of 4", 1, 32, 6, 6, 32, 3, 1, 1, 8},  {"3x3 stride 2", 2, 20, 9, 8, 24, 3, 2, 1, 1},
};

typedef struct conv_data {
    trine_shape in, out;
    int group_c;
    const float *x, *w, *dy;
} conv_data;

/* Calls visit for every product of the convolution: y[at_y] takes x[at_x] * w[at_w]. */
typedef void (*conv_visit)(float *result, const conv_data *d, size_t at_x, size_t at_w, size_t at_y);

static void visit_forward(float *result, const conv_data *d, size_t at_x, size_t at_w, size_t at_y)
{
    result[at_y] += d->x[at_x] * d->w[at_w];
}
static void visit_data(float *result, const conv_data *d, size_t at_x, size_t at_w, size_t at_y)
{
    result[at_x] += d->dy[at_y] * d->w[at_w];
}
static void visit_weights(float *result, const conv_data *d, size_t at_x, size_t at_w, size_t at_y)
{
    result[at_w] += d->dy[at_y] * d->x[at_x];
}

static void visit_taps(const conv_case *t, const conv_data *d, conv_visit visit, float *result, int n, int k,
                       int c)
{
    const int first = k / (t->k / t->groups) * d->group_c; /* first input channel of k's group */
    for (int p = 0; p < d->out.h; p++)
        for (int q = 0; q < d->out.w; q++)
            for (int r = 0; r < t->r; r++)
                for (int s = 0; s < t->r; s++) {
                    const int y = p * t->stride + r - t->pad, x = q * t->stride + s - t->pad;
                    if (y < 0 || y >= t->h || x < 0 || x >= t->w) continue;
                    visit(result, d, (size_t)(((n * t->c + first + c) * t->h + y) * t->w + x),
                          (size_t)(((k * d->group_c + c) * t->r + r) * t->r + s),
                          (size_t)(((n * t->k + k) * d->out.h + p) * d->out.w + q));
                }
}

static void visit_all(const conv_case *t, const conv_data *d, conv_visit visit, float *result)
{
    for (int n = 0; n < t->n; n++)
        for (int k = 0; k < t->k; k++)
            for (int c = 0; c < d->group_c; c++) visit_taps(t, d, visit, result, n, k, c);
}

static size_t shape_count(const trine_shape *s)
{
    return (size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w;
}

/* y = relu(conv * scale + shift + residual) */
static void forward(probe *p, trine_conv2d *op, const conv_case *t, const conv_data *d,
                    const trine_conv2d_desc *desc, const trine_buffer *weights, trine_buffer *workspace)
{
    const size_t count = shape_count(&d->out);
    float *want = probe_zeros(p, count), *scale = probe_draw(p, 64), *shift = probe_draw(p, 64);
    for (int i = t->k; i < 64; i++) scale[i] = shift[i] = 0;
    visit_all(t, d, visit_forward, want);
    for (size_t i = 0; i < count; i++) {
        const int k = (int)(i / (size_t)(d->out.h * d->out.w)) % t->k;
        const float value = want[i] * scale[k] + shift[k] + d->dy[i];
        want[i] = value > 0 ? value : 0;
    }
    const trine_tensor x = probe_tensor_as(p, &d->in, desc->in_cb, desc->in_dtype, d->x);
    const trine_tensor residual = probe_tensor_as(p, &d->out, desc->out_cb, desc->out_dtype, d->dy);
    trine_tensor y = probe_tensor_as(p, &d->out, desc->out_cb, desc->out_dtype, NULL);
    const trine_conv2d_epilogue epilogue = {.scale = probe_buffer(p, scale, 64 * sizeof *scale),
                                            .shift = probe_buffer(p, shift, 64 * sizeof *shift),
                                            .residual = &residual};
    PROBE_DO(p, trine_conv2d_prepare(op, p->stream, weights));
    PROBE_DO(p, trine_conv2d_forward(op, p->stream, &x, &epilogue, &y, workspace));
    probe_check_tensor(p, "y", &y, want);
}

static void backward_data(probe *p, trine_conv2d *op, const conv_case *t, const conv_data *d,
                          const trine_conv2d_desc *desc, const trine_buffer *weights, trine_buffer *workspace)
{
    float *want = probe_zeros(p, shape_count(&d->in));
    visit_all(t, d, visit_data, want);
    const trine_tensor dy = probe_tensor_as(p, &d->out, desc->out_cb, desc->out_dtype, d->dy);
    trine_tensor dx = probe_tensor_as(p, &d->in, desc->in_cb, desc->in_dtype, NULL);
    PROBE_DO(p, trine_conv2d_prepare(op, p->stream, weights));
    PROBE_DO(p, trine_conv2d_backward_data(op, p->stream, &dy, 0, &dx, workspace));
    probe_check_tensor(p, "dx", &dx, want);
}

static void backward_weights(probe *p, trine_conv2d *op, const conv_case *t, const conv_data *d,
                             const trine_conv2d_desc *desc, trine_buffer *workspace)
{
    const size_t count = (size_t)(t->k * d->group_c * t->r * t->r);
    float *want = probe_zeros(p, count);
    visit_all(t, d, visit_weights, want);
    const trine_tensor x = probe_tensor_as(p, &d->in, desc->in_cb, desc->in_dtype, d->x);
    const trine_tensor dy = probe_tensor_as(p, &d->out, desc->out_cb, desc->out_dtype, d->dy);
    const size_t stored_count = trine_conv2d_weight_count(desc);
    float *stored = probe_zeros(p, stored_count), *dense = probe_zeros(p, count);
    for (size_t i = 0; i < stored_count; i++) stored[i] = NAN; /* to be written, not added to */
    trine_buffer *dw = probe_buffer(p, stored, stored_count * sizeof *stored);
    PROBE_DO(p, trine_conv2d_backward_weights(op, p->stream, &x, &dy, 0, dw, workspace));
    PROBE_DO(p, trine_buffer_read(p->stream, dw, 0, stored, stored_count * sizeof *stored));
    trine_conv2d_weights_to_dense(desc, stored, dense);
    probe_check(p, "dw", dense, want, count, 1);
}

/* From how many products of values in [-1, 1) make one result; in half precision rounding what is read and written adds a share, and so do
 * factors that are rounded to TF32. */
static double bound_of(const conv_case *t, const conv_data *d, const trine_conv2d_desc *desc,
                       trine_direction direction)
{
    const double taps = t->r * t->r;
    const double length = direction == TRINE_FORWARD         ? taps * d->group_c + 2
                          : direction == TRINE_BACKWARD_DATA ? taps * (t->k / t->groups)
                                                             : (double)t->n * d->out.h * d->out.w;
    return (8 * 6e-8 + (desc->out_dtype == TRINE_F16 || desc->allow_tf32 ? 2e-4 : 0)) * length;
}

static int is_blocked(const trine_conv2d_desc *desc)
{
    return desc->weight_kb > 1 || desc->weight_cb > 1;
}

static void run_one(probe *p, const conv_case *t, trine_conv2d_desc desc, trine_direction direction,
                    const char *algorithm)
{
    static const char *const directions[] = {"forward", "backward_data", "backward_weights"};
    trine_conv2d *op = NULL;
    char name[160], layout[32] = "";
    conv_data d = {.in = {t->n, t->c, t->h, t->w}, .group_c = t->c / t->groups};
    desc.algorithm = algorithm;
    desc.relu = direction == TRINE_FORWARD;
    PROBE_DO(p, trine_conv2d_create(p->context, &desc, t->h, t->w, 1u << direction, &op));
    if (p->status == TRINE_OK) {
        PROBE_DO(p, trine_conv2d_output_shape(op, t->n, &d.out));
        const size_t stored_count = trine_conv2d_weight_count(&desc);
        const size_t workspace_bytes = trine_conv2d_workspace_bytes(op, direction, t->n);
        float *stored = probe_zeros(p, stored_count);
        d.w = probe_draw(p, (size_t)(t->k * d.group_c * t->r * t->r));
        d.x = probe_draw(p, shape_count(&d.in));
        d.dy = probe_draw(p, shape_count(&d.out));
        trine_conv2d_weights_from_dense(&desc, d.w, stored);
        trine_buffer *weights = probe_buffer(p, stored, stored_count * sizeof *stored);
        trine_buffer *workspace = workspace_bytes > 0 ? probe_buffer(p, NULL, workspace_bytes) : NULL;
        if (direction == TRINE_FORWARD) forward(p, op, t, &d, &desc, weights, workspace);
        if (direction == TRINE_BACKWARD_DATA) backward_data(p, op, t, &d, &desc, weights, workspace);
        if (direction == TRINE_BACKWARD_WEIGHTS) backward_weights(p, op, t, &d, &desc, workspace);
    }
    const char *shorter = strncmp(algorithm, "conv2d_", 7) == 0 ? algorithm + 7 : algorithm;
    if (desc.out_dtype == TRINE_F16)
        snprintf(layout, sizeof layout, " half");
    else if (desc.allow_tf32)
        snprintf(layout, sizeof layout, " tf32");
    else if (is_blocked(&desc))
        snprintf(layout, sizeof layout, " w%dx%d", desc.weight_kb, desc.weight_cb);
    snprintf(name, sizeof name, "conv2d_%s %s cb %d %s%s", directions[direction], t->name, desc.out_cb,
             shorter, layout);
    trine_conv2d_destroy(&op);
    probe_report(p, name, algorithm, bound_of(t, &d, &desc, direction));
}

/* Every implementation that could serve the case; where TF32 is allowed, the one that makes use of it. */
static void run_all(probe *p, const conv_case *t, const trine_conv2d_desc *desc, trine_direction direction)
{
    const char *names[16];
    size_t count = 0;
    trine_conv2d *op = NULL;
    PROBE_DO(p, trine_conv2d_create(p->context, desc, t->h, t->w, 1u << direction, &op));
    if (p->status == TRINE_OK) count = trine_conv2d_algorithms(op, direction, names, CLI_COUNTOF(names));
    trine_conv2d_destroy(&op);
    if (count == 0) {
        PROBE_DO(p, TRINE_ERR_UNSUPPORTED);
        probe_report(p, "conv2d: an implementation for every case", "conv2d", 0);
    }
    for (size_t a = 0; a < count && a < CLI_COUNTOF(names); a++)
        if (!desc->allow_tf32 || strcmp(names[a], "conv2d_mma") == 0)
            run_one(p, t, *desc, direction, names[a]);
}

void probe_conv2d(probe *p)
{
    static const int blocks[] = {1, 16};
    for (size_t i = 0; i < CLI_COUNTOF(cases); i++)
        for (size_t b = 0; b < CLI_COUNTOF(blocks); b++)
            for (int direction = 0; direction < 3; direction++) {
                const conv_case *t = &cases[i];
                trine_conv2d_desc desc = trine_conv2d_desc_default(t->c, t->k, t->r);
                desc.stride_h = desc.stride_w = t->stride;
                desc.pad_h = desc.pad_w = t->pad;
                desc.groups = t->groups;
                desc.in_cb = t->c == 3 ? 1 : blocks[b];
                desc.out_cb = blocks[b];
                run_all(p, t, &desc, (trine_direction)direction);
                trine_conv2d_choose_weight_blocks(p->context, &desc);
                if (is_blocked(&desc)) run_all(p, t, &desc, (trine_direction)direction);
                desc.allow_tf32 = 1;
                run_all(p, t, &desc, (trine_direction)direction);
                desc.allow_tf32 = 0;
                desc.in_dtype = t->c == 3 ? TRINE_F32 : TRINE_F16; /* images come as floats */
                desc.out_dtype = TRINE_F16;
                run_all(p, t, &desc, (trine_direction)direction);
            }
}
