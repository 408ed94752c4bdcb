/* SPDX-License-Identifier: MIT */
/* Optimizer steps over a network: Adam counts steps per parameter, as PyTorch does; passes and steps in their
 * order. */
#include <math.h>

#include "net/networks.h"

/* One forward and backward pass with a fixed gradient of the embedding, then a step. */
static void step(trine_resnet *net, trine_session *s, trine_optimizer *op, trine_gradients *g,
                 const trine_tensor *x, const trine_tensor *d)
{
    ASSERT_OK(trine_session_forward(s, x));
    trine_gradients_clear(g);
    ASSERT_OK(trine_session_backward(s, d, g));
    ASSERT_OK(trine_resnet_step(net, dev.stream, op, g, 1e-3f));
}

START_TEST(test_adam_counts_per_parameter)
{
    trine_resnet *net = make_network("resnet20_cifar", 1);
    test_tensor x = images(2, 32, 5, 0);
    trine_gradients *g = NULL;
    trine_optimizer *op = NULL;
    const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_ADAM);
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &op));
    ASSERT_OK(trine_resnet_freeze(net, "*,!fc*"));
    ASSERT_OK(trine_resnet_set_bn(net, "eval"));
    trine_session *s = NULL;
    ASSERT_OK(trine_session_create_training(net, dev.stream, &x.t.shape, TRINE_EMBED_FC, 1, &s));
    const int outputs = trine_resnet_outputs(net);
    float *values = random_floats((size_t)(2 * outputs), 3, 1, 2);
    trine_tensor d;
    ASSERT_OK(trine_tensor_create(dev.context, &(trine_shape){2, outputs, 1, 1}, 1, &d));
    ASSERT_OK(trine_tensor_upload(dev.stream, values, &d));
    for (int i = 0; i < 5; i++) step(net, s, op, g, &x.t, &d);

    /* The first step that a parameter takes is lr * sign(gradient), however many the optimizer has made
     * before. */
    ASSERT_OK(trine_resnet_freeze(net, NULL));
    const int conv1 = parameter_index(net, "conv1.weight");
    const size_t count = parameter_count_of(net, conv1);
    float *before = parameter_values(net, conv1);
    step(net, s, op, g, &x.t, &d);
    float *after = parameter_values(net, conv1), *gradient = malloc(count * sizeof *gradient);
    ASSERT_OK(trine_gradients_read(g, dev.stream, conv1, gradient));
    for (size_t i = 0; i < count; i++) {
        if (fabsf(gradient[i]) < 1e-4f) continue; /* eps shows */
        const double want = -1e-3 * (gradient[i] > 0 ? 1 : -1);
        ck_assert_msg(fabs((after[i] - before[i]) - want) < 1e-5, "weight %zu moved by %g, want %g", i,
                      (double)(after[i] - before[i]), want);
    }
    free(before);
    free(after);
    free(gradient);
    free(values);
    trine_buffer_release(&d.buffer);
    trine_session_destroy(&s);
    trine_optimizer_destroy(&op);
    trine_gradients_destroy(&g);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

START_TEST(test_order)
{
    trine_resnet *net = make_network("resnet20_cifar", 1);
    test_tensor x = images(2, 32, 5, 0);
    trine_gradients *g = NULL;
    trine_optimizer *small = NULL;
    const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net) - 1, &small));
    trine_session *s = NULL;
    ASSERT_OK(trine_session_create_training(net, dev.stream, &x.t.shape, TRINE_EMBED_POOL, 1, &s));
    ASSERT_OK(trine_session_forward(s, &x.t));
    const trine_tensor e = trine_session_embedding(s);
    trine_tensor d;
    ASSERT_OK(trine_tensor_create(dev.context, &e.shape, e.cb, &d));
    float *zeros = calloc(trine_tensor_elements(&e.shape, 1), sizeof *zeros);
    ASSERT_OK(trine_tensor_upload(dev.stream, zeros, &d));
    const int conv1 = parameter_index(net, "conv1.weight");
    float *values = parameter_values(net, conv1);
    ASSERT_OK(trine_resnet_parameter_write(net, dev.stream, conv1, values));
    ASSERT_FAILS(TRINE_ERR_STATE, trine_session_backward(s, &d, g)); /* would mix old and new values */
    ASSERT_OK(trine_session_forward(s, &x.t));
    ASSERT_OK(trine_session_backward(s, &d, g));
    ASSERT_FAILS(TRINE_ERR_ARG,
                 trine_resnet_step(net, dev.stream, small, g, 1e-3f)); /* before anything moved */
    float *same = parameter_values(net, conv1);
    ck_assert_mem_eq(values, same, parameter_count_of(net, conv1) * sizeof *values);
    free(values);
    free(same);
    free(zeros);
    trine_buffer_release(&d.buffer);
    trine_session_destroy(&s);
    trine_optimizer_destroy(&small);
    trine_gradients_destroy(&g);
    test_tensor_release(&x);
    trine_resnet_destroy(&net);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("step");
    TCase *tc = tcase_create("step");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_adam_counts_per_parameter);
    tcase_add_test(tc, test_order);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
