/* SPDX-License-Identifier: MIT */
/* adam - one step over elements [first, first + count) of flat buffers, torch.optim.Adam and AdamW:
 *   g += decay * p;  m += (1-beta1) * (g - m);  v = beta2 * v + (1-beta2) * g * g
 *   p -= shrink * p + step * m / (sqrt(v) * root + eps)
 * Adam: shrink 0.  AdamW: decay 0, shrink lr * weight decay, in one rounding with the step (as a factor 1 - shrink of its own the
 * rounding would add up).  step = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t): the host computes these in double.
 * p, m, v in and out, g in; scaling: null, or loss_scale's state, whose scale g is divided by; nothing moves where it says overflow.
 * global (ceil(count / (chunk*CB))): a work-item is `chunk` neighbouring vectors; the last vector may be partial.
 * -D CB (floats of a vector)
 * host src/op/optimizer.c   ref tests/ref/ref_optimizer.c   source: Kingma & Ba 2015; Loshchilov & Hutter 2019 */
#include "block.clh"

#define STEP(TYPE, P, G, M, V)                                                                                          \
    do {                                                                                                               \
        (G) = fma((TYPE)(decay), (P), (G));                                                                            \
        (M) = fma((TYPE)(rest1), (G) - (M), (M));                                                                      \
        (V) = fma((V), (TYPE)(beta2), rest2 * (G) * (G));                                                              \
        (P) = (P) - fma((TYPE)(shrink), (P), step * (M) / fma(sqrt(V), (TYPE)(root), (TYPE)(eps)));                    \
    } while (0)

__kernel void adam(__global float *restrict parameters, __global const float *restrict gradients,
                   __global float *restrict means, __global float *restrict squares, const int first, const int count,
                   const int chunk, const float step, const float root, const float rest1, const float beta2,
                   const float rest2, const float eps, const float shrink, const float decay,
                  __global const float *restrict scaling)
{
    if (scaling && scaling[2] != 0.0f) return;
    const float unscale = scaling ? scaling[1] : 1.0f;
    __global float *p = parameters + first, *m = means + first, *v = squares + first;
    __global const float *g = gradients + first;
    for (int k = 0; k < chunk; k++) {
        const int block = (int)get_global_id(0) * chunk + k;
        if (block > (count - 1) / CB) return;
        if (block * CB + CB <= count) {
            floatV pv = LOADV(block, p), gv = unscale * LOADV(block, g), mv = LOADV(block, m), vv = LOADV(block, v);
            STEP(floatV, pv, gv, mv, vv);
            STOREV(pv, block, p);
            STOREV(mv, block, m);
            STOREV(vv, block, v);
            continue;
        }
        for (int i = block * CB; i < count; i++) {
            float ps = p[i], gs = unscale * g[i], ms = m[i], vs = v[i];
            STEP(float, ps, gs, ms, vs);
            p[i] = ps;
            m[i] = ms;
            v[i] = vs;
        }
    }
}
