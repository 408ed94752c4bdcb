/* SPDX-License-Identifier: MIT */
/* What operators outside networks ask for. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "codegen/ask.h"
#include "op/gradient_norm.h"
#include "op/weight_average.h"
#include "trine/elementwise.h"
#include "trine/knn.h"
#include "trine/linear.h"
#include "trine/loss.h"
#include "trine/measure.h"
#include "trine/optimizer.h"
#include "trine/pool2d.h"

enum { ROWS = 32, FEATURES = 512, CLASSES = 10, PLANE = 16 };

/* Enough device memory for any operand here. */
enum { OPERAND_BYTES = 1 << 22 };

/* Operands: what is in them does not matter, nor that they overlap. */
typedef struct operands {
    trine_buffer *a, *b;
} operands;

static trine_tensor tensor_in(trine_buffer *buffer, trine_shape shape, int cb)
{
    return (trine_tensor){.buffer = buffer, .shape = shape, .cb = cb};
}

/* With a memory of what is in `e`. */
static void ask_one_triplet(asker *a, const operands *o, const trine_triplet_desc *desc, trine_tensor *e,
                            trine_tensor *de)
{
    trine_triplet *op = NULL;
    trine_triplet_memory *memory = NULL;
    must(trine_triplet_create(a->context, desc, &op));
    must(trine_triplet_memory_create(a->context, ROWS, FEATURES, e->cb, &memory));
    must(trine_triplet_memory_add(memory, a->stream, e, o->b));
    must(trine_triplet_set_memory(op, memory));
    must(trine_triplet_run(op, a->stream, e, o->b, de, o->b, 0, o->a));
    if (desc->learn_temperature) {
        const trine_optimizer_desc plain = trine_optimizer_desc_default(TRINE_SGD);
        trine_optimizer *optimizer = NULL;
        must(trine_optimizer_create(a->context, &plain, 1, &optimizer));
        must(trine_triplet_step_temperature(op, a->stream, optimizer, 0.1f));
        trine_optimizer_destroy(&optimizer);
    }
    trine_triplet_destroy(&op);
    trine_triplet_memory_destroy(&memory);
}

static void ask_triplet(asker *a, const operands *o, trine_tensor *e, trine_tensor *de)
{
    for (int loss = TRINE_LOSS_TRIPLET; loss <= TRINE_LOSS_NT_XENT; loss++)
        for (int mining = TRINE_BATCH_HARD; mining <= TRINE_HARDEST_FRACTION; mining++)
            for (int swap = 0; swap <= 1; swap++) {
                trine_triplet_desc desc = trine_triplet_desc_default((trine_triplet_loss)loss);
                if (loss != TRINE_LOSS_TRIPLET && (mining != TRINE_BATCH_HARD || swap)) continue;
                desc.mining = (trine_mining)mining;
                desc.swap = swap;
                ask_one_triplet(a, o, &desc, e, de);
                if (loss != TRINE_LOSS_TRIPLET && loss != TRINE_LOSS_NT_XENT) continue;
                desc.soft = desc.learn_temperature = 1;
                ask_one_triplet(a, o, &desc, e, de);
            }
}

static void ask_triplet_margin(asker *a, const operands *o, trine_tensor *e, trine_tensor *de)
{
    static const float powers[] = {1.0f, 2.0f, 3.0f, INFINITY};
    for (size_t i = 0; i < TRINE_COUNTOF(powers); i++)
        for (int swap = 0; swap <= 1; swap++) {
            const trine_triplet_margin_desc desc = {1.0f, powers[i], 1e-6f, swap, TRINE_REDUCE_MEAN};
            trine_triplet_margin *op = NULL;
            must(trine_triplet_margin_create(a->context, &desc, &op));
            must(trine_triplet_margin_run(op, a->stream, e, e, e, de, de, de, o->b, o->b));
            trine_triplet_margin_destroy(&op);
        }
}

