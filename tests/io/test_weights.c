/* SPDX-License-Identifier: MIT */
/* The list of tensors, safetensors, PyTorch's zip format, choice by content, prefixes, damaged files. Formats
 * of other programs are compared in torch_weights.py. */
#include <math.h>

#include "io/temp_files.h"
#include "trine/weights.h"

static trine_weights *sample(void)
{
    static const float f32[6] = {1, -2, 3.5f, 4, 5, 6};
    static const int64_t counter = 1234567890123;
    static const uint16_t halves[4] = {0x3c00, 0xc000, 0x7c00, 0x0001};
    static const unsigned char bytes[3] = {1, 0, 255};
    trine_weights *w = NULL;
    ASSERT_OK(trine_weights_create(&w));
    ASSERT_OK(trine_weights_add(w, "conv.weight", TRINE_F32, 2, (int64_t[]){2, 3}, f32));
    ASSERT_OK(trine_weights_add(w, "bn.num_batches_tracked", TRINE_I64, 0, NULL, &counter));
    ASSERT_OK(trine_weights_add(w, "half", TRINE_F16, 1, (int64_t[]){4}, halves));
    ASSERT_OK(trine_weights_add(w, "odd", TRINE_U8, 1, (int64_t[]){3}, bytes));
    ASSERT_OK(trine_weights_add(w, "empty", TRINE_F64, 2, (int64_t[]){0, 5}, NULL));
    ASSERT_OK(trine_weights_add(w, "after", TRINE_F32, 1, (int64_t[]){1}, f32));
    return w;
}

static void assert_same(const trine_weights *a, const trine_weights *b)
{
    ck_assert_uint_eq(trine_weights_count(a), trine_weights_count(b));
    for (size_t i = 0; i < trine_weights_count(a); i++) {
        const trine_weights_tensor *x = trine_weights_at(a, i), *y = trine_weights_at(b, i);
        ck_assert_str_eq(x->name, y->name);
        ck_assert_int_eq(x->dtype, y->dtype);
        ck_assert_int_eq(x->rank, y->rank);
        ck_assert_mem_eq(x->dims, y->dims, sizeof x->dims);
        ck_assert_uint_eq(x->bytes, y->bytes);
        ck_assert(x->bytes == 0 || memcmp(x->data, y->data, x->bytes) == 0);
        ck_assert_uint_eq((uintptr_t)y->data % 8, 0);
    }
}

START_TEST(test_list)
{
    trine_weights *w = sample();
    ck_assert_str_eq(trine_weights_kind(w), "memory");
    ck_assert_uint_eq(trine_weights_count(w), 6);
    ck_assert_ptr_null(trine_weights_at(w, 6));
    ck_assert_ptr_null(trine_weights_find(w, "conv"));
    ck_assert_ptr_eq(trine_weights_find(w, "half"), trine_weights_at(w, 2));
    ck_assert_uint_eq(trine_weights_find(w, "empty")->bytes, 0);
    const float x = 0;
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "half", TRINE_F32, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "", TRINE_F32, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "a\nb", TRINE_F32, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "a\xc0\x80", TRINE_F32, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "__metadata__", TRINE_F32, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "b", (trine_dtype)99, 0, NULL, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "b", TRINE_F32, 9, (int64_t[9]){1}, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "b", TRINE_F32, 1, (int64_t[]){-1}, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "b", TRINE_F32, 2, (int64_t[]){INT64_MAX, 4}, &x));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_add(w, "b", TRINE_F32, 3, (int64_t[]){INT64_MAX, 4, 0}, &x));
    ck_assert_uint_eq(trine_weights_count(w), 6);
    trine_weights_destroy(&w);
    ck_assert_ptr_null(w);
    trine_weights_destroy(&w);
    trine_weights_destroy(NULL);
}
END_TEST

