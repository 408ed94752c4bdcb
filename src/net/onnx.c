/* SPDX-License-Identifier: MIT */
/* A network as an ONNX graph. Field numbers and enumerations are those of onnx.proto (IR version 7). Values are named as the layer that
 * makes them; what a node adds to a name: .bn, .relu, .add, ... */
#include "trine/onnx.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "net/protobuf.h"
#include "net/resnet_private.h"
#include "net/state_guard.h"
#include "trine/trine.h"

enum { IR_VERSION = 7, OPERATOR_SET = 13 };
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_DOC = 6,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14
};
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2, ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OPERATOR = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_F = 2, ATTRIBUTE_I = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { TYPE_FLOAT = 1, TYPE_INT = 2, TYPE_INTS = 7 }; /* of attributes */
enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    ELEMENT_FLOAT = 1,
    ELEMENT_INT64 = 7
};
enum {
    VALUE_NAME = 1,
    VALUE_TYPE = 2,
    TYPE_TENSOR = 1,
    TENSOR_ELEMENT = 1,
    TENSOR_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_PARAM = 2
};
enum { VALUE_BYTES = TRINE__NAME_BYTES + 24 };

typedef char value_name[VALUE_BYTES];

struct graph {
    const trine_resnet *net;
    const trine_onnx_options *options;
    const trine_weights *weights; /* under canonical names */
    trine__text text;             /* GraphProto */
};

/* --- nodes --- */

struct node {
    trine__text text;
};

/* Its one output has its name. */
static struct node begin_node(const char *operator_name, const char *name)
{
    struct node n = {0};
    trine__pb_add_string(&n.text, NODE_OPERATOR, operator_name);
    trine__pb_add_string(&n.text, NODE_NAME, name);
    trine__pb_add_string(&n.text, NODE_OUTPUT, name);
    return n;
}

static void add_input(struct node *n, const char *value)
{
    trine__pb_add_string(&n->text, NODE_INPUT, value);
}

static void add_int(struct node *n, const char *name, int64_t value)
{
    trine__text a = {0};
    trine__pb_add_string(&a, ATTRIBUTE_NAME, name);
    trine__pb_add_int(&a, ATTRIBUTE_TYPE, TYPE_INT);
    trine__pb_add_int(&a, ATTRIBUTE_I, value);
    trine__pb_add_message(&n->text, NODE_ATTRIBUTE, &a);
}

static void add_float(struct node *n, const char *name, float value)
{
    trine__text a = {0};
    trine__pb_add_string(&a, ATTRIBUTE_NAME, name);
    trine__pb_add_int(&a, ATTRIBUTE_TYPE, TYPE_FLOAT);
    trine__pb_add_float(&a, ATTRIBUTE_F, value);
    trine__pb_add_message(&n->text, NODE_ATTRIBUTE, &a);
}

/* `count` times the same: squares, and what is equal on all sides. */
static void add_ints(struct node *n, const char *name, int64_t value, int count)
{
    trine__text a = {0};
    trine__pb_add_string(&a, ATTRIBUTE_NAME, name);
    trine__pb_add_int(&a, ATTRIBUTE_TYPE, TYPE_INTS);
    for (int i = 0; i < count; i++) trine__pb_add_int(&a, ATTRIBUTE_INTS, value);
    trine__pb_add_message(&n->text, NODE_ATTRIBUTE, &a);
}

static void end_node(struct graph *g, struct node *n)
{
    trine__pb_add_message(&g->text, GRAPH_NODE, &n->text);
}

/* A node of one or two inputs and no attribute; its output is `name`. */
static void add_simple(struct graph *g, const char *operator_name, const char *name, const char *a,
                       const char *b)
{
    struct node n = begin_node(operator_name, name);
    add_input(&n, a);
    if (b) add_input(&n, b);
    end_node(g, &n);
}

/* --- constants --- */

