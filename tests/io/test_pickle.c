/* SPDX-License-Identifier: MIT */
/* The pickle machine: what it builds, what it refuses, and PyTorch's older format built by hand around it. */
#include "io/pickle.h"
#include "io/temp_files.h"

/* A literal with its length, NULs inside included. */
#define BYTES(literal) (const unsigned char *)(literal), sizeof(literal) - 1
#define P2             "\x80\2"
#define OD             "ccollections\nOrderedDict\n"
#define REBUILD        "ctorch._utils\n_rebuild_tensor_v2\n"
/* Persistent id of a storage of 4 floats with key "7", and the calls' other pieces. */
#define STORAGE4                                                                                             \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                                       \
    "7X\3\0\0\0cpuK\4tQ"
#define TENSOR(geometry) REBUILD "(" STORAGE4 geometry "\x89" OD ")RtR"

START_TEST(test_values)
{
    static const unsigned char data[] =
        P2 "(NK\xffM\xff\xffJ\xff\xff\xff\xff\x8a\0\x8a\1\x80\x8a\2\xff\0\x8a\x09"
           "123456789"
           "\x88\x89X\2\0\0\0hiU\1aG\0\0\0\0\0\0\0\0)](K\1K\2e}X\1\0\0\0kK\7st.tail";
    trine__pickle p = {0};
    trine__pickle_value *v, **i;
    size_t used;
    ASSERT_OK(trine__pickle_load(&p, data, sizeof data - 1, &v, &used));
    ck_assert_uint_eq(used, sizeof data - 1 - 4);
    ck_assert_int_eq(v->kind, TRINE__PICKLE_TUPLE);
    ck_assert_uint_eq(v->count, 16);
    i = v->u.items;
    ck_assert_int_eq(i[0]->kind, TRINE__PICKLE_NONE);
    static const int64_t numbers[] = {255, 65535, -1, 0, -128, 255};
    for (int k = 0; k < 6; k++) {
        ck_assert_int_eq(i[k + 1]->kind, TRINE__PICKLE_INT);
        ck_assert_int_eq(i[k + 1]->u.integer, numbers[k]);
    }
    ck_assert_int_eq(i[7]->kind, TRINE__PICKLE_OPAQUE);
    ck_assert(i[8]->kind == TRINE__PICKLE_BOOL && i[8]->u.integer == 1);
    ck_assert(i[9]->kind == TRINE__PICKLE_BOOL && i[9]->u.integer == 0);
    ck_assert(i[10]->kind == TRINE__PICKLE_STRING && i[10]->count == 2 &&
              memcmp(i[10]->u.text, "hi", 2) == 0);
    ck_assert(i[11]->kind == TRINE__PICKLE_STRING && i[11]->count == 1);
    ck_assert_int_eq(i[12]->kind, TRINE__PICKLE_OPAQUE);
    ck_assert(i[13]->kind == TRINE__PICKLE_TUPLE && i[13]->count == 0);
    ck_assert(i[14]->kind == TRINE__PICKLE_LIST && i[14]->count == 2 && i[14]->u.items[1]->u.integer == 2);
    ck_assert_int_eq(trine__pickle_get(i[15], "k")->u.integer, 7);
    ck_assert_ptr_null(trine__pickle_get(i[15], "kk"));
    trine__pickle_free(&p);
}
END_TEST

START_TEST(test_memo_and_cycles)
{
    trine__pickle p = {0};
    trine__pickle_value *v;
    size_t used;
    /* a list that holds itself; protocol 4's MEMOIZE, FRAME and STACK_GLOBAL */
    ASSERT_OK(trine__pickle_load(&p, BYTES(P2 "]q\0h\0a."), &v, &used));
    ck_assert_ptr_eq(v->u.items[0], v);
    trine__pickle_free(&p);
    ASSERT_OK(trine__pickle_load(&p,
                                 BYTES("\x80\4\x95\0\0\0\0\0\0\0\0\x8c\x0b"
                                       "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94"
                                       "r\5\0\0\0j\5\0\0\0\x86."),
                                 &v, &used));
    ck_assert(v->kind == TRINE__PICKLE_TUPLE && v->u.items[0] == v->u.items[1] &&
              v->u.items[0]->kind == TRINE__PICKLE_DICT);
    trine__pickle_free(&p);
}
END_TEST

