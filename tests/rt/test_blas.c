/* SPDX-License-Identifier: MIT */
/* CLBlast's product against a naive one in double. Two calls: CLBlast compiles for half a minute each on
 * CPUs. */
#include <stdlib.h>
#include <string.h>

#include "rt/blas.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"

/* Offsets and leading dimensions larger than needed, so that one left out shows. */
static const trine__gemm cases[] = {
    {.m = 5, .n = 7, .k = 9, .alpha = 1, .beta = 0, .lda = 9, .ldb = 7, .ldc = 7},
    {.transpose_a = true,
     .transpose_b = true,
     .m = 33,
     .n = 17,
     .k = 20,
     .alpha = 0.5f,
     .beta = 2,
     .a_offset = 3,
     .b_offset = 8,
     .c_offset = 5,
     .lda = 35,
     .ldb = 21,
     .ldc = 19},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static double element(const double *x, size_t offset, int ld, bool transposed, int row, int column)
{
    return transposed ? x[offset + (size_t)column * (size_t)ld + (size_t)row]
                      : x[offset + (size_t)row * (size_t)ld + (size_t)column];
}

START_TEST(test_sgemm)
{
    const trine__gemm *g = &cases[_i];
    const size_t a_floats = g->a_offset + (size_t)(g->transpose_a ? g->k : g->m) * (size_t)g->lda,
                 b_floats = g->b_offset + (size_t)(g->transpose_b ? g->n : g->k) * (size_t)g->ldb,
                 c_floats = g->c_offset + (size_t)g->m * (size_t)g->ldc;
    double *a, *b, *c;
    test_buffer ta = test_buffer_random(a_floats, 1, -1, 1, &a),
                tb = test_buffer_random(b_floats, 2, -1, 1, &b),
                tc = test_buffer_random(c_floats, 3, -1, 1, &c);
    size_t bytes = 0;
    ASSERT_OK(trine__blas_workspace(dev.stream, g, &bytes));
    test_buffer workspace = test_workspace_create(bytes);
    ASSERT_OK(trine__blas_sgemm(dev.stream, g, ta.buffer, tb.buffer, tc.buffer, workspace.buffer));
    for (int i = 0; i < g->m; i++)
        for (int j = 0; j < g->n; j++) {
            double sum = 0, *out = &c[g->c_offset + (size_t)i * (size_t)g->ldc + (size_t)j];
            for (int k = 0; k < g->k; k++)
                sum += element(a, g->a_offset, g->lda, g->transpose_a, i, k) *
                       element(b, g->b_offset, g->ldb, g->transpose_b, k, j);
            *out = g->alpha * sum + (g->beta != 0 ? g->beta * *out : 0);
        }
    double *got =
        test_buffer_read(&tc); /* what lies between the rows and before the offset is compared too */
    test_compare("c", got, c, test_vector(c_floats), test_bound(2, g->k + 2, 1, 2));
    free(a);
    free(b);
    free(c);
    free(got);
    test_buffer_release(&ta);
    test_buffer_release(&tb);
    test_buffer_release(&tc);
    test_buffer_release(&workspace);
}
END_TEST

START_TEST(test_errors)
{
    trine__gemm g = cases[0];
    test_buffer t = test_buffer_create(64);
    size_t bytes = 0;
    g.lda = 2; /* less than k */
    const trine_status status = trine__blas_workspace(dev.stream, &g, &bytes);
    if (status == TRINE_OK)
        ASSERT_FAILS(TRINE_ERR_OPENCL, trine__blas_sgemm(dev.stream, &g, t.buffer, t.buffer, t.buffer, NULL));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "5 x 7 x 9 product"));
    test_buffer_release(&t);
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("blas");
    TCase *tc = tcase_create("blas");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_sgemm, 0, CASES);
    tcase_add_test(tc, test_errors);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