/* Straight into the graph: a network's values are copied once. */
static void add_constant(struct graph *g, const char *name, int element, int rank, const int64_t *dims,
                         const void *values, size_t bytes)
{
    trine__text head = {0};
    for (int i = 0; i < rank; i++) trine__pb_add_int(&head, TENSOR_DIMS, dims[i]);
    trine__pb_add_int(&head, TENSOR_TYPE, element);
    trine__pb_add_string(&head, TENSOR_NAME, name);
    trine__pb_begin_bytes(&head, TENSOR_RAW, bytes);
    trine__pb_begin_bytes(&g->text, GRAPH_INITIALIZER, head.length + bytes);
    if (head.data) trine__text_add_bytes(&g->text, head.data, head.length);
    trine__text_add_bytes(&g->text, values, bytes);
    g->text.failed = g->text.failed || head.failed;
    trine__text_free(&head);
}

static void add_floats(struct graph *g, const char *name, int64_t count, const float *values)
{
    add_constant(g, name, ELEMENT_FLOAT, 1, &count, values, (size_t)count * sizeof *values);
}

static void add_integers(struct graph *g, const char *name, int64_t count, const int64_t *values)
{
    add_constant(g, name, ELEMENT_INT64, 1, &count, values, (size_t)count * sizeof *values);
}

/* A tensor of the network; NULL where it has none. */
static const trine_weights_tensor *find(const struct graph *g, const char *layer, const char *part)
{
    value_name name;
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return trine_weights_find(g->weights, name);
}

static void add_tensor(struct graph *g, const trine_weights_tensor *t)
{
    add_constant(g, t->name, ELEMENT_FLOAT, t->rank, t->dims, t->data, t->bytes);
}

/* --- layers --- */

static void join(value_name out, const char *layer, const char *part)
{
    snprintf(out, VALUE_BYTES, "%.*s.%.22s", TRINE__NAME_BYTES, layer, part);
}

/* What a BatchNorm multiplies with and adds, in double; beta and gamma that are not there are 0 and 1. */
static void coefficients(const struct graph *g, int unit, int channel, double *scale, double *shift)
{
    const char *bn = g->net->spec.units[unit].bn;
    const trine_weights_tensor *gamma = find(g, bn, "weight"), *beta = find(g, bn, "bias"),
                               *mean = find(g, bn, "running_mean"), *var = find(g, bn, "running_var");
    const size_t c = (size_t)channel;
    *scale = (gamma ? trine_weights_value(gamma, c) : 1) /
             sqrt(trine_weights_value(var, c) + (double)g->net->bns[unit].eps);
    *shift = (beta ? trine_weights_value(beta, c) : 0) - trine_weights_value(mean, c) * *scale;
}

/* Weights times scale, and the shift as bias. */
static trine_status add_folded(struct graph *g, int unit, const char *weight, const char *bias)
{
    const trine__unit *u = &g->net->spec.units[unit];
    const trine_weights_tensor *w = find(g, u->conv, "weight");
    const size_t outputs = (size_t)u->out_channels, inner = w->bytes / sizeof(float) / outputs;
    const float *from = w->data;
    void *p;
    TRINE_TRY(trine__calloc(outputs * (inner + 1), sizeof(float), &p));
    float *folded = p, *shifts = folded + outputs * inner;
    for (size_t k = 0; k < outputs; k++) {
        double scale, shift;
        coefficients(g, unit, (int)k, &scale, &shift);
        shifts[k] = (float)shift;
        for (size_t i = 0; i < inner; i++) folded[k * inner + i] = (float)(from[k * inner + i] * scale);
    }
    add_constant(g, weight, ELEMENT_FLOAT, w->rank, w->dims, folded, w->bytes);
    add_floats(g, bias, u->out_channels, shifts);
    free(p);
    return TRINE_OK;
}

/* BatchNormalization with the running statistics. */
static trine_status add_batchnorm(struct graph *g, int unit, const char *x)
{
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    const trine__unit *u = &g->net->spec.units[unit];
    struct node n = begin_node("BatchNormalization", u->bn);
    add_input(&n, x);
    add_float(&n, "epsilon", g->net->bns[unit].eps);
    for (size_t i = 0; i < TRINE_COUNTOF(parts); i++) {
        value_name name;
        join(name, u->bn, parts[i]);
        add_input(&n, name);
        const trine_weights_tensor *t = find(g, u->bn, parts[i]);
        if (t) {
            add_tensor(g, t);
            continue;
        }
        void *p; /* affine=False: gamma 1, beta 0 */
        TRINE_TRY(trine__calloc((size_t)u->out_channels, sizeof(float), &p));
        for (int k = 0; i == 0 && k < u->out_channels; k++) ((float *)p)[k] = 1;
        add_floats(g, name, u->out_channels, p);
        free(p);
    }
    end_node(g, &n);
    return TRINE_OK;
}