START_TEST(test_many_names)
{
    trine_weights *w = NULL;
    char name[32];
    ASSERT_OK(trine_weights_create(&w));
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "layer%d.weight", i);
        ASSERT_OK(trine_weights_add(w, name, TRINE_I32, 0, NULL, &i));
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "layer%d.weight", i);
        ck_assert_double_eq(trine_weights_value(trine_weights_find(w, name), 0), i);
    }
    trine_weights_destroy(&w);
}
END_TEST

START_TEST(test_metadata)
{
    trine_weights *w = sample();
    ck_assert_ptr_null(trine_weights_metadata(w, "arch"));
    ASSERT_OK(trine_weights_set_metadata(w, "trine.format", "1"));
    ASSERT_OK(trine_weights_set_metadata(w, "arch", "resnet18"));
    ASSERT_OK(trine_weights_set_metadata(w, "step", "7"));
    ASSERT_OK(trine_weights_set_metadata(w, "arch", "resnet50"));
    ASSERT_OK(trine_weights_set_metadata(w, "none", NULL));
    ck_assert_uint_eq(trine_weights_metadata_count(w), 3);
    ck_assert_str_eq(trine_weights_metadata_key(w, 0), "arch");
    ck_assert_str_eq(trine_weights_metadata_key(w, 2), "trine.format");
    ck_assert_ptr_null(trine_weights_metadata_key(w, 3));
    ck_assert_str_eq(trine_weights_metadata(w, "arch"), "resnet50");
    ASSERT_OK(trine_weights_set_metadata(w, "arch", NULL));
    ck_assert_ptr_null(trine_weights_metadata(w, "arch"));
    ck_assert_str_eq(trine_weights_metadata(w, "step"), "7");
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_set_metadata(w, "x", "\xff"));
    trine_weights_destroy(&w);
}
END_TEST

START_TEST(test_values)
{
    trine_weights *w = NULL;
    const uint16_t half[] = {0x0000, 0x8000, 0x3c00, 0xc100, 0x7bff, 0x0001,
                             0x83ff, 0x0400, 0x7c00, 0xfc00, 0x7e00};
    const double half_want[] = {0,       -0.0,     1,        -2.5, 65504, 0x1p-24, -1023 * 0x1p-24,
                                0x1p-14, INFINITY, -INFINITY};
    const uint16_t brain[] = {0x3f80, 0xc049};
    const double f64 = 0.1;
    const int64_t i64 = -5000000000;
    const int32_t i32 = -7;
    const int16_t i16 = -300;
    const int8_t i8 = -128;
    const uint8_t u8 = 200, yes = 1;
    ASSERT_OK(trine_weights_create(&w));
    ASSERT_OK(trine_weights_add(w, "f16", TRINE_F16, 1, (int64_t[]){11}, half));
    ASSERT_OK(trine_weights_add(w, "bf16", TRINE_BF16, 1, (int64_t[]){2}, brain));
    ASSERT_OK(trine_weights_add(w, "f64", TRINE_F64, 0, NULL, &f64));
    ASSERT_OK(trine_weights_add(w, "i64", TRINE_I64, 0, NULL, &i64));
    ASSERT_OK(trine_weights_add(w, "i32", TRINE_I32, 0, NULL, &i32));
    ASSERT_OK(trine_weights_add(w, "i16", TRINE_I16, 0, NULL, &i16));
    ASSERT_OK(trine_weights_add(w, "i8", TRINE_I8, 0, NULL, &i8));
    ASSERT_OK(trine_weights_add(w, "u8", TRINE_U8, 0, NULL, &u8));
    ASSERT_OK(trine_weights_add(w, "bool", TRINE_BOOL, 0, NULL, &yes));
    const trine_weights_tensor *t = trine_weights_find(w, "f16");
    for (size_t i = 0; i < 10; i++) {
        ck_assert_double_eq(trine_weights_value(t, i), half_want[i]);
        ck_assert_int_eq(!!signbit(trine_weights_value(t, i)), !!signbit(half_want[i]));
    }
    ck_assert(isnan(trine_weights_value(t, 10)));
    ck_assert(isnan(trine_weights_value(t, 11)));
    ck_assert_double_eq(trine_weights_value(trine_weights_find(w, "bf16"), 1), -3.140625);
    const double want[] = {0.1, -5000000000.0, -7, -300, -128, 200, 1};
    for (size_t i = 0; i < 7; i++)
        ck_assert_double_eq(trine_weights_value(trine_weights_at(w, i + 2), 0), want[i]);
    ck_assert_uint_eq(trine_dtype_bytes(TRINE_BF16), 2);
    ck_assert_str_eq(trine_dtype_name(TRINE_BF16), "BF16");
    ck_assert_uint_eq(trine_dtype_bytes((trine_dtype)99), 0);
    ck_assert_str_eq(trine_dtype_name((trine_dtype)-1), "?");
    trine_weights_destroy(&w);
}
END_TEST

