/* SPDX-License-Identifier: MIT */
/* The loader: batches in the plan's order with the same bytes for any number of threads, augmentation,
 * unreadable images. */
#include "io/loader.h"

#include "io/image_files.h"
#include "support/check_main.h"

enum { CAPACITY = 5, LOG_BYTES = 4096 };

static char root[PATH_BYTES];
static trine_dataset *dataset;

/* Class x: 0.ppm to 11.ppm, 12 x 9 pixels; class y: 0.ppm to 3.ppm. Names sort as numbers by two digits. */
static void setup(void)
{
    make_root(root);
    make_folder(root, "x");
    make_folder(root, "y");
    for (int i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "%c/%02d.ppm", i < 12 ? 'x' : 'y', i);
        write_ppm(root, name, 12, 9, 7 * i + 1);
    }
}

static void teardown(void)
{
    trine_dataset_destroy(&dataset);
    remove_root(root);
}

static void damage(const char *name)
{
    write_bytes(root, name, "P6 12 9 255\nshort", 17);
}

struct plan {
    int total, next;   /* images */
    size_t next_batch; /* the order of calls is checked */
    int stride;
    int images;     /* in the data set */
    bool misplaced; /* called out of order */
};

static void plan_run(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    struct plan *p = user;
    if (batch != p->next_batch) p->misplaced = true; /* Check's own calls are for the main thread */
    p->next_batch++;
    *count = 0;
    while (*count < capacity && p->next < p->total)
        rows[(*count)++].index = p->next++ * p->stride % p->images;
    if (*count == 0) p->next_batch--; /* the end may be told more than once */
}

static void log_line(void *user, const char *sentence)
{
    char *log = user;
    const size_t used = strlen(log);
    snprintf(log + used, LOG_BYTES - used, "%s\n", sentence);
}

static trine__loader_options options_for(struct plan *plan, int total)
{
    if (!dataset) ASSERT_OK(trine_dataset_open(root, NULL, &dataset));
    *plan = (struct plan){total, 0, 0, 5, (int)trine_dataset_count(dataset), false};
    return (trine__loader_options){
        .dataset = dataset,
        .preprocess = {0, 0, 0, {0.5f, 0.25f, 0.f}, {0.5f, 1.f, 2.f}},
        .seed = 42,
        .batch_capacity = CAPACITY,
        .threads = 3,
        .plan = plan_run,
        .plan_user = plan,
    };
}

/* Every batch into one hash of everything the consumer sees; returns the number of images. */
static int drain(const trine__loader_options *options, uint64_t *hash)
{
    trine__loader *loader;
    trine__batch b;
    int images = 0;
    uint64_t h = 1469598103934665603u;
    ASSERT_OK(trine__loader_create(options, &loader));
    for (;;) {
        ASSERT_OK(trine__loader_next(loader, &b));
        if (b.count == 0) break;
        const size_t floats = (size_t)b.count * 3 * (size_t)b.height * (size_t)b.width;
        const struct {
            const void *data;
            size_t bytes;
        } parts[] = {{b.x, floats * sizeof(float)},
                     {b.indices, (size_t)b.count * sizeof(int)},
                     {b.labels, (size_t)b.count * sizeof(int)},
                     {b.ok, (size_t)b.count * sizeof(bool)}};
        for (size_t p = 0; p < 4; p++) {
            for (size_t i = 0; i < parts[p].bytes; i++)
                h = (h ^ ((const unsigned char *)parts[p].data)[i]) * 1099511628211u; /* FNV-1a */
        }
        images += b.count;
    }
    ASSERT_OK(trine__loader_next(loader, &b));
    ck_assert_int_eq(b.count, 0);
    trine__loader_destroy(&loader);
    ck_assert_ptr_null(loader);
    *hash = h;
    return images;
}

