/* SPDX-License-Identifier: MIT */
/* A network's passes one by one, for torch_batchnorm.py. Commands on stdin, arrays as .npy (float32):
 *   open WEIGHTS            the network of a file; the one before is forgotten
 *   create ARCH WHAT        a new one; WHAT: plain, no-affine, no-statistics, neither
 *   bn SPEC                 trine_resnet_set_bn()
 *   freeze GLOBS            trine_resnet_freeze()
 *   train X Y               a training-mode pass over X [n][3][h][w]; fc's output to Y
 *   eval X Y                an evaluation-mode pass
 *   step X D LR Y G.pth     a training-mode pass, the gradients of sum(output * D) to G, a step of SGD
 *   save OUT                the weights as they are, under the names that they came with */
#include "support/line_tool.h"
#include "trine/session.h"

static trine_resnet *net;
static trine_session *training, *inference;
static trine_gradients *gradients;
static trine_optimizer *optimizer;

static void forget(void)
{
    trine_optimizer_destroy(&optimizer);
    trine_gradients_destroy(&gradients);
    trine_session_destroy(&training);
    trine_session_destroy(&inference);
    trine_resnet_destroy(&net);
}

static void run_open(void)
{
    trine_weights *file = NULL;
    forget();
    must(trine_weights_read(next_word(), &file));
    must(trine_resnet_from_weights(dev.context, file, NULL, &net));
    trine_weights_destroy(&file);
}

static void run_create(void)
{
    forget();
    trine_resnet_options options = {.arch = next_word(), .seed = 1};
    const char *what = next_word();
    const bool neither = strcmp(what, "neither") == 0;
    options.bn_without_affine = neither || strcmp(what, "no-affine") == 0;
    options.bn_without_statistics = neither || strcmp(what, "no-statistics") == 0;
    if (!options.bn_without_affine && !options.bn_without_statistics && strcmp(what, "plain") != 0)
        die(what, "no such network");
    must(trine_resnet_create(dev.context, &options, &net));
}

static void run_bn(void)
{
    must(trine_resnet_set_bn(net, next_word()));
}

static void run_freeze(void)
{
    must(trine_resnet_freeze(net, next_word()));
}

/* The next file's images on the device. */
static trine_tensor read_images(void)
{
    const char *path = next_word();
    trine_array array;
    trine_tensor x;
    must(trine_npy_read(path, &array));
    if (array.rank != 4 || array.dtype != TRINE_F32) die(path, "want float32 [n][c][h][w]");
    const trine_shape shape = {(int)array.dims[0], (int)array.dims[1], (int)array.dims[2],
                               (int)array.dims[3]};
    must(trine_tensor_create(dev.context, &shape, 1, &x));
    must(trine_tensor_upload(dev.stream, array.data, &x));
    trine_array_free(&array);
    return x;
}

/* fc's output to the next file. */
static void write_output(const trine_session *session)
{
    const trine_tensor y = trine_session_logits(session);
    const int64_t dims[] = {y.shape.n, y.shape.c};
    float *values = malloc((size_t)y.shape.n * (size_t)y.shape.c * sizeof *values);
    if (!values) die(line_words[0], "out of memory");
    must(trine_tensor_download(dev.stream, &y, values));
    must(trine_npy_write(next_word(), TRINE_F32, 2, dims, values));
    free(values);
}

/* A pass over the next file's images. Sessions stay from pass to pass: a change between two passes must reach
 * them. */
static void pass(bool train, trine_tensor *x)
{
    *x = read_images();
    if (train && !training)
        must(trine_session_create_training(net, dev.stream, &x->shape, TRINE_EMBED_FC, 1, &training));
    if (!train && !inference) must(trine_session_create_inference(net, dev.stream, &x->shape, &inference));
    must(trine_session_forward(train ? training : inference, x));
}

static void run_pass(bool train)
{
    trine_tensor x;
    pass(train, &x);
    write_output(train ? training : inference);
    trine_buffer_release(&x.buffer);
}

static void run_train(void)
{
    run_pass(true);
}

static void run_eval(void)
{
    run_pass(false);
}

/* Gradients of the parameters that the last backward pass reached, by name. */
static void write_gradients(void)
{
    trine_weights *file = NULL;
    must(trine_weights_create(&file));
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        must(trine_resnet_parameter(net, i, &info));
        if (!trine_gradients_reached(gradients, i)) continue;
        int64_t dims[4];
        size_t count = 1;
        for (int d = 0; d < info.rank; d++) count *= (size_t)(dims[d] = info.dims[d]);
        float *values = malloc(count * sizeof *values);
        if (!values) die(line_words[0], "out of memory");
        must(trine_gradients_read(gradients, dev.stream, i, values));
        must(trine_weights_add(file, info.name, TRINE_F32, info.rank, dims, values));
        free(values);
    }
    must(trine_weights_write(file, next_word()));
    trine_weights_destroy(&file);
}

static void run_step(void)
{
    trine_tensor x;
    trine_array d;
    pass(true, &x);
    must(trine_npy_read(next_word(), &d));
    const float lr = strtof(next_word(), NULL);
    trine_tensor gradient = trine_session_embedding(training);
    if (d.rank != 2 || d.dims[0] != gradient.shape.n || d.dims[1] != gradient.shape.c)
        die("step", "D is not like the output");
    must(trine_tensor_create(dev.context, &gradient.shape, gradient.cb, &gradient));
    must(trine_tensor_upload(dev.stream, d.data, &gradient));
    write_output(training);
    const trine_optimizer_desc sgd = trine_optimizer_desc_default(TRINE_SGD);
    if (!gradients) must(trine_gradients_create(net, dev.stream, &gradients));
    if (!optimizer) must(trine_optimizer_create(dev.context, &sgd, trine_resnet_flat_count(net), &optimizer));
    trine_gradients_clear(gradients);
    must(trine_session_backward(training, &gradient, gradients));
    must(trine_resnet_step(net, dev.stream, optimizer, gradients, lr));
    write_gradients();
    trine_array_free(&d);
    trine_buffer_release(&gradient.buffer);
    trine_buffer_release(&x.buffer);
}

static void run_save(void)
{
    trine_weights *file = NULL;
    must(trine_resnet_to_weights(net, dev.stream, 0, &file));
    must(trine_weights_write(file, next_word()));
    trine_weights_destroy(&file);
}

int main(void)
{
    static const line_command commands[] = {
        {"open", run_open},   {"create", run_create}, {"bn", run_bn},     {"freeze", run_freeze},
        {"train", run_train}, {"eval", run_eval},     {"step", run_step}, {"save", run_save}};
    return line_tool_main(commands, sizeof commands / sizeof commands[0], forget);
}
