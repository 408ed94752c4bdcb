/* SPDX-License-Identifier: MIT */
/* What PyTorch's globals and persistent ids mean to the pickle machine, and the state dictionary in what it
 * built. Python's side of each function: torch/_utils.py and torch/serialization.py of PyTorch 1.13. */
#include <stdlib.h>
#include <string.h>

#include "io/pickle.h"

/* Wrappers of a state dictionary are rarely deeper than {"model": {"state_dict": ...}}. */
enum { MAX_SEARCH_DEPTH = 8 };
/* Expanded and shared tensors may take more room than the file, but not without limit. */
enum { EXPANSION_FACTOR = 64, EXPANSION_BYTES = 64 << 20 };

typedef trine__pickle_value value;

static bool text_is(const char *text, size_t bytes, const char *want)
{
    return strlen(want) == bytes && memcmp(text, want, bytes) == 0;
}

/* --- globals --- */

static const struct {
    const char *module, *name;
    trine__torch_global global;
} globals[] = {
    {"collections", "OrderedDict", {TRINE__TORCH_ORDERED_DICT, 0}},
    {"torch._utils", "_rebuild_tensor", {TRINE__TORCH_REBUILD_TENSOR, 0}},
    {"torch._utils", "_rebuild_tensor_v2", {TRINE__TORCH_REBUILD_TENSOR_V2, 0}},
    {"torch._utils", "_rebuild_parameter", {TRINE__TORCH_REBUILD_PARAMETER, 0}},
    {"torch", "Size", {TRINE__TORCH_SIZE, 0}},
    {"torch", "FloatStorage", {TRINE__TORCH_STORAGE, TRINE_F32}},
    {"torch", "DoubleStorage", {TRINE__TORCH_STORAGE, TRINE_F64}},
    {"torch", "HalfStorage", {TRINE__TORCH_STORAGE, TRINE_F16}},
    {"torch", "BFloat16Storage", {TRINE__TORCH_STORAGE, TRINE_BF16}},
    {"torch", "LongStorage", {TRINE__TORCH_STORAGE, TRINE_I64}},
    {"torch", "IntStorage", {TRINE__TORCH_STORAGE, TRINE_I32}},
    {"torch", "ShortStorage", {TRINE__TORCH_STORAGE, TRINE_I16}},
    {"torch", "CharStorage", {TRINE__TORCH_STORAGE, TRINE_I8}},
    {"torch", "ByteStorage", {TRINE__TORCH_STORAGE, TRINE_U8}},
    {"torch", "BoolStorage", {TRINE__TORCH_STORAGE, TRINE_BOOL}},
    {"torch.storage", "UntypedStorage", {TRINE__TORCH_STORAGE, TRINE_U8}},
    {"torch.storage", "_UntypedStorage", {TRINE__TORCH_STORAGE, TRINE_U8}},
};

/* torch.float32 and so on: values that checkpoints of optimizers mention. */
static const char *const element_types[] = {"float32", "float64", "float16", "bfloat16", "int64",
                                            "int32",   "int16",   "int8",    "uint8",    "bool"};

trine_status trine__torch_global_value(trine__pickle *p, const char *module, size_t module_bytes,
                                       const char *name, size_t name_bytes, value **out)
{
    if (text_is(module, module_bytes, "torch.cuda"))
        module_bytes = 5; /* torch.cuda.FloatStorage of old versions */
    for (size_t i = 0; i < TRINE_COUNTOF(globals); i++) {
        if (!text_is(module, module_bytes, globals[i].module) || !text_is(name, name_bytes, globals[i].name))
            continue;
        TRINE_TRY(trine__pickle_new(p, TRINE__PICKLE_GLOBAL, out));
        (*out)->u.global = globals[i].global;
        return TRINE_OK;
    }
    for (size_t i = 0; i < TRINE_COUNTOF(element_types); i++)
        if (text_is(module, module_bytes, "torch") && text_is(name, name_bytes, element_types[i]))
            return trine__pickle_new(p, TRINE__PICKLE_OPAQUE, out);
    char shown[160];
    size_t length = 0;
    for (size_t i = 0; i < module_bytes && length < 79; i++) shown[length++] = module[i];
    shown[length++] = '.';
    for (size_t i = 0; i < name_bytes && length < sizeof shown - 1; i++) shown[length++] = name[i];
    for (size_t i = 0; i < length; i++)
        if (shown[i] < 0x20 || shown[i] > 0x7e) shown[i] = '?';
    return trine__fail(
        TRINE_ERR_FORMAT,
        "the checkpoint asks for %.*s, which is refused: only tensors in plain containers are read (save a "
        "state dictionary: torch.save(model.state_dict(), ...))",
        (int)length, shown);
}

