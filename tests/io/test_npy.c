/* SPDX-License-Identifier: MIT */
/* .npy: NumPy's own bytes in, ours out, and what is refused. */
#include "io/temp_files.h"
#include "trine/weights.h"

static const char *const names[] = {"a.npy", NULL};

/* numpy.save of a file with this version, header text and `data` bytes 1, 2, 3, ... */
static void put_npy(const char *path, int version, const char *header, size_t data)
{
    unsigned char file[512] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0};
    const size_t length = strlen(header), begin = version == 1 ? 10 : 12;
    file[8] = (unsigned char)length;
    file[9] = (unsigned char)(length >> 8);
    memcpy(file + begin, header, length);
    for (size_t i = 0; i < data; i++) file[begin + length + i] = (unsigned char)(i + 1);
    put_file(path, file, begin + length + data);
}

START_TEST(test_read)
{
    static const struct {
        const char *header;
        trine_dtype dtype;
        int rank;
        int64_t dims[2];
        size_t bytes;
    } good[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", TRINE_F32, 2, {2, 3}, 24},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n", TRINE_F64, 0, {0, 0}, 8},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }\n", TRINE_F16, 1, {5, 0}, 10},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n", TRINE_I64, 1, {3, 0}, 24},
        {"{\"descr\":\"<i4\",\"shape\":(3L,),\"fortran_order\":False}", TRINE_I32, 1, {3, 0}, 12},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (0, 7), }\n", TRINE_I16, 2, {0, 7}, 0},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (3,), }\n", TRINE_I8, 1, {3, 0}, 3},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n", TRINE_U8, 1, {3, 0}, 3},
        {"{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }\n", TRINE_BOOL, 1, {3, 0}, 3},
    };
    const char *path = temp_path("a.npy");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (int version = 1; version <= 3; version++) {
            trine_array a = {0};
            put_npy(path, version, good[i].header, good[i].bytes);
            ASSERT_OK(trine_npy_read(path, &a));
            ck_assert_int_eq(a.dtype, good[i].dtype);
            ck_assert_int_eq(a.rank, good[i].rank);
            for (int d = 0; d < a.rank; d++) ck_assert_int_eq(a.dims[d], good[i].dims[d]);
            ck_assert_uint_eq(a.bytes, good[i].bytes);
            for (size_t k = 0; k < a.bytes; k++) ck_assert_int_eq(((unsigned char *)a.data)[k], (int)k + 1);
            trine_array_free(&a);
            ck_assert_ptr_null(a.data);
            trine_array_free(&a);
        }
    }
    trine_array_free(NULL);
    remove_temp(names);
}
END_TEST

START_TEST(test_refusals)
{
    static const struct {
        const char *header, *says;
        size_t data;
    } bad[] = {
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", "Fortran order", 24},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }\n", "'>f4' is not understood", 24},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }\n", "'|O' is not understood", 24},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }\n", "'<c8' is not understood", 16},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", "not a simple one", 8},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
         "truncated: the array needs 24 bytes", 23},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", "1 bytes after the array", 25},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }\n", "tuple of numbers", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2 3), }\n", "tuple of numbers", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6), }\n", "tuple of numbers", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 6, }\n", "not a tuple", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }\n", "more than 8", 4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999999, 999999999999999999), }\n",
         "address space", 4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }\n", "tuple of numbers",
         4},
        {"{'descr': '<f4', 'fortran_order': False, }\n", "lacks", 24},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), }\n", "twice", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}\n", "'x' in it", 24},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}\n", "neither True nor False", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)", "does not end", 24},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x", "after its dictionary", 24},
        {"['descr']", "not a dictionary", 24},
        {"", "not a dictionary", 24},
    };
    const char *path = temp_path("a.npy");
    trine_array a = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_npy(path, 1, bad[i].header, bad[i].data);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_npy_read(path, &a));
        assert_sentence_of(path);
        assert_says(bad[i].says);
        ck_assert_ptr_null(a.data);
    }
    put_npy(path, 4, "{}", 0);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_npy_read(path, &a));
    assert_says("version 4.0");
    put_file(path, "P5 1 1 255 x", 12);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_npy_read(path, &a));
    assert_says("not a .npy file");
    put_file(path, "", 0);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_npy_read(path, &a));
    ASSERT_FAILS(TRINE_ERR_OPEN, trine_npy_read(temp_path("missing.npy"), &a));
    remove_temp(names);
}
END_TEST

START_TEST(test_write)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    const char *path = temp_path("a.npy");
    size_t count;
    ASSERT_OK(trine_npy_write(path, TRINE_F32, 2, (int64_t[]){2, 3}, values));
    unsigned char *file = get_file(path, &count);
    ck_assert_uint_eq(count, 128 + 24);
    ck_assert_mem_eq(file, "\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  ",
                     71);
    ck_assert_int_eq(file[127], '\n');
    ck_assert_mem_eq(file + 128, values, 24);
    free(file);
    for (int rank = 0; rank <= TRINE_MAX_RANK; rank++) {
        const int64_t dims[TRINE_MAX_RANK] = {2, 1, 1, 1, 3, 1, 1, 1};
        trine_array a;
        ASSERT_OK(trine_npy_write(path, TRINE_I32, rank, dims, values));
        ASSERT_OK(trine_npy_read(path, &a));
        ck_assert_int_eq(a.rank, rank);
        ck_assert(rank == 0 || memcmp(a.dims, dims, (size_t)rank * sizeof *dims) == 0);
        ck_assert_mem_eq(a.data, values, a.bytes);
        trine_array_free(&a);
    }
    ASSERT_FAILS(TRINE_ERR_ARG, trine_npy_write(path, TRINE_BF16, 0, NULL, values));
    ASSERT_FAILS(TRINE_ERR_ARG, trine_npy_write(path, TRINE_F32, 9, (int64_t[9]){1}, values));
    ASSERT_FAILS(TRINE_ERR_WRITE, trine_npy_write("/no-such-folder/a.npy", TRINE_F32, 0, NULL, values));
    remove_temp(names);
}
END_TEST

START_TEST(test_damage)
{
    const char *path = temp_path("a.npy");
    const double values[4] = {1, 2, 3, 4};
    uint32_t random = 1;
    size_t count;
    ASSERT_OK(trine_npy_write(path, TRINE_F64, 1, (int64_t[]){4}, values));
    unsigned char *file = get_file(path, &count);
    for (size_t length = 0; length < count; length++) {
        trine_array a = {0};
        put_file(path, file, length);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_npy_read(path, &a));
        assert_sentence_of(path);
    }
    for (int i = 0; i < 3000; i++) {
        trine_array a = {0};
        random = random * 1664525 + 1013904223;
        const size_t at = (random >> 8) % 80;
        const unsigned char kept = file[at];
        file[at] = (unsigned char)(random >> 24);
        put_file(path, file, count);
        const trine_status status = trine_npy_read(path, &a);
        ck_assert(status == TRINE_OK || status == TRINE_ERR_FORMAT);
        trine_array_free(&a);
        file[at] = kept;
    }
    free(file);
    remove_temp(names);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("npy");
    TCase *tests = tcase_create("npy");
    tcase_add_test(tests, test_read);
    tcase_add_test(tests, test_refusals);
    tcase_add_test(tests, test_write);
    tcase_add_test(tests, test_damage);
    suite_add_tcase(suite, tests);
    return check_main(suite);
}