/* Convolution and BatchNorm; y names what comes out. */
static trine_status add_unit(struct graph *g, int unit, const char *x, value_name y)
{
    const trine__unit *u = &g->net->spec.units[unit];
    value_name weight, bias;
    join(weight, u->conv, "weight");
    join(bias, u->conv, "bias");
    struct node n = begin_node("Conv", u->conv);
    add_input(&n, x);
    add_input(&n, weight);
    if (g->options->folded) add_input(&n, bias);
    add_ints(&n, "kernel_shape", u->kernel, 2);
    add_ints(&n, "strides", u->stride, 2);
    add_ints(&n, "pads", u->pad, 4);
    add_int(&n, "group", u->groups);
    end_node(g, &n);
    snprintf(y, VALUE_BYTES, "%s", g->options->folded ? u->conv : u->bn);
    if (g->options->folded) return add_folded(g, unit, weight, bias);
    add_tensor(g, find(g, u->conv, "weight"));
    return add_batchnorm(g, unit, u->conv);
}

/* Option A of He et al. 2016, section 4.2: every stride-th pixel, and channels of zeros on either side. */
static void add_subsample(struct graph *g, const trine__block *b, const char *layer, const char *x,
                          value_name y)
{
    const int64_t starts[] = {0, 0}, ends[] = {INT_MAX, INT_MAX}, axes[] = {2, 3},
                  steps[] = {b->stride, b->stride};
    const int64_t first = (b->out_channels - b->in_channels) / 2,
                  last = b->out_channels - b->in_channels - first;
    const int64_t pads[] = {0, first, 0, 0, 0, last, 0, 0};
    const struct {
        const char *name;
        const int64_t *values;
    } inputs[] = {{"starts", starts}, {"ends", ends}, {"axes", axes}, {"steps", steps}};
    value_name slice, name;
    join(slice, layer, "shortcut.slice");
    struct node n = begin_node("Slice", slice);
    add_input(&n, x);
    for (size_t i = 0; i < TRINE_COUNTOF(inputs); i++) {
        snprintf(name, sizeof name, "%.60s.shortcut.%s", layer, inputs[i].name);
        add_integers(g, name, 2, inputs[i].values);
        add_input(&n, name);
    }
    end_node(g, &n);
    join(name, layer, "shortcut.pads");
    add_integers(g, name, 8, pads);
    join(y, layer, "shortcut");
    add_simple(g, "Pad", y, slice, name);
}

static trine_status add_block(struct graph *g, int index, value_name x)
{
    const trine__block *b = &g->net->spec.blocks[index];
    value_name shortcut, current, layer, name;
    snprintf(layer, sizeof layer, "%s", g->net->spec.units[b->first].conv);
    *strrchr(layer, '.') = '\0'; /* layer1.0 */
    snprintf(shortcut, sizeof shortcut, "%s", x);
    if (b->projection >= 0)
        TRINE_TRY(add_unit(g, b->projection, x, shortcut));
    else if (b->stride != 1 || b->in_channels != b->out_channels)
        add_subsample(g, b, layer, x, shortcut);
    snprintf(current, sizeof current, "%s", x);
    for (int i = 0; i < b->count; i++) {
        value_name y;
        TRINE_TRY(add_unit(g, b->first + i, current, y));
        if (i == b->count - 1) {
            join(name, layer, "add");
            add_simple(g, "Add", name, y, shortcut);
            snprintf(y, sizeof y, "%s", name);
            join(name, layer, "relu");
        } else {
            join(name, g->net->spec.units[b->first + i].conv, "relu");
        }
        add_simple(g, "Relu", name, y, NULL);
        snprintf(current, sizeof current, "%s", name);
    }
    snprintf(x, VALUE_BYTES, "%s", current);
    return TRINE_OK;
}

