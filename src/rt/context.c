/* SPDX-License-Identifier: MIT */
#include "rt/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/glob.h"
#include "base/memory.h"
#include "rt/cache.h"
#include "rt/program.h"
#include "rt/sub_groups.h"
#include "rt/tuning.h"

static uint64_t caps_number(cl_device_id id, cl_device_info key, size_t size)
{
    union {
        cl_uint u32;
        cl_ulong u64;
        size_t word;
    } value = {.u64 = 0};
    if (clGetDeviceInfo(id, key, size, &value, NULL) != CL_SUCCESS) return 0;
    return size == sizeof value.u32 ? value.u32 : value.u64;
}

/* The machine that this is compiled for, which is the one that drivers for CPUs run on. */
static const char machine[] =
#if defined __aarch64__
    "aarch64";
#elif defined __powerpc64__
    "ppc64";
#elif defined __riscv
    "riscv";
#elif defined __s390x__
    "s390x";
#elif defined __loongarch__
    "loongarch";
#elif defined __i386__
    "i386";
#elif defined __arm__
    "arm";
#else
    "x86_64";
#endif

int trine__vector_registers(const char *name, int width)
{
    if (width >= 16) return 32; /* AVX-512, and what has vectors as long elsewhere */
    if (strcmp(name, "i386") == 0) return 8;
    return strcmp(name, "x86_64") == 0 || strcmp(name, "arm") == 0 ? 16 : 32;
}

trine__matrix_unit trine__matrix_unit_of(const trine__matrix_facts *f)
{
    enum { FIRST_WITH_MMA = 8, CDNA = 9, RDNA3 = 11 };
    if (f->compute_capability >= FIRST_WITH_MMA) return TRINE__MMA;
    if (f->gfxip == CDNA && f->wavefront == 64) return TRINE__MFMA; /* or Vega, whose compiler refuses it */
    if (f->gfxip == RDNA3 && f->wavefront == 32) return TRINE__WMMA;
    if (f->extensions && strstr(f->extensions, "cl_intel_subgroup_matrix_multiply_accumulate")) {
        if (f->least_sub_group_size == 8) return TRINE__DPAS8;
        if (f->least_sub_group_size == 16) return TRINE__DPAS16;
    }
    return TRINE__NO_MATRIX_UNIT;
}

static uint64_t least_sub_group_size(cl_device_id id)
{
    enum { SUB_GROUP_SIZES = 0x4108, MOST = 16 };
    size_t sizes[MOST], bytes = 0, least = 0;
    if (clGetDeviceInfo(id, SUB_GROUP_SIZES, sizeof sizes, sizes, &bytes) != CL_SUCCESS) return 0;
    for (size_t i = 0; i < bytes / sizeof *sizes; i++)
        if (least == 0 || sizes[i] < least) least = sizes[i];
    return least;
}

/* Asked of the driver, not guessed from a name: each question is an extension. */
static trine__matrix_unit find_matrix_unit(cl_device_id id)
{
    enum { COMPUTE_CAPABILITY_MAJOR = 0x4000, WAVEFRONT_WIDTH = 0x4043, GFXIP_MAJOR = 0x404a };
    size_t bytes = 0;
    char *extensions = NULL;
    trine__matrix_unit unit = TRINE__NO_MATRIX_UNIT;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS || bytes == 0 ||
        !(extensions = malloc(bytes)))
        return unit;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, extensions, NULL) == CL_SUCCESS) {
        trine__matrix_facts facts = {.extensions = extensions};
        if (strstr(extensions, "cl_nv_device_attribute_query"))
            facts.compute_capability = caps_number(id, COMPUTE_CAPABILITY_MAJOR, sizeof(cl_uint));
        if (strstr(extensions, "cl_amd_device_attribute_query")) {
            facts.gfxip = caps_number(id, GFXIP_MAJOR, sizeof(cl_uint));
            facts.wavefront = caps_number(id, WAVEFRONT_WIDTH, sizeof(cl_uint));
        }
        if (strstr(extensions, "cl_intel_required_subgroup_size"))
            facts.least_sub_group_size = least_sub_group_size(id);
        unit = trine__matrix_unit_of(&facts);
    }
    free(extensions);
    return unit;
}

