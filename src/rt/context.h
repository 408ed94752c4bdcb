/* SPDX-License-Identifier: MIT */
/* The context: one device, its programs, cache, log and memory account. */
#ifndef TRINE_RT_CONTEXT_H
#define TRINE_RT_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "rt/device.h"

typedef struct trine__program trine__program;
typedef struct trine__cache trine__cache;
typedef struct trine__tuning trine__tuning;

/* Instructions that multiply small matrices of halves with float sums, as cl/conv2d_mma_units.clh has them. */
typedef enum trine__matrix_unit {
    TRINE__NO_MATRIX_UNIT = 0,
    TRINE__MMA,    /* mma.sync.m16n8k16 */
    TRINE__MFMA,   /* v_mfma_f32_16x16x16f16 */
    TRINE__WMMA,   /* v_wmma_f32_16x16x16_f16 */
    TRINE__DPAS8,  /* dpas by 8 work-items */
    TRINE__DPAS16, /* and by 16 */
    TRINE__MATRIX_UNITS
} trine__matrix_unit;

/* What a driver tells of its device, from which the unit follows; 0 where it tells nothing. */
typedef struct trine__matrix_facts {
    const char *extensions;
    uint64_t compute_capability;   /* major; cl_nv_device_attribute_query */
    uint64_t gfxip, wavefront;     /* major, work-items of a wave; cl_amd_device_attribute_query */
    uint64_t least_sub_group_size; /* cl_intel_required_subgroup_size */
} trine__matrix_facts;

/* The unit that such a device may have: whether it does shows as its kernels are built. */
trine__matrix_unit trine__matrix_unit_of(const trine__matrix_facts *facts);

/* How work-items of a sub-group give each other values. */
typedef enum trine__sub_groups {
    TRINE__NO_SUB_GROUPS = 0,
    TRINE__SUB_GROUPS,     /* of 16 work-items on demand, with block reads and shuffles: cl_intel_subgroups,
                                 cl_intel_required_subgroup_size */
    TRINE__SUB_GROUPS_KHR, /* of a size that a kernel tells once it is built, with broadcasts: cl_khr_subgroups */
    TRINE__SUB_GROUPS_IMITATED /* by ordinary reads: for tests */
} trine__sub_groups;

/* What operators may know about a device: shapes and limits, never a vendor. */
typedef struct trine__caps {
    bool cpu;             /* kernels for one work-item per register tile, local size 1 */
    int vector_width;     /* floats of one native vector: 1 (scalar GPU lanes), 4, 8 or 16 */
    int vector_registers; /* of that width, as the instruction set that has it offers: 8, 16 or 32 */
    int compute_units;
    trine__matrix_unit matrix_unit;
    bool matrix_imitated; /* by ordinary instructions: for tests */
    trine__sub_groups sub_groups;
    size_t max_local_size; /* work-items of a work-group */
    size_t local_bytes;    /* local memory of a work-group */
    size_t alignment;      /* bytes; of buffer views */
    size_t max_allocation; /* bytes of one buffer */
} trine__caps;

/* One kernel as it was created (local NULL) or would have been launched. */
typedef struct trine__rehearsed {
    const char *kernel, *options; /* the file's stem; all build options */
    const size_t *local;          /* [3] work-items of a work-group */
    size_t local_bytes;           /* of local memory among the arguments */
    const char *scope;            /* the stream's (a layer's name), or NULL */
} trine__rehearsed;

/* A context that rehearses builds no program and runs no kernel: it tells of each. For listing programs. */
typedef struct trine__rehearsal {
    void (*tell)(void *user, const trine__rehearsed *what);
    void *user;
} trine__rehearsal;

struct trine_context {
    trine__device device;
    trine__caps caps;
    cl_context cl;
    trine_log_fn log;
    void *log_user;
    char *
        algorithms; /* copy of $TRINE_ALGORITHMS, or NULL: implementation names or globs that may be chosen */
    pthread_mutex_t lock; /* guards programs, cache and tuning */
    trine__program *programs;
    trine__tuning *tuning; /* NULL until the first question */
    trine__cache *cache;   /* NULL: no cache (disabled or unusable) */
    atomic_ullong now_bytes, peak_bytes;
    atomic_int matrix_trials
        [2]; /* of the matrix unit's kernels for floats and halves: 0 not built yet, 1 they build, -1 they do not */
    atomic_int sub_group_trial;        /* of the kernels that use sub-groups, as above */
    const trine__rehearsal *rehearsal; /* NULL: build and run */
};

/* Tell the user's log callback. */
void trine__log(const trine_context *context, const char *format, ...) TRINE_PRINTF(2, 3);

/* Channel block of trunk tensors on this device: 16 on CPUs (one AVX-512 or two AVX2 registers: measured no
 * slower than 8 there, with half the tap overhead), 1 (NCHW) elsewhere. */
int trine__trunk_block(const trine_context *context);

/* Vector registers of a CPU ("x86_64", "aarch64", ...) whose drivers take vectors of `width` floats. */
int trine__vector_registers(const char *name, int width);

/* Position of the first pattern of $TRINE_ALGORITHMS that matches: lower is preferred, -1 is not allowed. 0 where it is not
 * set. */
int trine__algorithm_rank(const trine_context *context, const char *name);

#endif
