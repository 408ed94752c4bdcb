/* SPDX-License-Identifier: MIT */
/* The program cache: stored after a run, loaded by the next context, damage, absence, several processes at
 * once. Started with an argument, the program is one of those processes: it runs one kernel and exits 0, or 2
 * if it was warned. */
#include <sqlite3.h>
#include <stdio.h>
#include <sys/wait.h>

#include "io/temp_files.h"
#include "rt/cache.h"
#include "rt/launch.h"
#include "support/device.h"
#include "trine/cache.h"

static char self[4096];
static const char *const cache_files[] = {"trine.db", "trine.db-wal", "trine.db-shm", NULL};

static void count_warnings(void *user, const char *sentence)
{
    ++*(int *)user;
    fprintf(stderr, "log: %s\n", sentence);
}

static trine_status add_once(trine_context *context)
{
    trine_stream *stream = NULL;
    trine_buffer *buffer = NULL;
    trine__kernel *kernel = NULL;
    const float values[4] = {1, 2, 3, 4};
    float got[4] = {0};
    TRINE_TRY(trine_stream_create(context, 0, &stream));
    trine_status status = trine__buffer_from_host(context, values, sizeof values, &buffer);
    if (status == TRINE_OK) status = trine__kernel_create(context, "add", "-D V=1", &kernel);
    if (status == TRINE_OK) {
        const trine__arg args[] = {trine__arg_buffer(buffer), trine__arg_buffer(buffer),
                                   trine__arg_buffer(buffer), trine__arg_i32(4), trine__arg_i32(4)};
        status = trine__launch(stream, kernel, args, TRINE_COUNTOF(args), trine__grid_tiles(1, 1, 1), NULL);
    }
    if (status == TRINE_OK) status = trine_buffer_read(stream, buffer, 0, got, sizeof got);
    if (status == TRINE_OK && (got[0] != 2 || got[3] != 8))
        status = trine__fail(TRINE_ERR_CHECK, "wrong sum");
    trine__kernel_destroy(&kernel);
    trine_buffer_release(&buffer);
    trine_stream_destroy(&stream);
    return status;
}

/* One context of the suite's device, one kernel. */
static trine_status use_device(int *warnings)
{
    const char *selector = getenv("TRINE_TEST_DEVICE");
    trine_context *context = NULL;
    TRINE_TRY(trine_context_create(selector && selector[0] ? selector : "auto", count_warnings, warnings,
                                   &context));
    const trine_status status = add_once(context);
    trine_context_destroy(&context);
    return status;
}