START_TEST(order_and_values)
{
    struct plan plan;
    const trine__loader_options o = options_for(&plan, 33);
    trine__loader *loader;
    trine__batch b;
    int image = 0;
    ASSERT_OK(trine__loader_create(&o, &loader));
    for (;;) {
        ASSERT_OK(trine__loader_next(loader, &b));
        if (b.count == 0) break;
        ck_assert_int_eq(b.count, 33 - image < CAPACITY ? 33 - image : CAPACITY);
        ck_assert(b.width == 12 && b.height == 9);
        for (int i = 0; i < b.count; i++, image++) {
            ck_assert_int_eq(b.indices[i], image * 5 % 16);
            ck_assert_int_eq(b.labels[i], b.indices[i] >= 12);
            ck_assert(b.ok[i]);
            const float *x = b.x + i * 3 * 9 * 12;
            const int seed = 7 * b.indices[i] + 1, at = 4 * 12 + 5;
            ck_assert(x[at] == ((float)((seed + 80) & 255) / 255.f - 0.5f) / 0.5f);
            ck_assert(x[at + 108] == ((float)((seed + 64) & 255) / 255.f - 0.25f) / 1.f);
            ck_assert(x[at + 216] == ((float)seed / 255.f - 0.f) / 2.f);
        }
    }
    ck_assert_int_eq(image, 33);
    trine__loader_destroy(&loader);
}
END_TEST

START_TEST(threads_do_not_matter)
{
    static const int crops[] = {0, 7, 11, 20, 8}, threads[3] = {1, 8, 3};
    for (int c = 0; c < 5; c++) { /* the last with all that there is */
        const char *text = c < 4 ? "flip,crop" : "flip,rrc,jitter,erase:value=random";
        uint64_t hash[3];
        for (int t = 0; t < 3; t++) {
            struct plan plan;
            trine__loader_options o = options_for(&plan, 203);
            o.preprocess.resize = c == 2 ? 15 : 0;
            o.preprocess.crop = crops[c];
            ASSERT_OK(trine_augment_parse(text, &o.augment));
            o.threads = threads[t];
            o.cache_bytes = (size_t)t * 2000; /* nor does what is kept of the images */
            ck_assert_int_eq(drain(&o, &hash[t]), 203);
            ck_assert(!plan.misplaced);
            ck_assert_msg(hash[t] == hash[0], "crop %d: %d threads differ", crops[c], threads[t]);
        }
        struct plan plan;
        trine__loader_options o = options_for(&plan, 203);
        o.preprocess.crop = crops[c];
        ASSERT_OK(trine_augment_parse(text, &o.augment));
        o.seed = 43;
        drain(&o, &hash[1]);
        ck_assert_msg(hash[1] != hash[0], "the seed has no effect");
    }
}
END_TEST

/* From batch 2 on: the same indices, labels and augmented pixels as a loader that began at 0 gives from there. */
START_TEST(first_batch_is_where_it_begins)
{
    struct plan plans[2];
    trine__loader *loaders[2];
    trine__batch b[2];
    int compared = 0;
    for (int i = 0; i < 2; i++) {
        trine__loader_options o = options_for(&plans[i], 33);
        o.plan_user = &plans[i];
        o.augment = (trine_augment){.flip = 1, .crop = 1};
        o.first_batch = i ? 2 : 0;
        plans[i].next_batch = o.first_batch;
        plans[i].next = (int)o.first_batch * CAPACITY;
        ASSERT_OK(trine__loader_create(&o, &loaders[i]));
    }
    for (int skip = 0; skip < 2; skip++) ASSERT_OK(trine__loader_next(loaders[0], &b[0]));
    for (;; compared++) {
        for (int i = 0; i < 2; i++) ASSERT_OK(trine__loader_next(loaders[i], &b[i]));
        ck_assert_int_eq(b[0].count, b[1].count);
        if (b[0].count == 0) break;
        const size_t count = (size_t)b[0].count, floats = count * 3 * 12 * 9;
        ck_assert_mem_eq(b[0].indices, b[1].indices, count * sizeof(int));
        ck_assert_mem_eq(b[0].labels, b[1].labels, count * sizeof(int));
        ck_assert_mem_eq(b[0].x, b[1].x, floats * sizeof(float));
    }
    ck_assert_int_eq(compared, 7 - 2);
    for (int i = 0; i < 2; i++) {
        ck_assert(!plans[i].misplaced);
        trine__loader_destroy(&loaders[i]);
    }
}
END_TEST

