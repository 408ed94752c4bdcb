/* SPDX-License-Identifier: MIT */
/* Weights that operators prepare in memory of the caller's: shared between them, refused where it does not fit. */
#include <stdlib.h>

#include "ref/ref_conv2d.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"
#include "trine/conv2d.h"

enum { CHANNELS = 16, LAYERS = 2, MOST_ALGORITHMS = 16 };

/* Rows and columns; Oclgrind took 1303 s for 7, beside other work. */
static int size(void)
{
    return test_small() ? 5 : 7;
}

/* Two convolutions of one size with weights of their own. */
typedef struct layers {
    const ref_conv2d ref;
    trine_shape shape;
    double *x, *w[LAYERS], *want[LAYERS];
    test_tensor tx;
    test_buffer bw[LAYERS];
    int block;
} layers;

static layers setup(int block, trine_direction direction)
{
    layers l = {.ref = {2, CHANNELS, size(), size(), CHANNELS, 3, 3, 1, 1, 1, 1, 1, 1, 1},
                .shape = {2, CHANNELS, size(), size()},
                .block = block};
    l.tx = test_tensor_random(l.shape, block, 1, -1, 1, &l.x);
    for (int i = 0; i < LAYERS; i++) {
        l.bw[i] = test_buffer_random(CHANNELS * CHANNELS * 9, 2 + (unsigned)i, -1, 1, &l.w[i]);
        l.want[i] = test_zeros(test_dense(l.shape));
        if (direction == TRINE_FORWARD)
            ref_conv2d_forward(&l.ref, l.x, l.w[i], NULL, l.want[i]);
        else
            ref_conv2d_backward_data(&l.ref, l.x, l.w[i], l.want[i]);
    }
    return l;
}

static void teardown(layers *l)
{
    for (int i = 0; i < LAYERS; i++) {
        free(l->w[i]);
        free(l->want[i]);
        test_buffer_release(&l->bw[i]);
    }
    free(l->x);
    test_tensor_release(&l->tx);
}

static trine_conv2d *create(const layers *l, trine_direction direction, const char *algorithm)
{
    trine_conv2d *op = NULL;
    trine_conv2d_desc desc = trine_conv2d_desc_default(CHANNELS, CHANNELS, 3);
    desc.pad_h = desc.pad_w = 1;
    desc.in_cb = desc.out_cb = l->block;
    desc.algorithm = algorithm;
    ASSERT_OK(trine_conv2d_create(dev.context, &desc, size(), size(), 1u << direction, &op));
    return op;
}

static void check_run(const layers *l, trine_conv2d *op, trine_direction direction, int layer,
                      trine_buffer *workspace)
{
    test_tensor y = test_tensor_create(l->shape, l->block);
    test_report("conv2d", trine_conv2d_algorithm(op, direction),
                direction == TRINE_FORWARD ? "forward" : "backward_data");
    if (direction == TRINE_FORWARD)
        ASSERT_OK(trine_conv2d_forward(op, dev.stream, &l->tx.t, NULL, &y.t, workspace));
    else
        ASSERT_OK(trine_conv2d_backward_data(op, dev.stream, &l->tx.t, 0, &y.t, workspace));
    double *got = test_tensor_read(&y);
    test_compare(trine_conv2d_algorithm(op, direction), got, l->want[layer], l->shape,
                 test_bound(32, CHANNELS * 9, 1, 1));
    free(got);
    test_tensor_release(&y);
}

/* One memory for two operators, each prepared right before it runs. */
static void check_shared(trine_direction direction, int block)
{
    const char *names[MOST_ALGORITHMS];
    layers l = setup(block, direction);
    trine_conv2d *any = create(&l, direction, NULL);
    const size_t count = trine_conv2d_algorithms(any, direction, names, MOST_ALGORITHMS);
    trine_conv2d_destroy(&any);
    for (size_t a = 0; a < count; a++) {
        trine_conv2d *ops[LAYERS] = {create(&l, direction, names[a]), create(&l, direction, names[a])};
        test_buffer shared = test_workspace_create(trine_conv2d_prepared_bytes(ops[0], direction));
        test_buffer workspace = test_workspace_create(trine_conv2d_workspace_bytes(ops[0], direction, 2));
        for (int run = 0; run <= LAYERS; run++) {
            const int layer = run % LAYERS;
            ASSERT_OK(trine_conv2d_prepare_in(ops[layer], dev.stream, direction, l.bw[layer].buffer,
                                              shared.buffer));
            check_run(&l, ops[layer], direction, layer, workspace.buffer);
        }
        for (int i = 0; i < LAYERS; i++) trine_conv2d_destroy(&ops[i]);
        test_buffer_release(&shared);
        test_buffer_release(&workspace);
    }
    teardown(&l);
}

START_TEST(test_shared)
{
    check_shared(TRINE_FORWARD, _i ? 16 : 1);
    check_shared(TRINE_BACKWARD_DATA, _i ? 16 : 1);
}
END_TEST

/* Memory that is missing or too small, directions that are not there; a direction that was not prepared. */
START_TEST(test_refused)
{
    layers l = setup(16, TRINE_FORWARD);
    trine_conv2d *op = create(&l, TRINE_FORWARD, "conv2d_winograd4");
    const size_t bytes = trine_conv2d_prepared_bytes(op, TRINE_FORWARD);
    ck_assert_uint_eq(bytes,
                      36 * (CHANNELS + 1) * CHANNELS * sizeof(float)); /* planes lie a row further apart */
    ck_assert_uint_eq(trine_conv2d_prepared_bytes(op, TRINE_BACKWARD_DATA), 0);
    ck_assert_uint_eq(trine_conv2d_prepared_bytes(op, TRINE_BACKWARD_WEIGHTS), 0);
    test_buffer small = test_workspace_create(bytes - sizeof(float)), fits = test_workspace_create(bytes);
    const trine_buffer *w = l.bw[0].buffer;
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_prepare_in(op, dev.stream, TRINE_FORWARD, w, NULL));
    ASSERT_FAILS(TRINE_ERR_SHAPE, trine_conv2d_prepare_in(op, dev.stream, TRINE_FORWARD, w, small.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_conv2d_prepare_in(op, dev.stream, TRINE_FORWARD, NULL, fits.buffer));
    ASSERT_FAILS(TRINE_ERR_STATE,
                 trine_conv2d_prepare_in(op, dev.stream, TRINE_BACKWARD_DATA, w, fits.buffer));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_conv2d_prepare_in(op, dev.stream, TRINE_BACKWARD_WEIGHTS, w, fits.buffer));
    test_tensor y = test_tensor_create(l.shape, 16);
    test_buffer workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, TRINE_FORWARD, 2));
    ASSERT_FAILS(TRINE_ERR_STATE,
                 trine_conv2d_forward(op, dev.stream, &l.tx.t, NULL, &y.t, workspace.buffer));
    ASSERT_OK(trine_conv2d_prepare_in(op, dev.stream, TRINE_FORWARD, w, fits.buffer));
    check_run(&l, op, TRINE_FORWARD, 0, workspace.buffer);
    test_tensor_release(&y);
    test_buffer *const buffers[] = {&small, &fits, &workspace};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) test_buffer_release(buffers[i]);
    trine_conv2d_destroy(&op);
    teardown(&l);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("conv2d_weights");
    TCase *tcase = tcase_create("conv2d_weights");
    tcase_add_loop_test(tcase, test_shared, 0, 2);
    tcase_add_test(tcase, test_refused);
    suite_add_tcase(suite, tcase);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
