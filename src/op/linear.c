/* SPDX-License-Identifier: MIT */
/* linear: validates, picks an implementation, hands over. */
#include "trine/linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "op/linear_private.h"
#include "rt/tuning.h"

/* Best first; every one takes every problem. */
static const trine__linear_impl *const implementations[] = {&trine__linear_plain, &trine__linear_clblast};

/* Row of the table: by name, or the first that $TRINE_ALGORITHMS allows and likes best, or, where that is not set, what `trine tune` has
 * found to be faster. -1: none */
static int choose(trine_linear *op, trine_direction direction, int batch, const char *algorithm)
{
    const char *names[TRINE_COUNTOF(implementations)];
    char problem[TRINE_LINEAR_PROBLEM];
    int best = -1, best_rank = 0;
    for (size_t i = 0; i < TRINE_COUNTOF(implementations); i++) {
        names[i] = implementations[i]->name;
        const int rank = !algorithm                         ? trine__algorithm_rank(op->context, names[i])
                         : strcmp(algorithm, names[i]) == 0 ? 0
                                                            : -1;
        if (rank < 0 || (best >= 0 && rank >= best_rank)) continue;
        best = (int)i;
        best_rank = rank;
    }
    if (best < 0 || algorithm || op->context->algorithms) return best;
    trine_linear_problem(op->in_features, op->out_features, direction, problem);
    const int picked = trine__tuning_pick(op->context, problem, batch, names, TRINE_COUNTOF(names), best);
    op->measured[direction] = picked != best;
    return picked;
}

trine_status trine_linear_create(trine_context *context, int in_features, int out_features, int batch,
                                 const char *algorithm, trine_linear **out)
{
    TRINE_CHECK(in_features >= 1 && out_features >= 1, TRINE_ERR_ARG,
                "linear: %d input and %d output features: need at least 1", in_features, out_features);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_linear), &memory));
    trine_linear *op = memory;
    trine_status status = TRINE_OK;
    op->context = context;
    op->in_features = in_features;
    op->out_features = out_features;
    for (int d = 0; status == TRINE_OK && d < TRINE__LINEAR_DIRECTIONS; d++) {
        const int row = choose(op, (trine_direction)d, batch, algorithm);
        if (row < 0)
            status = trine__fail(TRINE_ERR_UNSUPPORTED, "linear: no implementation %s%s",
                                 algorithm ? "named " : "is allowed", algorithm ? algorithm : "");
        else
            status = (op->impl[d] = implementations[row])->create(op, &op->state[d]);
    }
    if (status == TRINE_OK)
        *out = op;
    else
        trine_linear_destroy(&op);
    return status;
}

void trine_linear_destroy(trine_linear **op)
{
    if (!op || !*op) return;
    for (int d = 0; d < TRINE__LINEAR_DIRECTIONS; d++)
        if ((*op)->state[d]) (*op)->impl[d]->destroy((*op)->state[d]);
    free(*op);
    *op = NULL;
}

const char *trine_linear_algorithm(const trine_linear *op, trine_direction direction)
{
    return op->impl[direction]->name;
}

bool trine__linear_choice(const trine_linear *op, trine_direction direction, char text[TRINE__CHOICE])
{
    char problem[TRINE_LINEAR_PROBLEM];
    if (!op->measured[direction]) return false;
    trine_linear_problem(op->in_features, op->out_features, direction, problem);
    snprintf(text, TRINE__CHOICE, "%s | %s", problem, trine_linear_algorithm(op, direction));
    return true;
}

size_t trine_linear_algorithms(const char **names, size_t capacity)
{
    for (size_t i = 0; i < TRINE_COUNTOF(implementations) && i < capacity; i++)
        names[i] = implementations[i]->name;
    return TRINE_COUNTOF(implementations);
}

void trine_linear_problem(int in_features, int out_features, trine_direction direction,
                          char text[TRINE_LINEAR_PROBLEM])
{
    snprintf(text, TRINE_LINEAR_PROBLEM, "linear %s %d>%d", trine__direction_name(direction), in_features,
             out_features);
}

size_t trine_linear_workspace_bytes(const trine_linear *op, trine_stream *stream, int n)
{
    size_t most = 0;
    for (int d = 0; d < TRINE__LINEAR_DIRECTIONS; d++) {
        const trine__linear_impl *impl = op->impl[d];
        const size_t bytes = impl->workspace ? impl->workspace(op, (trine_direction)d, stream, n) : 0;
        if (bytes > most) most = bytes;
    }
    return most;
}

