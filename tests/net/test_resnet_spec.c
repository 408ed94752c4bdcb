/* SPDX-License-Identifier: MIT */
/* The table of variants: torchvision's parameter totals, layers, strides, names. No device is needed. */
#include <string.h>

#include "net/resnet_spec.h"
#include "support/check_main.h"

/* Totals of torchvision's models (sum of numel over parameters()), and layers with weights: the number in the
 * name less fc, plus one for each projection. The last five are He et al.'s section 4.2 with option A: layers
 * 6n+1 and the parameters that their layers have (0.27, 0.46, 0.66, 0.85, 1.7 million in table 6). */
static const struct {
    const char *name;
    long parameters;
    int units, blocks, features;
} rows[] = {
    {"resnet18", 11689512, 17 + 3, 8, 512},
    {"resnet34", 21797672, 33 + 3, 16, 512},
    {"resnet50", 25557032, 49 + 4, 16, 2048},
    {"resnet101", 44549160, 100 + 4, 33, 2048},
    {"resnet152", 60192808, 151 + 4, 50, 2048},
    {"resnext50_32x4d", 25028904, 49 + 4, 16, 2048},
    {"resnext101_32x8d", 88791336, 100 + 4, 33, 2048},
    {"resnext101_64x4d", 83455272, 100 + 4, 33, 2048},
    {"wide_resnet50_2", 68883240, 49 + 4, 16, 2048},
    {"wide_resnet101_2", 126886696, 100 + 4, 33, 2048},
    {"resnet20_cifar", 269722, 19, 9, 64},
    {"resnet32_cifar", 464154, 31, 15, 64},
    {"resnet44_cifar", 658586, 43, 21, 64},
    {"resnet56_cifar", 853018, 55, 27, 64},
    {"resnet110_cifar", 1727962, 109, 54, 64},
};

static trine__spec make(const char *name, int in_channels, int outputs, int small_stem)
{
    trine__spec s = {0};
    const trine__variant *v = trine__variant_find(name);
    ck_assert_msg(v != NULL, "no variant %s", name);
    ASSERT_OK(trine__spec_create(v, in_channels, outputs ? outputs : v->classes, small_stem, &s));
    return s;
}

static long parameters(const trine__spec *s)
{
    long total = (long)s->features * s->outputs + s->outputs;
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        total += (long)u->out_channels * (u->in_channels / u->groups) * u->kernel * u->kernel +
                 2L * u->out_channels;
    }
    return total;
}

START_TEST(test_totals)
{
    trine__spec s = make(rows[_i].name, 3, 0, 0);
    ck_assert_int_eq(parameters(&s), rows[_i].parameters);
    ck_assert_int_eq(s.unit_count, rows[_i].units);
    ck_assert_int_eq(s.block_count, rows[_i].blocks);
    ck_assert_int_eq(s.features, rows[_i].features);
    trine__spec_free(&s);
}
END_TEST

START_TEST(test_table)
{
    ck_assert_int_eq(trine__variant_count, (int)TRINE_COUNTOF(rows)); /* every variant has a row above */
    for (int i = 0; i < trine__variant_count; i++)
        for (int j = 0; j < i; j++) ck_assert_str_ne(trine__variants[i].name, trine__variants[j].name);
    ck_assert_ptr_null(trine__variant_find("resnet19"));
    ck_assert_ptr_null(trine__variant_find(""));
    ck_assert_ptr_null(trine__variant_find("resnet1"));
}
END_TEST

/* Names differ, channels chain, each block starts and ends with what it says, strides multiply to the
 * block's. */
