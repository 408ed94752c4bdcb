/* SPDX-License-Identifier: MIT */
/* Several devices in one process, a context each: the same operator on both in turn, and from two threads at once. Mesa's renderer on
 * the CPU is asked to show itself as a second device. Skipped where there is only one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref_conv2d.h"
#include "support/check_main.h"
#include "support/device.h"
#include "trine/conv2d.h"
#include "trine/elementwise.h"

enum { SKIP = 77, N = 1, C = 16, H = 6, W = 7, K = 16, COUNT = N * K * H * W, ROUNDS = 3 };

/* One device with everything that a thread needs. */
typedef struct place {
    trine_context *context;
    trine_stream *stream;
    int cb;
    trine_conv2d *conv;
    trine_elementwise *add;
    trine_tensor x, y, sum;
    trine_buffer *weights, *workspace;
} place;

static place places[2];
static float x_host[N * C * H * W], w_host[K * C * 9], want[COUNT];
static double bound;

static trine_status make_tensor(place *p, const float *host, trine_tensor *out)
{
    const trine_shape shape = {N, C, H, W}; /* of x and y alike */
    trine_status status = trine_tensor_create(p->context, &shape, p->cb, out);
    if (status == TRINE_OK && host) status = trine_tensor_upload(p->stream, host, out);
    return status;
}

static void open_place(const char *selector, place *p)
{
    trine_conv2d_desc desc = trine_conv2d_desc_default(C, K, 3);
    ASSERT_OK(trine_context_create(selector, NULL, NULL, &p->context));
    ASSERT_OK(trine_stream_create(p->context, 0, &p->stream));
    p->cb = trine_context_device(p->context)->type[0] == 'c' ? 16 : 1; /* a CPU's layout, or a GPU's */
    desc.pad_h = desc.pad_w = 1;
    desc.in_cb = desc.out_cb = p->cb;
    ASSERT_OK(trine_conv2d_create(p->context, &desc, H, W, 1u << TRINE_FORWARD, &p->conv));
    ASSERT_OK(trine_elementwise_create(p->context, &p->add));
    ASSERT_OK(make_tensor(p, x_host, &p->x));
    ASSERT_OK(make_tensor(p, NULL, &p->y));
    ASSERT_OK(make_tensor(p, NULL, &p->sum));
    ASSERT_OK(trine_buffer_create(p->context, sizeof w_host, &p->weights));
    ASSERT_OK(trine_buffer_write(p->stream, p->weights, 0, w_host, sizeof w_host));
    const size_t bytes = trine_conv2d_workspace_bytes(p->conv, TRINE_FORWARD, N);
    if (bytes > 0) ASSERT_OK(trine_buffer_create(p->context, bytes, &p->workspace));
    ASSERT_OK(trine_conv2d_prepare(p->conv, p->stream, p->weights));
}

static void close_place(place *p)
{
    uint64_t now = 0;
    trine_conv2d_destroy(&p->conv);
    trine_elementwise_destroy(&p->add);
    trine_buffer_release(&p->x.buffer);
    trine_buffer_release(&p->y.buffer);
    trine_buffer_release(&p->sum.buffer);
    trine_buffer_release(&p->weights);
    trine_buffer_release(&p->workspace);
    trine_stream_destroy(&p->stream);
    trine_context_memory(p->context, &now, NULL);
    ck_assert_uint_le(now, 256); /* the context's own zeros */
    trine_context_destroy(&p->context);
}

/* sum = conv(x) + conv(x), enqueued. */
static trine_status enqueue(place *p)
{
    trine_status status = trine_conv2d_forward(p->conv, p->stream, &p->x, NULL, &p->y, p->workspace);
    return status == TRINE_OK ? trine_add(p->add, p->stream, &p->y, &p->y, &p->sum) : status;
}

/* NULL, or what is wrong; not by Check's assertions, which belong to one thread. */
static const char *check(place *p)
{
    static _Thread_local char text[128];
    static _Thread_local float got[COUNT];
    if (trine_tensor_download(p->stream, &p->sum, got) != TRINE_OK) return trine_last_error();
    for (int i = 0; i < COUNT; i++) {
        const double error = (double)got[i] - 2 * (double)want[i];
        if (error <= bound && error >= -bound) continue;
        snprintf(text, sizeof text, "y[%d] is %g, not %g", i, (double)got[i], 2 * (double)want[i]);
        return text;
    }
    return NULL;
}

