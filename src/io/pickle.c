/* SPDX-License-Identifier: MIT */
/* The opcodes of Python's pickle protocols 2 to 5 that tensors and plain containers need; one function an
 * opcode family. Lib/pickletools.py of CPython defines them. */
#include "io/pickle.h"

#include <stdlib.h>
#include <string.h>

/* MAX_VALUES: about 300000 tensors, and memory of a few hundred megabytes. */
enum {
    MAX_PICKLE_BYTES = 64 << 20,
    MAX_VALUES = 8 << 20,
    MAX_GLOBAL_BYTES = 256,
    BLOCK_BYTES = 1 << 16,
    MAX_PROTOCOL = 5
};

typedef struct trine__pickle_block {
    struct trine__pickle_block *next;
    size_t used, capacity;
    max_align_t data[];
} block;

typedef trine__pickle_value value;
typedef trine_status (*opcode_fn)(trine__pickle *p, unsigned char code);

trine_status trine__pickle_alloc(trine__pickle *p, size_t bytes, void **out)
{
    if (bytes > PTRDIFF_MAX)
        return trine__fail(TRINE_ERR_NOMEM, "out of host memory: %zu bytes refused", bytes);
    bytes = trine__round_up(bytes, sizeof(max_align_t));
    if (!p->blocks || p->blocks->capacity - p->blocks->used < bytes) {
        const size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        void *fresh;
        TRINE_TRY(trine__calloc(1, sizeof(block) + capacity, &fresh));
        block *b = fresh;
        *b = (block){.next = p->blocks, .capacity = capacity};
        p->blocks = b;
    }
    *out = (unsigned char *)p->blocks->data + p->blocks->used;
    p->blocks->used += bytes;
    return TRINE_OK;
}

void trine__pickle_free(trine__pickle *p)
{
    while (p->blocks) {
        block *next = p->blocks->next;
        free(p->blocks);
        p->blocks = next;
    }
    free(p->stack);
    free(p->marks);
    free(p->memo);
    *p = (trine__pickle){0};
}

trine_status trine__pickle_new(trine__pickle *p, trine__pickle_kind kind, value **out)
{
    void *v;
    TRINE_CHECK(p->values++ < MAX_VALUES, TRINE_ERR_FORMAT, "the pickle has more than %d values", MAX_VALUES);
    TRINE_TRY(trine__pickle_alloc(p, sizeof(value), &v));
    *out = v;
    (*out)->kind = kind;
    return TRINE_OK;
}

trine_status trine__pickle_append(trine__pickle *p, value *to, value *const *items, size_t count)
{
    if (count > to->capacity - to->count) {
        const size_t capacity = to->count + count > 2 * to->capacity ? to->count + count : 2 * to->capacity;
        void *grown = NULL;
        TRINE_TRY(trine__pickle_alloc(p, capacity * sizeof *items, &grown));
        if (to->count) memcpy(grown, to->u.items, to->count * sizeof *items);
        to->u.items = grown;
        to->capacity = capacity;
    }
    if (count) memcpy(to->u.items + to->count, items, count * sizeof *items);
    to->count += count;
    return TRINE_OK;
}

value *trine__pickle_get(const value *dict, const char *key)
{
    const size_t bytes = strlen(key);
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const value *k = dict->u.items[i];
        if (k->kind == TRINE__PICKLE_STRING && k->count == bytes && memcmp(k->u.text, key, bytes) == 0)
            return dict->u.items[i + 1];
    }
    return NULL;
}

/* --- bytes and stack --- */

/* *out is set in any case: the compiler cannot know that trine__fail() never returns TRINE_OK. */
static trine_status take(trine__pickle *p, uint64_t count, const unsigned char **out)
{
    *out = p->data + p->at;
    TRINE_CHECK(count <= p->bytes - p->at, TRINE_ERR_FORMAT,
                "truncated: the pickle ends in the middle of an item, at byte %zu", p->bytes);
    p->at += (size_t)count;
    return TRINE_OK;
}

