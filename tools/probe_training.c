/* SPDX-License-Identifier: MIT */
/* Known answers of optimizers, and a whole small network. */
#include "probe.h"

#include <math.h>

enum { COUNT = 104 }; /* parameters */

/* Two steps with one gradient. */
static void optimizer(probe *p, const char *name, trine_optimizer_kind kind)
{
    const double lr = 0.05, decay = 0.01, momentum = 0.9;
    trine_optimizer_desc desc = trine_optimizer_desc_default(kind);
    trine_optimizer *op = NULL;
    float *w = probe_draw(p, COUNT), *g = probe_draw(p, COUNT), *want = probe_zeros(p, COUNT);
    desc.momentum = kind == TRINE_SGD ? (float)momentum : 0;
    desc.weight_decay = (float)decay;
    for (int i = 0; i < COUNT; i++) {
        double x = (double)w[i], m = 0, v = 0;
        for (int step = 1; step <= 2; step++) {
            const double gradient = (double)g[i] + (kind == TRINE_ADAMW ? 0 : decay * x);
            if (kind == TRINE_SGD) {
                m = step == 1 ? gradient : momentum * m + gradient;
                x -= lr * m;
                continue;
            }
            if (kind == TRINE_ADAMW) x -= lr * decay * x;
            m = 0.9 * m + 0.1 * gradient;
            v = 0.999 * v + 0.001 * gradient * gradient;
            x -= lr * m / (1 - pow(0.9, step)) / (sqrt(v / (1 - pow(0.999, step))) + 1e-8);
        }
        want[i] = (float)x;
    }
    PROBE_DO(p, trine_optimizer_create(p->context, &desc, COUNT, &op));
    trine_buffer *tw = probe_buffer(p, w, COUNT * sizeof *w), *tg = probe_buffer(p, g, COUNT * sizeof *g);
    for (int step = 0; step < 2 && p->status == TRINE_OK; step++) {
        trine_optimizer_advance(op);
        PROBE_DO(p, trine_optimizer_step(op, p->stream, tw, tg, 0, COUNT, (float)lr));
    }
    probe_check_buffer(p, "parameter", tw, want, COUNT, 1);
    trine_optimizer_destroy(&op);
    probe_report(p, name, "optimizer", 5e-6);
}

void probe_optimizers(probe *p)
{
    optimizer(p, "optimizer sgd", TRINE_SGD);
    optimizer(p, "optimizer adam", TRINE_ADAM);
    optimizer(p, "optimizer adamw", TRINE_ADAMW);
}

/* Inference twice over the same images: the same bits, and a network that did not change. */
void probe_network(probe *p)
{
    const trine_resnet_options options = {.arch = "resnet20_cifar", .seed = 1};
    const trine_shape shape = {2, 3, 32, 32};
    trine_resnet *net = NULL;
    trine_session *session = NULL;
    uint64_t before = 0, after = 1, statistics_before = 0, statistics_after = 1;
    float first[20] = {0}, second[20] = {0};
    static const float zeros[20];
    const float *x = probe_draw(p, 2 * 3 * 32 * 32);
    PROBE_DO(p, trine_resnet_create(p->context, &options, &net));
    PROBE_DO(p, trine_session_create_inference(net, p->stream, &shape, &session));
    const trine_tensor images = probe_tensor(p, &shape, 1, x);
    PROBE_DO(p, trine_resnet_state_hash(net, p->stream, &before, &statistics_before, NULL));
    for (int i = 0; i < 2 && p->status == TRINE_OK; i++) {
        PROBE_DO(p, trine_session_forward(session, &images));
        const trine_tensor logits = trine_session_logits(session);
        PROBE_DO(p, trine_tensor_download(p->stream, &logits, i == 0 ? first : second));
    }
    PROBE_DO(p, trine_resnet_state_hash(net, p->stream, &after, &statistics_after, NULL));
    const float moved = before != after || statistics_before != statistics_after, still = 0;
    probe_check(p, "second logits", second, first, 20, 1);
    for (int i = 0; i < 20; i++) first[i] -= first[i]; /* 0, or NaN */
    probe_check(p, "finite logits", first, zeros, 20, 1);
    probe_check(p, "state moved", &moved, &still, 1, 1);
    trine_session_destroy(&session);
    trine_resnet_destroy(&net);
    probe_report(p, "resnet20_cifar: twice the same, nothing moved", "resnet20_cifar", 0);
}
