/* SPDX-License-Identifier: MIT */
/* Which network a list of named tensors is: comparing names and shapes with each variant's, and the sentence
 * about what does not fit. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "net/resnet_init.h"

enum { NAMED_AT_MOST = 3 };

const char *trine__source_fc_name(const trine_weights *w)
{
    return !trine_weights_find(w, "fc.weight") && trine_weights_find(w, "linear.weight") ? "linear" : "fc";
}

/* A list of at most a few names in a sentence. */
typedef struct name_list {
    trine__text text;
    int count;
} name_list;

static void list_name(name_list *list, const char *name)
{
    if (list->count++ < NAMED_AT_MOST)
        trine__text_add(&list->text, "%s'%s'", list->count > 1 ? ", " : "", name);
}

static void list_close(name_list *list)
{
    if (list->count > NAMED_AT_MOST)
        trine__text_add(&list->text, " and %d more", list->count - NAMED_AT_MOST);
}

static void text_dims(trine__text *text, int rank, const int64_t *dims)
{
    trine__text_add(text, "[");
    for (int i = 0; i < rank; i++) trine__text_add(text, "%s%lld", i ? "," : "", (long long)dims[i]);
    trine__text_add(text, "]");
}

/* How a list of tensors differs from what a spec wants. */
typedef struct comparison {
    name_list missing, unexpected;
    trine__text shapes;
    int misshaped;
    size_t matched;
} comparison;

static void comparison_free(comparison *c)
{
    trine__text_free(&c->missing.text);
    trine__text_free(&c->unexpected.text);
    trine__text_free(&c->shapes);
}

static void compare_tensor(const trine_weights *w, const char *name, int rank, const int64_t *dims,
                           bool required, comparison *c)
{
    const trine_weights_tensor *t = trine_weights_find(w, name);
    if (!t) {
        if (required) list_name(&c->missing, name);
        return;
    }
    c->matched++;
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = t->dims[i] == dims[i];
    if (same) return;
    if (c->misshaped++ < NAMED_AT_MOST) {
        trine__text_add(&c->shapes, "%s'%s' is ", c->misshaped > 1 ? ", " : "", name);
        text_dims(&c->shapes, t->rank, t->dims);
        trine__text_add(&c->shapes, ", expected ");
        text_dims(&c->shapes, rank, dims);
    }
}

static bool has_part(const trine_weights *w, const char *layer, const char *part)
{
    char name[2 * TRINE__NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return trine_weights_find(w, name) != NULL;
}

/* What any BatchNorm layer has, all of them must have. */
static trine__bn_parts parts_of(const trine_weights *w, const trine__spec *s)
{
    trine__bn_parts parts = {false, false};
    for (int i = 0; i < s->unit_count; i++) {
        const char *bn = s->units[i].bn;
        parts.affine = parts.affine || has_part(w, bn, "weight") || has_part(w, bn, "bias");
        parts.tracked = parts.tracked || has_part(w, bn, "running_mean") || has_part(w, bn, "running_var") ||
                        has_part(w, bn, "num_batches_tracked");
    }
    return parts;
}

/* Does the name belong to the network? What is left over is unexpected. */
static bool is_known(const trine__spec *s, const char *fc, const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot) return false;
    const size_t length = (size_t)(dot - name);
    const bool weight = strcmp(dot, ".weight") == 0, bias = strcmp(dot, ".bias") == 0;
    const bool buffer = strcmp(dot, ".running_mean") == 0 || strcmp(dot, ".running_var") == 0 ||
                        strcmp(dot, ".num_batches_tracked") == 0;
    if ((weight || bias) && strlen(fc) == length && strncmp(fc, name, length) == 0) return true;
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        if (weight && strlen(u->conv) == length && strncmp(u->conv, name, length) == 0) return true;
        if ((weight || bias || buffer) && strlen(u->bn) == length && strncmp(u->bn, name, length) == 0)
            return true;
    }
    return false;
}