/* --- calls --- */

static bool size_of(const value *v, size_t *out)
{
    if (v->kind != TRINE__PICKLE_INT || v->u.integer < 0 || (uint64_t)v->u.integer > PTRDIFF_MAX)
        return false;
    *out = (size_t)v->u.integer;
    return true;
}

/* The last element that the view reaches lies inside the storage. */
static bool view_fits(const trine__torch_tensor *t)
{
    size_t last = t->offset, span;
    if (t->offset > t->storage->view_count) return false;
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] == 0) return true;
        if (!trine__mul_size((size_t)t->dims[i] - 1, t->strides[i], &span) ||
            !trine__add_size(last, span, &last))
            return false;
    }
    return last < t->storage->view_count;
}

/* args: storage, offset, sizes, strides, and, from version 2 on, requires_grad, hooks and perhaps metadata. */
static trine_status rebuild_tensor(trine__pickle *p, const value *args, value **out)
{
    void *memory;
    TRINE_TRY(trine__pickle_alloc(p, sizeof(trine__torch_tensor), &memory));
    trine__torch_tensor *t = memory;
    value *const *arg = args->u.items;
    TRINE_CHECK(args->count >= 4 && args->count <= 7 && arg[0]->kind == TRINE__PICKLE_STORAGE &&
                    size_of(arg[1], &t->offset) &&
                    (arg[2]->kind == TRINE__PICKLE_TUPLE || arg[2]->kind == TRINE__PICKLE_LIST) &&
                    (arg[3]->kind == TRINE__PICKLE_TUPLE || arg[3]->kind == TRINE__PICKLE_LIST) &&
                    arg[2]->count == arg[3]->count,
                TRINE_ERR_FORMAT, "corrupt: a tensor is not described by storage, offset, sizes and strides");
    TRINE_CHECK(arg[2]->count <= TRINE_MAX_RANK, TRINE_ERR_FORMAT,
                "a tensor has %zu dimensions, expected at most %d", arg[2]->count, TRINE_MAX_RANK);
    t->storage = arg[0]->u.storage;
    t->rank = (int)arg[2]->count;
    for (int i = 0; i < t->rank; i++) {
        size_t size;
        TRINE_CHECK(size_of(arg[2]->u.items[i], &size) && size_of(arg[3]->u.items[i], &t->strides[i]),
                    TRINE_ERR_FORMAT, "corrupt: a tensor's size or stride is not a whole number");
        t->dims[i] = (int64_t)size;
    }
    TRINE_CHECK(view_fits(t), TRINE_ERR_FORMAT,
                "corrupt: a tensor reaches outside its storage '%.40s' of %zu elements", t->storage->key,
                t->storage->view_count);
    TRINE_TRY(trine__pickle_new(p, TRINE__PICKLE_TENSOR, out));
    (*out)->u.tensor = t;
    return TRINE_OK;
}

/* OrderedDict(), or, as Python 2 pickles it, OrderedDict([[key, value], ...]). */
static trine_status ordered_dict(trine__pickle *p, const value *args, value **out)
{
    TRINE_TRY(trine__pickle_new(p, TRINE__PICKLE_DICT, out));
    if (args->count == 0) return TRINE_OK;
    const value *pairs = args->u.items[0];
    TRINE_CHECK(args->count == 1 && (pairs->kind == TRINE__PICKLE_LIST || pairs->kind == TRINE__PICKLE_TUPLE),
                TRINE_ERR_FORMAT, "corrupt: an OrderedDict is not made of pairs");
    for (size_t i = 0; i < pairs->count; i++) {
        const value *pair = pairs->u.items[i];
        TRINE_CHECK((pair->kind == TRINE__PICKLE_LIST || pair->kind == TRINE__PICKLE_TUPLE) &&
                        pair->count == 2,
                    TRINE_ERR_FORMAT, "corrupt: an OrderedDict is not made of pairs");
        TRINE_TRY(trine__pickle_append(p, *out, pair->u.items, 2));
    }
    return TRINE_OK;
}