START_TEST(test_python2_ordered_dict)
{
    trine__pickle p = {0};
    trine__pickle_value *v;
    size_t used;
    ASSERT_OK(trine__pickle_load(&p, BYTES(P2 OD "](](U\1aK\1e](U\1bK\2ee\x85R."), &v, &used));
    ck_assert_int_eq(v->kind, TRINE__PICKLE_DICT);
    ck_assert_int_eq(trine__pickle_get(v, "b")->u.integer, 2);
    trine__pickle_free(&p);
}
END_TEST

static const struct {
    const unsigned char *data;
    size_t bytes;
    const char *says;
} refused[] = {
    {BYTES(P2 "cposix\nsystem\nX\4\0\0\0true\x85R."), "asks for posix.system, which is refused"},
    {BYTES(P2 "c__builtin__\neval\n."), "__builtin__.eval"},
    {BYTES(P2 "ctorch\nload\n."), "torch.load"},
    {BYTES(P2 "ctorch\nComplexFloatStorage\n."), "torch.ComplexFloatStorage"},
    {BYTES("\x80\4\x8c\2os\x8c\6system\x93."), "os.system"},
    {BYTES(P2 "c\x1b[2J\nx\n."), "?[2J.x"},
    {BYTES(P2 "(cos\nsystem\no."), "os.system"},
    {BYTES(P2 "(ios\nsystem\n."), "INST (0x69 at byte 3)"},
    {BYTES(P2 OD ")\x81."), "NEWOBJ (0x81"},
    {BYTES(P2 "\x82\1."), "EXT1"},
    {BYTES("I1\n."), "INT (0x49 at byte 0)"},
    {BYTES("\x80\4\x8f."), "EMPTY_SET"},
    {BYTES(P2 "\xfe."), "unknown (0xfe"},
    {BYTES("\x80\x09."), "protocol 9"},
    {BYTES(""), "has no end"},
    {BYTES(P2 "N"), "has no end"},
    {BYTES(P2 "J\0\0"), "in the middle of an item"},
    {BYTES(P2 "X\xff\xff\xff\xffhi."), "in the middle of an item"},
    {BYTES("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xffhi."), "in the middle of an item"},
    {BYTES(P2 "\x8b\xff\xff\xff\xff."), "in the middle of an item"},
    {BYTES(P2 "ccollections\nOrdered"), "in a global's name"},
    {BYTES(P2 "."), "expected one"},
    {BYTES(P2 "NN."), "expected one"},
    {BYTES(P2 "N(."), "expected one"},
    {BYTES(P2 "t."), "misses a mark"},
    {BYTES(P2 "N\x86."), "takes more than it put"},
    {BYTES(P2 "N(\x85."), "takes more than it put"},
    {BYTES(P2 "q\0."), "takes more than it put"},
    {BYTES(P2 "h\0."), "memo number 0 was never stored"},
    {BYTES(P2 "Nr\xff\xff\xff\xff."), "memo number 4294967295 is out of range"},
    {BYTES(P2 "NNa."), "expects a list"},
    {BYTES(P2 "]NNs."), "expects a dictionary"},
    {BYTES(P2 "}(Nu."), "a key without a value"},
    {BYTES(P2 "]}b."), "a dictionary that gets attributes"},
    {BYTES(P2 "N)R."), "calls something that is not a global"},
    {BYTES(P2 OD "NR."), "calls something that is not a global"},
    {BYTES(P2 OD "K\1\x85R."), "not made of pairs"},
    {BYTES(P2 OD "](K\1e\x85R."), "not made of pairs"},
    {BYTES(P2 "ctorch\nFloatStorage\n)R."), "called as a function"},
    {BYTES(P2 "ctorch\nSize\n)R."), "torch.Size"},
    {BYTES(P2 "ctorch._utils\n_rebuild_parameter\nN\x85R."), "a parameter"},
    {BYTES(P2 REBUILD ")R."), "not described by"},
    {BYTES(P2 "NQ."), "persistent id"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "7X\3\0\0\0cpuJ\xff\xff\xff\xfftQ."),
     "persistent id"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "7X\3\0\0\0cpu\x8a\x08\0\0\0\0\0\0\0\x60tQ."),
     "address space"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "7X\3\0\0\0cpuK\4(NK\2K\3ttQ."),
     "a view reaches outside"},
    /* offset, sizes, strides against 4 elements */
    {BYTES(P2 TENSOR("K\0K\5\x85K\1\x85") "."), "reaches outside its storage '7' of 4 elements"},
    {BYTES(P2 TENSOR("K\1K\4\x85K\1\x85") "."), "reaches outside"},
    {BYTES(P2 TENSOR("K\4))") "."), "reaches outside"},
    {BYTES(P2 TENSOR("K\5K\0\x85K\1\x85") "."), "reaches outside"},
    {BYTES(P2 TENSOR("K\0K\2K\2\x86K\3K\1\x86") "."), "reaches outside"},
    {BYTES(P2 TENSOR("K\0K\2\x85J\xff\xff\xff\xff\x85") "."), "not a whole number"},
    {BYTES(P2 TENSOR("K\0J\xff\xff\xff\xff\x85K\1\x85") "."), "not a whole number"},
    {BYTES(P2 TENSOR("K\0K\2K\2\x86K\1\x85") "."), "not described by"},
    {BYTES(P2 TENSOR("K\0K\3\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85") "."), "reaches outside"},
    {BYTES(P2 TENSOR("K\0\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"
                     "K\1K\1\x86") "."),
     "reaches outside"},
    {BYTES(P2 TENSOR("K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t") "."),
     "has 9 dimensions"},
};