/* A first number of the database, -1 if it cannot be had. */
static long long ask(const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    long long value = -1;
    if (sqlite3_open_v2(temp_path("trine.db"), &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK) {
        const int step = sqlite3_step(statement);
        value = step == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : step == SQLITE_DONE ? 0 : -1;
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static void begin(void)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", temp_path("trine.db"));
    *strrchr(folder, '/') = '\0';
    setenv("TRINE_CACHE_DIR", folder, 1);
    unsetenv("TRINE_CACHE");
}

/* `used` of a row shows whether it was written again: a program built from source is, one loaded is not. */
START_TEST(test_stored_and_loaded)
{
    int warnings = 0;
    begin();
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(ask("SELECT count(*) FROM program"), 1);
    ck_assert_int_gt(ask("SELECT length(binary) FROM program"), 0);
    ck_assert_int_eq(ask("UPDATE program SET used=used-10000"), 0);
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_gt(ask("SELECT strftime('%s','now')-used FROM program"), 9999); /* loaded */
    ck_assert_int_eq(ask("UPDATE program SET binary=x'00112233'"), 0);
    ASSERT_OK(use_device(&warnings)); /* a binary that the driver refuses */
    ck_assert_int_lt(ask("SELECT strftime('%s','now')-used FROM program"), 5000); /* replaced */
    ck_assert_int_gt(ask("SELECT length(binary) FROM program"), 4);
    ck_assert_int_eq(ask("SELECT count(*) FROM program"), 1);
    ck_assert_int_eq(warnings, 0);
    remove_temp(cache_files);
}
END_TEST

/* The time of use is written anew once it is a day old, for what is used and nothing else. */
START_TEST(test_used)
{
    static const char *const old = "SELECT count(*) FROM program WHERE used < strftime('%s','now')-1000";
    trine_context context = {.log = NULL};
    trine__cache *cache = NULL;
    void *value;
    size_t bytes;
    begin();
    trine__cache_open(&context, &cache);
    for (uint64_t i = 0; i < 4; i++) trine__cache_put(cache, (const uint64_t[]){3, i}, "abc", 3);
    trine__cache_close(&cache);
    ck_assert_int_eq(ask(old), 0);
    for (int hours = 23; hours <= 25; hours += 2) {
        char sql[96];
        snprintf(sql, sizeof sql, "UPDATE program SET used=strftime('%%s','now')-3600*%d", hours);
        ck_assert_int_eq(ask(sql), 0);
        trine__cache_open(&context, &cache);
        for (uint64_t i = 1; i < 3; i++) {
            ck_assert(trine__cache_get(cache, (const uint64_t[]){3, i}, &value, &bytes));
            ck_assert_uint_eq(bytes, 3);
            free(value);
        }
        trine__cache_close(&cache);
        ck_assert_int_eq(ask(old), hours < 24 ? 4 : 2);
    }
    remove_temp(cache_files);
}
END_TEST

/* A program that never ran is not stored: its binary may not be complete. */
START_TEST(test_not_run)
{
    trine_context *context = NULL;
    trine__kernel *kernel = NULL;
    begin();
    ASSERT_OK(trine_context_create(getenv("TRINE_TEST_DEVICE"), NULL, NULL, &context));
    ASSERT_OK(trine__kernel_create(context, "add", "-D V=1", &kernel));
    trine__kernel_destroy(&kernel);
    trine_context_destroy(&context);
    ck_assert_int_eq(ask("SELECT count(*) FROM program"), 0);
    remove_temp(cache_files);
}
END_TEST

START_TEST(test_damaged)
{
    static unsigned char rubbish[5000];
    int warnings = 0;
    for (size_t i = 0; i < sizeof rubbish; i++) rubbish[i] = (unsigned char)(i * 31 + 7);
    begin();
    if (_i == 0) {
        put_file(temp_path("trine.db"), rubbish, sizeof rubbish);
    } else { /* a good one of which half a page is left */
        size_t count;
        ASSERT_OK(use_device(&warnings));
        unsigned char *bytes = get_file(temp_path("trine.db"), &count);
        put_file(temp_path("trine.db"), bytes, 2000);
        free(bytes);
    }
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(warnings, 1);
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(warnings, 1); /* once */
    ck_assert_int_eq(ask("SELECT count(*) FROM program"), 1);
    remove_temp(cache_files);
}
END_TEST

/* A version that this trine does not know is replaced, with a word. */
START_TEST(test_other_version)
{
    int warnings = 0;
    begin();
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(ask("PRAGMA user_version=77"), 0);
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(warnings, 1);
    ck_assert_int_eq(ask("PRAGMA user_version"), 3);
    remove_temp(cache_files);
}
END_TEST

START_TEST(test_off)
{
    int warnings = 0;
    begin();
    setenv("TRINE_CACHE", "off", 1);
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_ne(access(temp_path("trine.db"), F_OK), 0);
    unsetenv("TRINE_CACHE");
    put_file(temp_path("file"), "x", 1); /* no folder can be made below a file: work without a cache */
    setenv("TRINE_CACHE_DIR", temp_path("file/below"), 1);
    ASSERT_OK(use_device(&warnings));
    ck_assert_int_eq(warnings, 0);
    remove_temp((const char *const[]){"file", NULL});
}
END_TEST

START_TEST(test_values)
{
    trine_context *context = NULL;
    begin();
    ASSERT_OK(trine_context_create(getenv("TRINE_TEST_DEVICE"), NULL, NULL, &context));
    trine__cache *cache = NULL, *again = NULL;
    void *value = NULL;
    size_t bytes = 0;
    const uint64_t one[2] = {1, 2}, two[2] = {1, 3};
    trine__cache_open(context, &cache);
    trine__cache_open(context, &again);
    ck_assert(cache && again);
    ck_assert(!trine__cache_get(cache, one, &value, &bytes));
    trine__cache_put(cache, one, "value", 6);
    trine__cache_put(cache, two, "", 0);
    ck_assert(trine__cache_get(again, one, &value, &bytes)); /* seen at once by another user */
    ck_assert_uint_eq(bytes, 6);
    ck_assert_str_eq(value, "value");
    free(value);
    trine__cache_put(again, one, "newer!", 7);
    ck_assert(trine__cache_get(cache, one, &value, &bytes));
    ck_assert_str_eq(value, "newer!");
    free(value);
    ck_assert(!trine__cache_get(NULL, one, &value, &bytes));
    trine__cache_put(NULL, one, "x", 1);
    trine__cache_close(&cache);
    trine__cache_close(&again);
    ck_assert_ptr_null(cache);
    trine__cache_close(&cache);
    trine_context_destroy(&context);
    remove_temp(cache_files);
}
END_TEST

START_TEST(test_processes)
{
    enum { PROCESSES = 8, ROUNDS = 3 };
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[PROCESSES];
        begin();
        for (int i = 0; i < PROCESSES; i++) {
            pids[i] = fork();
            ck_assert_int_ge(pids[i], 0);
            if (pids[i] == 0) {
                execl(self, self, "child", (char *)NULL);
                _exit(99);
            }
        }
        for (int i = 0; i < PROCESSES; i++) {
            int status = 0;
            ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
            ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                          "round %d, process %d: status 0x%x (2: warned)", round, i, (unsigned)status);
        }
        ck_assert_int_eq(ask("SELECT count(*) FROM program"), 1);
        remove_temp(cache_files);
    }
}
END_TEST

