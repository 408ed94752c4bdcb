/* SPDX-License-Identifier: MIT */
/* Opening of data and choice of preprocessing. */
#include "cli_data.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_open_data(const cli_run *run, trine_dataset **out)
{
    const cli_values *v = &run->v;
    const trine_dataset_options options = {
        .classes = v->classes,
        .min_per_class = v->min_per_class > 0 ? (size_t)v->min_per_class : 0,
        .max_per_class = v->max_per_class > 0 ? (size_t)v->max_per_class : 0};
    int code = CLI_OK;
    CLI_TRY(trine_dataset_open_with(v->data, &options, out));
cleanup:
    return code;
}

int cli_open_val(const cli_run *run, trine_dataset **out)
{
    int code = CLI_OK;
    CLI_TRY(trine_dataset_open(run->v.val, run->v.classes, out));
cleanup:
    return code;
}

int cli_read_labels(const char *path, size_t count, const char *things, int **out)
{
    trine_array array = {0};
    int code = CLI_OK;
    int *labels = NULL;
    CLI_TRY(trine_npy_read(path, &array));
    if ((array.dtype != TRINE_I32 && array.dtype != TRINE_I64) || array.rank != 1) {
        code = cli_error(CLI_BAD_INPUT, "%s: labels are a list of int32 or int64, this is %s of rank %d",
                         path, trine_dtype_name(array.dtype), array.rank);
        goto cleanup;
    }
    if ((uint64_t)array.dims[0] != count) {
        code = cli_error(CLI_BAD_INPUT, "%s: %lld labels for %zu %s", path, (long long)array.dims[0], count,
                         things);
        goto cleanup;
    }
    labels = malloc((count > 0 ? count : 1) * sizeof *labels);
    if (labels == NULL) {
        code = cli_error(CLI_FAILED, "out of memory");
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        const int64_t value =
            array.dtype == TRINE_I32 ? ((const int32_t *)array.data)[i] : ((const int64_t *)array.data)[i];
        if (value < 0 || value > INT_MAX) {
            code = cli_error(CLI_BAD_INPUT, "%s: label %lld of row %zu is not a class number", path,
                             (long long)value, i);
            goto cleanup;
        }
        labels[i] = (int)value;
    }
    *out = labels;
    labels = NULL;
cleanup:
    free(labels);
    trine_array_free(&array);
    return code;
}

static int read_input(const char *path, cli_source *source)
{
    int code = CLI_OK;
    CLI_TRY(trine_npy_read(path, &source->array));
    const trine_array *array = &source->array;
    if (array->dtype != TRINE_F32 || array->rank != 4) {
        code = cli_error(CLI_BAD_INPUT, "%s: images are float32 [n][c][h][w], this is %s of rank %d", path,
                         trine_dtype_name(array->dtype), array->rank);
        goto cleanup;
    }
    for (int i = 0; i < 4; i++)
        if (array->dims[i] < 1 || array->dims[i] > INT_MAX) {
            code = cli_error(CLI_BAD_INPUT, "%s: %lld is no size of an image batch", path,
                             (long long)array->dims[i]);
            goto cleanup;
        }
    const float *values = array->data;
    for (size_t i = 0; i < array->bytes / sizeof *values; i++)
        if (!isfinite(values[i])) {
            code = cli_error(CLI_BAD_INPUT, "%s: value %zu is %s, expected images of finite numbers", path, i,
                             isnan(values[i]) ? "NaN" : "infinite");
            goto cleanup;
        }
    source->shape =
        (trine_shape){(int)array->dims[0], (int)array->dims[1], (int)array->dims[2], (int)array->dims[3]};
cleanup:
    return code;
}

int cli_open_source(cli_run *run, cli_source *source)
{
    const cli_values *v = &run->v;
    const int given = (v->data != NULL) + (v->image != NULL) + (v->input != NULL);
    int code = CLI_OK;
    *source = (cli_source){0};
    if (given != 1)
        return cli_usage(&run->command->syntax,
                         given == 0 ? "images are needed" : "more than one source of images");
    if (v->labels != NULL && v->input == NULL)
        return cli_usage(&run->command->syntax, "--labels belongs to --input");
    if (v->classes != NULL && v->data == NULL)
        return cli_usage(&run->command->syntax, "--classes belongs to --data");
    if (v->input != NULL && v->val == NULL &&
        (v->preprocess != NULL || v->resize != CLI_UNSET || v->crop != CLI_UNSET || !isnan(v->mean[0]) ||
         !isnan(v->std[0])))
        return cli_usage(&run->command->syntax,
                         "--preprocess, --resize, --crop, --mean and --std work on images, not on --input");
    if (v->data != NULL) {
        source->name = v->data;
        CLI_RUN(cli_open_data(run, &source->dataset));
    } else if (v->image != NULL) {
        source->name = v->image;
        CLI_TRY(trine_dataset_single(v->image, &source->dataset));
    } else {
        source->name = v->input;
        CLI_RUN(read_input(v->input, source));
        if (v->labels != NULL)
            CLI_RUN(cli_read_labels(v->labels, (size_t)source->shape.n, "images", &source->labels));
    }
cleanup:
    if (code != CLI_OK) cli_close_source(source);
    return code;
}

