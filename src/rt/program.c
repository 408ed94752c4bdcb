/* SPDX-License-Identifier: MIT */
/* Programs are keyed by stem and options. A program built from source is stored in the cache when the context
 * closes, after it has run: implementations such as PoCL specialise at the first enqueue, and a binary taken
 * before that lacks the result. */
#include "rt/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/text.h"
#include "rt/cache.h"

struct trine__program {
    trine__program *next;
    const trine__source *source;
    char *options;
    cl_program cl;
    uint64_t key[2];
    bool from_source;
    atomic_bool ran; /* set by every thread that launches */
};

/* Every build: denormals cost hundreds of cycles on CPUs and mean nothing here. No relaxed mathematics: it
 * would let compilers lose NaN, and with every multiply-add written as fma() it gains nothing (measured on
 * PoCL). */
static const char common_options[] = "-w -cl-std=CL1.2 -cl-denorms-are-zero -cl-mad-enable";

static const trine__source *find_source(const char *stem)
{
    for (size_t i = 0; i < trine__source_count; i++)
        if (strcmp(trine__sources[i].stem, stem) == 0) return &trine__sources[i];
    return NULL;
}

static void program_key(const trine_context *ctx, const trine__source *source, const char *options,
                        uint64_t key[2])
{
    const trine_device_info *d = &ctx->device.info;
    const char *parts[] = {d->platform, d->name, d->driver, d->version, source->stem, options};
    for (uint64_t half = 0; half < 2; half++) {
        uint64_t hash = trine__hash(source->text, source->bytes, half);
        for (size_t i = 0; i < TRINE_COUNTOF(parts); i++)
            hash = trine__hash(parts[i], strlen(parts[i]) + 1, hash);
        key[half] = hash;
    }
}

static trine_status build(trine_context *ctx, trine__program *program)
{
    const cl_int code = clBuildProgram(program->cl, 1, &ctx->device.id, program->options, NULL, NULL);
    if (code == CL_SUCCESS) return TRINE_OK;
    size_t bytes = 0;
    clGetProgramBuildInfo(program->cl, ctx->device.id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
    char *log = calloc(bytes + 1, 1);
    if (log) {
        clGetProgramBuildInfo(program->cl, ctx->device.id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL);
        trine__set_build_log(log);
        free(log);
    }
    return trine__fail(TRINE_ERR_BUILD, "kernel %s does not build on %s with '%s' (%s); see the build log",
                       program->source->stem, ctx->device.info.name, program->options, trine__cl_name(code));
}

static bool load_cached(trine_context *ctx, trine__program *program)
{
    void *binary;
    size_t bytes;
    if (!trine__cache_get(ctx->cache, program->key, &binary, &bytes)) return false;
    cl_int code, loaded = CL_SUCCESS;
    const unsigned char *image = binary;
    program->cl = clCreateProgramWithBinary(ctx->cl, 1, &ctx->device.id, &bytes, &image, &loaded, &code);
    free(binary);
    if (code == CL_SUCCESS && loaded == CL_SUCCESS && build(ctx, program) == TRINE_OK) return true;
    if (code == CL_SUCCESS) clReleaseProgram(program->cl); /* a stale binary: build from source instead */
    program->cl = NULL;
    return false;
}

static trine_status load(trine_context *ctx, trine__program *program)
{
    if (ctx->rehearsal) return TRINE_OK;
    program_key(ctx, program->source, program->options, program->key);
    if (load_cached(ctx, program)) return TRINE_OK;
    const char *text = (const char *)program->source->text;
    cl_int code;
    program->cl = clCreateProgramWithSource(ctx->cl, 1, &text, &program->source->bytes, &code);
    TRINE_TRY(trine__cl_check(code, "clCreateProgramWithSource"));
    program->from_source = true;
    return build(ctx, program);
}

static void destroy(trine__program *program)
{
    if (program->cl) clReleaseProgram(program->cl);
    free(program->options);
    free(program);
}

/* Called with the context's lock held. */
static trine_status get_program(trine_context *ctx, const char *stem, const char *options,
                                trine__program **out)
{
    const trine__source *source = find_source(stem);
    TRINE_CHECK(source, TRINE_ERR_BUILD, "no kernel source cl/%s.cl", stem);
    trine__text all = {0};
    trine__text_add(&all, "%s %s", common_options, options);
    char *full;
    TRINE_TRY(trine__text_take(&all, &full));
    for (trine__program *p = ctx->programs; p; p = p->next) {
        if (p->source != source || strcmp(p->options, full) != 0) continue;
        free(full);
        *out = p;
        return TRINE_OK;
    }
    void *memory = NULL;
    trine_status status = trine__calloc(1, sizeof(trine__program), &memory);
    if (status != TRINE_OK) {
        free(full);
        return status;
    }
    trine__program *program = memory;
    program->source = source;
    program->options = full;
    status = load(ctx, program);
    if (status != TRINE_OK) {
        destroy(program);
        return status;
    }
    program->next = ctx->programs;
    ctx->programs = program;
    *out = program;
    return TRINE_OK;
}

trine_status trine__kernel_create(trine_context *context, const char *stem, const char *options,
                                  trine__kernel **out)
{
    void *memory = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine__kernel), &memory));
    trine__kernel *kernel = memory;
    kernel->context = context;
    pthread_mutex_lock(&context->lock);
    trine_status status = get_program(context, stem, options, &kernel->program);
    pthread_mutex_unlock(&context->lock);
    if (status == TRINE_OK) kernel->name = kernel->program->source->stem;
    if (status == TRINE_OK && context->rehearsal) {
        trine__kernel_rehearse(kernel, NULL, 0, NULL);
    } else if (status == TRINE_OK) {
        cl_int code;
        kernel->cl = clCreateKernel(kernel->program->cl, kernel->name, &code);
        status = trine__cl_check(code, "clCreateKernel");
    }
    if (status != TRINE_OK) {
        free(kernel);
        return status;
    }
    *out = kernel;
    return TRINE_OK;
}

void trine__kernel_destroy(trine__kernel **kernel)
{
    if (!kernel || !*kernel) return;
    if ((*kernel)->cl) clReleaseKernel((*kernel)->cl);
    free(*kernel);
    *kernel = NULL;
}

void trine__kernel_rehearse(const trine__kernel *kernel, const size_t *local, size_t local_bytes,
                            const char *scope)
{
    const trine__rehearsal *rehearsal = kernel->context->rehearsal;
    const trine__rehearsed what = {kernel->name, kernel->program->options, local, local_bytes, scope};
    rehearsal->tell(rehearsal->user, &what);
}

void trine__program_ran(trine__program *program)
{
    program->ran = true;
}

static void store(trine_context *ctx, const trine__program *program)
{
    size_t bytes = 0;
    if (clGetProgramInfo(program->cl, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS ||
        bytes == 0)
        return;
    unsigned char *binary = malloc(bytes);
    if (!binary) return;
    if (clGetProgramInfo(program->cl, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
        trine__cache_put(ctx->cache, program->key, binary, bytes);
    free(binary);
}

void trine__programs_destroy(trine_context *context)
{
    trine__program *next;
    for (trine__program *p = context->programs; p; p = next) {
        next = p->next;
        if (p->from_source && p->ran && context->cache) store(context, p);
        destroy(p);
    }
    context->programs = NULL;
}