static void compare(const trine_weights *w, const trine__spec *s, bool with_fc, comparison *c)
{
    char name[2 * TRINE__NAME_BYTES];
    const char *fc = trine__source_fc_name(w);
    const trine__bn_parts parts = parts_of(w, s);
    for (int i = 0; i < s->unit_count; i++) {
        const trine__unit *u = &s->units[i];
        const int64_t conv[] = {u->out_channels, u->in_channels / u->groups, u->kernel, u->kernel},
                      vector[] = {u->out_channels};
        snprintf(name, sizeof name, "%s.weight", u->conv);
        compare_tensor(w, name, 4, conv, true, c);
        const struct {
            const char *name;
            bool required;
        } vectors[] = {{"weight", parts.affine},
                       {"bias", parts.affine},
                       {"running_mean", parts.tracked},
                       {"running_var", parts.tracked}};
        for (size_t j = 0; j < TRINE_COUNTOF(vectors); j++) {
            snprintf(name, sizeof name, "%s.%s", u->bn, vectors[j].name);
            compare_tensor(w, name, 1, vector, vectors[j].required, c);
        }
        snprintf(name, sizeof name, "%s.num_batches_tracked", u->bn);
        compare_tensor(w, name, 0, NULL, false, c);
    }
    if (with_fc) {
        const int64_t weight[] = {s->outputs, s->features}, bias[] = {s->outputs};
        snprintf(name, sizeof name, "%s.weight", fc);
        compare_tensor(w, name, 2, weight, true, c);
        snprintf(name, sizeof name, "%s.bias", fc);
        compare_tensor(w, name, 1, bias, true, c);
    }
    for (size_t i = 0; i < trine_weights_count(w); i++)
        if (!is_known(s, fc, trine_weights_at(w, i)->name))
            list_name(&c->unexpected, trine_weights_at(w, i)->name);
    list_close(&c->missing);
    list_close(&c->unexpected);
    if (c->misshaped > NAMED_AT_MOST)
        trine__text_add(&c->shapes, " and %d more", c->misshaped - NAMED_AT_MOST);
}

static bool fits(const comparison *c)
{
    return c->missing.count == 0 && c->unexpected.count == 0 && c->misshaped == 0;
}

static trine_status misfit(const char *arch, const comparison *c)
{
    trine__text t = {0};
    trine__text_add(&t, "weights do not fit %s:", arch);
    const char *separator = " ";
    if (c->missing.count) {
        trine__text_add(&t, "%smissing %s", separator, c->missing.text.data ? c->missing.text.data : "?");
        separator = "; ";
    }
    if (c->unexpected.count) {
        trine__text_add(&t, "%sunexpected %s", separator,
                        c->unexpected.text.data ? c->unexpected.text.data : "?");
        separator = "; ";
    }
    if (c->misshaped) trine__text_add(&t, "%s%s", separator, c->shapes.data ? c->shapes.data : "?");
    const trine_status status = trine__fail(TRINE_ERR_WEIGHTS, "%s", t.data ? t.data : "weights do not fit");
    trine__text_free(&t);
    return status;
}

/* The spec of `variant` with the sizes that the weights decide: image channels, stem, outputs. */
static trine_status spec_for(const trine_weights *w, const trine__variant *variant, trine__spec *out)
{
    char name[32];
    snprintf(name, sizeof name, "%s.weight", trine__source_fc_name(w));
    const trine_weights_tensor *conv1 = trine_weights_find(w, "conv1.weight"),
                               *fc = trine_weights_find(w, name);
    const bool has_stem = conv1 && conv1->rank == 4 && conv1->dims[1] >= 1 && conv1->dims[1] <= 4096;
    const bool has_fc = fc && fc->rank == 2 && fc->dims[0] >= 1 && fc->dims[0] <= 1 << 20;
    return trine__spec_create(variant, has_stem ? (int)conv1->dims[1] : 3,
                              has_fc ? (int)fc->dims[0] : variant->classes, has_stem && conv1->dims[2] == 3,
                              out);
}

/* Tensors that fit, less those that do not: the variant with the most is the one that a sentence is about. */
static long likeness(const comparison *c)
{
    return (long)c->matched - 2L * c->misshaped - c->missing.count - c->unexpected.count;
}

trine_status trine__resnet_identify(const trine_weights *w, const char *arch, bool with_fc, trine__spec *spec,
                                    trine__bn_parts *parts)
{
    const trine__variant *closest = NULL;
    long most = 0;
    size_t matched = 0;
    for (int i = 0; i < trine__variant_count; i++) {
        const trine__variant *v = &trine__variants[i];
        if (arch && strcmp(arch, v->name) != 0) continue;
        comparison c = {0};
        TRINE_TRY(spec_for(w, v, spec));
        compare(w, spec, with_fc, &c);
        const bool good = fits(&c);
        if (!closest || likeness(&c) > most) {
            closest = v;
            most = likeness(&c);
            matched = c.matched;
        }
        comparison_free(&c);
        *parts = parts_of(w, spec);
        if (good) return TRINE_OK;
        trine__spec_free(spec);
    }
    TRINE_CHECK(closest, TRINE_ERR_ARG, "unknown variant '%s'", arch);
    TRINE_CHECK(arch || matched >= 2, TRINE_ERR_WEIGHTS,
                "weights are of no ResNet variant that trine knows (%zu tensors, the first '%s')",
                trine_weights_count(w), trine_weights_count(w) ? trine_weights_at(w, 0)->name : "");
    comparison c = {0};
    TRINE_TRY(spec_for(w, closest, spec));
    compare(w, spec, with_fc, &c);
    const trine_status status = misfit(closest->name, &c);
    comparison_free(&c);
    trine__spec_free(spec);
    return status;
}
