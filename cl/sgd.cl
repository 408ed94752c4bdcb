/* SPDX-License-Identifier: MIT */
/* sgd - one step over elements [first, first + count) of flat buffers, torch.optim.SGD with dampening 0:
 *   g += decay * p;  MOMENTUM: b = momentum * b + g;  g = NESTEROV ? g + momentum * b : b;  p -= lr * g
 * b starts at zero, so the first step gives b = g, as in PyTorch.
 * p, b in and out (b null without MOMENTUM), g in; scaling: null, or loss_scale's state, whose scale g is divided by; nothing moves where it says overflow.
 * global (ceil(count / (chunk*CB))): a work-item is `chunk` neighbouring vectors; the last vector may be partial.
 * -D CB (floats of a vector) MOMENTUM NESTEROV
 * host src/op/optimizer.c   ref tests/ref/ref_optimizer.c */
#include "block.clh"

#if MOMENTUM
#define STEP(TYPE, P, G, B)                                                                                             \
    do {                                                                                                               \
        (G) = fma((TYPE)(decay), (P), (G));                                                                            \
        (B) = fma((TYPE)(momentum), (B), (G));                                                                         \
        (G) = NESTEROV ? fma((TYPE)(momentum), (B), (G)) : (B);                                                        \
        (P) = fma((TYPE)(-lr), (G), (P));                                                                              \
    } while (0)
#else
#define STEP(TYPE, P, G, B)                                                                                             \
    do {                                                                                                               \
        (G) = fma((TYPE)(decay), (P), (G));                                                                            \
        (P) = fma((TYPE)(-lr), (G), (P));                                                                              \
    } while (0)
#endif

__kernel void sgd(__global float *restrict parameters, __global const float *restrict gradients,
                  __global float *restrict buffers, const int first, const int count, const int chunk, const float lr,
                  const float momentum, const float decay,
                  __global const float *restrict scaling)
{
    if (scaling && scaling[2] != 0.0f) return;
    const float unscale = scaling ? scaling[1] : 1.0f;
    __global float *p = parameters + first;
    __global const float *g = gradients + first;
#if MOMENTUM
    __global float *b = buffers + first;
#endif
    for (int k = 0; k < chunk; k++) {
        const int block = (int)get_global_id(0) * chunk + k;
        if (block > (count - 1) / CB) return;
        if (block * CB + CB <= count) {
            floatV pv = LOADV(block, p), gv = unscale * LOADV(block, g);
#if MOMENTUM
            floatV bv = LOADV(block, b);
            STEP(floatV, pv, gv, bv);
            STOREV(bv, block, b);
#else
            STEP(floatV, pv, gv, 0);
#endif
            STOREV(pv, block, p);
            continue;
        }
        for (int i = block * CB; i < count; i++) {
            float ps = p[i], gs = unscale * g[i];
#if MOMENTUM
            float bs = b[i];
            STEP(float, ps, gs, bs);
            b[i] = bs;
#else
            STEP(float, ps, gs, 0);
#endif
            p[i] = ps;
        }
    }
}