START_TEST(test_round_trips)
{
    static const char *const names[] = {"a.safetensors", "a.pth", "b.PT", "c.th", "d.bin", NULL};
    trine_weights *w = sample(), *again = NULL;
    ASSERT_OK(trine_weights_set_metadata(w, "k\"ey", "line\n\\ \xc3\xbc \x01"));
    ASSERT_OK(trine_weights_set_metadata(w, "a", ""));
    for (int i = 0; names[i]; i++) {
        size_t first_bytes, second_bytes;
        const char *path = temp_path(names[i]);
        ASSERT_OK(trine_weights_write(w, path));
        unsigned char *first = get_file(path, &first_bytes);
        ASSERT_OK(trine_weights_read(path, &again));
        ck_assert_str_eq(trine_weights_kind(again), i ? "torch zip" : "safetensors");
        assert_same(w, again);
        ck_assert_uint_eq(trine_weights_metadata_count(again), i ? 0 : 2);
        if (i == 0) ck_assert_str_eq(trine_weights_metadata(again, "k\"ey"), "line\n\\ \xc3\xbc \x01");
        ASSERT_OK(trine_weights_write(again, path));
        unsigned char *second = get_file(path, &second_bytes);
        ck_assert_uint_eq(first_bytes, second_bytes);
        ck_assert_mem_eq(first, second, first_bytes);
        free(first);
        free(second);
        trine_weights_destroy(&again);
    }
    trine_weights_destroy(&w);
    ASSERT_OK(trine_weights_create(&w)); /* an empty list, too */
    ASSERT_OK(trine_weights_write(w, temp_path(names[0])));
    ASSERT_OK(trine_weights_read(temp_path(names[0]), &again));
    ck_assert_uint_eq(trine_weights_count(again), 0);
    trine_weights_destroy(&again);
    trine_weights_destroy(&w);
    remove_temp(names);
}
END_TEST

START_TEST(test_layout_of_files)
{
    static const char *const names[] = {"a.safetensors", "a.pth", NULL};
    static const char want[] = "{\"__metadata__\":{\"arch\":\"x\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1],"
                               "\"data_offsets\":[0,4]}}      ";
    trine_weights *w = NULL;
    const float x = 1;
    size_t bytes;
    ASSERT_OK(trine_weights_create(&w));
    ASSERT_OK(trine_weights_add(w, "a", TRINE_F32, 1, (int64_t[]){1}, &x));
    ASSERT_OK(trine_weights_set_metadata(w, "arch", "x"));
    ASSERT_OK(trine_weights_write(w, temp_path(names[0])));
    unsigned char *file = get_file(temp_path(names[0]), &bytes);
    ck_assert_uint_eq(sizeof want - 1, 88);
    ck_assert_uint_eq(bytes, 8 + 88 + 4);
    ck_assert_mem_eq(file, "\x58\0\0\0\0\0\0\0", 8);
    ck_assert_mem_eq(file + 8, want, 88);
    ck_assert_mem_eq(file + 96, &x, 4);
    free(file);
    ASSERT_OK(trine_weights_write(w, temp_path(names[1])));
    file = get_file(temp_path(names[1]), &bytes);
    for (size_t i = 0, entries = 0; i + 30 < bytes;
         i++) { /* data of stored entries begin at multiples of 64 */
        if (memcmp(file + i, "PK\3\4", 4) != 0) continue;
        const size_t data = i + 30 + file[i + 26] + file[i + 28];
        ck_assert_uint_eq(data % 64, 0);
        if (++entries == 3) ck_assert_mem_eq(file + data, &x, 4);
    }
    free(file);
    trine_weights_destroy(&w);
    remove_temp(names);
}
END_TEST

