/* SPDX-License-Identifier: MIT */
/* The device list and selectors. Started with an argument, the program is a child that opens that selector
 * and prints what became of it: how a process without any OpenCL platform is seen. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "support/check_main.h"
#include "support/device.h"

static char self[4096];

START_TEST(test_list)
{
    trine_device_list *list = NULL;
    ASSERT_OK(trine_device_list_create(&list));
    const int count = trine_device_list_count(list);
    int defaults = 0;
    ck_assert_int_ge(count, 1); /* main() found one */
    for (int i = 0; i < count; i++) {
        const trine_device_info *d = trine_device_list_at(list, i);
        ck_assert_int_eq(d->index, i);
        ck_assert(d->name[0] && d->platform[0] && d->version[0]);
        ck_assert_int_eq(strncmp(d->version, "OpenCL ", 7), 0);
        ck_assert_msg(d->usable || d->reason[0], "%s is not usable, and no word why", d->name);
        if (d->usable) ck_assert(d->compute_units > 0 && d->memory_bytes > 0 && d->allocation_bytes > 0);
        if (d->is_default) {
            defaults++;
            ck_assert(d->usable && d->reason[0]);
        }
    }
    ck_assert_int_eq(defaults, 1);
    ck_assert_ptr_null(trine_device_list_at(list, -1));
    ck_assert_ptr_null(trine_device_list_at(list, count));
    trine_device_list_destroy(&list);
    ck_assert_ptr_null(list);
    trine_device_list_destroy(&list);
}
END_TEST

/* The name of the device that a selector opens. */
static int opens(const char *selector)
{
    trine_context *context = NULL;
    ASSERT_OK(trine_context_create(selector, NULL, NULL, &context));
    const int index = trine_context_device(context)->index;
    trine_context_destroy(&context);
    ck_assert_ptr_null(context);
    return index;
}

START_TEST(test_selectors)
{
    trine_device_list *list = NULL;
    ASSERT_OK(trine_device_list_create(&list));
    for (int i = 0; i < trine_device_list_count(list); i++) {
        const trine_device_info *d = trine_device_list_at(list, i);
        char text[160];
        if (!d->usable) continue;
        snprintf(text, sizeof text, "%d", i);
        ck_assert_int_eq(opens(text), i);
        if (d->is_default) {
            ck_assert_int_eq(opens("auto"), i);
            ck_assert_int_eq(opens(NULL), i);
            ck_assert_int_eq(opens(""), i);
        }
        /* a part of the name in the other case: that device or a better one of that name */
        snprintf(text, sizeof text, "%s", d->name + 1);
        for (char *p = text; *p; p++) *p = (char)(isupper((unsigned char)*p) ? tolower(*p) : toupper(*p));
        ck_assert_str_eq(trine_device_list_at(list, opens(text))->name + 1, d->name + 1);
        ck_assert_str_eq(trine_device_list_at(list, opens(d->platform))->platform, d->platform);
        if (strcmp(d->type, "cpu") == 0 || strcmp(d->type, "gpu") == 0)
            ck_assert_str_eq(trine_device_list_at(list, opens(d->type))->type, d->type);
    }
    trine_device_list_destroy(&list);
}
END_TEST

START_TEST(test_unknown)
{
    static const char *const unknown[] = {"no such device", "99", "-1", "GPU of 2099"};
    trine_device_list *list = NULL;
    trine_context *context = NULL;
    ASSERT_OK(trine_device_list_create(&list));
    for (size_t k = 0; k < TRINE_COUNTOF(unknown); k++) {
        ASSERT_FAILS(TRINE_ERR_DEVICE, trine_context_create(unknown[k], NULL, NULL, &context));
        ck_assert_ptr_null(context);
        ck_assert_ptr_nonnull(strstr(trine_last_error(), unknown[k]));
        for (int i = 0; i < trine_device_list_count(list); i++) /* and what there is */
            ck_assert_ptr_nonnull(strstr(trine_last_error(), trine_device_list_at(list, i)->name));
    }
    trine_device_list_destroy(&list);
}
END_TEST

/* What the child printed, and its exit status. */
static int run_child(const char *vendors, char *out, size_t size)
{
    int pipe_ends[2], status = 0;
    ck_assert_int_eq(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(pipe_ends[1], STDOUT_FILENO);
        setenv("OCL_ICD_VENDORS", vendors, 1);
        setenv("OPENCL_VENDOR_PATH", vendors, 1); /* Khronos's loader has another name for it */
        execl(self, self, "auto", (char *)NULL);
        _exit(99);
    }
    close(pipe_ends[1]);
    size_t length = 0;
    for (ssize_t n; (n = read(pipe_ends[0], out + length, size - 1 - length)) > 0;) length += (size_t)n;
    out[length] = '\0';
    close(pipe_ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

START_TEST(test_no_platform)
{
    char folder[] = "/tmp/trine-vendors-XXXXXX", with_slash[sizeof folder + 1], out[4096];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(with_slash, sizeof with_slash, "%s/", folder);
    ck_assert_msg(run_child(with_slash, out, sizeof out) == TRINE_ERR_DEVICE, "child: %s", out);
    ck_assert_ptr_nonnull(strstr(out, "0 devices"));
    ck_assert_ptr_nonnull(strstr(out, "no OpenCL device found"));
    ck_assert_ptr_nonnull(strstr(out, "pocl-opencl-icd")); /* what to do about it */
    rmdir(folder);
}
END_TEST

static int child(const char *selector)
{
    trine_device_list *list = NULL;
    trine_context *context = NULL;
    if (trine_device_list_create(&list) != TRINE_OK) return 98;
    printf("%d devices\n", trine_device_list_count(list));
    const trine_status status = trine_context_create(selector, NULL, NULL, &context);
    printf("%s\n", trine_last_error());
    trine_context_destroy(&context);
    trine_device_list_destroy(&list);
    return (int)status;
}

int main(int argc, char **argv)
{
    if (argc > 1) return child(argv[1]);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) snprintf(self, sizeof self, "%s", argv[0]);
    test_device_open(); /* or skip */
    Suite *suite = suite_create("device");
    TCase *tc = tcase_create("device");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_list);
    tcase_add_test(tc, test_selectors);
    tcase_add_test(tc, test_unknown);
    tcase_add_test(tc, test_no_platform);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