/* t is [images, features, 1, 1] with a buffer that is large enough. images 0: any. */
static trine_status check_rows(const char *name, const trine_tensor *t, int images, int features, bool dense)
{
    const trine_shape *s = &t->shape;
    TRINE_CHECK(s->n >= 1 && (images == 0 || s->n == images) && s->c == features && s->h == 1 && s->w == 1,
                TRINE_ERR_SHAPE, "linear: %s is [%d,%d,%d,%d], want [%d,%d,1,1]", name, s->n, s->c, s->h,
                s->w, images ? images : s->n, features);
    TRINE_CHECK(t->cb >= 1 && t->cb <= 16 && (t->cb & (t->cb - 1)) == 0 && (!dense || t->cb == 1),
                TRINE_ERR_SHAPE, "linear: channel block %d of %s, want %s", t->cb, name,
                dense ? "1" : "1, 2, 4, 8 or 16");
    TRINE_CHECK(t->buffer, TRINE_ERR_ARG, "linear: %s has no buffer", name);
    TRINE_CHECK(t->dtype == TRINE_F32, TRINE_ERR_ARG, "linear: %s is stored as %s, want F32", name,
                trine_dtype_name(t->dtype));
    TRINE_CHECK(trine_buffer_bytes(t->buffer) >= trine_tensor_bytes(t), TRINE_ERR_SHAPE,
                "linear: %s is [%d,%d,1,1] but its buffer has %zu bytes, not %zu", name, s->n, s->c,
                trine_buffer_bytes(t->buffer), trine_tensor_bytes(t));
    return TRINE_OK;
}

static trine_status check_buffer(const char *name, const trine_buffer *b, size_t rows, size_t columns,
                                 bool required)
{
    const size_t bytes = rows * columns * sizeof(float);
    TRINE_CHECK(b || !required, TRINE_ERR_ARG, "linear: %s is missing", name);
    TRINE_CHECK(!b || trine_buffer_bytes(b) >= bytes, TRINE_ERR_SHAPE,
                "linear: %s has %zu bytes, [%zu,%zu] needs %zu", name, trine_buffer_bytes(b), rows, columns,
                bytes);
    return TRINE_OK;
}

static trine_status check_workspace(const trine_linear *op, trine_stream *stream, int n,
                                    const trine_buffer *workspace)
{
    const size_t need = trine_linear_workspace_bytes(op, stream, n),
                 have = workspace ? trine_buffer_bytes(workspace) : 0;
    TRINE_CHECK(have >= need, TRINE_ERR_WORKSPACE, "linear: workspace of %zu bytes, %zu needed for %d images",
                have, need, n);
    return TRINE_OK;
}

static int row_floats(const trine_tensor *t)
{
    return (int)trine__round_up((size_t)t->shape.c, (size_t)t->cb);
}

trine_status trine_linear_forward(trine_linear *op, trine_stream *stream, const trine_tensor *x,
                                  const trine_buffer *w, const trine_buffer *b, trine_tensor *y,
                                  trine_buffer *workspace)
{
    const size_t c = (size_t)op->in_features, k = (size_t)op->out_features;
    TRINE_TRY(check_rows("x", x, 0, op->in_features, false));
    TRINE_TRY(check_rows("y", y, x->shape.n, op->out_features, true));
    TRINE_TRY(check_buffer("w", w, k, c, true));
    TRINE_TRY(check_buffer("b", b, k, 1, false));
    TRINE_TRY(check_workspace(op, stream, x->shape.n, workspace));
    const trine__linear_call call = {
        .x = x, .w = w, .b = b, .out = y, .images = x->shape.n, .ldx = row_floats(x), .workspace = workspace};
    return op->impl[TRINE_FORWARD]->forward(op, stream, &call);
}

trine_status trine_linear_backward_data(trine_linear *op, trine_stream *stream, const trine_tensor *dy,
                                        const trine_buffer *w, trine_tensor *dx, trine_buffer *workspace)
{
    TRINE_TRY(check_rows("dy", dy, 0, op->out_features, true));
    TRINE_TRY(check_rows("dx", dx, dy->shape.n, op->in_features, false));
    TRINE_TRY(check_buffer("w", w, (size_t)op->out_features, (size_t)op->in_features, true));
    TRINE_TRY(check_workspace(op, stream, dy->shape.n, workspace));
    const trine__linear_call call = {
        .dy = dy, .w = w, .out = dx, .images = dy->shape.n, .ldx = row_floats(dx), .workspace = workspace};
    return op->impl[TRINE_BACKWARD_DATA]->backward_data(op, stream, &call);
}

trine_status trine_linear_backward_weights(trine_linear *op, trine_stream *stream, const trine_tensor *x,
                                           const trine_tensor *dy, int beta, trine_buffer *dw,
                                           trine_buffer *db, trine_buffer *workspace)
{
    const size_t c = (size_t)op->in_features, k = (size_t)op->out_features;
    TRINE_TRY(check_rows("x", x, 0, op->in_features, false));
    TRINE_TRY(check_rows("dy", dy, x->shape.n, op->out_features, true));
    TRINE_TRY(check_buffer("dw", dw, k, c, true));
    TRINE_TRY(check_buffer("db", db, k, 1, false));
    TRINE_CHECK(beta == 0 || beta == 1, TRINE_ERR_ARG, "linear: beta is %d, want 0 or 1", beta);
    TRINE_TRY(check_workspace(op, stream, x->shape.n, workspace));
    const trine__linear_call call = {.x = x,
                                     .dy = dy,
                                     .dw = dw,
                                     .db = db,
                                     .beta = beta,
                                     .images = x->shape.n,
                                     .ldx = row_floats(x),
                                     .workspace = workspace};
    return op->impl[TRINE_BACKWARD_WEIGHTS]->backward_weights(op, stream, &call);
}