/* Headers of safetensors with `data` bytes behind them, and what is said about them. */
static const struct {
    const char *header, *says;
    size_t data;
} headers[] = {
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
     "truncated: tensor 'a' needs 8 bytes up to byte", 7},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "1 bytes after the last tensor", 9},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "need 8 bytes, data_offsets give 4",
     4},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "a hole", 8},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],"
     "\"data_offsets\":[2,6]}}",
     "tensors overlap", 6},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"U8\",\"shape\":[4],"
     "\"data_offsets\":[4,8]}}",
     "two tensors are named 'a'", 8},
    {"{\"a\":{\"dtype\":\"U32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     "element type 'U32' is not understood", 4},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", "dtype is not a string", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", "whole numbers", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", "whole numbers", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}",
     "more than 8 dimensions", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740992,9007199254740992],\"data_offsets\":[0,4]}}",
     "address space", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", "increasing", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,1e300]}}", "increasing", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", "does not have just", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", "does not have just", 4},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", "does not have just", 4},
    {"{\"a\":4}", "is not a mapping", 4},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "name is empty", 4},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "NUL", 4},
    {"{\"a\\u001bb\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "not printable", 4},
    {"{\"__metadata__\":{\"a\":1}}", "is not a string", 0},
    {"{\"__metadata__\":[]}", "is not a mapping", 0},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "metadata 'a' is there twice", 0},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", "__metadata__ is there twice", 0},
    {"{\"a\":", "not JSON", 0},
    {"{} x", "text after its end", 0},
};

/* 8 bytes of length, the header, zeroes. */
static void put_safetensors(const char *path, const char *header, uint64_t claimed, size_t data)
{
    unsigned char file[1024] = {0};
    const size_t length = strlen(header);
    ck_assert_uint_le(8 + length + data, sizeof file);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)(claimed >> 8 * i);
    memcpy(file + 8, header, length);
    put_file(path, file, 8 + length + data);
}

START_TEST(test_bad_headers)
{
    static const char *const names[] = {"x", NULL};
    const char *path = temp_path("x");
    trine_weights *w = NULL;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        put_safetensors(path, headers[i].header, strlen(headers[i].header), headers[i].data);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
        assert_sentence_of(path);
        assert_says(headers[i].says);
        ck_assert_ptr_null(w);
    }
    put_safetensors(path, "{}", 100, 0);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
    assert_says("truncated: the header needs 108 bytes, file has 10");
    put_safetensors(path, "{}", 1ull << 40, 0);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
    assert_says("expected at most 100000000");
    put_safetensors(path, "{\"__metadata__\":{}}  ", 21, 0);
    ASSERT_OK(trine_weights_read(path, &w));
    trine_weights_destroy(&w);
    remove_temp(names);
}
END_TEST

/* A list outlives its file: another one in its place, or none, changes nothing. */
START_TEST(test_replaced_file)
{
    static const char *const names[] = {"r.safetensors", NULL};
    const char *path = temp_path("r.safetensors");
    trine_weights *w = sample(), *read = NULL, *other = NULL;
    ASSERT_OK(trine_weights_write(w, path));
    ASSERT_OK(trine_weights_read(path, &read));
    ASSERT_OK(trine_weights_create(&other));
    ASSERT_OK(trine_weights_write(other, path));
    remove_temp(names);
    assert_same(w, read);
    trine_weights_destroy(&w);
    trine_weights_destroy(&other);
    trine_weights_destroy(&read);
}
END_TEST