/* Both queues are filled before either is waited for. */
START_TEST(test_in_turn)
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 2; i++) ASSERT_OK(enqueue(&places[i]));
        for (int i = 1; i >= 0; i--) {
            const char *wrong = check(&places[i]);
            ck_assert_msg(!wrong, "round %d, %s: %s", round, trine_context_device(places[i].context)->name,
                          wrong);
        }
    }
}
END_TEST

static void *work(void *argument)
{
    place *p = argument;
    const char *wrong = NULL;
    for (int round = 0; round < ROUNDS && !wrong; round++) {
        wrong = enqueue(p) == TRINE_OK ? check(p) : trine_last_error();
    }
    return wrong ? strdup(wrong) : NULL;
}

START_TEST(test_threads)
{
    pthread_t threads[2];
    char *wrong[2];
    for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &places[i]), 0);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_join(threads[i], (void **)&wrong[i]), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_msg(!wrong[i], "%s: %s", trine_context_device(places[i].context)->name, wrong[i]);
}
END_TEST

/* Each context has a device and an account of its own. */
START_TEST(test_apart)
{
    uint64_t before, after;
    trine_buffer *buffer = NULL;
    trine_context_memory(places[1].context, &before, NULL);
    ASSERT_OK(trine_buffer_create(places[0].context, 4096, &buffer));
    trine_context_memory(places[1].context, &after, NULL);
    ck_assert_uint_eq(before, after);
    trine_buffer_release(&buffer);
    ck_assert_int_ne(trine_context_device(places[0].context)->index,
                     trine_context_device(places[1].context)->index);
}
END_TEST

static void make_data(void)
{
    const ref_conv2d d = {N, C, H, W, K, 3, 3, 1, 1, 1, 1, 1, 1, 1};
    double *x = test_random(sizeof x_host / sizeof *x_host, 1, -1, 1),
           *w = test_random(sizeof w_host / sizeof *w_host, 2, -1, 1), *y = test_zeros(COUNT);
    ref_conv2d_forward(&d, x, w, NULL, y);
    for (size_t i = 0; i < sizeof x_host / sizeof *x_host; i++) x_host[i] = (float)x[i];
    for (size_t i = 0; i < sizeof w_host / sizeof *w_host; i++) w_host[i] = (float)w[i];
    for (size_t i = 0; i < COUNT; i++) want[i] = (float)y[i];
    bound = 2 * 8 * 6e-8 * C * 9;
    free(x);
    free(w);
    free(y);
}

/* Indices of the first two usable devices; how many there are. */
static int find_devices(char indices[2][16])
{
    trine_device_list *list = NULL;
    int usable = 0;
    if (trine_device_list_create(&list) != TRINE_OK) return 0;
    for (int i = 0; i < trine_device_list_count(list); i++) {
        const trine_device_info *info = trine_device_list_at(list, i);
        if (!info->usable) continue;
        printf("device %d: %s\n", i, info->name);
        if (usable < 2) snprintf(indices[usable], sizeof indices[usable], "%d", i);
        usable++;
    }
    trine_device_list_destroy(&list);
    return usable;
}

static void open_places(void)
{
    char indices[2][16];
    find_devices(indices);
    for (int i = 0; i < 2; i++) open_place(indices[i], &places[i]);
}

static void close_places(void)
{
    for (int i = 0; i < 2; i++) close_place(&places[i]);
}

int main(void)
{
    char indices[2][16];
    setenv("RUSTICL_ENABLE", "llvmpipe", 0);
    const int usable = find_devices(indices);
    if (usable < 2) {
        printf("SKIP: %d usable OpenCL devices, two are needed\n", usable);
        return SKIP;
    }
    make_data();
    Suite *suite = suite_create("contexts");
    TCase *tc = tcase_create("contexts");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, open_places, close_places);
    tcase_add_test(tc, test_in_turn);
    tcase_add_test(tc, test_threads);
    tcase_add_test(tc, test_apart);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
