/* SPDX-License-Identifier: MIT */
/* A child of trine tune: which problems a network has, and who could solve each. */
#include "tune.h"

#include <string.h>

enum { MOST_ALGORITHMS = 24, NUMBERS = 17 };

static void add_problem(cJSON *problems, trine_context *context, const tune_problem *p)
{
    const trine_conv2d_desc *d = &p->desc;
    const char *names[MOST_ALGORITHMS];
    char text[TRINE_CONV2D_PROBLEM];
    trine_conv2d *op = NULL;
    trine_linear *fc = NULL;
    if (p->linear)
        trine_linear_problem(d->in_channels, d->out_channels, p->direction, text);
    else
        trine_conv2d_problem(d, p->h, p->w, p->direction, text);
    cJSON *known;
    cJSON_ArrayForEach(known, problems)
    {
        cJSON *uses = cJSON_GetObjectItem(known, "uses");
        if (strcmp(cJSON_GetObjectItem(known, "problem")->valuestring, text) != 0) continue;
        cJSON_SetNumberValue(uses, uses->valuedouble + 1);
        return;
    }
    if (p->linear ? trine_linear_create(context, d->in_channels, d->out_channels, 0, NULL, &fc) != TRINE_OK
                  : trine_conv2d_create(context, d, p->h, p->w, 1u << p->direction, &op) != TRINE_OK)
        return;
    cJSON *row = cJSON_CreateObject(), *list = cJSON_CreateArray();
    const int numbers[NUMBERS] = {d->in_channels,
                                  d->out_channels,
                                  d->kernel_h,
                                  d->stride_h,
                                  d->pad_h,
                                  d->groups,
                                  d->in_cb,
                                  d->out_cb,
                                  (int)d->in_dtype,
                                  (int)d->out_dtype,
                                  d->weight_kb,
                                  d->weight_cb,
                                  p->h,
                                  p->w,
                                  (int)p->direction,
                                  p->linear,
                                  d->allow_tf32};
    cli_set_text(row, "problem", text);
    cli_set(row, "uses", 1);
    cli_set_text(row, "default",
                 p->linear ? trine_linear_algorithm(fc, p->direction)
                           : trine_conv2d_algorithm(op, p->direction));
    cJSON_AddItemToObject(row, "numbers", cJSON_CreateIntArray(numbers, NUMBERS));
    const size_t count = p->linear ? trine_linear_algorithms(names, MOST_ALGORITHMS)
                                   : trine_conv2d_algorithms(op, p->direction, names, MOST_ALGORITHMS);
    for (size_t i = 0; i < count && i < MOST_ALGORITHMS; i++)
        if (strcmp(names[i], TUNE_REFERENCE) != 0) cJSON_AddItemToArray(list, cJSON_CreateString(names[i]));
    cJSON_AddItemToObject(row, "algorithms", list);
    cJSON_AddItemToArray(problems, row);
    trine_conv2d_destroy(&op);
    trine_linear_destroy(&fc);
}

tune_problem tune_read(const cJSON *row)
{
    const cJSON *numbers = cJSON_GetObjectItem(row, "numbers");
    int n[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) n[i] = cJSON_GetArrayItem(numbers, i)->valueint;
    tune_problem p = {.desc = trine_conv2d_desc_default(n[0], n[1], n[2]),
                      .h = n[12],
                      .w = n[13],
                      .direction = (trine_direction)n[14],
                      .linear = n[15],
                      .uses = cJSON_GetObjectItem(row, "uses")->valueint};
    p.desc.stride_h = p.desc.stride_w = n[3];
    p.desc.pad_h = p.desc.pad_w = n[4];
    p.desc.groups = n[5];
    p.desc.in_cb = n[6];
    p.desc.out_cb = n[7];
    p.desc.in_dtype = (trine_dtype)n[8];
    p.desc.out_dtype = (trine_dtype)n[9];
    p.desc.weight_kb = n[10];
    p.desc.weight_cb = n[11];
    p.desc.allow_tf32 = n[16];
    return p;
}

/* The fully connected layer as a convolution of images of one pixel. */
static void list_linear(cJSON *problems, cli_run *run, const trine_session *session, int train)
{
    const int block = trine_session_features(session).cb;
    tune_problem p = {
        .desc = trine_conv2d_desc_default(trine_resnet_features(run->net), trine_resnet_outputs(run->net), 1),
        .h = 1,
        .w = 1,
        .linear = 1};
    p.desc.in_cb = block;
    for (int d = TRINE_FORWARD; d <= (train ? TRINE_BACKWARD_WEIGHTS : TRINE_FORWARD); d++) {
        p.direction = (trine_direction)d;
        add_problem(problems, run->context, &p);
    }
}

/* The convolutions of a session, as it describes them to the operator. */
static void list_session(cJSON *problems, cli_run *run, const trine_session *session)
{
    const int block = trine_session_features(session).cb;
    const trine_dtype dtype = trine_resnet_precision(run->net);
    trine_session_conv conv;
    for (int i = 0; trine_session_convolution(session, i, &conv); i++) {
        tune_problem p = {.desc = trine_conv2d_desc_default(conv.in_channels, conv.out_channels, conv.kernel),
                          .h = conv.h,
                          .w = conv.w};
        p.desc.stride_h = p.desc.stride_w = conv.stride;
        p.desc.pad_h = p.desc.pad_w = conv.kernel / 2;
        p.desc.groups = conv.groups;
        p.desc.allow_tf32 = trine_resnet_allows_tf32(run->net);
        p.desc.in_cb = i == 0 ? 1 : block; /* the stem reads images */
        p.desc.in_dtype = i == 0 ? TRINE_F32 : dtype;
        p.desc.out_cb = block;
        p.desc.out_dtype = dtype;
        trine_conv2d_choose_weight_blocks(run->context, &p.desc);
        for (int d = TRINE_FORWARD; d <= TRINE_BACKWARD_WEIGHTS; d++) {
            p.direction = (trine_direction)d;
            if (conv.algorithm[d] != NULL) add_problem(problems, run->context, &p);
        }
    }
}

int tune_list(cli_run *run, void *user)
{
    const cli_values *v = &run->v;
    const trine_resnet_options what = {.arch = v->arch, .seed = 1};
    const int size = v->size != CLI_UNSET ? v->size : cli_has_ending(v->arch, "_cifar") ? 32 : 224;
    const trine_shape shape = {v->batch, 3, size, size};
    trine_session *session = NULL;
    char scope[512];
    int code = CLI_OK;
    (void)user;
    CLI_RUN(cli_open_device(run, 0));
    CLI_TRY(trine_resnet_create(run->context, &what, &run->net));
    CLI_RUN(cli_set_precision(run));
    if (v->mode == 1) {
        CLI_TRY(trine_resnet_set_bn(run->net, "train"));
        CLI_TRY(trine_session_create_training(run->net, run->stream, &shape, TRINE_EMBED_FC,
                                              TRINE_BACKWARD_KEEP, &session));
    } else {
        CLI_TRY(trine_session_create_inference(run->net, run->stream, &shape, &session));
    }
    trine_tuning_scope(run->context, scope, sizeof scope);
    cli_set_text(run->json, "scope", scope);
    cli_set_text(run->json, "device", trine_context_device(run->context)->name);
    cJSON *problems = cJSON_AddArrayToObject(run->json, "problems");
    list_session(problems, run, session);
    list_linear(problems, run, session, v->mode == 1);
cleanup:
    trine_session_destroy(&session);
    return code;
}
