/* SPDX-License-Identifier: MIT */
/* conv2d_gemm:subgroups by every kind of sub-groups that the device has, not as the device is shaped, and by the imitation: the plain
 * convolution's results, and one another's bits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv2d_cases.h"
#include "op/conv2d_gemm_tiles.h"
#include "op/conv2d_private.h"
#include "rt/sub_groups.h"
#include "support/check_main.h"
#include "support/compare.h"
#include "support/device.h"
#include "support/report.h"

static const struct kind {
    const char *name;
    trine__sub_groups kind;
} kinds[] = {{"subgroups_intel", TRINE__SUB_GROUPS}, {"subgroups_khr", TRINE__SUB_GROUPS_KHR}};
enum {
    KINDS = sizeof kinds / sizeof kinds[0],
    WAYS = 2,
    CASES = sizeof variant_cases / sizeof variant_cases[0]
};
static const char variant[] = "conv2d_gemm:subgroups";

static void become(trine__sub_groups kind)
{
    trine__caps *caps = &dev.context->caps;
    caps->cpu = false;
    caps->sub_groups = kind;
    dev.context->sub_group_trial = 0;
}

/* Any device that has sub-groups has those of cl_khr_subgroups. */
static bool has(trine__sub_groups kind)
{
    const trine__sub_groups found = trine__sub_groups_find(dev.context->device.id);
    return found == kind || (found == TRINE__SUB_GROUPS && kind == TRINE__SUB_GROUPS_KHR);
}

static bool supported(const conv_case *c, trine_direction direction)
{
    const trine_conv2d_desc d = desc_of(c);
    trine_conv2d *op = NULL;
    const char *names[32];
    bool found = false;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 0, &op));
    const size_t count = trine_conv2d_algorithms(op, direction, names, TRINE_COUNTOF(names));
    ck_assert_uint_le(count, TRINE_COUNTOF(names));
    for (size_t i = 0; i < count; i++) found |= strcmp(names[i], variant) == 0;
    trine_conv2d_destroy(&op);
    return found;
}

/* What a direction writes, a new array. */
static double *run(const conv_case *c, trine_direction direction, const char *algorithm, trine_shape *shape)
{
    trine_conv2d_desc d = desc_of(c);
    trine_conv2d *op = NULL;
    d.algorithm = algorithm;
    ASSERT_OK(trine_conv2d_create(dev.context, &d, c->h, c->w, 1u << direction, &op));
    trine_shape in = {c->n, c->c, c->h, c->w}, out;
    ASSERT_OK(trine_conv2d_output_shape(op, c->n, &out));
    const bool forward = direction == TRINE_FORWARD;
    double *unused;
    test_tensor from =
                    test_tensor_random(forward ? in : out, forward ? c->in_cb : c->out_cb, 1, -1, 1, &unused),
                to = test_tensor_create(forward ? out : in, forward ? c->out_cb : c->in_cb);
    free(unused);
    test_buffer w = test_buffer_random(trine_conv2d_weight_count(&d), 2, -1, 1, &unused),
                workspace = test_workspace_create(trine_conv2d_workspace_bytes(op, direction, c->n));
    free(unused);
    ASSERT_OK(trine_conv2d_prepare(op, dev.stream, w.buffer));
    ASSERT_OK(forward ? trine_conv2d_forward(op, dev.stream, &from.t, NULL, &to.t, workspace.buffer)
                      : trine_conv2d_backward_data(op, dev.stream, &from.t, 0, &to.t, workspace.buffer));
    double *got = test_tensor_read(&to);
    *shape = to.t.shape;
    test_buffer_release(&workspace);
    test_buffer_release(&w);
    test_tensor_release(&from);
    test_tensor_release(&to);
    trine_conv2d_destroy(&op);
    return got;
}

START_TEST(test_kinds)
{
    const struct kind *k = &kinds[_i / WAYS];
    const trine_direction direction = (trine_direction)(_i % WAYS);
    const char *pass = trine__direction_name(direction);
    if (!has(k->kind)) {
        test_report_skip("conv2d", k->name, pass, "the device has no such sub-groups");
        return;
    }
    const trine__caps kept = dev.context->caps;
    for (size_t i = 0; i < CASES; i++) {
        const conv_case *c = &variant_cases[i];
        trine_shape shape;
        char name[96];
        if (test_small() && !c->small) continue;
        snprintf(name, sizeof name, "%s %s, case %zu", k->name, pass, i);
        test_report("conv2d", k->name, pass);
        become(k->kind);
        ck_assert_msg(supported(c, direction), "%s: left out: %s", name, trine_last_error());
        double *got = run(c, direction, variant, &shape), *plain = run(c, direction, "conv2d_plain", &shape);
        become(TRINE__SUB_GROUPS_IMITATED);
        double *imitated = run(c, direction, variant, &shape);
        const int length =
            (direction == TRINE_FORWARD ? c->c : c->k) / c->groups * c->kernel[0] * c->kernel[1];
        test_compare(name, got, plain, shape, test_bound(4, length, 1, 1));
        test_compare_exact(name, got, imitated, shape);
        dev.context->caps = kept;
        free(got);
        free(plain);
        free(imitated);
    }
}
END_TEST

/* The size of sub-groups is asked for, never assumed: a work-group of half of what they need is refused, and the variant with it. */
START_TEST(test_refused)
{
    const trine__caps kept = dev.context->caps;
    trine__tile narrow = trine__tiles[TRINE__TILES - 1];
    trine__kernel *kernel = NULL;
    ck_assert_int_eq(narrow.exchange, TRINE__BY_SUB_GROUPS);
    test_report("conv2d", "subgroups_khr", "refused");
    narrow.side = TRINE__SUB_LANES / 2;
    become(TRINE__SUB_GROUPS_KHR);
    const trine__tile_options options = trine__tile_shape(&dev.context->caps, &narrow, 8);
    ASSERT_FAILS(TRINE_ERR_BUILD,
                 trine__tile_create(dev.context, &narrow, TRINE_FORWARD, options.text, &kernel));
    ck_assert_ptr_null(kernel);
    ck_assert(!trine__tile_builds(dev.context, &narrow, options.text));
    ck_assert(!supported(&variant_cases[0], TRINE_FORWARD)); /* as the context remembers */
    become(TRINE__SUB_GROUPS_KHR);
    ck_assert(supported(&variant_cases[0], TRINE_FORWARD));
    dev.context->caps = kept;
}
END_TEST

int main(void)
{
    test_device_open();
    if (!has(TRINE__SUB_GROUPS_KHR)) {
        printf("SKIP: the device has no sub-groups\n");
        test_device_close();
        return 77;
    }
    Suite *suite = suite_create("conv2d by sub-groups");
    TCase *tc = tcase_create("conv2d by sub-groups");
    tcase_add_loop_test(tc, test_kinds, 0, KINDS * WAYS);
    tcase_add_test(tc, test_refused);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
