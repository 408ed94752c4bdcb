/* SPDX-License-Identifier: MIT */
/* trine inspect: what is in a weights file, or how two differ. Tables need no device; the network's variant
 * and its BatchNorm policies do. */
#include "cli_common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_SHOWN = 63 }; /* bytes of a metadata value on a line; --json has all of it */

static void shape_text(const trine_weights_tensor *t, char *out, size_t size)
{
    size_t used = 1;
    snprintf(out, size, "[");
    for (int i = 0; i < t->rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%lld", i > 0 ? "," : "", (long long)t->dims[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

static size_t element_count(const trine_weights_tensor *t)
{
    const size_t each = trine_dtype_bytes(t->dtype);
    return each > 0 ? t->bytes / each : 0;
}

/* NaN for both where one value is NaN, or where there is none. */
static void value_range(const trine_weights_tensor *t, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t i = 0; i < element_count(t) && !isnan(*low); i++) {
        const double value = trine_weights_value(t, i);
        if (!(value >= *low)) *low = value;
        if (!(value <= *high)) *high = value;
    }
    if (isnan(*low) || element_count(t) == 0) *low = *high = NAN;
}

static void tensors(cli_run *run)
{
    cJSON *array = cJSON_AddArrayToObject(run->json, "tensors");
    size_t bytes = 0;
    for (size_t i = 0; i < trine_weights_count(run->weights); i++) {
        const trine_weights_tensor *t = trine_weights_at(run->weights, i);
        char shape[128];
        shape_text(t, shape, sizeof shape);
        cli_print(run, "  %-44s %-5s %s\n", t->name, trine_dtype_name(t->dtype), shape);
        cJSON *row = cJSON_CreateObject();
        cli_set_text(row, "name", t->name);
        cli_set_text(row, "dtype", trine_dtype_name(t->dtype));
        cJSON *dims = cJSON_AddArrayToObject(row, "shape");
        for (int k = 0; k < t->rank; k++) cJSON_AddItemToArray(dims, cJSON_CreateNumber((double)t->dims[k]));
        cJSON_AddItemToArray(array, row);
        bytes += t->bytes;
    }
    cli_print(run, "%zu tensors, %zu bytes\n", trine_weights_count(run->weights), bytes);
}

static const char mean_suffix[] = ".running_mean";

static const trine_weights_tensor *find_part(const cli_run *run, const char *layer, const char *suffix)
{
    char name[300];
    snprintf(name, sizeof name, "%s%s", layer, suffix);
    return trine_weights_find(run->weights, name);
}

/* One BatchNorm layer: what the file has of it, and what training mode does with it where the network is known
 * (info, else NULL). */
static void batchnorm_layer(cli_run *run, cJSON *array, const char *layer, const trine_bn_info *info)
{
    const trine_weights_tensor *mean = find_part(run, layer, mean_suffix),
                               *var = find_part(run, layer, ".running_var"),
                               *batches = find_part(run, layer, ".num_batches_tracked");
    double low = NAN, high = NAN, var_low = NAN, var_high = NAN, count = NAN;
    if (mean != NULL) value_range(mean, &low, &high);
    if (var != NULL) value_range(var, &var_low, &var_high);
    if (batches != NULL && element_count(batches) > 0) count = trine_weights_value(batches, 0);
    if (cJSON_GetArraySize(array) == 0)
        cli_print(run, "\n%-21s  %17s  %17s %8s%s\n", "BatchNorm", "running mean", "running variance",
                  "batches", info != NULL ? "      eps momentum  training" : "");
    if (mean != NULL)
        cli_print(run, "%-21s  %8.2g %8.2g  %8.2g %8.2g %8.0f", layer, low, high, var_low, var_high, count);
    else
        cli_print(run, "%-21s  %17s  %17s %8s", layer, "none", "none", "");
    if (info != NULL)
        cli_print(run, " %8.3g %8.3g  %s", (double)info->eps, (double)info->momentum, cli_bn_effect(info));
    cli_print(run, "\n");
    cJSON *row = cJSON_CreateObject();
    cli_set_text(row, "name", layer);
    cli_set(row, "channels", info != NULL ? info->channels : (double)element_count(mean));
    cli_set(row, "mean_min", low);
    cli_set(row, "mean_max", high);
    cli_set(row, "var_min", var_low);
    cli_set(row, "var_max", var_high);
    cli_set(row, "num_batches_tracked", count);
    cli_set_text(row, "policy", info != NULL ? cli_bn_effect(info) : NULL);
    cJSON_AddBoolToObject(row, "tracked", mean != NULL);
    cJSON_AddBoolToObject(row, "affine", find_part(run, layer, ".weight") != NULL);
    cli_set(row, "eps", info != NULL ? (double)info->eps : NAN);
    cli_set(row, "momentum", info != NULL ? (double)info->momentum : NAN);
    cJSON_AddItemToArray(array, row);
}

/* The network's layers where one could be built, else those that the names in the file show. */
static void batchnorm(cli_run *run)
{
    cJSON *array = cJSON_AddArrayToObject(run->json, "batchnorm");
    for (int i = 0; run->net != NULL && i < trine_resnet_bn_count(run->net); i++) {
        trine_bn_info info;
        if (trine_resnet_bn(run->net, i, &info) == TRINE_OK) batchnorm_layer(run, array, info.name, &info);
    }
    for (size_t i = 0; run->net == NULL && i < trine_weights_count(run->weights); i++) {
        const char *name = trine_weights_at(run->weights, i)->name;
        char layer[256];
        if (!cli_has_ending(name, mean_suffix)) continue;
        snprintf(layer, sizeof layer, "%.*s", (int)(strlen(name) - strlen(mean_suffix)), name);
        batchnorm_layer(run, array, layer, NULL);
    }
}

static void hash_row(cli_run *run, cJSON *object, const char *key, const char *shown, uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    cli_set_text(object, key, text);
    if (shown != NULL) cli_print(run, "  %-44s %s\n", shown, text);
}

/* Hashes of what can move, by canonical name, as trine_resnet_state_hash() gives them. */
static int state(cli_run *run)
{
    uint64_t parameters = 0, statistics = 0;
    int code = CLI_OK;
    if (run->net == NULL) return code;
    const int layers = trine_resnet_bn_count(run->net), count = trine_resnet_parameter_count(run->net);
    uint64_t *each = malloc((size_t)(layers + count) * sizeof *each);
    if (each == NULL) return cli_error(CLI_FAILED, "out of memory");
    CLI_RUN(cli_open_device(run, 0));
    CLI_TRY(trine_resnet_state_hash(run->net, run->stream, &parameters, &statistics, each));
    CLI_TRY(trine_resnet_parameter_hashes(run->net, run->stream, each + layers));
    cJSON *object = cJSON_AddObjectToObject(run->json, "state");
    cli_print(run, "\nState: what moved has another hash (of every parameter: --json)\n");
    hash_row(run, object, "parameters", "all parameters", parameters);
    hash_row(run, object, "statistics", "all running statistics", statistics);
    cJSON *by_layer = cJSON_AddObjectToObject(object, "batchnorm"),
          *by_parameter = cJSON_AddObjectToObject(object, "each_parameter");
    for (int i = 0; i < layers; i++) {
        trine_bn_info info;
        CLI_TRY(trine_resnet_bn(run->net, i, &info));
        hash_row(run, by_layer, info.name, info.name, each[i]);
    }
    for (int i = 0; i < count; i++) {
        trine_parameter_info info;
        CLI_TRY(trine_resnet_parameter(run->net, i, &info));
        hash_row(run, by_parameter, info.name, NULL, each[layers + i]);
    }
cleanup:
    free(each);
    return code;
}

static void metadata(cli_run *run)
{
    cJSON *object = cJSON_AddObjectToObject(run->json, "metadata");
    const size_t count = trine_weights_metadata_count(run->weights);
    if (count > 0) cli_print(run, "\nMetadata\n");
    for (size_t i = 0; i < count; i++) {
        const char *key = trine_weights_metadata_key(run->weights, i);
        const char *value = trine_weights_metadata(run->weights, key);
        cli_set_text(object, key, value);
        const int cut = strlen(value) > VALUE_SHOWN;
        cli_print(run, "  %-14s %.*s%s\n", key, cut ? VALUE_SHOWN - 3 : VALUE_SHOWN, value, cut ? "..." : "");
    }
}

/* The variant: from the metadata, else by building the network. A file that is no ResNet is no error here, a
 * wrong word in the environment is. */
static int variant(cli_run *run)
{
    trine_status status = TRINE_OK;
    const char *arch = trine_weights_metadata(run->weights, "arch");
    const trine_resnet_options options = {.arch = NULL};
    if (trine_context_create(run->v.device, NULL, NULL, &run->context) != TRINE_OK)
        cli_talk(run, "no device to build the network on: its variant and policies are not shown (%s)",
                 trine_last_error());
    else if ((status = trine_resnet_from_weights(run->context, run->weights, &options, &run->net)) ==
             TRINE_ERR_ARG)
        return cli_fail(status);
    else if (status != TRINE_OK)
        cli_talk(run, "no network that trine can build: %s", trine_last_error());
    else
        arch = trine_resnet_arch(run->net);
    cli_set_text(run->json, "arch", arch);
    cli_set_text(run->json, "kind", trine_weights_kind(run->weights));
    cli_print(run, "%s: %s%s%s\n", run->arguments[0], trine_weights_kind(run->weights),
              arch != NULL ? ", " : "", arch != NULL ? arch : "");
    if (run->net != NULL) {
        char summary[160];
        cli_bn_summary(run->net, summary, sizeof summary);
        cli_print(run, "%d features, %d outputs; %s in training mode\n", trine_resnet_features(run->net),
                  trine_resnet_outputs(run->net), summary);
    }
    return CLI_OK;
}

/* Largest difference and |a - b| / |a| of two tensors of one shape. */
static void measure_difference(const trine_weights_tensor *a, const trine_weights_tensor *b, double *largest,
                               double *relative)
{
    double difference = 0, norm = 0;
    *largest = 0;
    for (size_t i = 0; i < element_count(a); i++) {
        const double x = trine_weights_value(a, i), d = fabs(trine_weights_value(b, i) - x);
        if (d > *largest || isnan(d)) *largest = d;
        difference += d * d;
        norm += x * x;
    }
    *relative = difference == 0 ? 0 : norm > 0 ? sqrt(difference / norm) : INFINITY;
}

static void difference(cli_run *run, cJSON *array, const char *name, const char *kind, double largest,
                       double relative)
{
    cJSON *row = cJSON_CreateObject();
    cli_set_text(row, "name", name);
    cli_set_text(row, "difference", kind);
    cli_set(row, "max_abs", largest);
    cli_set(row, "relative", relative);
    cJSON_AddItemToArray(array, row);
    if (isnan(relative))
        cli_print(run, "  %-44s %s\n", name, kind);
    else
        cli_print(run, "  %-44s max |b-a| %-11.4g |b-a|/|a| %.4g\n", name, largest, relative);
}

static int compare(cli_run *run)
{
    trine_weights *second = NULL;
    int code = CLI_OK;
    CLI_TRY(trine_weights_read(run->arguments[1], &second));
    cJSON *array = cJSON_AddArrayToObject(run->json, "differences");
    size_t same = 0;
    for (size_t i = 0; i < trine_weights_count(run->weights); i++) {
        const trine_weights_tensor *a = trine_weights_at(run->weights, i);
        const trine_weights_tensor *b = trine_weights_find(second, a->name);
        double largest, relative;
        if (b == NULL) {
            difference(run, array, a->name, "only in the first", NAN, NAN);
        } else if (a->rank != b->rank || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]) != 0) {
            difference(run, array, a->name, "another shape", NAN, NAN);
        } else if (a->dtype == b->dtype && memcmp(a->data, b->data, a->bytes) == 0) {
            same++;
        } else {
            measure_difference(a, b, &largest, &relative);
            difference(run, array, a->name, "values", largest, relative);
        }
    }
    for (size_t i = 0; i < trine_weights_count(second); i++) {
        const char *name = trine_weights_at(second, i)->name;
        if (trine_weights_find(run->weights, name) == NULL)
            difference(run, array, name, "only in the second", NAN, NAN);
    }
    const int count = cJSON_GetArraySize(array);
    cli_set(run->json, "same", (double)same);
    cli_print(run, "%zu tensors are the same, %d differ\n", same, count);
cleanup:
    trine_weights_destroy(&second);
    return code;
}

static int inspect(cli_run *run)
{
    const trine_status status = trine_weights_read(run->arguments[0], &run->weights);
    if (status != TRINE_OK) return cli_fail(status);
    if (run->argument_count == 2) return compare(run);
    int code = CLI_OK;
    CLI_RUN(variant(run));
    tensors(run);
    batchnorm(run);
    CLI_RUN(state(run));
    metadata(run);
cleanup:
    return code;
}

const cli_command cmd_inspect = {{"inspect", "FILE [FILE2]",
                                  "show what a weights file holds, or how two differ", 1, 2, NULL, 0,
                                  "The file may be safetensors or a PyTorch checkpoint. Nothing is changed."},
                                 inspect};