/* Every augmented image is a window of the original: find each, and that all shifts and directions occur. */
START_TEST(augmentation)
{
    struct plan plan;
    trine__loader_options o = options_for(&plan, 2000);
    plan.stride = 0; /* image 0 alone: red is 1 + 16 x, green 1 + 16 y, blue 1; black is 0 */
    o.augment = (trine_augment){.flip = 1, .crop = 1};
    o.preprocess = (trine_preprocess){0, 0, 0, {0, 0, 0}, {1 / 255.f, 1 / 255.f, 1 / 255.f}};
    trine__loader *loader;
    trine__batch b;
    int seen[2][9][9] = {{{0}}}, flipped = 0, total = 0;
    ASSERT_OK(trine__loader_create(&o, &loader));
    for (;;) {
        ASSERT_OK(trine__loader_next(loader, &b));
        if (b.count == 0) break;
        for (int i = 0; i < b.count; i++, total++) {
            const float *x = b.x + i * 3 * 108;
            const int at = 4 * 12 + 6; /* always inside: shifts are -4 to 4 */
            const int column = ((int)(x[at] + 0.5f) - 1) / 16, row = ((int)(x[at + 108] + 0.5f) - 1) / 16;
            const int flip = x[at + 1] < x[at];
            const int left = flip ? column - 5 : column - 6,
                      top = row - 4; /* column 11 - 6 of the mirrored window */
            ck_assert_msg(left >= -4 && left <= 4 && top >= -4 && top <= 4, "shift %d, %d", left, top);
            for (int p = 0; p < 108; p++) {
                const int sx = (flip ? 11 - p % 12 : p % 12) + left, sy = p / 12 + top;
                const int inside = sx >= 0 && sx < 12 && sy >= 0 && sy < 9;
                ck_assert_int_eq((int)(x[p] + 0.5f), inside ? 1 + 16 * sx : 0);
                ck_assert_int_eq((int)(x[p + 108] + 0.5f), inside ? 1 + 16 * sy : 0);
                ck_assert_int_eq((int)(x[p + 216] + 0.5f), inside ? 1 : 0);
            }
            seen[flip][top + 4][left + 4]++;
            flipped += flip;
        }
    }
    trine__loader_destroy(&loader);
    ck_assert_msg(flipped > 900 && flipped < 1100, "%d of %d mirrored", flipped, total);
    for (int i = 0; i < 2 * 81; i++) ck_assert_msg((&seen[0][0][0])[i] > 0, "window %d never occurs", i);
}
END_TEST

/* 12x9 to 9x9: columns have room for the crop, rows get a border. */
START_TEST(crop_without_room)
{
    struct plan plan;
    trine__loader_options o = options_for(&plan, 1000);
    plan.stride = 0; /* image 0 alone, as above */
    o.augment.crop = 1;
    o.preprocess = (trine_preprocess){0, 0, 9, {0, 0, 0}, {1 / 255.f, 1 / 255.f, 1 / 255.f}};
    trine__loader *loader;
    trine__batch b;
    int seen[9][4] = {{0}};
    ASSERT_OK(trine__loader_create(&o, &loader));
    for (;;) {
        ASSERT_OK(trine__loader_next(loader, &b));
        if (b.count == 0) break;
        for (int i = 0; i < b.count; i++) {
            const float *centre = b.x + i * 3 * 81 + 4 * 9 + 4;
            const int left = (int)centre[0] / 16 - 4, top = (int)centre[81] / 16 - 4; /* 1 + 16 x, 1 + 16 y */
            ck_assert_msg(left >= 0 && left <= 3 && top >= -4 && top <= 4, "shift %d, %d", left, top);
            seen[top + 4][left]++;
        }
    }
    trine__loader_destroy(&loader);
    for (int i = 0; i < 9 * 4; i++) ck_assert_msg((&seen[0][0])[i] > 0, "window %d never occurs", i);
}
END_TEST

START_TEST(bad_fails)
{
    damage("x/07.ppm");
    damage("x/03.ppm");
    for (int threads = 1; threads <= 8; threads += 7) {
        struct plan plan;
        trine__loader_options o = options_for(&plan, 64);
        plan.stride = 1;
        o.threads = threads;
        o.batch_capacity = 2;
        trine__loader *loader;
        trine__batch b = {.count = 77};
        ASSERT_OK(trine__loader_create(&o, &loader));
        ASSERT_OK(trine__loader_next(loader, &b));
        ck_assert_int_eq(b.count, 2);
        for (int again = 0; again < 2; again++) {
            ASSERT_FAILS(TRINE_ERR_FORMAT, trine__loader_next(loader, &b));
            char path[PATH_BYTES];
            in_root(path, root, "x/03.ppm: is truncated");
            ck_assert_msg(strncmp(trine_last_error(), path, strlen(path)) == 0, "%s", trine_last_error());
        }
        ck_assert_uint_eq(trine__loader_bad_count(loader), 1);
        trine__loader_destroy(&loader);
    }
}
END_TEST