static void read_caps(trine_context *ctx)
{
    const trine__device *d = &ctx->device;
    trine__caps *caps = &ctx->caps;
    caps->cpu = (d->type & CL_DEVICE_TYPE_CPU) != 0;
    const int width = d->info.vector_width;
    caps->vector_width = !caps->cpu ? 1 : width >= 16 ? 16 : width >= 8 ? 8 : 4;
    caps->vector_registers = caps->cpu ? trine__vector_registers(machine, caps->vector_width) : 16;
    caps->matrix_unit = caps->cpu ? TRINE__NO_MATRIX_UNIT : find_matrix_unit(d->id);
    caps->sub_groups = caps->cpu ? TRINE__NO_SUB_GROUPS : trine__sub_groups_find(d->id);
    caps->compute_units = d->info.compute_units > 0 ? d->info.compute_units : 1;
    caps->max_local_size = caps_number(d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    caps->local_bytes = caps_number(d->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong));
    caps->max_allocation = d->info.allocation_bytes;
    const size_t align = caps_number(d->id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof(cl_uint)) / 8;
    caps->alignment = align < 64 ? 64 : align;
}

/* What the user should know about the device before relying on it. */
static void warn(const trine_context *ctx, const char *selector, int rivals)
{
    const trine_device_info *d = &ctx->device.info;
    if (rivals > 0)
        trine__log(ctx, "'%s' fits %d devices: device %d (%s) is taken", selector, rivals + 1, d->index,
                   d->name);
    for (int i = 0; i < d->quirk_count; i++) {
        const trine_quirk *q = &d->quirk[i];
        const bool refused = strcmp(q->effect, trine__effect_name(TRINE__EFFECT_REFUSE)) == 0;
        if (q->ignored && refused)
            trine__log(ctx, "device %d (%s) is used because TRINE_IGNORE_QUIRKS says so: %s", d->index,
                       d->name, q->reason);
        else if (!q->ignored && strcmp(q->effect, trine__effect_name(TRINE__EFFECT_WARN)) == 0)
            trine__log(ctx, "device %d (%s): %s (%s)", d->index, d->name, q->reason, q->source);
    }
}

trine_status trine_context_create(const char *selector, trine_log_fn log, void *log_user, trine_context **out)
{
    trine_status status = TRINE_OK;
    trine_device_list *list = NULL;
    trine_context *ctx = NULL;
    void *p = NULL;
    TRINE_TRY(trine_device_list_create(&list));
    const trine__device *device;
    int rivals;
    TRINE_TRY_GOTO(trine__device_select(list, selector, &device, &rivals));
    TRINE_TRY_GOTO(trine__calloc(1, sizeof *ctx, &p));
    ctx = p;
    ctx->device = *device;
    ctx->log = log;
    ctx->log_user = log_user;
    pthread_mutex_init(&ctx->lock, NULL);
    read_caps(ctx);
    const char *algorithms = getenv("TRINE_ALGORITHMS");
    if (algorithms && algorithms[0]) TRINE_TRY_GOTO(trine__strdup(algorithms, &ctx->algorithms));
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)device->platform,
                                                0};
    cl_int code;
    ctx->cl = clCreateContext(properties, 1, &device->id, NULL, NULL, &code);
    TRINE_TRY_GOTO(trine__cl_check(code, "clCreateContext"));
    if (!(device->effects & TRINE__EFFECT_NO_CACHE)) trine__cache_open(ctx, &ctx->cache);
    warn(ctx, selector, rivals);
    *out = ctx;
    ctx = NULL;
cleanup:
    trine_context_destroy(&ctx);
    trine_device_list_destroy(&list);
    return status;
}

void trine_context_destroy(trine_context **context)
{
    if (!context || !*context) return;
    trine_context *ctx = *context;
    trine__programs_destroy(ctx);
    trine__tuning_free(ctx);
    trine__cache_close(&ctx->cache);
    if (ctx->now_bytes)
        trine__log(ctx, "context destroyed with %llu bytes of buffers still alive", ctx->now_bytes);
    if (ctx->cl) clReleaseContext(ctx->cl);
    pthread_mutex_destroy(&ctx->lock);
    free(ctx->algorithms);
    free(ctx);
    *context = NULL;
}

const trine_device_info *trine_context_device(const trine_context *context)
{
    return &context->device.info;
}

void trine_context_memory(const trine_context *context, uint64_t *now_bytes, uint64_t *peak_bytes)
{
    if (now_bytes) *now_bytes = context->now_bytes;
    if (peak_bytes) *peak_bytes = context->peak_bytes;
}

void trine__log(const trine_context *context, const char *format, ...)
{
    if (!context->log) return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    context->log(context->log_user, text);
}

int trine__trunk_block(const trine_context *context)
{
    return context->caps.cpu ? 16 : 1;
}

int trine__algorithm_rank(const trine_context *context, const char *name)
{
    int rank = 0;
    if (!context->algorithms) return 0;
    for (const char *p = context->algorithms; *p; rank++) {
        const size_t length = strcspn(p, ",");
        char glob[128];
        snprintf(glob, sizeof glob, "%.*s", (int)length, p);
        if (trine__glob_match(glob, name)) return rank;
        p += length + (p[length] == ',');
    }
    return -1;
}
