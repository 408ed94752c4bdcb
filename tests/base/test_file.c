/* SPDX-License-Identifier: MIT */
/* Reading, mapped and not, atomic writing (nothing left by an abort or a full disk), folders. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/file.h"
#include "io/temp_files.h"

static const char *const written[] = {"a", NULL};

static void assert_content(const char *path, const char *want)
{
    size_t count;
    unsigned char *bytes = get_file(path, &count);
    ck_assert_uint_eq(count, strlen(want));
    ck_assert_mem_eq(bytes, want, count);
    free(bytes);
}

START_TEST(test_map)
{
    const char *path = temp_path("a");
    trine__map map = {0};
    put_file(path, "hello", 5);
    ASSERT_OK(trine__map_open(path, &map));
    ck_assert_uint_eq(map.bytes, 5);
    ck_assert_mem_eq(map.data, "hello", 5);
    trine__map_close(&map);
    ck_assert_ptr_null(map.data);
    trine__map_close(&map);
    put_file(path, "", 0);
    ASSERT_OK(trine__map_open(path, &map));
    ck_assert_uint_eq(map.bytes, 0);
    ck_assert_ptr_nonnull(map.data);
    trine__map_close(&map);
    static const size_t sizes[] = {(1 << 16) - 1, 1 << 16, (1 << 16) + 1}; /* read, then mapped */
    unsigned char *bytes = calloc(1, (1 << 16) + 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bytes[sizes[i] - 1] = 7;
        put_file(path, bytes, sizes[i]);
        ASSERT_OK(trine__map_open(path, &map));
        ck_assert_uint_eq(map.bytes, sizes[i]);
        ck_assert_mem_eq(map.data, bytes, sizes[i]);
        trine__map_close(&map);
    }
    free(bytes);
    remove_temp(written);
}
END_TEST

START_TEST(test_map_errors)
{
    const unsigned char one = 1;
    trine__map map = {&one, 99};
    const char *missing = temp_path("missing");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine__map_open(missing, &map));
    assert_sentence_of(missing);
    assert_says("No such file");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine__map_open(temp_folder, &map));
    assert_says("folder");
    ASSERT_FAILS(TRINE_ERR_OPEN, trine__map_open("/dev/null", &map));
    assert_says("regular");
    const char *fifo = temp_path("a/below-a-file");
    put_file(temp_path("a"), "x", 1);
    ASSERT_FAILS(TRINE_ERR_OPEN, trine__map_open(fifo, &map));
    if (geteuid() != 0) { /* root reads everything */
        chmod(temp_path("a"), 0);
        ASSERT_FAILS(TRINE_ERR_OPEN, trine__map_open(temp_path("a"), &map));
        assert_says("denied");
    }
    ck_assert_uint_eq(map.bytes, 99); /* untouched */
    remove_temp(written);
}
END_TEST

START_TEST(test_commit)
{
    const char *path = temp_path("a");
    trine__writer w = {0};
    ASSERT_OK(trine__writer_open(path, &w));
    ASSERT_OK(trine__writer_write(&w, "first", 5));
    ASSERT_OK(trine__writer_write(&w, NULL, 0));
    ck_assert_int_ne(access(path, F_OK), 0); /* nothing under the name yet */
    ASSERT_OK(trine__writer_commit(&w));
    assert_content(path, "first");
    ASSERT_OK(trine__writer_open(path, &w));
    ASSERT_OK(trine__writer_write(&w, "2nd", 3));
    assert_content(path, "first");
    ASSERT_OK(trine__writer_commit(&w));
    assert_content(path, "2nd");
    struct stat st;
    const mode_t mask = umask(0);
    umask(mask);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0666 & ~mask); /* as fopen gives, not mkstemp's 0600 */
    trine__writer_abort(&w);
    assert_content(path, "2nd");
    remove_temp(written);
}
END_TEST

START_TEST(test_abort)
{
    const char *path = temp_path("a");
    trine__writer w = {0};
    trine__writer_abort(&w); /* never opened */
    ASSERT_OK(trine__writer_open(path, &w));
    ASSERT_OK(trine__writer_write(&w, "lost", 4));
    trine__writer_abort(&w);
    trine__writer_abort(&w);
    ck_assert_int_ne(access(path, F_OK), 0);
    put_file(path, "old", 3);
    ASSERT_OK(trine__writer_open(path, &w));
    ASSERT_OK(trine__writer_write(&w, "lost", 4));
    trine__writer_abort(&w);
    assert_content(path, "old");
    remove_temp(written); /* fails where a temporary file is left */
}
END_TEST

START_TEST(test_writer_errors)
{
    trine__writer w = {0};
    const char *deep = temp_path("no-such-folder/a");
    ASSERT_FAILS(TRINE_ERR_WRITE, trine__writer_open(deep, &w));
    assert_sentence_of(deep);
    ASSERT_FAILS(TRINE_ERR_WRITE, trine__writer_open(temp_folder, &w));
    assert_says("folder");
    ck_assert_ptr_null(w.file);
    remove_temp((const char *const[]){NULL});
}
END_TEST

/* Write more than fits; the old file stays, no temporary one does, and the sentence has the system's reason. */
static void write_too_much(const char *path, const char *reason)
{
    enum { CHUNK = 4096, CHUNKS = 64 };
    static unsigned char zeros[CHUNK];
    trine__writer w = {0};
    trine_status status = TRINE_OK;
    ASSERT_OK(trine__writer_open(path, &w));
    for (int i = 0; i < CHUNKS && status == TRINE_OK; i++) status = trine__writer_write(&w, zeros, CHUNK);
    if (status == TRINE_OK)
        status = trine__writer_commit(&w);
    else
        trine__writer_abort(&w);
    ck_assert_int_eq(status, TRINE_ERR_WRITE);
    assert_sentence_of(path);
    assert_says(reason);
    ck_assert_ptr_null(w.file);
    assert_content(path, "old");
}

