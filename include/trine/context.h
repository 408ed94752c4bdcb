/* SPDX-License-Identifier: MIT */
/** Devices, contexts, streams and device memory. */
#ifndef TRINE_CONTEXT_H
#define TRINE_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "trine/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A known defect or peculiarity of a device's driver (a row of src/rt/quirks.c) and what trine does about it. The strings live
 *  as long as the program. */
typedef struct trine_quirk {
    const char *id; /**< "clover" */
    /** "refuse": the device is not usable; "warn": opening it warns; "no-cache": no binaries of programs are kept, the driver does;
     *  "last": taken only if no other device fits; "note": nothing to be done */
    const char *effect;
    const char *reason; /**< one sentence */
    const char *source; /**< who found out: "KataGo#1083" */
    int ignored;        /**< 1: named by TRINE_IGNORE_QUIRKS, it has no effect */
} trine_quirk;

enum { TRINE_DEVICE_QUIRKS = 8 };

/** What trine knows of one OpenCL device. Strings live as long as the list (or context) that the info came from. */
typedef struct trine_device_info {
    int index;                 /**< position in the list, stable while drivers and hardware stay */
    char platform[128];        /**< CL_PLATFORM_NAME */
    char name[128];            /**< CL_DEVICE_NAME */
    char vendor[128];          /**< CL_DEVICE_VENDOR */
    char type[16];             /**< "cpu", "gpu", "accelerator" or "other" */
    char driver[128];          /**< CL_DRIVER_VERSION */
    char version[128];         /**< CL_DEVICE_VERSION */
    int usable;                /**< 1 if trine can run on it */
    char reason[256];          /**< why it is the default, why it is not usable, or "" */
    int is_default;            /**< 1 for the one that "auto" takes */
    char quirks[512];          /**< the reasons of `quirk`, "; " between them, or "" */
    int compute_units;         /**< CL_DEVICE_MAX_COMPUTE_UNITS */
    int vector_width;          /**< CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT */
    uint64_t memory_bytes;     /**< CL_DEVICE_GLOBAL_MEM_SIZE */
    uint64_t allocation_bytes; /**< CL_DEVICE_MAX_MEM_ALLOC_SIZE */
    int quirk_count;
    trine_quirk quirk[TRINE_DEVICE_QUIRKS]; /**< what is known of its driver, `quirk_count` of them */
} trine_device_info;

/** Every device of every OpenCL platform. */
typedef struct trine_device_list trine_device_list;

/** Ask the ICD loader. No platform at all is a list of 0 devices, not an error. The environment's TRINE_IGNORE_QUIRKS lists ids (or
 *  globs, commas between them) of quirks that are to have no effect: a device that one of them refuses becomes usable.
 *  @return TRINE_ERR_ARG: TRINE_IGNORE_QUIRKS names none */
TRINE_API trine_status trine_device_list_create(trine_device_list **out);
TRINE_API int trine_device_list_count(const trine_device_list *list);
/** Device i (0 <= i < count); NULL outside. */
TRINE_API const trine_device_info *trine_device_list_at(const trine_device_list *list, int i);
TRINE_API void trine_device_list_destroy(trine_device_list **list);

/** One device with everything that is shared on it: programs, their cache, the account of memory, log. Safe to use from several
 *  threads. Several devices take a context each, in one process or more; what is made with one belongs to it alone. */
typedef struct trine_context trine_context;

/** Open a device.
 *  @param selector  NULL or "auto" (the fastest-looking GPU, else the CPU with the widest vectors); an index of the device list;
 *                   "cpu", "gpu" or "accelerator"; or a device's name, or a part of its or its platform's name, any case. Where it
 *                   fits several usable devices, the best is taken and the log told which
 *  @param log       receives warnings; may be NULL
 *  @return TRINE_ERR_DEVICE: nothing usable, or no device of that description (the sentence lists what there is) */
TRINE_API trine_status trine_context_create(const char *selector, trine_log_fn log, void *log_user,
                                            trine_context **out);
TRINE_API const trine_device_info *trine_context_device(const trine_context *context);
/** Bytes of device buffers allocated now, and at most so far. */
TRINE_API void trine_context_memory(const trine_context *context, uint64_t *now_bytes, uint64_t *peak_bytes);
/** Store new program binaries in the cache and release everything. Streams, buffers and objects made with the context must be
 *  gone. Sets *context to NULL; accepts NULL. */
TRINE_API void trine_context_destroy(trine_context **context);

/** One in-order command queue. Operators only enqueue; only trine_stream_sync(), blocking copies and profile read-out wait.
 *  A stream is used by one thread at a time. */
typedef struct trine_stream trine_stream;

/** @param profile 1: time every kernel (small cost); read with trine_stream_profile() */
TRINE_API trine_status trine_stream_create(trine_context *context, int profile, trine_stream **out);
/** Wait until everything enqueued is done. */
TRINE_API trine_status trine_stream_sync(trine_stream *stream);
TRINE_API void trine_stream_destroy(trine_stream **stream);

/** Time of one kind of launch. */
typedef struct trine_profile_row {
    const char *name; /**< kernel, and what it was launched for */
    const char
        *scope; /**< of a session's launches: the convolution, BatchNorm or other layer they belong to; "" */
    int launches;
    double ms; /**< on the device, all launches together */
    double
        bytes; /**< of the tensors that the launches read and wrote, each argument once; weights and workspace left out */
} trine_profile_row;

/** Wait, then give every row since the last call, most expensive first. The array belongs to the stream and is valid until the
 *  next call. */
TRINE_API trine_status trine_stream_profile(trine_stream *stream, const trine_profile_row **rows,
                                            size_t *count);

/** Device memory, reference-counted; a view shares its parent's memory. */
typedef struct trine_buffer trine_buffer;

/** @return TRINE_ERR_NOMEM: bytes exceed what the device allocates at once, or its memory is full */
TRINE_API trine_status trine_buffer_create(trine_context *context, size_t bytes, trine_buffer **out);
/** Bytes [offset, offset + bytes) of parent, which stays alive as long as the view. offset must be a multiple of
 *  trine_buffer_alignment(). @return TRINE_ERR_ARG: outside the parent, empty, or not aligned */
TRINE_API trine_status trine_buffer_view(trine_buffer *parent, size_t offset, size_t bytes,
                                         trine_buffer **out);
TRINE_API size_t trine_buffer_alignment(const trine_context *context);
TRINE_API size_t trine_buffer_bytes(const trine_buffer *buffer);
/** Drop one reference and set *buffer to NULL; accepts NULL. The memory goes once nothing refers to it. */
TRINE_API void trine_buffer_release(trine_buffer **buffer);

/** Copy host bytes to the device at byte `offset`; the host pointer may be reused on return. Waits. */
TRINE_API trine_status trine_buffer_write(trine_stream *stream, trine_buffer *buffer, size_t offset,
                                          const void *host, size_t bytes);
/** Copy device bytes to the host after everything enqueued before. Waits. */
TRINE_API trine_status trine_buffer_read(trine_stream *stream, const trine_buffer *buffer, size_t offset,
                                         void *host, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
