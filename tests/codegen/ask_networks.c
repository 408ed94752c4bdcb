/* SPDX-License-Identifier: MIT */
/* What networks ask for: sessions in every mode, and every layer by every implementation that supports it. */
#include <stdio.h>

#include "codegen/ask.h"
#include "net/resnet_private.h"
#include "trine/session.h"

enum { IMAGES = 8, MOST_ALGORITHMS = 16 };

/* One of each kind: plain blocks, bottlenecks, groups, small images with option A. */
static const struct {
    const char *arch;
    int size;
} networks[] = {{"resnet18", 224}, {"resnet50", 224}, {"resnext50_32x4d", 224}, {"resnet20_cifar", 32}};

static trine_tensor tensor_of(const asker *a, trine_shape shape, int cb)
{
    trine_tensor t;
    must(trine_tensor_create(a->context, &shape, cb, &t));
    return t;
}

static trine_buffer *buffer_of(const asker *a, size_t bytes)
{
    trine_buffer *b = NULL;
    if (bytes) must(trine_buffer_create(a->context, bytes, &b));
    return b;
}

static void ask_inference(asker *a, const trine_resnet *net, const trine_tensor *images)
{
    trine_session *session = NULL;
    must(trine_session_create_inference(net, a->stream, &images->shape, &session));
    must(trine_session_forward(session, images));
    trine_session_destroy(&session);
}

/* One step, with a loss at `embedding`. */
static void ask_training(asker *a, trine_resnet *net, const trine_tensor *images, trine_embedding embedding,
                         int backward)
{
    trine_session *session = NULL;
    trine_gradients *gradients = NULL;
    trine_optimizer *optimizer = NULL;
    trine_tensor d_out = {0};
    const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    must(trine_optimizer_create(a->context, &desc, trine_resnet_flat_count(net), &optimizer));
    must(trine_gradients_create(net, a->stream, &gradients));
    must(trine_session_create_training(net, a->stream, &images->shape, embedding, backward, &session));
    for (int pass = 0; pass < 2; pass++) { /* the first one's gradients are written, the second's added */
        must(trine_session_forward(session, images));
        const trine_tensor out = trine_session_embedding(session);
        if (!d_out.buffer) d_out = tensor_of(a, out.shape, out.cb);
        must(trine_session_backward(session, &d_out, gradients));
    }
    must(trine_resnet_step(net, a->stream, optimizer, gradients, 0.1f));
    trine_buffer_release(&d_out.buffer);
    trine_session_destroy(&session);
    trine_gradients_destroy(&gradients);
    trine_optimizer_destroy(&optimizer);
}

/* Every mode in which BatchNorm and freezing change what is enqueued. */
static void ask_modes(asker *a, trine_resnet *net, const trine_tensor *images)
{
    static const struct {
        const char *name, *bn, *freeze;
        trine_embedding embedding;
        int backward;
        trine_dtype precision;
    } modes[] = {
        {"training, batch statistics", "train", "", TRINE_EMBED_FC, TRINE_BACKWARD_KEEP, TRINE_F32},
        {"training, running statistics", "eval", "", TRINE_EMBED_POOL, TRINE_BACKWARD_KEEP, TRINE_F32},
        {"training, checkpoints", "train", "", TRINE_EMBED_POOL, TRINE_BACKWARD_CHECKPOINT, TRINE_F32},
        {"fine-tuning, first layers frozen", "auto", "conv1*,bn1*,layer1*,layer2*", TRINE_EMBED_POOL,
         TRINE_BACKWARD_KEEP, TRINE_F32},
        {"training in half precision", "train", "", TRINE_EMBED_FC, TRINE_BACKWARD_KEEP, TRINE_F16},
    };
    const char *arch = trine_resnet_arch(net);
    snprintf(a->what, sizeof a->what, "%s inference", arch);
    for (int half = 0; half <= 1; half++) {
        must(trine_resnet_set_precision(net, half ? TRINE_F16 : TRINE_F32));
        ask_inference(a, net, images);
    }
    for (size_t i = 0; i < TRINE_COUNTOF(modes); i++) {
        snprintf(a->what, sizeof a->what, "%s %s", arch, modes[i].name);
        must(trine_resnet_set_bn(net, modes[i].bn));
        must(trine_resnet_set_precision(net, modes[i].precision));
        must(trine_resnet_freeze(net, modes[i].freeze));
        ask_training(a, net, images, modes[i].embedding, modes[i].backward);
    }
    must(trine_resnet_set_precision(net, TRINE_F32));
}

