/* SPDX-License-Identifier: MIT */
/* Kept images: told from files that are damaged after the first time; as many as there is room for; the caller's copies are his own. */
#include "io/image_cache.h"

#include "io/image_files.h"
#include "support/check_main.h"

enum { WIDTH = 12, HEIGHT = 9, BYTES = 3 * WIDTH * HEIGHT };

static const char *const names[] = {"x/0.ppm", "x/1.ppm"};
static char root[PATH_BYTES];
static trine_dataset *dataset;

static void setup(void)
{
    make_root(root);
    make_folder(root, "x");
    for (int i = 0; i < 2; i++) write_ppm(root, names[i], WIDTH, HEIGHT, 7 * i + 1);
    ASSERT_OK(trine_dataset_open(root, NULL, &dataset));
}

static void teardown(void)
{
    trine_dataset_destroy(&dataset);
    remove_root(root);
}

/* Read both images, damage their files, read again: `kept` of them are still there. */
static void assert_kept(size_t bytes, int kept)
{
    trine__image_cache *cache;
    trine_image image[2], again;
    ASSERT_OK(trine__image_cache_create(dataset, bytes, &cache));
    for (size_t i = 0; i < 2; i++) ASSERT_OK(trine__image_cache_read(cache, i, &image[i]));
    for (int i = 0; i < 2; i++) write_bytes(root, names[i], "P6 12 9 255\nshort", 17);
    for (int i = 0; i < 2; i++) {
        if (i >= kept) {
            ASSERT_FAILS(TRINE_ERR_FORMAT, trine__image_cache_read(cache, (size_t)i, &again));
            continue;
        }
        ASSERT_OK(trine__image_cache_read(cache, (size_t)i, &again));
        ck_assert_int_eq(again.width, WIDTH);
        ck_assert_int_eq(again.height, HEIGHT);
        ck_assert_mem_eq(again.rgb, image[i].rgb, BYTES);
        ck_assert_ptr_ne(again.rgb, image[i].rgb);
        trine_image_free(&again);
    }
    for (int i = 0; i < 2; i++) trine_image_free(&image[i]);
    trine__image_cache_destroy(&cache);
    ck_assert_ptr_null(cache);
    trine__image_cache_destroy(&cache);
}

START_TEST(as_many_as_fit)
{
    static const size_t rooms[] = {0, BYTES - 1, BYTES, 2 * BYTES - 1, 2 * BYTES};
    static const int kept[] = {0, 0, 1, 1, 2};
    assert_kept(rooms[_i], kept[_i]);
}
END_TEST

START_TEST(out_of_range)
{
    trine__image_cache *cache;
    trine_image image;
    ASSERT_OK(trine__image_cache_create(dataset, BYTES, &cache));
    ASSERT_FAILS(TRINE_ERR_ARG, trine__image_cache_read(cache, 2, &image));
    trine__image_cache_destroy(&cache);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_cache");
    TCase *tc = tcase_create("image_cache");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, as_many_as_fit, 0, 5);
    tcase_add_test(tc, out_of_range);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
