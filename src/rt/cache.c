/* SPDX-License-Identifier: MIT */
#include "rt/cache.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "trine/cache.h"
#include "trine/tuning.h"

enum { CACHE_VERSION = 3, BUSY_MS = 5000, RETRY_MS = 10 };
static const long long cache_limit_bytes = 512LL << 20;
#define USED_SECONDS "86400" /* a row's time of use is that old before a use writes it anew */

struct trine__cache {
    sqlite3 *db; /* NULL: neither this file nor a new one can be used any more */
    char *path;
    trine_context *context; /* for the log */
    uint64_t (*used)[2];    /* keys whose time of use is to be written when the cache closes */
    size_t used_count, used_capacity;
};

static bool run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* The first number of the first row; SQLite's code if there is none. */
static int number(sqlite3 *db, const char *sql, long long *value)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        const int step = sqlite3_step(statement);
        if (step == SQLITE_ROW) *value = sqlite3_column_int64(statement, 0);
        code = step == SQLITE_ROW ? SQLITE_OK : step == SQLITE_DONE ? SQLITE_EMPTY : step;
    }
    sqlite3_finalize(statement);
    return code;
}

typedef enum opened { OPENED, OPEN_BUSY, OPEN_DAMAGED, OPEN_IMPOSSIBLE } opened;

/* What a code of SQLite's means for the file: only damage allows removing it, another process may be at work
 * on it. */
static opened judge(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return OPENED;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return OPEN_BUSY;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
    case SQLITE_ERROR: /* a table or column that is not there */
        return OPEN_DAMAGED;
    default:
        return OPEN_IMPOSSIBLE;
    }
}