START_TEST(test_refusals)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        trine__pickle p = {0};
        trine__pickle_value *v = NULL;
        size_t used;
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine__pickle_load(&p, refused[i].data, refused[i].bytes, &v, &used));
        assert_says(refused[i].says);
        ck_assert_ptr_null(v);
        trine__pickle_free(&p);
    }
}
END_TEST

START_TEST(test_deep_nesting)
{
    enum { DEPTH = 1 << 20 };
    unsigned char *data = malloc(2 * DEPTH + 8);
    ck_assert_ptr_nonnull(data);
    trine__pickle p = {0};
    trine__pickle_value *v;
    size_t used;
    data[0] = 'N';
    for (size_t i = 1; i <= DEPTH; i++) data[i] = 0x85; /* a tuple in a tuple in a tuple */
    data[DEPTH + 1] = '.';
    ASSERT_OK(trine__pickle_load(&p, data, DEPTH + 2, &v, &used));
    trine__pickle_free(&p);
    memset(data, '(', 2 * DEPTH); /* marks without end */
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine__pickle_load(&p, data, 2 * DEPTH, &v, &used));
    trine__pickle_free(&p);
    free(data);
}
END_TEST

START_TEST(test_too_many_values)
{
    enum { COUNT = 9 << 20 };
    unsigned char *data = malloc(COUNT);
    ck_assert_ptr_nonnull(data);
    trine__pickle p = {0};
    trine__pickle_value *v;
    size_t used;
    memset(data, '}', COUNT);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine__pickle_load(&p, data, COUNT, &v, &used));
    assert_says("more than 8388608 values");
    trine__pickle_free(&p);
    free(data);
}
END_TEST

/* --- the older format --- */

#define PREAMBLE                                                                                             \
    "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3."                                  \
    "\x80\2}X\x0d\0\0\0little_endian\x88s."
#define KEYS                                                                                                 \
    "\x80\2]X\1\0\0\0"                                                                                       \
    "7a."
#define FOUR                                                                                                 \
    "\4\0\0\0\0\0\0\0"                                                                                       \
    "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40" /* 4 elements: 1, 2, 3, 4 */

