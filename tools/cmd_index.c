/* SPDX-License-Identifier: MIT */
/* trine index: build, add to, search and export an index of images, and find duplicates in it. */
#include "cli_data.h"
#include "cli_index.h"
#include "cli_network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char distances[] = "euclidean|squared|cosine|dot";

static const cli_option own_options[] = {
    {"index", CLI_TEXT, CLI_AT(index), "I", NULL, 0, 0, "the index (.index or .safetensors)"},
    {"out", CLI_TEXT, CLI_AT(out), "FILE", NULL, 0, 0,
     "build, add: the index to write (add: not given, the one of --index); export: vectors, .npy or .fvecs"},
    {"list", CLI_TEXT, CLI_AT(list), "FILE", NULL, 0, 0,
     "export: the path of every row, a line each; build, add with --vectors: such a list to read"},
    {"vectors", CLI_TEXT, CLI_AT(vectors), "E.npy", NULL, 0, 0,
     "vectors (.npy of float32, or .fvecs) instead of images and a network"},
    {"k", CLI_INT, CLI_AT(nearest), "K", "10", 1, 100000, "search: how many for each query"},
    {"distance", CLI_CHOICE, CLI_AT(distance), distances, "euclidean", 0, 0,
     "of search and duplicates; dot: largest inner product first"},
    {"threshold", CLI_REAL, CLI_AT(threshold), "T", NULL, -1e30, 1e30,
     "duplicates: images at most so far from each other"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "32", 1, 65536, "images at a time"},
};
static const cli_section own_section = CLI_SECTION("Index", own_options);
static const cli_section *const sections[] = {&own_section, &cli_network_section, &cli_source_section,
                                              &cli_preprocess_section};

static int build(cli_run *run)
{
    trine_index *index = NULL;
    cli_items items = {0};
    int code = CLI_OK;
    if (run->v.out == NULL) return cli_usage(&run->command->syntax, "build needs --out I");
    if (run->v.index != NULL)
        return cli_usage(&run->command->syntax, "--index is for add, search, duplicates and export");
    CLI_RUN(cli_check_index_name(run, "--out", run->v.out));
    CLI_RUN(cli_check_writable("--out", run->v.out));
    CLI_RUN(cli_items_read(run, NULL, &items));
    CLI_TRY(trine_index_create(items.vectors.dim, &index));
    CLI_RUN(cli_items_describe(run, &items, index));
    CLI_TRY(trine_index_add(index, items.vectors.data, items.vectors.count, items.paths, items.classes));
    CLI_TRY(trine_index_write(index, run->v.out));
    cli_set(run->json, "count", (double)trine_index_count(index));
    cli_set(run->json, "dim", trine_index_dim(index));
    cli_set(run->json, "bad_images", (double)items.vectors.bad);
    cli_print(run, "%zu vectors of %d values in %s\n", trine_index_count(index), trine_index_dim(index),
              run->v.out);
cleanup:
    cli_items_free(&items);
    trine_index_destroy(&index);
    return code;
}

static int add(cli_run *run, trine_index *index)
{
    const char *out = run->v.out != NULL ? run->v.out : run->v.index;
    cli_items items = {0};
    int code = CLI_OK;
    CLI_RUN(cli_check_index_name(run, run->v.out != NULL ? "--out" : "--index", out));
    CLI_RUN(cli_check_writable(run->v.out != NULL ? "--out" : "--index", out));
    CLI_RUN(cli_items_read(run, index, &items));
    CLI_TRY(trine_index_add(index, items.vectors.data, items.vectors.count, items.paths, items.classes));
    CLI_TRY(trine_index_write(index, out));
    cli_set(run->json, "added", (double)items.vectors.count);
    cli_set(run->json, "count", (double)trine_index_count(index));
    cli_set(run->json, "dim", trine_index_dim(index));
    cli_set(run->json, "bad_images", (double)items.vectors.bad);
    cli_print(run, "%zu vectors added, %zu in %s\n", items.vectors.count, trine_index_count(index), out);
cleanup:
    cli_items_free(&items);
    return code;
}

