/* SPDX-License-Identifier: MIT */
/* Kernels from the embedded sources: errors with a build log, one program for equal options. */
#include <stdio.h>
#include <string.h>

#include "rt/launch.h"
#include "support/check_main.h"
#include "support/device.h"

START_TEST(test_unknown)
{
    trine__kernel *kernel = NULL;
    ASSERT_FAILS(TRINE_ERR_BUILD, trine__kernel_create(dev.context, "no_such_kernel", "", &kernel));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "cl/no_such_kernel.cl"));
    ck_assert_ptr_null(kernel);
}
END_TEST

/* `floatV` becomes a type that does not exist: the compiler's complaint is kept, and the context goes on. */
START_TEST(test_build_log)
{
    trine__kernel *kernel = NULL;
    ASSERT_FAILS(TRINE_ERR_BUILD,
                 trine__kernel_create(dev.context, "add", "-D V=5 -D NO_SUCH_OPTION", &kernel));
    ck_assert_ptr_null(kernel);
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "kernel add does not build"));
    ck_assert_ptr_nonnull(strstr(trine_last_error(), "NO_SUCH_OPTION")); /* with which options */
    ck_assert_msg(strstr(trine_last_build_log(), "error") != NULL, "log: '%s'", trine_last_build_log());
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=4", &kernel));
    trine__kernel_destroy(&kernel);
    ck_assert_ptr_null(kernel);
    trine__kernel_destroy(&kernel);
}
END_TEST

START_TEST(test_shared)
{
    trine__kernel *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=4", &a));
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=4", &b));
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=8", &c));
    ASSERT_OK(trine__kernel_create(dev.context, "relu_forward", "-D V=4", &d));
    ck_assert_ptr_eq(a->program, b->program);
    ck_assert_ptr_ne(a->cl, b->cl); /* arguments are part of a kernel: never shared */
    ck_assert_ptr_ne(a->program, c->program);
    ck_assert_ptr_ne(a->program, d->program);
    ck_assert_str_eq(a->name, "add");
    ck_assert_str_eq(d->name, "relu_forward");
    trine__kernel_destroy(&a);
    ASSERT_OK(trine__kernel_create(dev.context, "add", "-D V=4", &a)); /* programs stay with the context */
    ck_assert_ptr_eq(a->program, b->program);
    trine__kernel *all[] = {a, b, c, d};
    for (size_t i = 0; i < 4; i++) trine__kernel_destroy(&all[i]);
}
END_TEST

typedef struct told {
    int created, launched;
    char options[128];
    size_t local, local_bytes;
} told;

static void tell(void *user, const trine__rehearsed *what)
{
    told *t = user;
    ck_assert_str_eq(what->kernel, "add");
    snprintf(t->options, sizeof t->options, "%s", what->options);
    if (!what->local) {
        t->created++;
        return;
    }
    t->launched++;
    t->local = what->local[0];
    t->local_bytes = what->local_bytes;
    ck_assert_str_eq(what->scope, "here");
}

/* Options that cannot build, and arguments that the kernel does not have: nothing is built or run. */
START_TEST(test_rehearsal)
{
    told t = {0};
    const trine__rehearsal rehearsal = {tell, &t};
    trine__kernel *kernel = NULL;
    const trine__arg args[] = {trine__arg_local(96), trine__arg_i32(1), trine__arg_local(32)};
    dev.context->rehearsal = &rehearsal;
    trine__stream_scope(dev.stream, "here");
    const trine_status created = trine__kernel_create(dev.context, "add", "-D V=5 -D REHEARSED", &kernel);
    const trine_status launched = created != TRINE_OK
                                      ? created
                                      : trine__launch(dev.stream, kernel, args, TRINE_COUNTOF(args),
                                                      trine__grid_lines(1000, 1, 1, TRINE__LOCAL), NULL);
    trine__stream_scope(dev.stream, NULL);
    trine__kernel_destroy(&kernel);
    dev.context->rehearsal = NULL;
    ASSERT_OK(created);
    ASSERT_OK(launched);
    ck_assert_int_eq(t.created, 1);
    ck_assert_int_eq(t.launched, 1);
    ck_assert_uint_eq(t.local, TRINE__LOCAL);
    ck_assert_uint_eq(t.local_bytes, 128);
    ck_assert_ptr_nonnull(strstr(t.options, "-cl-std=CL1.2 "));
    ck_assert_ptr_nonnull(strstr(t.options, "-D V=5 -D REHEARSED"));
}
END_TEST

START_TEST(test_sources)
{
    ck_assert_uint_ge(trine__source_count, 20);
    for (size_t i = 0; i < trine__source_count; i++) {
        const trine__source *s = &trine__sources[i];
        ck_assert_uint_eq(strlen((const char *)s->text), s->bytes);
        ck_assert_msg(strstr((const char *)s->text, "#include") == NULL, "%s: an include was not resolved",
                      s->stem);
        for (size_t j = 0; j < i; j++) ck_assert_str_ne(s->stem, trine__sources[j].stem);
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("program");
    TCase *tc = tcase_create("program");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_unknown);
    tcase_add_test(tc, test_build_log);
    tcase_add_test(tc, test_shared);
    tcase_add_test(tc, test_rehearsal);
    tcase_add_test(tc, test_sources);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
