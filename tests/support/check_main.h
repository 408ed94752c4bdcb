/* SPDX-License-Identifier: MIT */
/* main() of a Check executable: CHECK_MAIN("name", test_a, test_b, ...) or, for shape tables, build the suite
 * by hand. */
#ifndef TRINE_TESTS_CHECK_MAIN_H
#define TRINE_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stdlib.h>

#include "trine/status.h"

/* A call that must succeed: shows trine's sentence when it does not. */
#define ASSERT_OK(expr)                                                                                      \
    do {                                                                                                     \
        const trine_status ok_status_ = (expr);                                                              \
        ck_assert_msg(ok_status_ == TRINE_OK, "%s: %s (%s)", #expr, trine_status_text(ok_status_),           \
                      trine_last_error());                                                                   \
    } while (0)

/* A call that must fail with `want` and leave a sentence. */
#define ASSERT_FAILS(want, expr)                                                                             \
    do {                                                                                                     \
        const trine_status fail_status_ = (expr);                                                            \
        ck_assert_msg(fail_status_ == (want), "%s: got '%s' (%s)", #expr, trine_status_text(fail_status_),   \
                      trine_last_error());                                                                   \
        ck_assert_msg(trine_last_error()[0] != '\0', "%s: no sentence", #expr);                              \
    } while (0)

static inline int check_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