static void run_conv2d(asker *a, trine_conv2d *op, const trine_conv2d_desc *d, trine_direction direction,
                       int h, int w)
{
    trine_shape out;
    must(trine_conv2d_output_shape(op, IMAGES, &out));
    const trine_shape in = {IMAGES, d->in_channels, h, w};
    trine_tensor x, y;
    must(trine_tensor_create_as(a->context, &in, d->in_cb, d->in_dtype, &x));
    must(trine_tensor_create_as(a->context, &out, d->out_cb, d->out_dtype, &y));
    trine_buffer *weights = buffer_of(a, trine_conv2d_weight_count(d) * sizeof(float));
    trine_buffer *work = buffer_of(a, trine_conv2d_workspace_bytes(op, direction, IMAGES));
    const trine_conv2d_epilogue epilogue = {.scale = weights, .shift = weights};
    must(trine_conv2d_prepare(op, a->stream, weights));
    if (direction == TRINE_FORWARD)
        must(trine_conv2d_forward(op, a->stream, &x, &epilogue, &y, work));
    else if (direction == TRINE_BACKWARD_DATA)
        must(trine_conv2d_backward_data(op, a->stream, &y, 0, &x, work));
    else
        must(trine_conv2d_backward_weights(op, a->stream, &x, &y, 0, weights, work));
    trine_buffer_release(&work);
    trine_buffer_release(&weights);
    trine_buffer_release(&y.buffer);
    trine_buffer_release(&x.buffer);
}

/* A layer on images of h x w, each way by every implementation that takes it. */
static void ask_layer(asker *a, const trine_conv2d_desc *desc, int h, int w)
{
    trine_conv2d *probe = NULL;
    must(trine_conv2d_create(a->context, desc, h, w, 0, &probe));
    for (int d = TRINE_FORWARD; d <= TRINE_BACKWARD_WEIGHTS; d++) {
        const char *names[MOST_ALGORITHMS];
        const size_t count = trine_conv2d_algorithms(probe, (trine_direction)d, names, MOST_ALGORITHMS);
        for (size_t i = 0; i < count && i < MOST_ALGORITHMS; i++) {
            trine_conv2d_desc named = *desc;
            trine_conv2d *op = NULL;
            named.algorithm = names[i];
            snprintf(a->scope, sizeof a->scope, "%d -> %d channels, %dx%d / %d, groups %d, %dx%d, %s by %s",
                     desc->in_channels, desc->out_channels, desc->kernel_h, desc->kernel_w, desc->stride_h,
                     desc->groups, h, w, trine_dtype_name(desc->out_dtype), names[i]);
            must(trine_conv2d_create(a->context, &named, h, w, 1u << d, &op));
            run_conv2d(a, op, &named, (trine_direction)d, h, w);
            trine_conv2d_destroy(&op);
        }
    }
    trine_conv2d_destroy(&probe);
    a->scope[0] = '\0';
}

static void ask_layers(asker *a, const trine_resnet *net, const trine_tensor *images)
{
    trine_session *session = NULL;
    trine_session_conv conv;
    must(trine_session_create_inference(net, a->stream, &images->shape, &session));
    snprintf(a->what, sizeof a->what, "%s", trine_resnet_arch(net));
    for (int i = 0; i < net->spec.unit_count; i++) {
        if (!trine_session_convolution(session, i, &conv)) continue;
        trine_conv2d_desc desc = trine__conv_desc(net, i);
        desc.allow_tf32 = 1;
        ask_layer(a, &desc, conv.h, conv.w);
        desc.in_dtype = desc.out_dtype = TRINE_F16;
        ask_layer(a, &desc, conv.h, conv.w);
        desc.in_dtype = desc.out_dtype = TRINE_F32;
        desc.weight_kb = desc.weight_cb = 1; /* a program's own convolutions may keep their weights dense */
        ask_layer(a, &desc, conv.h, conv.w);
    }
    trine_session_destroy(&session);
}

void ask_networks(asker *a)
{
    for (size_t i = 0; i < TRINE_COUNTOF(networks); i++) {
        const trine_resnet_options options = {.arch = networks[i].arch};
        trine_resnet *net = NULL;
        must(trine_resnet_create(a->context, &options, &net));
        trine_tensor images = tensor_of(
            a, (trine_shape){IMAGES, trine_resnet_in_channels(net), networks[i].size, networks[i].size}, 1);
        a->chosen = true;
        ask_modes(a, net, &images);
        a->chosen = false;
        ask_layers(a, net, &images);
        trine_buffer_release(&images.buffer);
        trine_resnet_destroy(&net);
    }
}