trine_status trine__torch_call(trine__pickle *p, const value *callable, const value *args, value **out)
{
    switch (callable->u.global.kind) {
    case TRINE__TORCH_ORDERED_DICT:
        return ordered_dict(p, args, out);
    case TRINE__TORCH_REBUILD_TENSOR:
    case TRINE__TORCH_REBUILD_TENSOR_V2:
        return rebuild_tensor(p, args, out);
    case TRINE__TORCH_REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
        TRINE_CHECK(args->count >= 1 && args->u.items[0]->kind == TRINE__PICKLE_TENSOR, TRINE_ERR_FORMAT,
                    "corrupt: a parameter is not made of a tensor");
        *out = args->u.items[0];
        return TRINE_OK;
    case TRINE__TORCH_SIZE: /* (sequence,) */
        TRINE_CHECK(args->count == 1 && (args->u.items[0]->kind == TRINE__PICKLE_TUPLE ||
                                         args->u.items[0]->kind == TRINE__PICKLE_LIST),
                    TRINE_ERR_FORMAT, "corrupt: a torch.Size is not made of a sequence");
        *out = args->u.items[0];
        return TRINE_OK;
    case TRINE__TORCH_STORAGE:
        break;
    }
    return trine__fail(TRINE_ERR_FORMAT, "corrupt: a storage type is called as a function");
}

/* id: ("storage", storage type, key, location, count[, None or (view key, begin, count)]). */
trine_status trine__torch_persistent(trine__pickle *p, const value *id, value **out)
{
    void *memory;
    TRINE_TRY(trine__pickle_alloc(p, sizeof(trine__torch_storage), &memory));
    trine__torch_storage *s = memory;
    value *const *part = id->u.items;
    TRINE_CHECK(id->kind == TRINE__PICKLE_TUPLE && (id->count == 5 || id->count == 6) &&
                    part[0]->kind == TRINE__PICKLE_STRING &&
                    text_is(part[0]->u.text, part[0]->count, "storage") &&
                    part[1]->kind == TRINE__PICKLE_GLOBAL && part[1]->u.global.kind == TRINE__TORCH_STORAGE &&
                    part[2]->kind == TRINE__PICKLE_STRING && part[2]->count <= TRINE__NAME_BYTES &&
                    !memchr(part[2]->u.text, '\0', part[2]->count) && size_of(part[4], &s->count),
                TRINE_ERR_FORMAT, "corrupt: a persistent id does not describe a storage");
    s->dtype = part[1]->u.global.dtype;
    s->view_count = s->count;
    TRINE_CHECK(s->count <= PTRDIFF_MAX / trine_dtype_bytes(s->dtype), TRINE_ERR_FORMAT,
                "corrupt: a storage of %zu elements exceeds the address space", s->count);
    if (id->count == 6 && part[5]->kind != TRINE__PICKLE_NONE) {
        value *const *view = part[5]->u.items;
        TRINE_CHECK(part[5]->kind == TRINE__PICKLE_TUPLE && part[5]->count == 3 &&
                        size_of(view[1], &s->view_begin) && size_of(view[2], &s->view_count) &&
                        s->view_begin <= s->count && s->view_count <= s->count - s->view_begin,
                    TRINE_ERR_FORMAT, "corrupt: a view reaches outside its storage");
    }
    TRINE_TRY(trine__pickle_alloc(p, part[2]->count + 1, &memory));
    memcpy(memory, part[2]->u.text, part[2]->count);
    s->key = memory;
    s->next = p->storages;
    p->storages = s;
    TRINE_TRY(trine__pickle_new(p, TRINE__PICKLE_STORAGE, out));
    (*out)->u.storage = s;
    return TRINE_OK;
}

/* --- the state dictionary --- */

static int by_key(const void *a, const void *b)
{
    return strcmp((*(trine__torch_storage *const *)a)->key, (*(trine__torch_storage *const *)b)->key);
}

trine_status trine__torch_link_storages(trine__pickle *p)
{
    trine_status status = TRINE_OK;
    size_t count = 0;
    void *memory;
    for (trine__torch_storage *s = p->storages; s; s = s->next) count++;
    TRINE_TRY(trine__calloc(count, sizeof(trine__torch_storage *), &memory));
    trine__torch_storage **sorted = memory;
    count = 0;
    for (trine__torch_storage *s = p->storages; s; s = s->next) sorted[count++] = s;
    if (count) qsort(sorted, count, sizeof *sorted, by_key);
    for (size_t i = 0; i < count; i++) {
        trine__torch_storage *s = sorted[i], *first = s;
        if (i > 0 && strcmp(sorted[i - 1]->key, s->key) == 0) first = sorted[i - 1]->first;
        TRINE_CHECK_GOTO(first->dtype == s->dtype && first->count == s->count, TRINE_ERR_FORMAT,
                         "corrupt: storage '%.40s' is declared in two ways", s->key);
        s->first = first;
    }
cleanup:
    free(memory);
    return status;
}