/* An unsigned little-endian number of 1 to 8 bytes. */
static trine_status take_number(trine__pickle *p, int bytes, uint64_t *out)
{
    const unsigned char *b;
    TRINE_TRY(take(p, (uint64_t)bytes, &b));
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--) *out = *out << 8 | b[i];
    return TRINE_OK;
}

static trine_status push(trine__pickle *p, value *v)
{
    void *stack = p->stack;
    TRINE_TRY(trine__reserve(&stack, &p->stack_capacity, p->depth + 1, sizeof v));
    p->stack = stack;
    p->stack[p->depth++] = v;
    return TRINE_OK;
}

static trine_status push_new(trine__pickle *p, trine__pickle_kind kind, value **out)
{
    TRINE_TRY(trine__pickle_new(p, kind, out));
    return push(p, *out);
}

/* The topmost `count` values stay in place at *out, above the last mark. */
static trine_status pop(trine__pickle *p, size_t count, value ***out)
{
    const size_t floor = p->mark_count ? p->marks[p->mark_count - 1] : 0;
    *out = p->stack;
    TRINE_CHECK(p->depth - floor >= count, TRINE_ERR_FORMAT,
                "corrupt: the pickle takes more than it put, at byte %zu", p->at);
    p->depth -= count;
    *out = p->stack + p->depth;
    return TRINE_OK;
}

static trine_status pop_mark(trine__pickle *p, value ***out, size_t *count)
{
    *out = p->stack;
    *count = 0;
    TRINE_CHECK(p->mark_count > 0, TRINE_ERR_FORMAT, "corrupt: the pickle misses a mark, at byte %zu", p->at);
    const size_t mark = p->marks[--p->mark_count];
    *out = p->stack + mark;
    *count = p->depth - mark;
    p->depth = mark;
    return TRINE_OK;
}

static trine_status top(trine__pickle *p, trine__pickle_kind kind, const char *what, value **out)
{
    value **at;
    TRINE_TRY(pop(p, 1, &at));
    p->depth++;
    TRINE_CHECK((*at)->kind == kind, TRINE_ERR_FORMAT, "corrupt: the pickle expects %s, at byte %zu", what,
                p->at);
    *out = *at;
    return TRINE_OK;
}

/* --- opcodes --- */

static trine_status op_proto(trine__pickle *p, unsigned char code)
{
    uint64_t n;
    TRINE_TRY(take_number(p, code == 0x80 ? 1 : 8, &n));
    TRINE_CHECK(code != 0x80 || n <= MAX_PROTOCOL, TRINE_ERR_FORMAT, "pickle protocol %llu is not understood",
                (unsigned long long)n);
    return TRINE_OK; /* 0x95 FRAME: the length of a buffered piece, of no use here */
}

static trine_status op_stop(trine__pickle *p, unsigned char code)
{
    (void)code;
    p->stopped = true;
    return TRINE_OK;
}

static trine_status op_mark(trine__pickle *p, unsigned char code)
{
    (void)code;
    void *marks = p->marks;
    TRINE_TRY(trine__reserve(&marks, &p->mark_capacity, p->mark_count + 1, sizeof *p->marks));
    p->marks = marks;
    p->marks[p->mark_count++] = p->depth;
    return TRINE_OK;
}

static trine_status op_constant(trine__pickle *p, unsigned char code)
{
    value *v = NULL;
    TRINE_TRY(push_new(p, code == 'N' ? TRINE__PICKLE_NONE : TRINE__PICKLE_BOOL, &v));
    v->u.integer = code == 0x88;
    return TRINE_OK;
}

static trine_status op_int(trine__pickle *p, unsigned char code)
{
    uint64_t n;
    value *v = NULL;
    TRINE_TRY(take_number(p, code == 'K' ? 1 : code == 'M' ? 2 : 4, &n));
    TRINE_TRY(push_new(p, TRINE__PICKLE_INT, &v));
    v->u.integer = code == 'J' ? (int32_t)(uint32_t)n : (int64_t)n;
    return TRINE_OK;
}

