/* SPDX-License-Identifier: MIT */
/* Lists every program that the library asks for on a device of some shape, without building any; tools/codegen compiles
 * them with the vendors' generators.
 *   list_programs SHAPE:LOCAL_BYTES:ITEMS:UNITS[:MATRIX_UNIT] [FOLDER]
 * SHAPE is "gpu", "gpusub" (with sub-groups, cl/conv2d_gemm_subgroups.cl) or "cpu4", "cpu8", "cpu16" (floats of a vector), followed by the
 * local memory and the largest size of a work-group, the number of compute units and, of GPUs, the matrix unit: mma, mfma, wmma, dpas8,
 * dpas16. One line a program and local size, fields between tabs:
 *   chosen|forced  kernel  options  local size (XxYxZ, "-" if never launched)  bytes of local arguments  who asks for it
 * "chosen" is what runs where nobody names an implementation. With FOLDER, the embedded sources go there as KERNEL.cl. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "codegen/ask.h"
#include "rt/program.h"
#include "support/device.h"

typedef struct listed {
    bool chosen;
    char *kernel, *options, *who;
    size_t local[3]; /* zeros: never launched */
    size_t local_bytes;
} listed;

typedef struct list {
    const asker *asker;
    listed *items;
    size_t count, capacity;
} list;

void must(trine_status status)
{
    if (status == TRINE_OK) return;
    fprintf(stderr, "list_programs: %s\n", trine_last_error());
    exit(EXIT_FAILURE);
}

static char *copy(const char *text)
{
    char *out = NULL;
    must(trine__strdup(text, &out));
    return out;
}

static char *who_asks(const asker *a, const char *scope)
{
    char text[512];
    const char *part = a->scope[0] ? a->scope : scope ? scope : "";
    snprintf(text, sizeof text, "%s%s%s", a->what, part[0] ? ": " : "", part);
    return copy(text);
}

/* The line of this kernel, these options and this local size; one that was not launched yet takes the first that comes. */
static listed *find(list *l, const trine__rehearsed *what)
{
    for (size_t i = 0; i < l->count; i++) {
        listed *x = &l->items[i];
        if (strcmp(x->kernel, what->kernel) != 0 || strcmp(x->options, what->options) != 0) continue;
        if (!what->local || x->local[0] == 0 || memcmp(x->local, what->local, sizeof x->local) == 0) return x;
    }
    return NULL;
}

static void tell(void *user, const trine__rehearsed *what)
{
    list *l = user;
    listed *x = find(l, what);
    if (!x) {
        void *items = l->items;
        must(trine__reserve(&items, &l->capacity, l->count + 1, sizeof *l->items));
        l->items = items;
        x = &l->items[l->count++];
        *x = (listed){
            .chosen = l->asker->chosen, .kernel = copy(what->kernel), .options = copy(what->options)};
    }
    const bool first = !x->who || (what->local && x->local[0] == 0);
    if (first || (l->asker->chosen && !x->chosen)) {
        free(x->who);
        x->who = who_asks(l->asker, what->scope);
        x->chosen = l->asker->chosen;
    }
    if (!what->local) return;
    memcpy(x->local, what->local, sizeof x->local);
    if (what->local_bytes > x->local_bytes) x->local_bytes = what->local_bytes;
}

static int by_name(const void *a, const void *b)
{
    const listed *x = a, *y = b;
    int order = strcmp(x->kernel, y->kernel);
    if (order == 0) order = strcmp(x->options, y->options);
    return order ? order : memcmp(x->local, y->local, sizeof x->local);
}

static void print(const listed *x)
{
    printf("%s\t%s\t%s\t", x->chosen ? "chosen" : "forced", x->kernel, x->options);
    if (x->local[0])
        printf("%zux%zux%zu", x->local[0], x->local[1], x->local[2]);
    else
        printf("-");
    printf("\t%zu\t%s\n", x->local_bytes, x->who);
}

static void write_sources(const char *folder)
{
    for (size_t i = 0; i < trine__source_count; i++) {
        const trine__source *s = &trine__sources[i];
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.cl", folder, s->stem);
        FILE *f = fopen(path, "wb");
        const bool written = f && fwrite(s->text, 1, s->bytes, f) == s->bytes;
        if ((f && fclose(f) != 0) || !written) {
            fprintf(stderr, "list_programs: cannot write %s\n", path);
            exit(EXIT_FAILURE);
        }
    }
}

/* "", or ":mfma" */
static bool take_matrix_unit(trine__caps *caps, const char *name)
{
    static const char *const names[TRINE__MATRIX_UNITS] = {"", ":mma", ":mfma", ":wmma", ":dpas8", ":dpas16"};
    caps->matrix_imitated = false;
    for (int i = 0; i < TRINE__MATRIX_UNITS; i++) {
        caps->matrix_unit = (trine__matrix_unit)i;
        if (strcmp(name, names[i]) == 0) return true;
    }
    return false;
}

/* "gpu:65536:256:64": nothing of the device underneath shows in the list. */
static void take_shape(trine_context *context, const char *shape)
{
    char kind[8];
    int width = 1, used = 0;
    trine__caps *caps = &context->caps;
    const bool read = sscanf(shape, "%7[a-z0-9]:%zu:%zu:%d%n", kind, &caps->local_bytes,
                             &caps->max_local_size, &caps->compute_units, &used) == 4;
    const bool gpu = read && strncmp(kind, "gpu", 3) == 0;
    if (read) test_imitate(context, gpu ? "gpu" : kind + strlen("cpu"));
    if (!read || !take_matrix_unit(caps, shape + used) ||
        (gpu ? 0 : sscanf(kind, "cpu%d", &width) != 1 || caps->matrix_unit != TRINE__NO_MATRIX_UNIT)) {
        fprintf(stderr, "list_programs: '%s' is no shape: expected for example gpu:65536:256:64\n", shape);
        exit(2);
    }
    caps->sub_groups = strcmp(kind, "gpusub") == 0   ? TRINE__SUB_GROUPS
                       : strcmp(kind, "gpukhr") == 0 ? TRINE__SUB_GROUPS_KHR
                                                     : TRINE__NO_SUB_GROUPS;
}

int main(int argc, char **argv)
{
    asker a = {0};
    list l = {.asker = &a};
    const trine__rehearsal rehearsal = {tell, &l};
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: list_programs SHAPE:LOCAL_BYTES:ITEMS:UNITS[:MATRIX_UNIT] [FOLDER]\n");
        return 2;
    }
    if (argc > 2) write_sources(argv[2]);
    const trine_status opened = trine_context_create("auto", NULL, NULL, &a.context);
    if (opened == TRINE_ERR_DEVICE) {
        fprintf(stderr, "list_programs: SKIP: %s\n", trine_last_error());
        return 77;
    }
    must(opened);
    must(trine_stream_create(a.context, 0, &a.stream));
    take_shape(a.context, argv[1]);
    a.context->rehearsal = &rehearsal;
    ask_networks(&a);
    ask_operators(&a);
    qsort(l.items, l.count, sizeof *l.items, by_name);
    for (size_t i = 0; i < l.count; i++) {
        print(&l.items[i]);
        free(l.items[i].kernel);
        free(l.items[i].options);
        free(l.items[i].who);
    }
    free(l.items);
    trine_stream_destroy(&a.stream);
    trine_context_destroy(&a.context);
    return 0;
}
