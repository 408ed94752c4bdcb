/* SPDX-License-Identifier: MIT */
/* Data sets in arrays: IDX, the format of MNIST, and NumPy's .npy. */
#include <stdlib.h>
#include <string.h>

#include "io/dataset_private.h"
#include "io/idx.h"
#include "io/image_private.h"
#include "trine/weights.h"

enum { MAX_CLASSES = 1 << 20 };

/* Where the comma between two files is, or NULL. */
static const char *comma_of(const char *files)
{
    const char *comma = strrchr(files, ',');
    return comma && comma > files && comma[1] ? comma : NULL;
}

/* Image i of class labels[i], for all of ds->pixels; classes are called by their numbers. */
static trine_status add_labelled(trine_dataset *ds, const char *images, const char *classes,
                                 const int *labels)
{
    trine_status status = TRINE_OK;
    void *keep = NULL;
    const size_t count = ds->pixels.count;
    int largest = -1;
    for (size_t i = 0; i < count; i++) largest = labels[i] > largest ? labels[i] : largest;
    TRINE_CHECK(largest >= 0, TRINE_ERR_DATA, "%s: holds no images", images);
    TRINE_TRY(trine__dataset_set_classes(ds, (size_t)largest + 1));
    for (int c = 0; c <= largest; c++) {
        ds->class_names[c] = ds->names.length;
        trine__text_add(&ds->names, "%d", c);
        trine__text_add_bytes(&ds->names, "", 1);
    }
    TRINE_TRY(trine__calloc((size_t)largest + 1, sizeof(bool), &keep));
    TRINE_TRY_GOTO(trine__dataset_select(ds, images, classes, keep));
    for (size_t i = 0; i < count; i++) {
        if (!((bool *)keep)[labels[i]]) continue;
        TRINE_TRY_GOTO(trine__dataset_add(ds, labels[i], i));
        trine__text_add(&ds->names, "%s#%zu", images, i);
        trine__text_add_bytes(&ds->names, "", 1);
    }
    TRINE_CHECK_GOTO(ds->count > 0, TRINE_ERR_DATA, "%s: holds no images of the selected classes", images);
cleanup:
    free(keep);
    return status;
}

static trine_status check_size(const char *images, uint32_t count, uint32_t width, uint32_t height)
{
    TRINE_CHECK(count == 0 || (height >= 1 && width >= 1 && width <= TRINE__IMAGE_PIXELS_MAX / height),
                TRINE_ERR_FORMAT, "%s: images of %ux%u pixels, expected 1 to %d pixels", images,
                (unsigned)width, (unsigned)height, (int)TRINE__IMAGE_PIXELS_MAX);
    return TRINE_OK;
}

trine_status trine__dataset_open_idx(trine_dataset *ds, const char *source, const char *files,
                                     const char *classes)
{
    trine_status status = TRINE_OK;
    trine__idx labels = {0}, pixels = {0};
    void *numbers = NULL;
    char *images;
    const char *comma = comma_of(files);
    TRINE_CHECK(comma, TRINE_ERR_ARG, "%s: expected idx:IMAGES,LABELS", source);
    TRINE_TRY(trine__strdup(files, &images));
    images[comma - files] = '\0';
    TRINE_TRY_GOTO(trine__idx_read(images, 3, &pixels));
    TRINE_TRY_GOTO(trine__idx_read(comma + 1, 1, &labels));
    const uint32_t *size = pixels.size;
    TRINE_CHECK_GOTO(size[0] == labels.size[0], TRINE_ERR_DATA, "%s: holds %u images, but %s holds %u labels",
                     images, (unsigned)size[0], comma + 1, (unsigned)labels.size[0]);
    TRINE_TRY_GOTO(check_size(images, size[0], size[2], size[1]));
    TRINE_TRY_GOTO(trine__calloc(size[0], sizeof(int), &numbers));
    for (size_t i = 0; i < size[0]; i++) ((int *)numbers)[i] = labels.items[i];
    ds->is_idx = true;
    ds->pixels = (trine__pixels){pixels.items, size[0], size[1], size[2], 1};
    pixels.items = NULL;
    TRINE_TRY_GOTO(add_labelled(ds, images, classes, numbers));
cleanup:
    free(labels.items);
    free(pixels.items);
    free(numbers);
    free(images);
    return status;
}