static trine_status op_long(trine__pickle *p, unsigned char code)
{
    uint64_t bytes, bits = 0;
    const unsigned char *b;
    value *v = NULL;
    TRINE_TRY(take_number(p, code == 0x8a ? 1 : 4, &bytes));
    TRINE_TRY(take(p, bytes, &b));
    TRINE_TRY(push_new(p, bytes <= 8 ? TRINE__PICKLE_INT : TRINE__PICKLE_OPAQUE, &v));
    if (bytes > 8) return TRINE_OK;
    if (bytes && b[bytes - 1] & 0x80) bits = UINT64_MAX; /* two's complement */
    for (size_t i = (size_t)bytes; i-- > 0;) bits = bits << 8 | b[i];
    v->u.integer = (int64_t)bits;
    return TRINE_OK;
}

static trine_status op_float(trine__pickle *p, unsigned char code)
{
    (void)code;
    const unsigned char *b;
    value *v = NULL;
    TRINE_TRY(take(p, 8, &b));
    return push_new(p, TRINE__PICKLE_OPAQUE, &v);
}

static trine_status op_text(trine__pickle *p, unsigned char code)
{
    const bool is_bytes = code == 'C' || code == 'B';
    uint64_t count;
    const unsigned char *b;
    value *v = NULL;
    TRINE_TRY(take_number(p, code == 0x8c || code == 'U' || code == 'C' ? 1 : code == 0x8d ? 8 : 4, &count));
    TRINE_TRY(take(p, count, &b));
    TRINE_TRY(push_new(p, is_bytes ? TRINE__PICKLE_OPAQUE : TRINE__PICKLE_STRING, &v));
    if (is_bytes) return TRINE_OK;
    v->u.text = (const char *)b;
    v->count = (size_t)count;
    return TRINE_OK;
}

static trine_status op_empty(trine__pickle *p, unsigned char code)
{
    value *v = NULL;
    return push_new(p,
                    code == ')'   ? TRINE__PICKLE_TUPLE
                    : code == ']' ? TRINE__PICKLE_LIST
                                  : TRINE__PICKLE_DICT,
                    &v);
}

static trine_status op_tuple(trine__pickle *p, unsigned char code)
{
    value **items, *v = NULL;
    size_t count = code == 't' ? 0 : (size_t)code - 0x84; /* TUPLE1 is 0x85 */
    TRINE_TRY(code == 't' ? pop_mark(p, &items, &count) : pop(p, count, &items));
    TRINE_TRY(trine__pickle_new(p, TRINE__PICKLE_TUPLE, &v));
    TRINE_TRY(trine__pickle_append(p, v, items, count));
    return push(p, v);
}

static trine_status op_append(trine__pickle *p, unsigned char code)
{
    value **items, *list = NULL;
    size_t count = 1;
    TRINE_TRY(code == 'e' ? pop_mark(p, &items, &count) : pop(p, count, &items));
    TRINE_TRY(top(p, TRINE__PICKLE_LIST, "a list", &list));
    return trine__pickle_append(p, list, items, count);
}

static trine_status op_set_item(trine__pickle *p, unsigned char code)
{
    value **items, *dict = NULL;
    size_t count = 2;
    TRINE_TRY(code == 'u' ? pop_mark(p, &items, &count) : pop(p, count, &items));
    TRINE_CHECK(count % 2 == 0, TRINE_ERR_FORMAT,
                "corrupt: the pickle has a key without a value, at byte %zu", p->at);
    TRINE_TRY(top(p, TRINE__PICKLE_DICT, "a dictionary", &dict));
    return trine__pickle_append(p, dict, items, count);
}

static trine_status op_put(trine__pickle *p, unsigned char code)
{
    uint64_t n = p->memo_count;
    value **at;
    if (code != 0x94) TRINE_TRY(take_number(p, code == 'q' ? 1 : 4, &n));
    TRINE_CHECK(n < p->bytes, TRINE_ERR_FORMAT, "corrupt: the pickle's memo number %llu is out of range",
                (unsigned long long)n);
    TRINE_TRY(pop(p, 1, &at));
    p->depth++;
    const size_t before = p->memo_count;
    if (n >= before) {
        void *memo = p->memo;
        TRINE_TRY(trine__reserve(&memo, &p->memo_capacity, (size_t)n + 1, sizeof *p->memo));
        p->memo = memo;
        for (size_t i = before; i <= n; i++) p->memo[i] = NULL;
        p->memo_count = (size_t)n + 1;
    }
    p->memo[n] = *at;
    return TRINE_OK;
}