/* The same where only the last flush fails: less than stdio's buffer. */
static void commit_too_much(const char *path)
{
    trine__writer w = {0};
    ASSERT_OK(trine__writer_open(path, &w));
    ASSERT_OK(trine__writer_write(&w, "0123456789", 10));
    ASSERT_FAILS(TRINE_ERR_WRITE, trine__writer_commit(&w));
    ck_assert_ptr_null(w.file);
    assert_content(path, "old");
}

START_TEST(test_size_limit)
{
    const char *path = temp_path("a");
    put_file(path, "old", 3);
    struct rlimit limit, low;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_IGN);
    low = limit;
    low.rlim_cur = 20000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    write_too_much(path, strerror(EFBIG));
    low.rlim_cur = 4;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    commit_too_much(path);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    remove_temp(written);
}
END_TEST

static void assert_empty(const char *folder)
{
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *e; (e = readdir(dir));)
        ck_assert_msg(e->d_name[0] == '.', "%s was left in %s", e->d_name, folder);
    closedir(dir);
}

/* A disk that is full, where a small file system can be mounted. */
START_TEST(test_full_disk)
{
    const char *disk = temp_path("disk"), *path = temp_path("disk/a");
    ck_assert_int_eq(mkdir(disk, 0777), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k") != 0) {
        printf("SKIP: full disk: a tmpfs cannot be mounted here (%s)\n", strerror(errno));
    } else {
        put_file(path, "old", 3);
        write_too_much(path, strerror(ENOSPC));
        unlink(path);
        assert_empty(disk);
        ck_assert_int_eq(umount(disk), 0);
    }
    ck_assert_int_eq(rmdir(disk), 0);
    remove_temp((const char *const[]){NULL});
}
END_TEST

START_TEST(test_folders)
{
    char deep[512];
    snprintf(deep, sizeof deep, "%s", temp_path("x/y/z"));
    ASSERT_OK(trine__make_folders(deep));
    ASSERT_OK(trine__make_folders(deep));
    struct stat st;
    ck_assert(stat(deep, &st) == 0 && S_ISDIR(st.st_mode));
    ASSERT_OK(trine__make_folders("/"));
    rmdir(deep);
    put_file(deep, "x", 1);
    ASSERT_FAILS(TRINE_ERR_WRITE, trine__make_folders(deep));
    assert_sentence_of(deep);
    unlink(deep);
    rmdir(temp_path("x/y"));
    rmdir(temp_path("x"));
    remove_temp((const char *const[]){NULL});
}
END_TEST

static void assert_cache(const char *want)
{
    char *got = NULL;
    ASSERT_OK(trine__cache_folder(&got));
    ck_assert_str_eq(got, want);
    free(got);
}

START_TEST(test_cache_folder)
{
    setenv("TRINE_CACHE_DIR", "/own", 1);
    setenv("XDG_CACHE_HOME", "/xdg", 1);
    setenv("HOME", "/home/me", 1);
    assert_cache("/own");
    setenv("TRINE_CACHE_DIR", "", 1);
    assert_cache("/xdg/trine");
    unsetenv("TRINE_CACHE_DIR");
    unsetenv("XDG_CACHE_HOME");
    assert_cache("/home/me/.cache/trine");
    unsetenv("HOME");
    char *none = NULL;
    ASSERT_FAILS(TRINE_ERR_OPEN, trine__cache_folder(&none));
}
END_TEST

static bool exists(const char *name)
{
    return access(temp_path(name), F_OK) == 0;
}

/* What a killed writer left goes when the path is written again; what is in use, or is something else, stays. */
START_TEST(test_leftovers)
{
    static const char *const others[] = {"a",         "a.tmp-12",   "a.tmp-", "a.tmp-1-0x",
                                         "b.tmp-1-0", "xa.tmp-1-0", NULL};
    trine__writer first = {0}, second = {0};
    for (int i = 1; others[i]; i++) put_file(temp_path(others[i]), "x", 1);
    put_file(temp_path("a.tmp-1-0"), "half", 4);
    ASSERT_OK(trine__writer_open(temp_path("a"), &first));
    ck_assert(!exists("a.tmp-1-0"));
    ASSERT_OK(trine__writer_write(&first, "one", 3));
    put_file(temp_path("a.tmp-99-7"), "half", 4);
    ASSERT_OK(trine__writer_open(temp_path("a"), &second)); /* the first is at work still */
    ck_assert(!exists("a.tmp-99-7"));
    ASSERT_OK(trine__writer_write(&second, "two", 3));
    ASSERT_OK(trine__writer_commit(&second));
    assert_content(temp_path("a"), "two");
    ASSERT_OK(trine__writer_commit(&first));
    assert_content(temp_path("a"), "one");
    for (int i = 1; others[i]; i++) ck_assert_msg(exists(others[i]), "%s is gone", others[i]);
    remove_temp(others);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file");
    TCase *tc = tcase_create("file");
    tcase_add_test(tc, test_map);
    tcase_add_test(tc, test_leftovers);
    tcase_add_test(tc, test_map_errors);
    tcase_add_test(tc, test_commit);
    tcase_add_test(tc, test_abort);
    tcase_add_test(tc, test_writer_errors);
    tcase_add_test(tc, test_size_limit);
    tcase_add_test(tc, test_full_disk);
    tcase_add_test(tc, test_folders);
    tcase_add_test(tc, test_cache_folder);
    suite_add_tcase(suite, tc);
    return check_main(suite);
}