START_TEST(bad_is_skipped)
{
    char missing[PATH_BYTES], want[3 * PATH_BYTES];
    damage("x/03.ppm");
    ASSERT_OK(trine_dataset_open(root, NULL, &dataset));
    in_root(missing, root, "y/13.ppm");
    ck_assert_int_eq(unlink(missing), 0);
    for (int threads = 1; threads <= 8; threads += 7) {
        struct plan plan;
        trine__loader_options o = options_for(&plan, 48);
        char log[LOG_BYTES] = "";
        plan.stride = 1;
        o.threads = threads;
        o.on_bad = TRINE__BAD_SKIP;
        o.log = log_line;
        o.log_user = log;
        trine__loader *loader;
        trine__batch b;
        int image = 0;
        ASSERT_OK(trine__loader_create(&o, &loader));
        for (;;) {
            ASSERT_OK(trine__loader_next(loader, &b));
            if (b.count == 0) break;
            for (int i = 0; i < b.count; i++, image++) {
                ck_assert_int_eq(b.indices[i], image % 16);
                ck_assert(b.ok[i] == (b.indices[i] != 3 && b.indices[i] != 13));
                for (int p = 0; p < 324 && !b.ok[i]; p++) ck_assert(b.x[i * 324 + p] == 0.f);
            }
        }
        ck_assert_int_eq(image, 48);
        ck_assert_uint_eq(trine__loader_bad_count(loader), 2);
        trine__loader_destroy(&loader);
        snprintf(want, sizeof want,
                 "%s/x/03.ppm: skipped: is truncated: 5 bytes of pixels, expected 324\n"
                 "%s: skipped: cannot be opened: No such file or directory\n",
                 root, missing);
        ck_assert_str_eq(log, want);
    }
}
END_TEST

START_TEST(bad_is_replaced)
{
    damage("x/10.ppm");
    damage("x/11.ppm"); /* then around to x/00.ppm */
    for (int i = 12; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "y/%02d.ppm", i);
        damage(name);
    }
    for (int threads = 1; threads <= 8; threads += 7) {
        struct plan plan;
        trine__loader_options o =
            options_for(&plan, 35); /* no batch of class y alone: it would have no size */
        plan.stride = 1;
        o.threads = threads;
        o.on_bad = TRINE__BAD_SUBSTITUTE;
        trine__loader *loader;
        trine__batch b;
        int image = 0;
        ASSERT_OK(trine__loader_create(&o, &loader));
        for (;;) {
            ASSERT_OK(trine__loader_next(loader, &b));
            if (b.count == 0) break;
            for (int i = 0; i < b.count; i++, image++) {
                const int planned = image % 16, want = planned == 10 || planned == 11 ? 0 : planned;
                ck_assert_int_eq(b.indices[i], want);
                ck_assert_int_eq(b.labels[i], want >= 12);
                ck_assert(b.ok[i] == (want < 12)); /* of class y none is left */
                ck_assert_msg(b.x[i * 324 + 216] == (want < 12 ? (float)(7 * want + 1) / 255.f / 2.f : 0.f),
                              "image %d: %g", image, (double)b.x[i * 324 + 216]);
            }
        }
        ck_assert_uint_eq(trine__loader_bad_count(loader), 6);
        trine__loader_destroy(&loader);
    }
}
END_TEST

