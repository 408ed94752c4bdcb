/* SPDX-License-Identifier: MIT */
/** Status codes and the last error's sentence. */
#ifndef TRINE_STATUS_H
#define TRINE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TRINE_API __attribute__((visibility("default")))
#else
#define TRINE_API
#endif

/** Every status: name, value, message. Bands: 1x argument, 2x shape, 3x device, 4x memory, 5x file and data, 6x check. */
#define TRINE_STATUS_MAP(X)                                                                                  \
    X(OK, 0, "success")                                                                                      \
    X(ERR_ARG, 10, "invalid argument")                                                                       \
    X(ERR_STATE, 11, "call out of order")                                                                    \
    X(ERR_UNSUPPORTED, 12, "not supported")                                                                  \
    X(ERR_SHAPE, 20, "shape mismatch")                                                                       \
    X(ERR_WORKSPACE, 21, "workspace too small")                                                              \
    X(ERR_DEVICE, 30, "no usable device")                                                                    \
    X(ERR_BUILD, 31, "kernel build failed")                                                                  \
    X(ERR_OPENCL, 32, "OpenCL call failed")                                                                  \
    X(ERR_NOMEM, 40, "out of memory")                                                                        \
    X(ERR_OPEN, 50, "file cannot be opened or read")                                                         \
    X(ERR_FORMAT, 51, "file is corrupt or of another kind")                                                  \
    X(ERR_WRITE, 52, "file cannot be written")                                                               \
    X(ERR_DATA, 53, "unsuitable data")                                                                       \
    X(ERR_WEIGHTS, 54, "weights do not fit the network")                                                     \
    X(ERR_CHECK, 60, "a requested check did not hold")

typedef enum trine_status {
#define TRINE_STATUS_ENUM(name, value, text) TRINE_##name = value,
    TRINE_STATUS_MAP(TRINE_STATUS_ENUM)
#undef TRINE_STATUS_ENUM
} trine_status;

/** One fixed phrase for a status ("shape mismatch"); never NULL. */
TRINE_API const char *trine_status_text(trine_status status);

/** The sentence of the last call that failed on the calling thread: what, where, expected, got. Empty string if none.
 *  The text belongs to trine and stays valid until the next failing call on this thread. */
TRINE_API const char *trine_last_error(void);

/** The compiler's build log that belongs to the last TRINE_ERR_BUILD on this thread; empty string if none. */
TRINE_API const char *trine_last_build_log(void);

/** Receives warnings and progress sentences (no newline at the end). May be called from any thread. */
typedef void (*trine_log_fn)(void *user, const char *sentence);

#ifdef __cplusplus
}
#endif
#endif