void cli_close_source(cli_source *source)
{
    trine_dataset_destroy(&source->dataset);
    trine_array_free(&source->array);
    free(source->labels);
    *source = (cli_source){0};
}

size_t cli_source_count(const cli_source *source)
{
    return source->dataset != NULL ? trine_dataset_count(source->dataset) : (size_t)source->shape.n;
}

int cli_check_channels(const cli_source *source, const trine_resnet *net)
{
    const int channels = source->dataset != NULL ? 3 : source->shape.c;
    if (channels == trine_resnet_in_channels(net)) return CLI_OK;
    return cli_error(CLI_BAD_INPUT, "%s: images have %d channels, the network takes %d", source->name,
                     channels, trine_resnet_in_channels(net));
}

/* Preprocessing of the weights file's metadata. */
static int read_preprocess(const cli_run *run, const char *said, trine_preprocess *out)
{
    const trine_status status = trine_preprocess_from_json(said, out);
    if (status == TRINE_OK) return CLI_OK;
    return cli_error(cli_exit_code(status), "%s: %s", run->v.weights, trine_last_error());
}

/* Mean and std of IDX data, unless the metadata or the options have them. */
static int fill_idx_statistics(cli_run *run, const trine_dataset *data, const char *said, int training,
                               trine_preprocess *p)
{
    int code = CLI_OK;
    trine_preprocess kept;
    if (!isnan(run->v.mean[0]) && !isnan(run->v.std[0])) return CLI_OK;
    if (said != NULL) {
        CLI_RUN(read_preprocess(run, said, &kept));
        memcpy(p->mean, kept.mean, sizeof p->mean);
        memcpy(p->std, kept.std, sizeof p->std);
    } else if (data != NULL) {
        CLI_TRY(trine_dataset_statistics(data, p->mean, p->std));
        if (!training)
            cli_talk(run,
                     "the weights file has no mean and std of its training data: those of the images at hand "
                     "are taken");
        for (int i = 0; i < 3; i++)
            if (!(p->std[i] > 0)) {
                code = cli_error(CLI_BAD_INPUT, "all pixels of the images are equal: no standard deviation");
                goto cleanup;
            }
    }
cleanup:
    return code;
}

/* Networks for 32x32 images take others, too, when nothing says how they were meant: what fills 32x32 best. */
static void fit_cifar(cli_run *run, const trine_dataset *data, trine_preprocess *p)
{
    enum { SIDE = 32 };
    int width = 0, height = 0;
    if (data == NULL || run->v.resize != CLI_UNSET || run->v.crop != CLI_UNSET ||
        (trine_dataset_one_size(data, &width, &height) && width == SIDE && height == SIDE))
        return;
    p->resize = p->crop = SIDE;
    cli_talk(
        run,
        "images that are not %dx%d are resized and cropped to it; --preprocess cifar takes them as they are",
        SIDE, SIDE);
}

int cli_choose_preprocess(cli_run *run, const trine_dataset *data, const char *arch, int training,
                          trine_preprocess *out)
{
    const cli_values *v = &run->v;
    const char *said = run->weights != NULL ? trine_weights_metadata(run->weights, "preprocess") : NULL;
    const char *name = v->preprocess;
    trine_preprocess p;
    int code = CLI_OK;
    if (name == NULL && said == NULL)
        name = data != NULL && trine_dataset_is_idx(data) ? "idx"
               : cli_has_ending(arch, "_cifar")           ? "cifar"
                                                          : "imagenet";
    if (name == NULL) {
        CLI_RUN(read_preprocess(run, said, &p));
    } else {
        CLI_TRY(trine_preprocess_named(name, &p));
        if (strcmp(name, "idx") == 0) CLI_RUN(fill_idx_statistics(run, data, said, training, &p));
        if (strcmp(name, "cifar") == 0 && v->preprocess == NULL) fit_cifar(run, data, &p);
    }
    if (v->resize != CLI_UNSET) p.resize = v->resize;
    if (v->crop != CLI_UNSET) p.crop = v->crop;
    if (!isnan(v->mean[0])) memcpy(p.mean, v->mean, sizeof p.mean);
    if (!isnan(v->std[0])) memcpy(p.std, v->std, sizeof p.std);
    *out = p;
cleanup:
    return code;
}

