/* SPDX-License-Identifier: MIT */
/** Images, preprocessing and data sets on the host. */
#ifndef TRINE_IMAGE_H
#define TRINE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "trine/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An 8-bit RGB image, rows top to bottom, no padding. */
typedef struct trine_image {
    int width, height;  /**< pixels, each >= 1 */
    unsigned char *rgb; /**< [height][width][3], owned; trine_image_free() */
} trine_image;

/** Decode JPEG, PNG or PNM (P1 to P6), told by content. The pixels are what Pillow's convert('RGB') gives:
 *  grey replicated, palette looked up, alpha dropped, 16 bits reduced, CMYK converted; EXIF orientation is
 *  ignored. Where Pillow's reduction is odd, so is ours: 16-bit colour keeps the high byte, 16-bit grey is
 *  clamped at 255.
 *  @param out  untouched on failure; free it with trine_image_free()
 *  @return TRINE_ERR_OPEN; TRINE_ERR_FORMAT (another kind, truncated, corrupt, more than 2^28 pixels; the
 *          sentence names the file); TRINE_ERR_NOMEM. */
TRINE_API trine_status trine_image_read(const char *path, trine_image *out);
/** The same from memory; `name` is used in sentences only. */
TRINE_API trine_status trine_image_decode(const void *data, size_t bytes, const char *name, trine_image *out);
/** Pillow's Image.resize((width, height), BILINEAR), bit for bit (antialiased when shrinking).
 *  @return TRINE_ERR_ARG (a side < 1); TRINE_ERR_DATA (the result, or the image that is resized in width
 *          only, has more than 2^28 pixels); TRINE_ERR_NOMEM. */
TRINE_API trine_status trine_image_resize(const trine_image *image, int width, int height, trine_image *out);
/** Free the pixels and clear the struct; accepts NULL and a cleared struct. */
TRINE_API void trine_image_free(trine_image *image);

/** What happens to an image between decoding and the network, in this order. Zero means "not done"; sides are
 *  at most 16384. */
typedef struct trine_preprocess {
    int resize; /**< shorter side, aspect kept (torchvision's Resize(int): longer side truncated) */
    int pad;    /**< black borders, evenly on both sides, up to this width and height (28x28 to 32x32) */
    int crop;   /**< centre crop to this square (torchvision's CenterCrop: smaller ones are padded black) */
    float mean[3]; /**< per channel, on the scale [0, 1] */
    float std[3];  /**< per channel, > 0; y = (x / 255 - mean) / std */
} trine_preprocess;

/** "imagenet": resize 256, crop 224, ImageNet mean and std; "cifar": no resize, the same mean and std; "idx":
 *  pad to 32, mean 0 and std 1 until trine_dataset_statistics() fills them in.
 *  @return TRINE_ERR_ARG for another name. */
TRINE_API trine_status trine_preprocess_named(const char *name, trine_preprocess *out);
/** {"resize":256,"pad":0,"crop":224,"mean":[...],"std":[...]}, values that read back bit for bit.
 *  @param out  the caller frees it with free() */
TRINE_API trine_status trine_preprocess_to_json(const trine_preprocess *p, char **out);
/** Unknown keys, missing keys or values out of range: TRINE_ERR_FORMAT. */
TRINE_API trine_status trine_preprocess_from_json(const char *json, trine_preprocess *out);
/** Width and height after preprocessing an image of the given size (INT_MAX stands for any size beyond). */
TRINE_API void trine_preprocess_size(const trine_preprocess *p, int width, int height, int *out_width,
                                     int *out_height);
/** Run it. @param out [3][h][w] float32, sizes from trine_preprocess_size().
 *  @return TRINE_ERR_ARG (a value of p out of range); TRINE_ERR_DATA (too many pixels); TRINE_ERR_NOMEM. */
TRINE_API trine_status trine_preprocess_apply(const trine_preprocess *p, const trine_image *image,
                                              float *out);

/** A list of labelled images. Immutable once opened; safe to read from several threads. */
typedef struct trine_dataset trine_dataset;