static trine_status op_get(trine__pickle *p, unsigned char code)
{
    uint64_t n;
    TRINE_TRY(take_number(p, code == 'h' ? 1 : 4, &n));
    TRINE_CHECK(n < p->memo_count && p->memo[n], TRINE_ERR_FORMAT,
                "corrupt: the pickle's memo number %llu was never stored", (unsigned long long)n);
    return push(p, p->memo[n]);
}

static trine_status op_global(trine__pickle *p, unsigned char code)
{
    const char *text[2];
    size_t bytes[2];
    value **names, *v;
    if (code == 0x93) TRINE_TRY(pop(p, 2, &names));
    for (int i = 0; i < 2; i++) {
        if (code == 0x93) {
            TRINE_CHECK(names[i]->kind == TRINE__PICKLE_STRING, TRINE_ERR_FORMAT,
                        "corrupt: the pickle names a global without a string, at byte %zu", p->at);
            text[i] = names[i]->u.text;
            bytes[i] = names[i]->count;
            continue;
        }
        text[i] = (const char *)p->data + p->at;
        const char *end = memchr(text[i], '\n', p->bytes - p->at);
        TRINE_CHECK(end, TRINE_ERR_FORMAT, "truncated: the pickle ends in a global's name");
        bytes[i] = (size_t)(end - text[i]);
        p->at += bytes[i] + 1;
    }
    TRINE_CHECK(bytes[0] <= MAX_GLOBAL_BYTES && bytes[1] <= MAX_GLOBAL_BYTES, TRINE_ERR_FORMAT,
                "corrupt: the pickle has a global's name of %zu bytes", bytes[0] + bytes[1]);
    TRINE_TRY(trine__torch_global_value(p, text[0], bytes[0], text[1], bytes[1], &v));
    return push(p, v);
}

static trine_status op_reduce(trine__pickle *p, unsigned char code)
{
    (void)code;
    value **at, *v = NULL;
    TRINE_TRY(pop(p, 2, &at));
    TRINE_CHECK(at[0]->kind == TRINE__PICKLE_GLOBAL && at[1]->kind == TRINE__PICKLE_TUPLE, TRINE_ERR_FORMAT,
                "corrupt: the pickle calls something that is not a global, at byte %zu", p->at);
    TRINE_TRY(trine__torch_call(p, at[0], at[1], &v));
    return push(p, v);
}

static trine_status op_persistent(trine__pickle *p, unsigned char code)
{
    (void)code;
    value **at, *v = NULL;
    TRINE_TRY(pop(p, 1, &at));
    TRINE_TRY(trine__torch_persistent(p, *at, &v));
    return push(p, v);
}

/* The attributes of an OrderedDict (_metadata of a state dictionary) are dropped. */
static trine_status op_build(trine__pickle *p, unsigned char code)
{
    (void)code;
    value **state, *dict = NULL;
    TRINE_TRY(pop(p, 1, &state));
    return top(p, TRINE__PICKLE_DICT, "a dictionary that gets attributes", &dict);
}