/* Opens, stores one value, closes; 2 if it was warned. Uses nothing of OpenCL: it runs in a forked process. */
static int open_and_put(uint64_t number)
{
    int warnings = 0;
    trine_context context = {.log = count_warnings, .log_user = &warnings};
    trine__cache *cache = NULL;
    trine__cache_open(&context, &cache);
    if (!cache) return 3;
    trine__cache_put(cache, (const uint64_t[]){1, number}, "x", 1);
    trine__cache_close(&cache);
    return warnings ? 2 : 0;
}

/* Many openings of a new file at the same moment: all get it, none takes it for damaged, nothing is lost. */
START_TEST(test_open_at_once)
{
    enum { PROCESSES = 8, ROUNDS = 15 };
    for (int round = 0; round < ROUNDS; round++) {
        int gate[2];
        pid_t pids[PROCESSES];
        begin();
        ck_assert_int_eq(pipe(gate), 0);
        for (int i = 0; i < PROCESSES; i++) {
            pids[i] = fork();
            ck_assert_int_ge(pids[i], 0);
            if (pids[i] == 0) {
                char byte;
                close(gate[1]);
                _exit(read(gate[0], &byte, 1) == 0 ? open_and_put((uint64_t)i) : 98);
            }
        }
        close(gate[0]);
        close(gate[1]); /* now */
        for (int i = 0; i < PROCESSES; i++) {
            int status = 0;
            ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
            ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                          "round %d, process %d: status 0x%x (2: warned, 3: no cache)", round, i,
                          (unsigned)status);
        }
        ck_assert_int_eq(ask("SELECT count(*) FROM program"), PROCESSES);
        remove_temp(cache_files);
    }
}
END_TEST

enum { VALUES = 60 };

/* Value i: 1 byte to a few pages of its own. */
static size_t make_value(int i, unsigned char bytes[20000])
{
    const size_t count = (size_t)(1 + i * i * 5);
    for (size_t j = 0; j < count; j++) bytes[j] = (unsigned char)(j * 7 + (size_t)i * 13 + (j >> 8));
    return count;
}

/* Every value is what was put or gone; returns how many are there. */
static int check_values(trine__cache *cache)
{
    static unsigned char want[20000];
    int there = 0;
    for (int i = 0; i < VALUES; i++) {
        void *got;
        size_t bytes;
        if (!trine__cache_get(cache, (const uint64_t[]){7, (uint64_t)i}, &got, &bytes)) continue;
        ck_assert_uint_eq(bytes, make_value(i, want));
        ck_assert(memcmp(got, want, bytes) == 0);
        free(got);
        there++;
    }
    return there;
}

static void put_values(trine__cache *cache)
{
    static unsigned char value[20000];
    for (int i = 0; i < VALUES; i++) {
        const size_t bytes = make_value(i, value);
        trine__cache_put(cache, (const uint64_t[]){7, (uint64_t)i}, value, bytes);
    }
}

/* A full cache's bytes, checkpointed into the one file. */
static unsigned char *full_cache(size_t *count)
{
    trine_context context = {.log = NULL};
    trine__cache *cache = NULL;
    trine__cache_open(&context, &cache);
    put_values(cache);
    ck_assert_int_eq(check_values(cache), VALUES);
    trine__cache_close(&cache);
    return get_file(temp_path("trine.db"), count);
}

