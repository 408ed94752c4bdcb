/* SPDX-License-Identifier: MIT */
#include "rt/cache.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

enum { CACHE_VERSION = 1, BUSY_MS = 5000, RETRY_MS = 10 };
static const long long cache_limit_bytes = 512LL << 20;

struct trine__cache {
    sqlite3 *db;
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
    if (version == CACHE_VERSION) return judge(number(db, "SELECT count(*) FROM program", &rows));
    if (version != 0) return OPEN_DAMAGED;
    char sql[256]; /* table and version in one transaction: nobody sees one without the other */
    snprintf(
        sql, sizeof sql,
        "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS program (key BLOB PRIMARY KEY, "
        "binary BLOB NOT NULL, used INTEGER NOT NULL); PRAGMA user_version=%d; COMMIT",
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

void trine__cache_open(trine_context *context, trine__cache **out)
{
    *out = NULL;
    const char *mode = getenv("TRINE_CACHE");
    if (mode && strcmp(mode, "off") == 0) return;
    char *folder = NULL;
    trine__text path = {0};
    sqlite3 *db = NULL;
    if (trine__cache_folder(&folder) == TRINE_OK && trine__make_folders(folder) == TRINE_OK) {
        trine__text_add(&path, "%s/trine.db", folder);
        if (path.data && open_database(path.data, &db) == OPEN_DAMAGED) {
            trine__log(context, "%s: damaged or of another version; starting a new cache", path.data);
            remove_database(path.data);
            open_database(path.data, &db);
        }
    }
    trine__cache *cache = db ? calloc(1, sizeof *cache) : NULL;
    if (cache)
        cache->db = db;
    else
        sqlite3_close(db);
    trine__text_free(&path);
    free(folder);
    *out = cache;
}

bool trine__cache_get(trine__cache *cache, const uint64_t key[2], void **value, size_t *bytes)
{
    if (!cache) return false;
    bool found = false;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(cache->db, "SELECT binary FROM program WHERE key=?", -1, &statement, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_blob(statement, 1, key, 16, SQLITE_STATIC);
        if (sqlite3_step(statement) == SQLITE_ROW) {
            *bytes = (size_t)sqlite3_column_bytes(statement, 0);
            *value = malloc(*bytes ? *bytes : 1);
            if (*value) {
                if (*bytes) memcpy(*value, sqlite3_column_blob(statement, 0), *bytes);
                found = true;
            }
        }
    }
    sqlite3_finalize(statement);
    return found;
}

void trine__cache_put(trine__cache *cache, const uint64_t key[2], const void *value, size_t bytes)
{
    if (!cache || bytes > (size_t)cache_limit_bytes / 4) return;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(cache->db, "INSERT OR REPLACE INTO program VALUES (?, ?, strftime('%s','now'))",
                           -1, &statement, NULL) == SQLITE_OK) {
        sqlite3_bind_blob(statement, 1, key, 16, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 2, value, (int)bytes, SQLITE_STATIC);
        sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    long long total = 0;
    while (number(cache->db, "SELECT coalesce(sum(length(binary)),0) FROM program", &total) == SQLITE_OK &&
           total > cache_limit_bytes &&
           run(cache->db,
               "DELETE FROM program WHERE rowid IN (SELECT rowid FROM program ORDER BY used LIMIT 16)")) {}
}

void trine__cache_close(trine__cache **cache)
{
    if (!*cache) return;
    sqlite3_close((*cache)->db);
    free(*cache);
    *cache = NULL;
}