static void report_query(cli_run *run, cJSON *array, const trine_index *index, const char *query,
                         const int32_t *at, const double *distance)
{
    cJSON *object = cJSON_CreateObject(), *results;
    cli_set_text(object, "query", query);
    results = cJSON_AddArrayToObject(object, "results");
    cJSON_AddItemToArray(array, object);
    cli_print(run, "%s\n", query);
    for (int r = 0; r < run->v.nearest && at[r] >= 0; r++) {
        const size_t i = (size_t)at[r];
        const char *class = trine_index_class(index, i);
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "index", at[r]);
        cli_set_text(row, "path", trine_index_path(index, i));
        cli_set_text(row, "class", class[0] != '\0' ? class : NULL);
        cli_set(row, "distance", distance[r]);
        cJSON_AddItemToArray(results, row);
        cli_print(run, "  %12.6f  %s%s%s%s\n", distance[r], trine_index_path(index, i),
                  class[0] != '\0' ? "  (" : "", class, class[0] != '\0' ? ")" : "");
    }
}

static int search(cli_run *run, trine_index *index)
{
    cli_items items = {0};
    int32_t *at = NULL;
    double *distance = NULL;
    int code = CLI_OK;
    const size_t k = (size_t)run->v.nearest;
    CLI_RUN(cli_items_read(run, index, &items));
    CLI_RUN(cli_open_device(run, 0));
    at = calloc(items.vectors.count * k, sizeof *at);
    distance = calloc(items.vectors.count * k, sizeof *distance);
    if (at == NULL || distance == NULL) {
        code = cli_error(CLI_FAILED, "out of memory");
        goto cleanup;
    }
    CLI_TRY(trine_search(run->stream, trine_index_vectors(index), trine_index_count(index),
                         trine_index_dim(index), (trine_distance)run->v.distance, items.vectors.data,
                         items.vectors.count, run->v.nearest, -1, at, distance));
    cli_set(run->json, "count", (double)trine_index_count(index));
    cli_set_text(run->json, "distance", cli_choice_name(distances, run->v.distance));
    cJSON *array = cJSON_AddArrayToObject(run->json, "queries");
    for (size_t q = 0; q < items.vectors.count; q++)
        report_query(run, array, index, items.paths[q], at + q * k, distance + q * k);
cleanup:
    free(at);
    free(distance);
    cli_items_free(&items);
    return code;
}

static int root_of(int *parents, int i)
{
    while (parents[i] != i) i = parents[i] = parents[parents[i]];
    return i;
}

/* Images that pairs connect, as lists: a group's first image, then the others with their distance to the nearest of the group. */
static int report_groups(cli_run *run, const trine_index *index, const trine_pair *pairs, size_t pair_count)
{
    const int count = (int)trine_index_count(index);
    int groups = 0, members = 0;
    int *parents = malloc((size_t)count * sizeof *parents), *next = malloc((size_t)count * sizeof *next),
        *last = malloc((size_t)count * sizeof *last);
    double *nearest = malloc((size_t)count * sizeof *nearest);
    if (parents == NULL || next == NULL || last == NULL || nearest == NULL) {
        free(parents), free(next), free(last), free(nearest);
        return cli_error(CLI_FAILED, "out of memory");
    }
    for (int i = 0; i < count; i++) {
        parents[i] = last[i] = i;
        next[i] = -1;
        nearest[i] = 0;
    }
    for (size_t p = 0; p < pair_count; p++) {
        const int a = root_of(parents, pairs[p].first), b = root_of(parents, pairs[p].second);
        if (a != b) parents[a < b ? b : a] = a < b ? a : b; /* a root is its group's first image */
        const int second = pairs[p].second; /* pairs come by their first: the nearest of those before */
        if (nearest[second] == 0 || pairs[p].distance < nearest[second]) nearest[second] = pairs[p].distance;
    }
    for (int i = 0; i < count; i++) {
        const int root = root_of(parents, i);
        if (root == i) continue;
        next[last[root]] = i;
        last[root] = i;
    }
    cJSON *array = cJSON_AddArrayToObject(run->json, "groups");
    for (int i = 0; i < count; i++) {
        if (root_of(parents, i) != i || next[i] < 0) continue;
        cJSON *group = cJSON_CreateArray();
        cJSON_AddItemToArray(array, group);
        groups++;
        for (int j = i; j >= 0; j = next[j], members++) {
            cJSON *row = cJSON_CreateObject();
            cli_set(row, "index", j);
            cli_set_text(row, "path", trine_index_path(index, (size_t)j));
            cJSON_AddItemToArray(group, row);
            if (j == i)
                cli_print(run, "%s\n", trine_index_path(index, (size_t)j));
            else
                cli_print(run, "  %12.6f  %s\n", nearest[j], trine_index_path(index, (size_t)j));
        }
    }
    cli_print(run, "%d images in %d groups, %zu pairs, of %d\n", members, groups, pair_count, count);
    free(parents), free(next), free(last), free(nearest);
    return CLI_OK;
}

