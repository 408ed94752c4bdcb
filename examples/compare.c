/* SPDX-License-Identifier: MIT */
/* Compare two photographs by their embeddings:
 *   compare resnet50.pth a.jpg b.jpg
 * prints the cosine between them: 1 is the same direction, 0 nothing in common. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trine/trine.h>

/* The sentence says what went wrong: a missing file, weights of no known network, no device. */
static int failed(trine_status status)
{
    if (status == TRINE_OK) return 0;
    fprintf(stderr, "compare: %s\n", trine_last_error());
    return 1;
}

/* Preprocess one photograph as the network's training images were. */
static int load(const char *path, const trine_preprocess *prep, float **x, trine_shape *shape)
{
    trine_image photo = {0};
    int bad = failed(trine_image_read(path, &photo));
    if (!bad) {
        *shape = (trine_shape){1, 3, 0, 0};
        trine_preprocess_size(prep, photo.width, photo.height, &shape->w, &shape->h);
        *x = malloc((size_t)3 * (size_t)shape->h * (size_t)shape->w * sizeof **x);
        bad = *x == NULL;
        if (bad) fprintf(stderr, "compare: out of memory\n");
        bad = bad || failed(trine_preprocess_apply(prep, &photo, *x));
    }
    trine_image_free(&photo);
    return bad;
}

int main(int argc, char **argv)
{
    trine_context *context = NULL;
    trine_stream *stream = NULL;
    trine_weights *file = NULL;
    trine_resnet *net = NULL;
    trine_vectors v[2] = {{0}};
    float *x = NULL;
    int bad = 1;

    if (argc != 4) {
        fprintf(stderr, "usage: compare WEIGHTS IMAGE IMAGE\n");
        return 2;
    }
    if (failed(trine_context_create("auto", NULL, NULL, &context))) goto cleanup;
    if (failed(trine_stream_create(context, 0, &stream))) goto cleanup;
    if (failed(trine_weights_read(argv[1], &file))) goto cleanup;
    if (failed(trine_resnet_from_weights(context, file, NULL, &net))) goto cleanup;

    /* Weights that trine wrote know their embedding and preprocessing; others get what suits the variant. */
    trine_embed_options how = {.normalize = 1};
    const char *embedding = trine_weights_metadata(file, "embedding");
    if (embedding != NULL && strcmp(embedding, "fc") == 0) how.embedding = TRINE_EMBED_FC;
    const char *known = trine_weights_metadata(file, "preprocess");
    const char *name = strstr(trine_resnet_arch(net), "_cifar") != NULL ? "cifar" : "imagenet";
    if (failed(known != NULL ? trine_preprocess_from_json(known, &how.preprocess)
                             : trine_preprocess_named(name, &how.preprocess)))
        goto cleanup;

    for (int i = 0; i < 2; i++) {
        trine_shape shape;
        if (load(argv[2 + i], &how.preprocess, &x, &shape)) goto cleanup;
        if (failed(trine_embed_array(net, stream, x, &shape, &how, &v[i]))) goto cleanup;
        free(x);
        x = NULL;
    }
    double cosine = 0;
    for (int i = 0; i < v[0].dim; i++) cosine += (double)v[0].data[i] * (double)v[1].data[i];
    printf("%.4f\n", cosine);
    bad = 0;

cleanup:
    free(x);
    trine_vectors_free(&v[0]);
    trine_vectors_free(&v[1]);
    trine_resnet_destroy(&net);
    trine_weights_destroy(&file);
    trine_stream_destroy(&stream);
    trine_context_destroy(&context);
    return bad;
}