/** Open a data set.
 *  @param source   "DIR": a folder per class (symbolic links followed; class number = rank of the folder's
 *                  name in byte order), images in it sorted by name (.jpg .jpeg .png .ppm .pgm .pbm .pnm, any
 *                  case; other files are ignored). What begins with a dot is ignored and takes no number. A
 *                  folder without sub-folders but with images is one class. Or
 *                  "idx:IMAGES[.gz],LABELS[.gz]": the format of MNIST, unsigned bytes, split at the last
 *                  comma. Or "npy:IMAGES.npy,LABELS.npy": uint8 [N][H][W] (grey) or [N][H][W][3] (RGB) and
 *                  int32, int64 or uint8 [N]. Or "LIST.csv" (or "csv:FILE"): lines of path,label, paths
 *                  relative to the list's folder; a first line that names columns path (file, filename,
 *                  image) and label (class, category) says where they are; quoted as in RFC 4180. Where all labels are numbers
 *                  they are the class numbers, otherwise a class's number is its label's rank in byte order.
 *  @param classes  NULL for all, or numbers, ranges and globs of names such as "0-4", "1,3,5-9" or "cat,dog*";
 *                  class numbers stay. What begins with a digit is a number
 *  @return TRINE_ERR_OPEN (missing); TRINE_ERR_FORMAT (corrupt IDX, .npy or list, with its line); TRINE_ERR_DATA (no image, labels of
 *          another length, a selected class that does not exist); TRINE_ERR_ARG (malformed `classes`). */
TRINE_API trine_status trine_dataset_open(const char *source, const char *classes, trine_dataset **out);

typedef struct trine_dataset_options {
    const char *classes;  /**< as above, or NULL */
    size_t min_per_class; /**< classes of fewer images are left out; 0: none is */
    size_t max_per_class; /**< images of a class that are taken, the first ones; 0: all */
} trine_dataset_options;
/** The same with limits. @return TRINE_ERR_DATA also where no class has min_per_class images. */
TRINE_API trine_status trine_dataset_open_with(const char *source, const trine_dataset_options *options,
                                               trine_dataset **out);
/** A data set of one image file, class 0. The file is opened when it is read. */
TRINE_API trine_status trine_dataset_single(const char *path, trine_dataset **out);
TRINE_API size_t trine_dataset_count(const trine_dataset *ds);
/** Class number of image i. */
TRINE_API int trine_dataset_label(const trine_dataset *ds, size_t i);
/** Path of image i, or "IMAGES#i" (i counted in the file) for IDX and .npy. Belongs to the data set. */
TRINE_API const char *trine_dataset_name(const trine_dataset *ds, size_t i);
/** Largest class number + 1 (of the source, not of the selection; folders without images count). */
TRINE_API int trine_dataset_class_count(const trine_dataset *ds);
/** Folder's name, or the number as text. Belongs to the data set. */
TRINE_API const char *trine_dataset_class_name(const trine_dataset *ds, int class_number);
/** 1 if the source is IDX. */
TRINE_API int trine_dataset_is_idx(const trine_dataset *ds);
/** The size that all images have, as their headers tell; what cannot be read is left out.
 *  @return 1; 0 where sizes differ or none can be read, and the results are left alone */
TRINE_API int trine_dataset_one_size(const trine_dataset *ds, int *width, int *height);
/** Decode image i (a folder's file is read each time). */
TRINE_API trine_status trine_dataset_image(const trine_dataset *ds, size_t i, trine_image *out);
/** Mean and population standard deviation per channel over all pixels of all images (before any padding),
 *  scale [0, 1]. Decodes every image; the first unreadable one fails the call. A channel of one value has std
 *  0, which preprocessing refuses. */
TRINE_API trine_status trine_dataset_statistics(const trine_dataset *ds, float mean[3], float std[3]);
/** Destroy and set *ds to NULL; accepts NULL. */
TRINE_API void trine_dataset_destroy(trine_dataset **ds);

#ifdef __cplusplus
}
#endif
#endif
