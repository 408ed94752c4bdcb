/* SPDX-License-Identifier: MIT */
#include "rt/cache.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

enum { CACHE_VERSION = 1, BUSY_MS = 5000 };
static const long long cache_limit_bytes = 512LL << 20;

struct trine__cache {
    sqlite3 *db;
};

static bool run(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static long long number(sqlite3 *db, const char *sql)
{
    long long value = -1;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

/* NULL if the file is not a database of this version. */
static sqlite3 *open_database(const char *path)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                        NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(db, BUSY_MS);
        const long long version = number(db, "PRAGMA user_version");
        if (version == CACHE_VERSION && number(db, "SELECT count(*) FROM program") >= 0) return db;
        char set_version[64];
        snprintf(set_version, sizeof set_version, "PRAGMA user_version=%d", CACHE_VERSION);
        if (version == 0 && run(db, "PRAGMA journal_mode=WAL") &&
            run(db, "CREATE TABLE IF NOT EXISTS program (key BLOB PRIMARY KEY, binary BLOB NOT NULL, used "
                    "INTEGER NOT NULL)") &&
            run(db, set_version))
            return db;
    }
    sqlite3_close(db);
    return NULL;
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
        if (path.data) db = open_database(path.data);
        if (!db && path.data && access(path.data, F_OK) == 0) {
            trine__log(context, "%s: damaged or of another version; starting a new cache", path.data);
            remove_database(path.data);
            db = open_database(path.data);
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
    while (number(cache->db, "SELECT coalesce(sum(length(binary)),0) FROM program") > cache_limit_bytes &&
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