static void ask_losses(asker *a, const operands *o)
{
    const int cb = trine__trunk_block(a->context);
    trine_tensor e = tensor_in(o->a, (trine_shape){ROWS, FEATURES, 1, 1}, cb),
                 de = tensor_in(o->b, e.shape, cb);
    trine_tensor z = tensor_in(o->a, (trine_shape){ROWS, CLASSES, 1, 1}, 1), dz = tensor_in(o->b, z.shape, 1);
    snprintf(a->what, sizeof a->what, "triplet loss");
    ask_triplet(a, o, &e, &de);
    snprintf(a->what, sizeof a->what, "triplet margin loss");
    ask_triplet_margin(a, o, &e, &de);
    snprintf(a->what, sizeof a->what, "cross-entropy");
    trine_cross_entropy *cross = NULL;
    must(trine_cross_entropy_create(a->context, &cross));
    must(trine_cross_entropy_run(cross, a->stream, &z, o->b, &dz, o->b, 0));
    trine_cross_entropy_destroy(&cross);
    snprintf(a->what, sizeof a->what, "L2 normalisation");
    trine_l2norm *norm = NULL;
    must(trine_l2norm_create(a->context, &norm));
    must(trine_l2norm_forward(norm, a->stream, &e, &de, o->b));
    must(trine_l2norm_backward(norm, a->stream, &e, o->b, &de, &de));
    trine_l2norm_destroy(&norm);
}

static void ask_knn(asker *a, const operands *o)
{
    for (int distance = TRINE_SQUARED; distance <= TRINE_DOT; distance++) {
        trine_knn *op = NULL;
        snprintf(a->what, sizeof a->what, "nearest neighbours");
        must(trine_knn_create(a->context, FEATURES, (trine_distance)distance, &op));
        must(trine_knn_distances(op, a->stream, o->a, ROWS, o->a, ROWS, o->b, o->b));
        must(trine_knn_select(op, a->stream, o->b, ROWS, ROWS, 0, 0, 1, CLASSES, o->a, o->a));
        trine_knn_destroy(&op);
    }
}

static void ask_optimizers(asker *a, const operands *o)
{
    static const char *const names[] = {"sgd", "adam", "adamw"};
    for (int kind = TRINE_SGD; kind <= TRINE_ADAMW; kind++)
        for (int variant = 0; variant < 3; variant++) { /* bare; momentum; Nesterov: SGD's alone */
            trine_optimizer_desc desc = trine_optimizer_desc_default((trine_optimizer_kind)kind);
            trine_optimizer *op = NULL;
            desc.momentum = variant > 0 && kind == TRINE_SGD ? 0.9f : 0.0f;
            desc.nesterov = variant > 1 && kind == TRINE_SGD;
            desc.weight_decay = 1e-4f;
            snprintf(a->what, sizeof a->what, "%s", names[kind]);
            must(trine_optimizer_create(a->context, &desc, FEATURES, &op));
            trine_optimizer_advance(op);
            must(trine_optimizer_step(op, a->stream, o->a, o->b, 0, FEATURES, 0.1f));
            trine_optimizer_destroy(&op);
        }
}

static void ask_gradient_norm(asker *a, const operands *o)
{
    trine__gradient_norm *norm = NULL;
    snprintf(a->what, sizeof a->what, "gradient norm");
    must(trine__gradient_norm_create(a->context, 1, &norm));
    must(trine__gradient_norm_add(norm, a->stream, o->a, 0, FEATURES));
    must(trine__gradient_norm_clip(norm, a->stream, NULL, 1.0f, 1.0f));
    trine__gradient_norm_destroy(&norm);
}

static void ask_elementwise(asker *a, const operands *o)
{
    const int cb = trine__trunk_block(a->context), other = cb == 1 ? 16 : 1;
    const trine_shape shape = {1, FEATURES / PLANE, PLANE, PLANE},
                      half = {1, FEATURES / PLANE, PLANE / 2, PLANE / 2};
    trine_tensor x = tensor_in(o->a, shape, cb), y = tensor_in(o->b, shape, cb),
                 small = tensor_in(o->b, half, cb), turned = tensor_in(o->b, shape, other);
    trine_elementwise *op = NULL;
    snprintf(a->what, sizeof a->what, "element by element");
    must(trine_elementwise_create(a->context, &op));
    must(trine_relu_forward(op, a->stream, &x, &y));
    must(trine_relu_backward(op, a->stream, &x, &y, &y));
    must(trine_add(op, a->stream, &x, &y, &y));
    must(trine_reorder(op, a->stream, &x, &turned));
    turned.buffer = o->a;
    must(trine_reorder(op, a->stream, &turned, &y));
    must(trine_subsample_forward(op, a->stream, &x, 2, 0, &small));
    must(trine_subsample_backward(op, a->stream, &small, 2, 0, 1, &x));
    must(trine_channel_sum(op, a->stream, &x, 0, o->b));
    trine_elementwise_destroy(&op);
}