START_TEST(test_legacy)
{
    static const char *const names[] = {"a.th", NULL};
    /* state_dict beside a tensor and an optimizer; "b" is the transpose, "c" an expanded element, "d" a view
     * of elements 1, 2 */
    static const char file[] = PREAMBLE P2 "}(X\4\0\0\0best" TENSOR(
        "K\0))") "X\x0a\0\0\0state_dict" OD ")R("
                 "X\1\0\0\0a" TENSOR("K\0K\2K\2\x86K\2K\1\x86") "X\1\0\0\0b" TENSOR(
                     "K\0K\2K\2\x86K\1K\2\x86") "X\1\0\0\0c" TENSOR("K\3K\2\x85K\0\x85") "X\1\0\0\0d" REBUILD
                                                                                         "(("
                                                                                         "X\7\0\0\0storagecto"
                                                                                         "rch\nFloatStorage\n"
                                                                                         "X\1\0\0\0"
                                                                                         "7X\3\0\0\0cpuK\4("
                                                                                         "X\1\0\0\0"
                                                                                         "8K\1K\2ttQ"
                                                                                         "K\0K\2\x85K\1\x85"
                                                                                         "\x89" OD ")RtR"
                                                                                         "X\1\0\0\0eK\5u}"
                                                                                         "X\x09\0\0\0_"
                                                                                         "metadata}sb"
                                                                                         "X\x09\0\0\0optimize"
                                                                                         "r}X\5\0\0\0state}"
                                                                                         "K\0" TENSOR(
                                                                                             "K\0))") "ssu"
                                                                                                      "." KEYS
                                                                                                          FOUR;
    static const double want[4][4] = {{1, 2, 3, 4}, {1, 3, 2, 4}, {4, 4}, {2, 3}};
    const char *path = temp_path("a.th");
    trine_weights *w = NULL;
    put_file(path, file, sizeof file - 1);
    ASSERT_OK(trine_weights_read(path, &w));
    ck_assert_str_eq(trine_weights_kind(w), "torch legacy");
    ck_assert_uint_eq(trine_weights_count(w), 4);
    for (size_t i = 0; i < 4; i++) {
        const trine_weights_tensor *t = trine_weights_at(w, i);
        ck_assert_int_eq(t->name[0], "abcd"[i]);
        ck_assert_uint_eq(t->bytes, i < 2 ? 16 : 8);
        for (size_t k = 0; k < t->bytes / 4; k++) ck_assert_double_eq(trine_weights_value(t, k), want[i][k]);
    }
    trine_weights_destroy(&w);
    for (size_t length = sizeof file - 1; length-- > 0;) {
        put_file(path, file, length);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
        assert_sentence_of(path);
    }
    put_file(path, file, sizeof file - 1 - 3);
    ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
    assert_says("truncated: tensor 'a' needs 16 bytes");
    ck_assert_ptr_null(w);
    remove_temp(names);
}
END_TEST

START_TEST(test_legacy_refusals)
{
    static const char *const names[] = {"a.th", NULL};
    static const struct {
        const unsigned char *data;
        size_t bytes;
        const char *says;
    } bad[] = {
        {BYTES(PREAMBLE P2 "}." P2 "]."), "no state dictionary"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a}X\1\0\0\0bK\1ss." P2 "]."), "no state dictionary"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." P2 "]."),
         "needs storage '7', which the file lacks"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." P2 "}."), "is not a list"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." P2 "]K\1a."), "key is not a string"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." P2 "]X\1\0\0\0"
                                                         "8a."),
         "storage '8' belongs to no tensor"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." P2 "](X\1\0\0\0"
                                                         "7X\1\0\0\0"
                                                         "7e." FOUR FOUR),
         "twice"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0))") "s." KEYS "\5" FOUR), "elements, expected 4"},
        {BYTES(PREAMBLE P2 "}(X\1\0\0\0a" TENSOR("K\0))") "X\1\0\0\0a" TENSOR("K\0))") "u." KEYS FOUR),
         "are named 'a'"},
        {BYTES(PREAMBLE P2 "}X\1\0\0\0a" TENSOR("K\0J\0\0\0\x40J\0\0\0\x40\x86K\0K\0\x86") "s." KEYS FOUR),
         "out of proportion"},
        {BYTES(PREAMBLE P2
               "}(X\1\0\0\0a" TENSOR("K\0))") "X\1\0\0\0b(X\7\0\0\0storagectorch\nIntStorage\nX\1\0\0\0"
                                              "7X\3\0\0\0cpuK\4tQu." KEYS FOUR),
         "declared in two ways"},
        {BYTES("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe8\3."),
         "protocol version is not 1001"},
        {BYTES("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2}"
               "X\x0d\0\0\0little_endian\x89s."),
         "big-endian"},
        {BYTES("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.N."),
         "does not describe the system"},
    };
    const char *path = temp_path("a.th");
    trine_weights *w = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file(path, bad[i].data, bad[i].bytes);
        ASSERT_FAILS(TRINE_ERR_FORMAT, trine_weights_read(path, &w));
        assert_sentence_of(path);
        assert_says(bad[i].says);
        ck_assert_ptr_null(w);
    }
    remove_temp(names);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pickle");
    TCase *tests = tcase_create("pickle");
    tcase_add_test(tests, test_values);
    tcase_add_test(tests, test_memo_and_cycles);
    tcase_add_test(tests, test_python2_ordered_dict);
    tcase_add_test(tests, test_refusals);
    tcase_add_test(tests, test_deep_nesting);
    tcase_add_test(tests, test_too_many_values);
    tcase_add_test(tests, test_legacy);
    tcase_add_test(tests, test_legacy_refusals);
    suite_add_tcase(suite, tests);
    return check_main(suite);
}
