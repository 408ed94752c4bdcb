/* SPDX-License-Identifier: MIT */
/* Fine-tune a network by triplet loss, with the recipe of `trine finetune`, and measure what it is worth:
 *   finetune resnet50.pth photos/train photos/val mine.safetensors [STEPS]
 * Both folders hold a folder of images per class; the classes may differ. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trine/trine.h>

static int failed(trine_status status)
{
    if (status == TRINE_OK) return 0;
    fprintf(stderr, "finetune: %s\n", trine_last_error());
    return 1;
}

/* Mean average precision at R of every image against all others. The network is const: measuring moves nothing. */
static int measure(const trine_resnet *net, trine_stream *stream, const trine_dataset *val,
                   const trine_preprocess *prep, const char *when)
{
    const trine_embed_options how = {.preprocess = *prep, .normalize = 1, .skip_bad = 1};
    const trine_retrieval_options by = {.distance = TRINE_COSINE};
    trine_vectors v = {0};
    trine_retrieval figures = {0};
    int bad = failed(trine_embed_dataset(net, stream, val, &how, &v)) ||
              failed(trine_retrieval_measure(stream, v.data, v.labels, v.count, v.dim, &by, &figures));
    if (!bad) printf("%-6s  map_at_r %.4f  recall_at_1 %.4f\n", when, figures.map_at_r, figures.recall_at_1);
    trine_vectors_free(&v);
    return bad;
}

static int each_step(void *user, const trine_step_record *record, int steps)
{
    (void)user;
    if (record->step % 20 == 0 || record->step == steps)
        printf("step %d of %d  loss %.4f\n", record->step, steps, (double)record->loss);
    return 0; /* anything else ends the run */
}

/* The weights, and what they need to be used as they were trained. */
static int save(const trine_resnet *net, trine_stream *stream, const trine_preprocess *prep, const char *path)
{
    trine_weights *file = NULL;
    char *json = NULL;
    int bad = failed(trine_resnet_to_weights(net, stream, 0, &file)) ||
              failed(trine_preprocess_to_json(prep, &json)) ||
              failed(trine_weights_set_metadata(file, "preprocess", json)) ||
              failed(trine_weights_set_metadata(file, "embedding", "pool")) ||
              failed(trine_weights_set_metadata(file, "normalize", "true")) ||
              failed(trine_weights_write(file, path));
    free(json);
    trine_weights_destroy(&file);
    return bad;
}

int main(int argc, char **argv)
{
    trine_context *context = NULL;
    trine_stream *stream = NULL;
    trine_weights *file = NULL;
    trine_resnet *net = NULL;
    trine_dataset *train = NULL, *val = NULL;
    trine_trainer *trainer = NULL;
    int bad = 1;

    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: finetune WEIGHTS TRAIN VAL OUT [STEPS]\n");
        return 2;
    }
    if (failed(trine_context_create("auto", NULL, NULL, &context)) ||
        failed(trine_stream_create(context, 0, &stream)) || failed(trine_weights_read(argv[1], &file)) ||
        failed(trine_resnet_from_weights(context, file, NULL, &net)) ||
        failed(trine_dataset_open(argv[2], NULL, &train)) || failed(trine_dataset_open(argv[3], NULL, &val)))
        goto cleanup;

    const int small = strstr(trine_resnet_arch(net), "_cifar") != NULL;
    trine_trainer_options recipe = {
        .objective = TRINE_OBJECTIVE_TRIPLET,
        .normalize = 1,
        .triplet = trine_triplet_desc_default(TRINE_LOSS_TRIPLET), /* batch-hard, margin 0.2 */
        .optimizer = trine_optimizer_desc_default(TRINE_ADAMW),
        .lr = small ? 1e-3 : 1e-4,
        .schedule = TRINE_SCHEDULE_COSINE,
        .classes_per_batch = trine_dataset_class_count(train) < 8 ? trine_dataset_class_count(train) : 8,
        .images_per_class = 8,
        .steps = argc == 6 ? atoi(argv[5]) : 400,
        .augment = {.flip = 1, .crop = 1},
    };
    const char *known = trine_weights_metadata(file, "preprocess"); /* in weights that trine wrote */
    if (failed(known != NULL ? trine_preprocess_from_json(known, &recipe.preprocess)
                             : trine_preprocess_named(small ? "cifar" : "imagenet", &recipe.preprocess)))
        goto cleanup;
    if (known == NULL && small)
        recipe.preprocess.resize = recipe.preprocess.crop = 32; /* images of any size */

    /* BatchNorm: the batch's statistics where a layer trains, running ones where trine_resnet_freeze() has frozen it. */
    if (failed(trine_resnet_set_bn(net, "auto")) ||
        failed(trine_trainer_create(net, stream, &recipe, train, &trainer)) ||
        measure(net, stream, val, &recipe.preprocess, "before") ||
        failed(trine_trainer_run(trainer, each_step, NULL)) ||
        measure(net, stream, val, &recipe.preprocess, "after") ||
        save(net, stream, &recipe.preprocess, argv[4]))
        goto cleanup;
    bad = 0;

cleanup:
    trine_trainer_destroy(&trainer);
    trine_dataset_destroy(&val);
    trine_dataset_destroy(&train);
    trine_resnet_destroy(&net);
    trine_weights_destroy(&file);
    trine_stream_destroy(&stream);
    trine_context_destroy(&context);
    return bad;
}