START_TEST(test_other_files)
{
    static const char *const names[] = {"text.pth", "old.safetensors", NULL};
    trine_weights *w = NULL;
    char want[600];
    const char *path = temp_path("text.pth");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_weights_read(path, &w));
    assert_sentence_of(path);
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_weights_read(temp_folder, &w));
    snprintf(want, sizeof want, "%s: not a weights file (expected safetensors or a PyTorch checkpoint)",
             path);
    static const char *const contents[] = {"",           "x",         "epochs: 3\n{}\n", "PK",
                                           "\x80\x02}.", "{\"a\":1}", "\x93NUMPY\1\0"};
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        put_file(path, contents[i], strlen(contents[i]));
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
        ck_assert_str_eq(trine_last_error(), want);
    }
    put_file(path, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22); /* an empty archive */
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
    assert_says("zip archive without data.pkl");
    ck_assert_ptr_null(w);

    w = sample();
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_write(w, temp_path("a.onnx")));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_write(w, temp_path("pth")));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_weights_write(w, "/tmp/a.pth/b"));
    ASSERT_FAILS(TRINE_ERR_WRITE, trine_weights_write(w, temp_path("no-such-folder/a.pth")));
    ASSERT_FAILS(TRINE_ERR_WRITE, trine_weights_write(w, "/dev/null/a.safetensors"));
    trine_weights_destroy(&w);
    remove_temp(names);
}
END_TEST