START_TEST(all_bad)
{
    for (int i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "x/%02d.ppm", i);
        damage(name);
    }
    for (int crop = 0; crop <= 6; crop += 6) {
        struct plan plan;
        trine__loader_options o = options_for(&plan, 5);
        plan.stride = 1;
        o.on_bad = TRINE__BAD_SKIP;
        o.preprocess.crop = crop;
        trine__loader *loader;
        trine__batch b;
        ASSERT_OK(trine__loader_create(&o, &loader));
        ASSERT_OK(trine__loader_next(loader, &b));
        ck_assert(b.count == 5 && b.width == crop && b.height == crop);
        for (int i = 0; i < 5; i++) ck_assert(!b.ok[i]);
        for (int p = 0; p < 5 * 3 * crop * crop; p++) ck_assert(b.x[p] == 0.f);
        trine__loader_destroy(&loader);
    }
}
END_TEST

START_TEST(mixed_sizes)
{
    write_ppm(root, "x/02.ppm", 10, 9, 1);
    write_ppm(root, "x/01.ppm", 12, 8, 1);
    for (int threads = 1; threads <= 8; threads += 7) {
        struct plan plan;
        trine__loader_options o = options_for(&plan, 16);
        plan.stride = 1;
        o.threads = threads;
        trine__loader *loader;
        trine__batch b;
        ASSERT_OK(trine__loader_create(&o, &loader));
        ASSERT_FAILS(TRINE_ERR_DATA, trine__loader_next(loader, &b));
        char want[3 * PATH_BYTES];
        snprintf(want, sizeof want,
                 "%s/x/01.ppm: is 12x8 pixels after preprocessing, but %s/x/00.ppm of the same batch is 12x9",
                 root, root);
        ck_assert_str_eq(trine_last_error(), want);
        trine__loader_destroy(&loader);
        o.preprocess.crop = 8; /* now they agree */
        uint64_t hash;
        options_for(&plan, 16);
        ck_assert_int_eq(drain(&o, &hash), 16);
    }
}
END_TEST

static void plan_wrong(void *user, size_t batch, trine__loader_row *rows, int capacity, int *count)
{
    *count = batch == 2 ? (*(int *)user < 0 ? capacity + 1 : 1) : 1;
    rows[0].index = batch == 2 ? *(int *)user : 0;
}

START_TEST(wrong_plan_and_options)
{
    struct plan plan;
    trine__loader_options o = options_for(&plan, 1);
    trine__loader *loader = NULL;
    trine__batch b;
    for (int wrong = -1; wrong <= 16; wrong += 17) {
        o.plan = plan_wrong;
        o.plan_user = &wrong;
        ASSERT_OK(trine__loader_create(&o, &loader));
        ASSERT_OK(trine__loader_next(loader, &b));
        ASSERT_OK(trine__loader_next(loader, &b));
        ASSERT_FAILS(TRINE_ERR_ARG, trine__loader_next(loader, &b));
        trine__loader_destroy(&loader);
    }
    o.threads = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine__loader_create(&o, &loader));
    o.threads = 1;
    o.batch_capacity = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine__loader_create(&o, &loader));
    o.batch_capacity = 1;
    o.preprocess.std[0] = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine__loader_create(&o, &loader));
    ck_assert_ptr_null(loader);
    trine__loader_destroy(&loader);
    trine__loader_destroy(NULL);
}
END_TEST

/* Leaving at any moment neither hangs nor leaks; an endless plan is read only as far as the ring. */
START_TEST(early_end)
{
    for (int batches = 0; batches < 12; batches++) {
        struct plan plan;
        trine__loader_options o = options_for(&plan, 1 << 30);
        o.threads = 1 + batches % 4;
        trine__loader *loader;
        trine__batch b;
        ASSERT_OK(trine__loader_create(&o, &loader));
        for (int i = 0; i < batches; i++) ASSERT_OK(trine__loader_next(loader, &b));
        trine__loader_destroy(&loader);
        ck_assert_uint_le(plan.next_batch, (size_t)batches + 4);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loader");
    TCase *tc = tcase_create("loader");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, order_and_values);
    tcase_add_test(tc, threads_do_not_matter);
    tcase_add_test(tc, first_batch_is_where_it_begins);
    tcase_add_test(tc, augmentation);
    tcase_add_test(tc, crop_without_room);
    tcase_add_test(tc, bad_fails);
    tcase_add_test(tc, bad_is_skipped);
    tcase_add_test(tc, bad_is_replaced);
    tcase_add_test(tc, all_bad);
    tcase_add_test(tc, mixed_sizes);
    tcase_add_test(tc, wrong_plan_and_options);
    tcase_add_test(tc, early_end);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