static opened prepare_database(sqlite3 *db)
{
    long long version = 0, rows = 0;
    const int code = number(db, "PRAGMA user_version", &version);
    if (code != SQLITE_OK) return judge(code);
    if (version == CACHE_VERSION)
        return judge(
            number(db, "SELECT (SELECT count(*) FROM program) + (SELECT count(*) FROM measured)", &rows));
    if (version != 0) return OPEN_DAMAGED;
    char sql[512]; /* tables and version in one transaction: nobody sees one without the other */
    snprintf(
        sql, sizeof sql,
        "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS program (key BLOB PRIMARY KEY, "
        "binary BLOB NOT NULL, hash INTEGER NOT NULL, used INTEGER NOT NULL); CREATE TABLE IF NOT EXISTS "
        "measured "
        "(scope TEXT, problem TEXT, batch INTEGER, algorithm TEXT, ms REAL, hash INTEGER, PRIMARY KEY "
        "(scope, problem, "
        "batch, algorithm)); PRAGMA user_version=%d; COMMIT",
        CACHE_VERSION);
    return judge(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

/* SQLite does not wait by itself where two processes change a new file to WAL at once: try again for a while. */
static opened open_database(const char *path, sqlite3 **out)
{
    opened result = OPEN_BUSY;
    for (int waited_ms = 0; result == OPEN_BUSY && waited_ms < BUSY_MS; waited_ms += RETRY_MS) {
        sqlite3 *db = NULL;
        const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
        const int code = sqlite3_open_v2(path, &db, flags, NULL);
        if (code == SQLITE_OK) sqlite3_busy_timeout(db, BUSY_MS);
        result = code == SQLITE_OK ? prepare_database(db) : judge(code);
        if (result == OPENED)
            *out = db;
        else
            sqlite3_close(db);
        if (result == OPEN_BUSY) nanosleep(&(struct timespec){0, RETRY_MS * 1000000L}, NULL);
    }
    return result;
}

static void remove_database(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < TRINE_COUNTOF(suffixes); i++) {
        trine__text name = {0};
        trine__text_add(&name, "%s%s", path, suffixes[i]);
        if (name.data) unlink(name.data);
        trine__text_free(&name);
    }
}

static void log_damage(trine_context *context, const char *path)
{
    trine__log(context, "%s: damaged or of another version; starting a new cache", path);
}

/* Folder and name of the file, the folder made; NULL where there can be none. */
static char *cache_path(void)
{
    char *folder = NULL, *path = NULL;
    trine__text text = {0};
    if (trine__cache_folder(&folder) == TRINE_OK && trine__make_folders(folder) == TRINE_OK) {
        trine__text_add(&text, "%s/trine.db", folder);
        if (trine__text_take(&text, &path) != TRINE_OK) path = NULL;
    }
    free(folder);
    return path;
}

void trine__cache_open(trine_context *context, trine__cache **out)
{
    *out = NULL;
    const char *mode = getenv("TRINE_CACHE");
    if (mode && strcmp(mode, "off") == 0) return;
    trine__cache *cache = calloc(1, sizeof *cache);
    if (!cache) return;
    cache->context = context;
    cache->path = cache_path();
    if (cache->path && open_database(cache->path, &cache->db) == OPEN_DAMAGED) {
        log_damage(context, cache->path);
        remove_database(cache->path);
        open_database(cache->path, &cache->db);
    }
    if (!cache->db) trine__cache_close(&cache);
    *out = cache;
}

/* Damage shows late where it is in pages that opening does not read. Another process that has the old file open goes on with it. */
static void start_anew(trine__cache *cache)
{
    log_damage(cache->context, cache->path);
    sqlite3_close(cache->db);
    cache->db = NULL;
    remove_database(cache->path);
    open_database(cache->path, &cache->db);
}

static bool prepared(trine__cache *cache, const char *sql, sqlite3_stmt **statement)
{
    *statement = NULL;
    return sqlite3_prepare_v2(cache->db, sql, -1, statement, NULL) == SQLITE_OK;
}

/* Of a value under its key: a wrong byte in a key makes it another's. */
static sqlite3_int64 hash_of(const uint64_t key[2], const void *value, size_t bytes)
{
    return (sqlite3_int64)trine__hash(value, bytes, trine__hash(key, 2 * sizeof *key, CACHE_VERSION));
}

/* The row's value, if it is the one that was stored; SQLite does not check what its pages hold. */
static bool copy_value(sqlite3_stmt *row, const uint64_t key[2], void **value, size_t *bytes)
{
    *bytes = (size_t)sqlite3_column_bytes(row, 0);
    const void *blob = sqlite3_column_blob(row, 0);
    if ((*bytes && !blob) || hash_of(key, blob, *bytes) != sqlite3_column_int64(row, 1)) return false;
    *value = malloc(*bytes ? *bytes : 1);
    if (*value && *bytes) memcpy(*value, blob, *bytes);
    return *value != NULL;
}

/* Without memory the row only looks older than it is. */
static void remember_use(trine__cache *cache, const uint64_t key[2])
{
    void *items = cache->used;
    if (trine__reserve(&items, &cache->used_capacity, cache->used_count + 1, sizeof *cache->used) != TRINE_OK)
        return;
    cache->used = items;
    memcpy(cache->used[cache->used_count++], key, sizeof *cache->used);
}

/* All uses in one transaction, not at all while another process writes: the next run will. */
static void write_uses(trine__cache *cache)
{
    sqlite3_stmt *statement = NULL;
    if (!cache->db || cache->used_count == 0) return;
    sqlite3_busy_timeout(cache->db, 0);
    if (!run(cache->db, "BEGIN IMMEDIATE")) return;
    if (prepared(cache, "UPDATE program SET used=strftime('%s','now') WHERE key=?", &statement)) {
        for (size_t i = 0; i < cache->used_count; i++) {
            sqlite3_bind_blob(statement, 1, cache->used[i], sizeof *cache->used, SQLITE_STATIC);
            sqlite3_step(statement);
            sqlite3_reset(statement);
        }
    }
    sqlite3_finalize(statement);
    run(cache->db, "COMMIT");
}

bool trine__cache_get(trine__cache *cache, const uint64_t key[2], void **value, size_t *bytes)
{
    if (!cache || !cache->db) return false;
    bool found = false;
    sqlite3_stmt *statement;
    if (prepared(cache,
                 "SELECT binary, hash, used < strftime('%s','now') - " USED_SECONDS
                 " FROM program WHERE key=?",
                 &statement)) {
        sqlite3_bind_blob(statement, 1, key, 16, SQLITE_STATIC);
        found = sqlite3_step(statement) == SQLITE_ROW && copy_value(statement, key, value, bytes);
        if (found && sqlite3_column_int(statement, 2)) remember_use(cache, key);
    }
    sqlite3_finalize(statement);
    if (judge(sqlite3_errcode(cache->db)) == OPEN_DAMAGED) start_anew(cache);
    return found;
}

/* SQLite's code. */
static int insert(trine__cache *cache, const uint64_t key[2], const void *value, size_t bytes)
{
    sqlite3_stmt *statement;
    if (prepared(cache, "INSERT OR REPLACE INTO program VALUES (?, ?, ?, strftime('%s','now'))",
                 &statement)) {
        sqlite3_bind_blob(statement, 1, key, 16, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 2, value, (int)bytes, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 3, hash_of(key, value, bytes));
        sqlite3_step(statement);
    }
    return sqlite3_finalize(statement);
}

void trine__cache_put(trine__cache *cache, const uint64_t key[2], const void *value, size_t bytes)
{
    if (!cache || !cache->db || bytes > (size_t)cache_limit_bytes / 4) return;
    if (judge(insert(cache, key, value, bytes)) == OPEN_DAMAGED) {
        start_anew(cache);
        if (cache->db) insert(cache, key, value, bytes);
    }
    long long total = 0;
    while (cache->db &&
           number(cache->db, "SELECT coalesce(sum(length(binary)),0) FROM program", &total) == SQLITE_OK &&
           total > cache_limit_bytes &&
           run(cache->db,
               "DELETE FROM program WHERE rowid IN (SELECT rowid FROM program ORDER BY used LIMIT 16)")) {}
}

void trine__cache_close(trine__cache **cache)
{
    if (!*cache) return;
    write_uses(*cache);
    sqlite3_close((*cache)->db);
    free((*cache)->used);
    free((*cache)->path);
    free(*cache);
    *cache = NULL;
}

static trine_status find_file(char *path, size_t capacity, bool *exists)
{
    char *folder;
    TRINE_TRY(trine__cache_folder(&folder));
    const int length = snprintf(path, capacity, "%s/trine.db", folder);
    free(folder);
    TRINE_CHECK(length >= 0 && (size_t)length < capacity, TRINE_ERR_OPEN, "the cache's path is too long");
    *exists = access(path, F_OK) == 0;
    return TRINE_OK;
}

trine_status trine_cache_get_info(trine_cache_info *out)
{
    bool exists = false;
    *out = (trine_cache_info){.limit_bytes = (uint64_t)cache_limit_bytes};
    TRINE_TRY(find_file(out->path, sizeof out->path, &exists));
    if (!exists) return TRINE_OK;
    sqlite3 *db = NULL;
    long long programs = 0, bytes = 0;
    const opened result = open_database(out->path, &db);
    long long measured = 0;
    const bool read = result == OPENED &&
                      number(db, "SELECT count(*) FROM measured", &measured) == SQLITE_OK &&
                      number(db, "SELECT count(*) FROM program", &programs) == SQLITE_OK &&
                      number(db, "SELECT coalesce(sum(length(binary)),0) FROM program", &bytes) == SQLITE_OK;
    sqlite3_close(db);
    TRINE_CHECK(read || result == OPEN_DAMAGED, TRINE_ERR_OPEN, "%s: the cache cannot be read", out->path);
    out->damaged = !read;
    out->programs = (uint64_t)programs;
    out->measured = (uint64_t)measured;
    out->bytes = (uint64_t)bytes;
    return TRINE_OK;
}

trine_status trine_cache_clear(void)
{
    char path[sizeof((trine_cache_info *)NULL)->path];
    bool exists = false;
    TRINE_TRY(find_file(path, sizeof path, &exists));
    if (!exists) return TRINE_OK;
    sqlite3 *db = NULL;
    const opened result = open_database(path, &db);
    if (result == OPEN_DAMAGED) remove_database(path);
    const bool done = result == OPEN_DAMAGED ||
                      (result == OPENED && run(db, "DELETE FROM program; DELETE FROM measured; VACUUM"));
    sqlite3_close(db);
    TRINE_CHECK(done, TRINE_ERR_WRITE, "%s: the cache cannot be cleared", path);
    return TRINE_OK;
}

/* ---- measurements ---- */

/* The file, opened for as long as a call takes. Unless one is to be made, *db is NULL where there is none that can be read. */
static trine_status open_file(bool make, sqlite3 **db)
{
    const char *mode = getenv("TRINE_CACHE");
    char path[sizeof((trine_cache_info *)NULL)->path], *made = NULL;
    bool exists = false;
    *db = NULL;
    TRINE_CHECK(!mode || strcmp(mode, "off") != 0, TRINE_ERR_OPEN, "the cache is off (TRINE_CACHE=off)");
    TRINE_TRY(find_file(path, sizeof path, &exists));
    if (!exists && !make) return TRINE_OK;
    if (make) made = cache_path(); /* its folder */
    free(made);
    opened result = open_database(path, db);
    if (result == OPEN_DAMAGED && make) {
        remove_database(path);
        result = open_database(path, db);
    }
    return result == OPENED || (result == OPEN_DAMAGED && !make)
               ? TRINE_OK
               : trine__fail(TRINE_ERR_OPEN, "%s: the cache cannot be opened", path);
}

static sqlite3_int64 row_hash(const char *scope, const trine_tuning_row *r)
{
    uint64_t hash = trine__hash(scope, strlen(scope), (uint64_t)r->batch);
    hash = trine__hash(r->problem, strlen(r->problem), hash);
    hash = trine__hash(r->algorithm, strlen(r->algorithm), hash);
    return (sqlite3_int64)trine__hash(&r->ms, sizeof r->ms, hash);
}

/* SQLite's code. */
static int insert_row(sqlite3 *db, const char *scope, const trine_tuning_row *row)
{
    sqlite3_stmt *statement = NULL;
    const int code = sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?, ?)", -1,
                                        &statement, NULL);
    if (code != SQLITE_OK) return code;
    sqlite3_bind_text(statement, 1, scope, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, row->problem, -1, SQLITE_STATIC);
    sqlite3_bind_int(statement, 3, row->batch);
    sqlite3_bind_text(statement, 4, row->algorithm, -1, SQLITE_STATIC);
    sqlite3_bind_double(statement, 5, row->ms);
    sqlite3_bind_int64(statement, 6, row_hash(scope, row));
    sqlite3_step(statement);
    return sqlite3_finalize(statement);
}