static void ask_pools(asker *a, const operands *o)
{
    const int cb = trine__trunk_block(a->context);
    snprintf(a->what, sizeof a->what, "pooling");
    for (int kind = TRINE_POOL_MAX; kind <= TRINE_POOL_ADAPTIVE_AVERAGE; kind++) {
        const trine_pool2d_desc desc = {(trine_pool_kind)kind, 2, 2, 2, 2, 0, 0, 1, 1, 0, 0, 1, 1};
        trine_buffer *index = kind == TRINE_POOL_MAX ? o->b : NULL;
        trine_tensor x = tensor_in(o->a, (trine_shape){1, PLANE, PLANE, PLANE}, cb),
                     y = tensor_in(o->b, x.shape, cb);
        trine_pool2d *op = NULL;
        must(trine_pool2d_create(a->context, &desc, cb, PLANE, PLANE, &op));
        trine_pool2d_output_shape(op, x.shape.n, x.shape.c, &y.shape);
        must(trine_pool2d_forward(op, a->stream, &x, &y, index));
        must(trine_pool2d_backward(op, a->stream, &y, index, &x));
        trine_pool2d_destroy(&op);
    }
}

/* Every way, by the implementation that `algorithm` names. */
static void ask_linear(asker *a, const operands *o, const char *algorithm)
{
    const int cb = trine__trunk_block(a->context);
    trine_tensor x = tensor_in(o->a, (trine_shape){ROWS, FEATURES, 1, 1}, cb),
                 y = tensor_in(o->b, (trine_shape){ROWS, CLASSES, 1, 1}, 1);
    trine_linear *op = NULL;
    must(trine_linear_create(a->context, FEATURES, CLASSES, ROWS, algorithm, &op));
    snprintf(a->what, sizeof a->what, "%s", trine_linear_algorithm(op, TRINE_FORWARD));
    must(trine_linear_forward(op, a->stream, &x, o->a, o->b, &y, o->a));
    must(trine_linear_backward_data(op, a->stream, &y, o->a, &x, o->b));
    must(trine_linear_backward_weights(op, a->stream, &x, &y, 0, o->a, o->b, o->a));
    trine_linear_destroy(&op);
}

static void ask_weight_average(asker *a, const operands *o)
{
    trine__weight_average *op = NULL;
    snprintf(a->what, sizeof a->what, "averaging weights");
    must(trine__weight_average_create(a->context, &op));
    must(trine__weight_average_run(op, a->stream, o->a, o->b, FEATURES * ROWS, 0.99));
    trine__weight_average_destroy(&op);
}

void ask_operators(asker *a)
{
    operands o = {0};
    must(trine_buffer_create(a->context, OPERAND_BYTES, &o.a));
    must(trine_buffer_create(a->context, OPERAND_BYTES, &o.b));
    a->chosen = true;
    ask_losses(a, &o);
    ask_knn(a, &o);
    ask_optimizers(a, &o);
    ask_gradient_norm(a, &o);
    ask_weight_average(a, &o);
    ask_elementwise(a, &o);
    ask_pools(a, &o);
    ask_linear(a, &o, NULL);
    trine_device_speed speed;
    snprintf(a->what, sizeof a->what, "measuring the device");
    must(trine_device_measure(a->context, a->stream, &speed));
    a->chosen = false;
    ask_linear(a, &o, "linear_plain");
    ask_linear(a, &o, "linear_clblast");
    trine_buffer_release(&o.a);
    trine_buffer_release(&o.b);
}