/* Features, embedding, its length: what follows the last block. */
static void add_head(struct graph *g, const char *x)
{
    const trine_onnx_options *o = g->options;
    const char *last = o->normalize ? "raw" : "embedding",
               *flat = o->embedding == TRINE_EMBED_FC ? "features" : last;
    add_simple(g, "GlobalAveragePool", "pool", x, NULL);
    struct node n = begin_node("Flatten", flat);
    add_input(&n, "pool");
    add_int(&n, "axis", 1);
    end_node(g, &n);
    if (o->embedding == TRINE_EMBED_FC) {
        n = begin_node("Gemm", last);
        add_input(&n, flat);
        add_input(&n, "fc.weight");
        add_input(&n, "fc.bias");
        add_int(&n, "transB", 1);
        end_node(g, &n);
        add_tensor(g, find(g, "fc", "weight"));
        add_tensor(g, find(g, "fc", "bias"));
    }
    if (!o->normalize) return;
    const float least = 1e-12f;
    n = begin_node("ReduceL2", "length");
    add_input(&n, last);
    add_ints(&n, "axes", 1, 1);
    add_int(&n, "keepdims", 1);
    end_node(g, &n);
    add_floats(g, "least", 1, &least);
    add_simple(g, "Max", "divisor", "length", "least");
    add_simple(g, "Div", "embedding", last, "divisor");
}

/* --- the model --- */

/* A size that is fixed, or a name for one that is free (value 0). */
static void add_dim(trine__text *shape, int value, const char *name)
{
    trine__text dim = {0};
    if (value > 0)
        trine__pb_add_int(&dim, DIM_VALUE, value);
    else
        trine__pb_add_string(&dim, DIM_PARAM, name);
    trine__pb_add_message(shape, SHAPE_DIM, &dim);
}

static void add_value(struct graph *g, int field, const char *name, trine__text *shape)
{
    trine__text value = {0}, type = {0}, tensor = {0};
    trine__pb_add_int(&tensor, TENSOR_ELEMENT, ELEMENT_FLOAT);
    trine__pb_add_message(&tensor, TENSOR_SHAPE, shape);
    trine__pb_add_message(&type, TYPE_TENSOR, &tensor);
    trine__pb_add_string(&value, VALUE_NAME, name);
    trine__pb_add_message(&value, VALUE_TYPE, &type);
    trine__pb_add_message(&g->text, field, &value);
}

static trine_status make_graph(struct graph *g)
{
    const trine__spec *spec = &g->net->spec;
    const trine_onnx_options *o = g->options;
    trine__text in = {0}, out = {0};
    value_name x, y;
    trine__pb_add_string(&g->text, GRAPH_NAME, spec->variant->name);
    TRINE_TRY(add_unit(g, 0, "images", y));
    snprintf(x, sizeof x, "conv1.relu");
    add_simple(g, "Relu", x, y, NULL);
    if (spec->stem_pool) {
        struct node n = begin_node("MaxPool", "maxpool");
        add_input(&n, x);
        add_ints(&n, "kernel_shape", 3, 2);
        add_ints(&n, "strides", 2, 2);
        add_ints(&n, "pads", 1, 4);
        end_node(g, &n);
        snprintf(x, sizeof x, "maxpool");
    }
    for (int i = 0; i < spec->block_count; i++) TRINE_TRY(add_block(g, i, x));
    add_head(g, x);
    add_dim(&in, o->batch, "batch");
    add_dim(&in, spec->in_channels, NULL);
    add_dim(&in, 0, "height");
    add_dim(&in, 0, "width");
    add_value(g, GRAPH_INPUT, "images", &in);
    add_dim(&out, o->batch, "batch");
    add_dim(&out, o->embedding == TRINE_EMBED_FC ? spec->outputs : spec->features, NULL);
    add_value(g, GRAPH_OUTPUT, "embedding", &out);
    return TRINE_OK;
}