trine_status trine_tuning_record(const char *scope, const trine_tuning_row *row)
{
    sqlite3 *db = NULL;
    TRINE_TRY(open_file(true, &db));
    int code = insert_row(db, scope, row);
    if (judge(code) == OPEN_DAMAGED) { /* shows late: begin a new file */
        sqlite3_close(db);
        char *path = cache_path();
        if (path) remove_database(path);
        free(path);
        TRINE_TRY(open_file(true, &db));
        code = insert_row(db, scope, row);
    }
    const trine_status status =
        code == SQLITE_OK
            ? TRINE_OK
            : trine__fail(TRINE_ERR_WRITE, "the cache: a measurement cannot be kept: %s", sqlite3_errmsg(db));
    sqlite3_close(db);
    return status;
}

trine_status trine_tuning_each(const char *scope, void (*each)(void *user, const trine_tuning_row *row),
                               void *user)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    TRINE_TRY(open_file(false, &db));
    if (!db) return TRINE_OK;
    if (sqlite3_prepare_v2(db,
                           "SELECT problem, batch, algorithm, ms, hash FROM measured WHERE scope=? "
                           "ORDER BY problem, batch, algorithm",
                           -1, &statement, NULL) == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, scope, -1, SQLITE_STATIC);
        while (sqlite3_step(statement) == SQLITE_ROW) {
            const trine_tuning_row row = {
                (const char *)sqlite3_column_text(statement, 0), sqlite3_column_int(statement, 1),
                (const char *)sqlite3_column_text(statement, 2), sqlite3_column_double(statement, 3)};
            if (row.problem && row.algorithm && row_hash(scope, &row) == sqlite3_column_int64(statement, 4))
                each(user, &row);
        }
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return TRINE_OK;
}