START_TEST(test_chain)
{
    trine__spec s = make(rows[_i].name, 3, 0, 0);
    int channels = s.units[0].out_channels, used = 1;
    for (int i = 0; i < s.unit_count; i++)
        for (int j = 0; j < i; j++) {
            ck_assert_str_ne(s.units[i].conv, s.units[j].conv);
            ck_assert_str_ne(s.units[i].bn, s.units[j].bn);
        }
    for (int b = 0; b < s.block_count; b++) {
        const trine__block *block = &s.blocks[b];
        int stride = 1;
        ck_assert_int_eq(block->in_channels, channels);
        for (int i = block->first; i < block->first + block->count; i++) {
            const trine__unit *u = &s.units[i];
            ck_assert_int_eq(u->in_channels, channels);
            ck_assert_int_eq(u->in_channels % u->groups, 0);
            ck_assert_int_eq(u->out_channels % u->groups, 0);
            ck_assert_int_eq(u->pad, u->kernel / 2);
            ck_assert(u->stride == 1 || u->kernel == 3); /* v1.5: the 3x3 strides */
            channels = u->out_channels;
            stride *= u->stride;
        }
        ck_assert_int_eq(channels, block->out_channels);
        ck_assert_int_eq(stride, block->stride);
        const bool changes = block->stride != 1 || block->in_channels != block->out_channels;
        ck_assert_int_eq(block->projection >= 0, changes && s.variant->projection);
        if (block->projection >= 0) {
            const trine__unit *u = &s.units[block->projection];
            ck_assert_int_eq(u->in_channels, block->in_channels);
            ck_assert_int_eq(u->out_channels, block->out_channels);
            ck_assert_int_eq(u->stride, block->stride);
            ck_assert_int_eq(u->kernel, 1);
        }
        used += block->count + (block->projection >= 0);
    }
    ck_assert_int_eq(used, s.unit_count);
    ck_assert_int_eq(channels, s.features);
    trine__spec_free(&s);
    ck_assert_ptr_null(s.units);
}
END_TEST

START_TEST(test_names)
{
    trine__spec s = make("resnet50", 3, 0, 0);
    static const char *const first[] = {"conv1",          "layer1.0.conv1",        "layer1.0.conv2",
                                        "layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv1"};
    for (size_t i = 0; i < TRINE_COUNTOF(first); i++) ck_assert_str_eq(s.units[i].conv, first[i]);
    ck_assert_str_eq(s.units[0].bn, "bn1");
    ck_assert_str_eq(s.units[3].bn, "layer1.0.bn3");
    ck_assert_str_eq(s.units[4].bn, "layer1.0.downsample.1");
    ck_assert_str_eq(s.units[s.unit_count - 1].conv, "layer4.2.conv3");
    trine__spec_free(&s);
    s = make("resnext101_64x4d", 3, 0, 0);
    ck_assert_int_eq(s.units[2].groups, 64);
    ck_assert_int_eq(s.units[2].out_channels, 256);
    ck_assert_int_eq(s.units[1].groups, 1);
    trine__spec_free(&s);
}
END_TEST

START_TEST(test_options)
{
    trine__spec s = make("resnet18", 1, 7, 0);
    ck_assert_int_eq(s.units[0].in_channels, 1);
    ck_assert_int_eq(s.units[0].kernel, 7);
    ck_assert_int_eq(s.units[0].stride, 2);
    ck_assert_int_eq(s.stem_pool, 1);
    ck_assert_int_eq(parameters(&s), 11689512 - 2 * 64 * 49 - (1000 - 7) * 513);
    trine__spec_free(&s);
    s = make("resnet18", 3, 0, 1);
    ck_assert_int_eq(s.units[0].kernel, 3);
    ck_assert_int_eq(s.units[0].stride, 1);
    ck_assert_int_eq(s.stem_pool, 0);
    ck_assert_int_eq(parameters(&s), 11689512 - 3 * 64 * (49 - 9));
    trine__spec_free(&s);
    s = make("resnet20_cifar", 3, 0, 0);
    ck_assert_int_eq(s.stem_pool, 0);
    ck_assert_int_eq(s.outputs, 10);
    trine__spec_free(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resnet_spec");
    TCase *tc = tcase_create("resnet_spec");
    tcase_add_loop_test(tc, test_totals, 0, (int)TRINE_COUNTOF(rows));
    tcase_add_loop_test(tc, test_chain, 0, (int)TRINE_COUNTOF(rows));
    tcase_add_test(tc, test_table);
    tcase_add_test(tc, test_names);
    tcase_add_test(tc, test_options);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