/* uint8 [n][h][w], [n][h][w][1] or [n][h][w][3], as imaging libraries keep them. */
static trine_status read_npy_images(const char *path, trine__pixels *out)
{
    trine_array array = {0};
    trine_status status = TRINE_OK;
    TRINE_TRY(trine_npy_read(path, &array));
    const int64_t *dims = array.dims, channels = array.rank == 4 ? dims[3] : 1;
    TRINE_CHECK_GOTO(
        array.dtype == TRINE_U8 && (array.rank == 3 || array.rank == 4) && (channels == 1 || channels == 3),
        TRINE_ERR_DATA, "%s: expected images as U8 [n][h][w] or [n][h][w][3], this is %s of rank %d%s", path,
        trine_dtype_name(array.dtype), array.rank, array.rank == 4 ? " with another number of channels" : "");
    TRINE_CHECK_GOTO(dims[0] <= UINT32_MAX && dims[1] <= UINT32_MAX && dims[2] <= UINT32_MAX,
                     TRINE_ERR_FORMAT, "%s: larger than a data set can be", path);
    TRINE_TRY_GOTO(check_size(path, (uint32_t)dims[0], (uint32_t)dims[2], (uint32_t)dims[1]));
    *out =
        (trine__pixels){array.data, (uint32_t)dims[0], (uint32_t)dims[1], (uint32_t)dims[2], (int)channels};
    array.data = NULL;
cleanup:
    trine_array_free(&array);
    return status;
}

/* One int32, int64 or uint8 a row, from 0. */
static trine_status read_npy_labels(const char *path, uint32_t count, void **out)
{
    trine_array array = {0};
    trine_status status = TRINE_OK;
    void *labels = NULL;
    TRINE_TRY(trine_npy_read(path, &array));
    const bool integers = array.dtype == TRINE_I32 || array.dtype == TRINE_I64 || array.dtype == TRINE_U8;
    TRINE_CHECK_GOTO(integers && array.rank == 1, TRINE_ERR_DATA,
                     "%s: labels are a list of int32, int64 or uint8, this is %s of rank %d", path,
                     trine_dtype_name(array.dtype), array.rank);
    TRINE_CHECK_GOTO(array.dims[0] == (int64_t)count, TRINE_ERR_DATA, "%s: holds %lld labels for %u images",
                     path, (long long)array.dims[0], (unsigned)count);
    TRINE_TRY_GOTO(trine__calloc(count, sizeof(int), &labels));
    for (size_t i = 0; i < count; i++) {
        const int64_t value = array.dtype == TRINE_I32   ? ((const int32_t *)array.data)[i]
                              : array.dtype == TRINE_I64 ? ((const int64_t *)array.data)[i]
                                                         : ((const uint8_t *)array.data)[i];
        TRINE_CHECK_GOTO(value >= 0 && value < MAX_CLASSES, TRINE_ERR_DATA,
                         "%s: label %zu is %lld, expected class numbers from 0 to %d", path, i,
                         (long long)value, MAX_CLASSES - 1);
        ((int *)labels)[i] = (int)value;
    }
    *out = labels;
    labels = NULL;
cleanup:
    free(labels);
    trine_array_free(&array);
    return status;
}

trine_status trine__dataset_open_npy(trine_dataset *ds, const char *source, const char *files,
                                     const char *classes)
{
    trine_status status = TRINE_OK;
    void *labels = NULL;
    char *images;
    const char *comma = comma_of(files);
    TRINE_CHECK(comma, TRINE_ERR_ARG, "%s: expected npy:IMAGES,LABELS", source);
    TRINE_TRY(trine__strdup(files, &images));
    images[comma - files] = '\0';
    TRINE_TRY_GOTO(read_npy_images(images, &ds->pixels));
    TRINE_TRY_GOTO(read_npy_labels(comma + 1, ds->pixels.count, &labels));
    TRINE_TRY_GOTO(add_labelled(ds, images, classes, labels));
cleanup:
    free(labels);
    free(images);
    return status;
}