void cli_preprocess_text(const trine_preprocess *p, char *out, size_t size)
{
    char steps[96] = "";
    size_t used = 0;
    if (p->resize > 0) used += (size_t)snprintf(steps + used, sizeof steps - used, "resize %d, ", p->resize);
    if (p->pad > 0) used += (size_t)snprintf(steps + used, sizeof steps - used, "pad %d, ", p->pad);
    if (p->crop > 0) snprintf(steps + used, sizeof steps - used, "crop %d, ", p->crop);
    snprintf(out, size, "%smean %.3f %.3f %.3f, std %.3f %.3f %.3f", steps, (double)p->mean[0],
             (double)p->mean[1], (double)p->mean[2], (double)p->std[0], (double)p->std[1], (double)p->std[2]);
}

trine_embed_options cli_embed_options(cli_run *run, const trine_preprocess *preprocess,
                                      cli_progress *progress)
{
    return (trine_embed_options){
        .preprocess = *preprocess,
        .embedding = cli_embedding(run),
        .normalize = cli_normalize(run),
        .batch = run->v.batch > 0 ? run->v.batch : 0,
        .threads = run->v.threads,
        .skip_bad = run->v.on_bad_image == 1 && run->v.image == NULL, /* one image: its own reason */
        .log = cli_log,
        .log_user = run,
        .progress = cli_on_progress,
        .progress_user = progress,
    };
}

int cli_embed_source(cli_run *run, const cli_source *source, const trine_embed_options *options,
                     trine_vectors *out)
{
    int code = CLI_OK;
    if (source->dataset != NULL) {
        CLI_TRY(trine_embed_dataset(run->net, run->stream, source->dataset, options, out));
        if (out->bad > 0)
            cli_talk(run, "%zu unreadable image%s left out", out->bad, out->bad == 1 ? "" : "s");
        goto cleanup;
    }
    CLI_TRY(trine_embed_array(run->net, run->stream, source->array.data, &source->shape, options, out));
    if (source->labels != NULL) {
        out->labels = malloc(out->count * sizeof *out->labels);
        if (out->labels == NULL) {
            trine_vectors_free(out);
            code = cli_error(CLI_FAILED, "out of memory");
            goto cleanup;
        }
        memcpy(out->labels, source->labels, out->count * sizeof *out->labels);
    }
cleanup:
    return code;
}

int cli_classes_present(const trine_dataset *data, int *out)
{
    const int classes = trine_dataset_class_count(data);
    unsigned char *seen = calloc((size_t)(classes > 0 ? classes : 1), 1);
    if (seen == NULL) return cli_error(CLI_FAILED, "out of memory");
    int present = 0;
    for (size_t i = 0; i < trine_dataset_count(data); i++) {
        const int label = trine_dataset_label(data, i);
        present += !seen[label];
        seen[label] = 1;
    }
    free(seen);
    *out = present;
    return CLI_OK;
}

cJSON *cli_class_names(const trine_dataset *data)
{
    const int classes = trine_dataset_class_count(data);
    unsigned char *seen = calloc((size_t)(classes > 0 ? classes : 1), 1);
    cJSON *names = cJSON_CreateObject();
    for (size_t i = 0; seen != NULL && i < trine_dataset_count(data); i++)
        seen[trine_dataset_label(data, i)] = 1;
    for (int k = 0; seen != NULL && k < classes; k++) {
        char key[16];
        snprintf(key, sizeof key, "%d", k);
        if (seen[k]) cJSON_AddItemToObject(names, key, cli_json_text(trine_dataset_class_name(data, k)));
    }
    free(seen);
    return names;
}

void cli_set_retrieval(cJSON *object, const trine_retrieval *figures)
{
    cli_set(object, "count", (double)figures->count);
    cli_set(object, "queries", (double)figures->queries);
    cli_set(object, "recall_at_1", figures->recall_at_1);
    cli_set(object, "recall_at_5", figures->recall_at_5);
    cli_set(object, "precision_at_1", figures->recall_at_1);
    cli_set(object, "r_precision", figures->r_precision);
    cli_set(object, "map_at_r", figures->map_at_r);
    cli_set(object, "map", figures->map);
}