static bool has_tensors(const value *dict)
{
    for (size_t i = 0; i + 1 < dict->count; i += 2)
        if (dict->u.items[i]->kind == TRINE__PICKLE_STRING &&
            dict->u.items[i + 1]->kind == TRINE__PICKLE_TENSOR)
            return true;
    return false;
}

/* The state dictionary in v: under a usual key, else v itself, else the only other dictionary that holds one.
 * A checkpoint may have tensors of its own beside it ("best_acc1"), which is why the keys come first. */
static const value *find_state(value *v, int depth)
{
    static const char *const keys[] = {
        "state_dict", "model_state_dict", "model_state", "model",      "net",
        "network",    "weights",          "params",      "parameters", "module"};
    if (v->kind != TRINE__PICKLE_DICT || v->searched || depth > MAX_SEARCH_DEPTH) return NULL;
    v->searched = true;
    for (size_t i = 0; i < TRINE_COUNTOF(keys); i++) {
        value *child = trine__pickle_get(v, keys[i]);
        const value *found = child ? find_state(child, depth + 1) : NULL;
        if (found) return found;
    }
    if (has_tensors(v)) return v;
    const value *only = NULL;
    for (size_t i = 0; i + 1 < v->count; i += 2) {
        const value *key = v->u.items[i];
        if (key->kind != TRINE__PICKLE_STRING || (key->count >= 5 && memcmp(key->u.text, "optim", 5) == 0))
            continue;
        const value *found = find_state(v->u.items[i + 1], depth + 1);
        if (found && only) return NULL;
        if (found) only = found;
    }
    return only;
}

/* Copy a view with element size `size` to dense rows. */
static void copy_dense(const trine__torch_tensor *t, const unsigned char *data, size_t size,
                       unsigned char *to, size_t bytes)
{
    size_t want = 1, at = t->offset, index[TRINE_MAX_RANK] = {0};
    bool dense = true;
    if (bytes == 0) return;
    for (int i = t->rank - 1; i >= 0; i--) {
        dense = dense && (t->dims[i] == 1 || t->strides[i] == want);
        want *= (size_t)t->dims[i];
    }
    if (dense) {
        memcpy(to, data + at * size, bytes);
        return;
    }
    for (const unsigned char *end = to + bytes; to < end; to += size) {
        memcpy(to, data + at * size, size);
        for (int i = t->rank - 1; i >= 0; i--) {
            at += t->strides[i];
            if (++index[i] < (size_t)t->dims[i]) break;
            at -= index[i] * t->strides[i];
            index[i] = 0;
        }
    }
}

trine_status trine__torch_extract(value *root, size_t file_bytes, trine__torch_fetch fetch, void *user,
                                  trine_weights *weights)
{
    const value *state = find_state(root, 0);
    TRINE_CHECK(state, TRINE_ERR_FORMAT,
                "the checkpoint holds no state dictionary (a mapping from names to tensors)");
    size_t total = 0, limit;
    if (!trine__mul_size(file_bytes, EXPANSION_FACTOR, &limit) ||
        !trine__add_size(limit, EXPANSION_BYTES, &limit))
        limit = SIZE_MAX;
    for (size_t i = 0; i + 1 < state->count; i += 2) {
        const value *key = state->u.items[i], *item = state->u.items[i + 1];
        if (key->kind != TRINE__PICKLE_STRING || item->kind != TRINE__PICKLE_TENSOR) continue;
        const trine__torch_tensor *t = item->u.tensor;
        trine__torch_storage *first = t->storage->first;
        char name[201];
        const size_t shown = key->count < sizeof name ? key->count : sizeof name - 1;
        memcpy(name, key->u.text, shown);
        name[shown] = '\0';
        size_t bytes;
        const trine_status status = trine__tensor_bytes(first->dtype, t->rank, t->dims, &bytes);
        if (status != TRINE_OK) return trine__fail_context(status, "tensor '%s'", name);
        TRINE_CHECK(trine__add_size(total, bytes, &total) && total <= limit, TRINE_ERR_FORMAT,
                    "tensor '%s' of %zu bytes is out of proportion to a file of %zu", name, bytes,
                    file_bytes);
        void *to;
        TRINE_TRY(
            trine__weights_append(weights, key->u.text, key->count, first->dtype, t->rank, t->dims, &to));
        if (!first->data) TRINE_TRY(fetch(user, first, name));
        const size_t size = trine_dtype_bytes(first->dtype);
        copy_dense(t, first->data + t->storage->view_begin * size, size, to, bytes);
    }
    return TRINE_OK;
}