/* Opcodes with a name but no function are refused by that name. */
static const struct {
    const char *name;
    opcode_fn run;
} opcodes[256] = {
    [0x80] = {"PROTO", op_proto},
    [0x95] = {"FRAME", op_proto},
    ['.'] = {"STOP", op_stop},
    ['('] = {"MARK", op_mark},
    ['N'] = {"NONE", op_constant},
    [0x88] = {"NEWTRUE", op_constant},
    [0x89] = {"NEWFALSE", op_constant},
    ['K'] = {"BININT1", op_int},
    ['M'] = {"BININT2", op_int},
    ['J'] = {"BININT", op_int},
    [0x8a] = {"LONG1", op_long},
    [0x8b] = {"LONG4", op_long},
    ['G'] = {"BINFLOAT", op_float},
    ['X'] = {"BINUNICODE", op_text},
    [0x8c] = {"SHORT_BINUNICODE", op_text},
    [0x8d] = {"BINUNICODE8", op_text},
    ['U'] = {"SHORT_BINSTRING", op_text},
    ['T'] = {"BINSTRING", op_text},
    ['C'] = {"SHORT_BINBYTES", op_text},
    ['B'] = {"BINBYTES", op_text},
    [')'] = {"EMPTY_TUPLE", op_empty},
    [']'] = {"EMPTY_LIST", op_empty},
    ['}'] = {"EMPTY_DICT", op_empty},
    ['t'] = {"TUPLE", op_tuple},
    [0x85] = {"TUPLE1", op_tuple},
    [0x86] = {"TUPLE2", op_tuple},
    [0x87] = {"TUPLE3", op_tuple},
    ['a'] = {"APPEND", op_append},
    ['e'] = {"APPENDS", op_append},
    ['s'] = {"SETITEM", op_set_item},
    ['u'] = {"SETITEMS", op_set_item},
    ['q'] = {"BINPUT", op_put},
    ['r'] = {"LONG_BINPUT", op_put},
    [0x94] = {"MEMOIZE", op_put},
    ['h'] = {"BINGET", op_get},
    ['j'] = {"LONG_BINGET", op_get},
    ['c'] = {"GLOBAL", op_global},
    [0x93] = {"STACK_GLOBAL", op_global},
    ['R'] = {"REDUCE", op_reduce},
    ['Q'] = {"BINPERSID", op_persistent},
    ['b'] = {"BUILD", op_build},
    [0x81] = {"NEWOBJ", NULL},
    [0x92] = {"NEWOBJ_EX", NULL},
    ['i'] = {"INST", NULL},
    ['o'] = {"OBJ", NULL},
    ['P'] = {"PERSID", NULL},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x8e] = {"BINBYTES8", NULL},
    [0x8f] = {"EMPTY_SET", NULL},
    [0x90] = {"ADDITEMS", NULL},
    [0x91] = {"FROZENSET", NULL},
    [0x96] = {"BYTEARRAY8", NULL},
    ['0'] = {"POP", NULL},
    ['1'] = {"POP_MARK", NULL},
    ['2'] = {"DUP", NULL},
    ['I'] = {"INT", NULL},
    ['L'] = {"LONG", NULL},
    ['F'] = {"FLOAT", NULL},
    ['S'] = {"STRING", NULL},
    ['V'] = {"UNICODE", NULL},
    ['g'] = {"GET", NULL},
    ['p'] = {"PUT", NULL},
    ['l'] = {"LIST", NULL},
    ['d'] = {"DICT", NULL},
};

trine_status trine__pickle_load(trine__pickle *p, const unsigned char *data, size_t bytes, value **out,
                                size_t *used)
{
    p->data = data;
    p->bytes = bytes < MAX_PICKLE_BYTES ? bytes : MAX_PICKLE_BYTES;
    p->at = 0;
    p->stopped = false;
    while (!p->stopped) {
        TRINE_CHECK(p->at < p->bytes, TRINE_ERR_FORMAT, "truncated: the pickle of %zu bytes has no end",
                    p->bytes);
        const unsigned char code = data[p->at++];
        if (!opcodes[code].run) {
            const char *name = opcodes[code].name ? opcodes[code].name : "unknown";
            return trine__fail(TRINE_ERR_FORMAT,
                               "pickle opcode %s (0x%02x at byte %zu) is refused: tensors do not need it",
                               name, code, p->at - 1);
        }
        TRINE_TRY(opcodes[code].run(p, code));
    }
    value **result;
    TRINE_CHECK(p->mark_count == 0 && p->depth == 1, TRINE_ERR_FORMAT,
                "corrupt: the pickle leaves %zu values, expected one", p->depth);
    TRINE_TRY(pop(p, 1, &result));
    *out = *result;
    *used = p->at;
    return TRINE_OK;
}