static void add_metadata(trine__text *model, const char *key, const char *value)
{
    trine__text entry = {0};
    trine__pb_add_string(&entry, ENTRY_KEY, key);
    trine__pb_add_string(&entry, ENTRY_VALUE, value);
    trine__pb_add_message(model, MODEL_METADATA, &entry);
}

/* Everything of the model up to the graph's first byte. */
static trine_status make_head(const struct graph *g, char **out, size_t *bytes)
{
    const trine_onnx_options *o = g->options;
    trine__text model = {0}, opset = {0};
    trine__pb_add_int(&model, MODEL_IR, IR_VERSION);
    trine__pb_add_string(&model, MODEL_PRODUCER, "trine");
    trine__pb_add_string(&model, MODEL_PRODUCER_VERSION, trine_version());
    trine__pb_add_string(
        &model, MODEL_DOC,
        "images: RGB, channels first, (value / 255 - mean) / std, resized and cropped as the metadata "
        "'preprocess' says (trine); bilinear with antialiasing, as Pillow resizes");
    trine__pb_add_string(&opset, OPSET_DOMAIN, "");
    trine__pb_add_int(&opset, OPSET_VERSION, OPERATOR_SET);
    trine__pb_add_message(&model, MODEL_OPSET, &opset);
    add_metadata(&model, "arch", g->net->spec.variant->name);
    add_metadata(&model, "embedding", o->embedding == TRINE_EMBED_FC ? "fc" : "pool");
    add_metadata(&model, "normalize", o->normalize ? "true" : "false");
    if (o->preprocess) add_metadata(&model, "preprocess", o->preprocess);
    trine__pb_begin_bytes(&model, MODEL_GRAPH, g->text.length);
    *bytes = model.length;
    return trine__text_take(&model, out);
}

static trine_status write_model(struct graph *g, const char *path)
{
    trine__writer w = {0};
    char *head = NULL, *graph = NULL;
    size_t head_bytes;
    const size_t bytes = g->text.length;
    trine_status status;
    TRINE_TRY_GOTO(make_head(g, &head, &head_bytes));
    TRINE_TRY_GOTO(trine__text_take(&g->text, &graph));
    TRINE_TRY_GOTO(trine__writer_open(path, &w));
    TRINE_TRY_GOTO(trine__writer_write(&w, head, head_bytes));
    TRINE_TRY_GOTO(trine__writer_write(&w, graph, bytes));
    TRINE_TRY_GOTO(trine__writer_commit(&w));
cleanup:
    trine__writer_abort(&w);
    free(head);
    free(graph);
    return status;
}

static trine_status write_onnx(const trine_resnet *net, trine_stream *stream,
                               const trine_onnx_options *options, const char *path)
{
    struct graph g = {.net = net, .options = options};
    trine_weights *weights = NULL;
    trine_status status;
    for (int i = 0; i < net->spec.unit_count; i++)
        TRINE_CHECK(net->bns[i].tracked, TRINE_ERR_STATE,
                    "onnx: %s has no running statistics: what it puts out would depend on the batch "
                    "(recalibration gives it some)",
                    net->spec.units[i].bn);
    TRINE_TRY(trine_resnet_to_weights(net, stream, 1, &weights));
    g.weights = weights;
    TRINE_TRY_GOTO(make_graph(&g));
    status = write_model(&g, path);
cleanup:
    trine__text_free(&g.text);
    trine_weights_destroy(&weights);
    return status;
}

trine_status trine_onnx_write(const trine_resnet *net, trine_stream *stream,
                              const trine_onnx_options *options, const char *path)
{
    TRINE_CHECK(net && stream && options && path, TRINE_ERR_ARG,
                "onnx: network, stream, options or path is missing");
    TRINE_CHECK(options->batch >= 0, TRINE_ERR_ARG, "onnx: batches of %d images, expected 0 or more",
                options->batch);
    TRINE_CHECK(options->embedding == TRINE_EMBED_POOL || options->embedding == TRINE_EMBED_FC, TRINE_ERR_ARG,
                "onnx: unknown embedding %d", (int)options->embedding);
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_onnx_write", TRINE__MAY_NOTHING));
    return trine__guard_end(&guard, write_onnx(net, stream, options, path));
}