/* Whatever is wrong with the file: nothing wrong comes out, what is put afterwards stays, and one warning at most. */
static void check_recovers(const char *what, size_t at)
{
    int warnings = 0;
    trine_context context = {.log = count_warnings, .log_user = &warnings};
    trine__cache *cache = NULL;
    trine__cache_open(&context, &cache);
    ck_assert_msg(cache, "%s at %zu: no cache", what, at);
    check_values(cache);
    put_values(cache);
    trine__cache_close(&cache);
    trine__cache_open(&context, &cache);
    ck_assert_msg(check_values(cache) == VALUES, "%s at %zu: values are missing", what, at);
    trine__cache_close(&cache);
    ck_assert_msg(warnings <= 1, "%s at %zu: %d warnings", what, at, warnings);
    ck_assert_msg(ask("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check='ok'") == 1,
                  "%s at %zu: SQLite finds faults", what, at);
    remove_temp(cache_files);
}

START_TEST(test_truncated)
{
    enum { PLACES = 100 };
    size_t count;
    uint64_t state = 11;
    begin();
    unsigned char *bytes = full_cache(&count);
    remove_temp(cache_files);
    ck_assert_uint_gt(count, 300000);
    for (int i = 0; i < PLACES; i++) {
        begin();
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t at = (size_t)(state >> 33) % count;
        put_file(temp_path("trine.db"), bytes, at);
        check_recovers("cut", at);
    }
    free(bytes);
}
END_TEST

/* SQLite does not notice; a binary with a wrong byte would be run. */
START_TEST(test_wrong_bytes)
{
    enum { PLACES = 100, HEADER = 100 };
    size_t count;
    uint64_t state = 5;
    begin();
    unsigned char *bytes = full_cache(&count);
    remove_temp(cache_files);
    for (int i = 0; i < PLACES; i++) {
        begin();
        state = state * 6364136223846793005u + 1442695040888963407u;
        const size_t at = HEADER + (size_t)(state >> 33) % (count - HEADER);
        bytes[at] ^= 0x55;
        put_file(temp_path("trine.db"), bytes, count);
        bytes[at] ^= 0x55;
        int warnings = 0;
        trine_context context = {.log = count_warnings, .log_user = &warnings};
        trine__cache *cache = NULL;
        trine__cache_open(&context, &cache);
        ck_assert_msg(cache, "wrong at %zu: no cache", at);
        check_values(cache);
        trine__cache_close(&cache);
        ck_assert_int_le(warnings, 1);
        remove_temp(cache_files);
    }
    free(bytes);
}
END_TEST

START_TEST(test_info)
{
    trine_cache_info info;
    size_t count;
    begin();
    ASSERT_OK(trine_cache_clear()); /* nothing there */
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_uint_eq(info.programs, 0);
    ck_assert_int_ne(access(info.path, F_OK), 0); /* asking makes no file */
    unsigned char *bytes = full_cache(&count);
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_uint_eq(info.programs, VALUES);
    ck_assert_uint_gt(info.bytes, 300000);
    ck_assert_int_eq(info.damaged, 0);
    ASSERT_OK(trine_cache_clear());
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_uint_eq(info.programs, 0);
    ck_assert_uint_eq(info.bytes, 0);
    put_file(info.path, bytes, 50);
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_int_eq(info.damaged, 1);
    ASSERT_OK(trine_cache_clear());
    ASSERT_OK(trine_cache_get_info(&info));
    ck_assert_int_eq(info.damaged, 0);
    free(bytes);
    remove_temp(cache_files);
}
END_TEST

static int child(void)
{
    int warnings = 0;
    const trine_status status = use_device(&warnings);
    if (status != TRINE_OK) fprintf(stderr, "child: %s\n", trine_last_error());
    return status != TRINE_OK ? 1 : warnings ? 2 : 0;
}

int main(int argc, char **argv)
{
    if (argc > 1) return child();
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) snprintf(self, sizeof self, "%s", argv[0]);
    test_device_open(); /* or skip */
    Suite *suite = suite_create("cache");
    TCase *tc = tcase_create("cache");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, test_stored_and_loaded);
    tcase_add_test(tc, test_used);
    tcase_add_test(tc, test_not_run);
    tcase_add_loop_test(tc, test_damaged, 0, 2);
    tcase_add_test(tc, test_other_version);
    tcase_add_test(tc, test_off);
    tcase_add_test(tc, test_values);
    tcase_add_test(tc, test_processes);
    tcase_add_test(tc, test_open_at_once);
    tcase_add_test(tc, test_truncated);
    tcase_add_test(tc, test_wrong_bytes);
    tcase_add_test(tc, test_info);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