START_TEST(test_prefixes)
{
    static const char *const names[] = {"a.safetensors", NULL};
    static const char *const cases[][4] = {
        /* two names, and what becomes of them */
        {"module.a", "module.b", "a", "b"},
        {"module.a", "b", "module.a", "b"},
        {"module.module.a", "module.module.b", "a", "b"},
        {"model._orig_mod.module.a", "model._orig_mod.module.b", "a", "b"},
        {"encoder.a", "encoder.backbone.b", "a", "backbone.b"},
        {"module.", "module.b", "module.", "module.b"},
        {"modules.a", "modules.b", "modules.a", "modules.b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trine_weights *w = NULL;
        const float x[2] = {1, 2};
        ASSERT_OK(trine_weights_create(&w));
        for (int k = 0; k < 2; k++) ASSERT_OK(trine_weights_add(w, cases[i][k], TRINE_F32, 0, NULL, x + k));
        ASSERT_OK(trine_weights_write(w, temp_path(names[0])));
        trine_weights_destroy(&w);
        ASSERT_OK(trine_weights_read(temp_path(names[0]), &w));
        for (int k = 0; k < 2; k++) {
            ck_assert_ptr_nonnull(trine_weights_find(w, cases[i][k + 2]));
            ck_assert_double_eq(trine_weights_value(trine_weights_find(w, cases[i][k + 2]), 0), k + 1);
        }
        trine_weights_destroy(&w);
    }
    remove_temp(names);
}
END_TEST

/* Reads either succeed or fail with a sentence about the file. */
static trine_status read_damaged(const char *path)
{
    trine_weights *w = NULL;
    const trine_status status = trine_weights_read(path, &w);
    ck_assert_msg(status == TRINE_OK || status == TRINE_ERR_FORMAT, "%d: %s", (int)status,
                  trine_last_error());
    if (status != TRINE_OK) assert_sentence_of(path);
    trine_weights_destroy(&w);
    return status;
}

/* Every 97th length, then random bytes changed. A shortened file is never read as a whole one. */
static void damage(const unsigned char *bytes, size_t count, size_t step, int flips)
{
    const char *path = temp_path("damaged");
    put_file(path, bytes, count);
    ck_assert_int_eq(read_damaged(path), TRINE_OK);
    for (size_t length = (count - 1) / step * step;; length -= step) {
        ck_assert_int_eq(truncate(path, (off_t)length), 0);
        ck_assert_msg(read_damaged(path) == TRINE_ERR_FORMAT, "read with %zu of %zu bytes", length, count);
        if (length == 0) break;
    }
    unsigned char *copy = malloc(count);
    ck_assert_ptr_nonnull(copy);
    uint32_t random = 12345;
    for (int i = 0; i < flips; i++) {
        memcpy(copy, bytes, count);
        for (int k = 0; k <= i % 4; k++) {
            random = random * 1664525 + 1013904223;
            const size_t at =
                i % 2 ? random % count : random % (count < 2048 ? count : 2048); /* headers more often */
            random = random * 1664525 + 1013904223;
            copy[at] = (unsigned char)(random >> 24);
        }
        put_file(path, copy, count);
        read_damaged(path);
    }
    free(copy);
    unlink(path);
}

START_TEST(test_damage)
{
    static const char *const names[] = {"a.safetensors", "a.pth", NULL};
    trine_weights *w = sample();
    ASSERT_OK(trine_weights_set_metadata(w, "arch", "resnet18"));
    for (int i = 0; names[i]; i++) {
        size_t count;
        ASSERT_OK(trine_weights_write(w, temp_path(names[i])));
        unsigned char *bytes = get_file(temp_path(names[i]), &count);
        damage(bytes, count, 1, 3000);
        free(bytes);
    }
    trine_weights_destroy(&w);
    remove_temp(names);
}
END_TEST

START_TEST(test_shared_checkpoint)
{
    static const char *const names[] = {"r.pth", "r.safetensors", NULL};
    char path[600];
    size_t count;
    trine_weights *w = NULL, *again = NULL;
    const char *root = getenv("TRINE_TEST_SHARED");
    snprintf(path, sizeof path, "%s/data/weights/resnet20-cifar10.th", root ? root : ".");
    if (access(path, R_OK) != 0) {
        fprintf(stderr, "SKIPPED test_shared_checkpoint: %s is not there\n", path);
        return;
    }
    ASSERT_OK(trine_weights_read(path, &w));
    ck_assert_str_eq(trine_weights_kind(w), "torch legacy");
    ck_assert_str_eq(trine_weights_at(w, 0)->name, "conv1.weight");
    ck_assert_ptr_null(trine_weights_find(w, "module.conv1.weight"));
    const trine_weights_tensor *t = trine_weights_find(w, "linear.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert(t->dtype == TRINE_F32 && t->rank == 2 && t->dims[0] == 10 && t->dims[1] == 64);
    for (int i = 0; names[i]; i++) {
        ASSERT_OK(trine_weights_write(w, temp_path(names[i])));
        ASSERT_OK(trine_weights_read(temp_path(names[i]), &again));
        assert_same(w, again);
        trine_weights_destroy(&again);
        unsigned char *bytes = get_file(temp_path(names[i]), &count);
        damage(bytes, count, 9700, 50);
        free(bytes);
    }
    trine_weights_destroy(&w);
    unsigned char *bytes = get_file(path, &count);
    damage(bytes, count, 97, 300);
    free(bytes);
    remove_temp(names);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tests = tcase_create("weights");
    tcase_add_test(tests, test_list);
    tcase_add_test(tests, test_many_names);
    tcase_add_test(tests, test_metadata);
    tcase_add_test(tests, test_values);
    tcase_add_test(tests, test_round_trips);
    tcase_add_test(tests, test_layout_of_files);
    tcase_add_test(tests, test_bad_headers);
    tcase_add_test(tests, test_replaced_file);
    tcase_add_test(tests, test_other_files);
    tcase_add_test(tests, test_prefixes);
    tcase_add_test(tests, test_damage);
    tcase_add_test(tests, test_shared_checkpoint);
    suite_add_tcase(suite, tests);
    return check_main(suite);
}