static int duplicates(cli_run *run, trine_index *index)
{
    trine_pair *pairs = NULL;
    size_t count = 0;
    int code = CLI_OK;
    if (run->v.threshold != run->v.threshold)
        return cli_usage(&run->command->syntax, "duplicates needs --threshold T");
    CLI_RUN(cli_open_device(run, 0));
    CLI_TRY(trine_pairs_within(run->stream, trine_index_vectors(index), trine_index_count(index),
                               trine_index_dim(index), (trine_distance)run->v.distance, run->v.threshold,
                               &pairs, &count));
    cJSON *array = cJSON_AddArrayToObject(run->json, "pairs");
    for (size_t p = 0; p < count; p++) {
        cJSON *row = cJSON_CreateObject();
        cli_set(row, "first", pairs[p].first);
        cli_set(row, "second", pairs[p].second);
        cli_set(row, "distance", pairs[p].distance);
        cJSON_AddItemToArray(array, row);
    }
    code = report_groups(run, index, pairs, count);
cleanup:
    free(pairs);
    return code;
}

static int export_vectors(cli_run *run, trine_index *index)
{
    char *text = NULL;
    size_t size = 0;
    int code = CLI_OK;
    const size_t count = trine_index_count(index);
    if (run->v.out == NULL) return cli_usage(&run->command->syntax, "export needs --out FILE");
    CLI_RUN(cli_check_writable("--out", run->v.out));
    if (run->v.list != NULL) CLI_RUN(cli_check_writable("--list", run->v.list));
    CLI_TRY(trine_vectors_write(run->v.out, trine_index_vectors(index), count, trine_index_dim(index)));
    if (run->v.list != NULL) {
        FILE *stream = open_memstream(&text, &size);
        for (size_t i = 0; stream != NULL && i < count; i++)
            fprintf(stream, "%s\n", trine_index_path(index, i));
        if (stream == NULL || fclose(stream) != 0)
            code = cli_error(CLI_FAILED, "out of memory");
        else if (cli_write_file(run->v.list, text, size) != 0)
            code = cli_error(CLI_FAILED, "--list %s: cannot be written: %s", run->v.list, strerror(errno));
        if (code != CLI_OK) goto cleanup;
    }
    cli_set(run->json, "count", (double)count);
    cli_set(run->json, "dim", trine_index_dim(index));
    cli_print(run, "%zu vectors of %d values in %s\n", count, trine_index_dim(index), run->v.out);
cleanup:
    free(text);
    return code;
}

/* An action on an index that is there. */
static int act(cli_run *run, int (*action)(cli_run *run, trine_index *index))
{
    trine_index *index = NULL;
    int code = CLI_OK;
    if (run->v.index == NULL)
        return cli_usage(&run->command->syntax, "%s needs --index I", run->arguments[0]);
    CLI_TRY(trine_index_read(run->v.index, &index));
    code = action(run, index);
cleanup:
    trine_index_destroy(&index);
    return code;
}

static int run_index(cli_run *run)
{
    const char *name = run->arguments[0];
    if (strcmp(name, "build") == 0) return build(run);
    if (strcmp(name, "add") == 0) return act(run, add);
    if (strcmp(name, "search") == 0) return act(run, search);
    if (strcmp(name, "duplicates") == 0) return act(run, duplicates);
    if (strcmp(name, "export") == 0) return act(run, export_vectors);
    return cli_usage(&run->command->syntax,
                     "unknown action '%s': expected build, add, search, duplicates or export", name);
}

const cli_command cmd_index = {
    {"index", "ACTION", "search images by images", 1, 1, sections, CLI_COUNTOF(sections),
     "ACTION is build (of the images of --data, with --weights), add (more of them), search (the nearest of "
     "--image's, --data's or "
     "--vectors' vectors), duplicates (images that are near each other) or export. Search is exact: every "
     "vector is "
     "compared, and the order is that of double precision; ties go to the lowest index. add and search take "
     "the "
     "weights that the index was built with, and its embedding and preprocessing."},
    run_index};
