/* SPDX-License-Identifier: MIT */
/* What a training session keeps for the backward pass: no output that can be made again; with checkpoints only
 * what goes into blocks, with the same bits everywhere. */
#include "net/networks.h"
#include "net/session_private.h"

static const struct memory_case {
    const char *arch, *bn, *freeze; /* NULL: nothing frozen */
    int size, from;
    trine_embedding embedding;
} cases[] = {
    {"resnet18", "train", NULL, 64, 0, TRINE_EMBED_FC},
    {"resnet50", "train", NULL, 64, 0, TRINE_EMBED_POOL},
    {"resnet20_cifar", "train", NULL, 32, 0,
     TRINE_EMBED_FC}, /* no pooling after the stem; shortcut option A */
    {"resnet18", "eval", NULL, 64, 0, TRINE_EMBED_POOL},
    {"resnet18", "eval", "*bn*,*downsample.1*", 64, 0, TRINE_EMBED_FC}, /* everything fused */
    {"resnet18", "train", "*conv*,*downsample.0*", 64, 0, TRINE_EMBED_FC},
    {"resnet18", "auto,layer2*=no-update,layer4*=cumulative,layer3.0.bn1=eval", NULL, 64, 0,
     TRINE_EMBED_POOL},
    {"resnet18", "auto", "conv1*,bn1*,layer1*,layer3.0.conv2*,layer3.0.bn1*,layer4.0.bn2*", 64, 0,
     TRINE_EMBED_FC},
    {"resnet50", "train", "*,!layer3.0.downsample*,!fc*", 64, 0,
     TRINE_EMBED_FC}, /* only a shortcut's gradient */
    {"resnet50", "auto", "*,!layer2.1.conv2*,!layer3.0.bn1*", 64, 0, TRINE_EMBED_POOL},
    {"resnet18", "auto", "conv1*,bn1*,layer1*", 16, 3, TRINE_EMBED_FC}, /* after a frozen trunk */
};
enum { CASES = sizeof cases / sizeof cases[0], BATCH = 4, HALF_CASES = 3 };

typedef struct outcome {
    float *gradients;
    double *embedding;
    size_t count, width, bytes;
    uint64_t parameters, statistics;
} outcome;

static trine_session *session_of(trine_resnet *net, const struct memory_case *c, int backward)
{
    trine_session *s = NULL;
    const trine_shape shape = {BATCH, trine__channels_at(net, c->from), c->size, c->size};
    if (c->from > 0)
        ASSERT_OK(trine__session_create_tail(net, dev.stream, &shape, c->embedding, backward, c->from, &s));
    else
        ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, c->embedding, backward, &s));
    return s;
}

/* Running statistics that have nothing to do with those of before. */
static void write_statistics(trine_resnet *net)
{
    for (int i = 0; i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        ASSERT_OK(trine_resnet_bn(net, i, &info));
        float *mean = random_floats((size_t)info.channels, 77 + (uint64_t)i, -1, 1);
        float *var = random_floats((size_t)info.channels, 78 + (uint64_t)i, 1, 3);
        ASSERT_OK(trine_resnet_bn_write(net, dev.stream, i, mean, var, 5));
        free(mean);
        free(var);
    }
}

/* One pass over n images, added to g. moved: the running statistics change between forward and backward. */
static void pass(trine_session *s, const struct memory_case *c, trine_resnet *net, trine_gradients *g, int n,
                 uint64_t seed, bool moved, outcome *out)
{
    const trine_shape shape = {n, trine__channels_at(net, c->from), c->size, c->size};
    double *dense = NULL, *along = NULL;
    test_tensor x =
        test_tensor_random(shape, c->from > 0 ? trine__trunk_block(dev.context) : 1, seed, -2, 2, &dense);
    ASSERT_OK(trine_session_forward(s, &x.t));
    const trine_tensor e = trine_session_embedding(s);
    test_tensor d = test_tensor_random(e.shape, e.cb, seed + 1, -1e-3, 1e-3, &along);
    free(out->embedding);
    out->embedding = result_values(e);
    out->width = test_dense(e.shape);
    if (moved) write_statistics(net);
    ASSERT_OK(trine_session_backward(s, &d.t, g));
    test_device_sync();
    test_tensor_release(&x);
    test_tensor_release(&d);
    free(dense);
    free(along);
}

/* Two passes into one gradient, the second over a smaller batch, a step, and a pass with what the step has left. */
static outcome train(const struct memory_case *c, int backward, trine_dtype precision)
{
    outcome out = {0};
    trine_resnet *net = make_network(c->arch, 3);
    trine_gradients *g = NULL;
    trine_optimizer *sgd = NULL;
    const trine_optimizer_desc desc = trine_optimizer_desc_default(TRINE_SGD);
    ASSERT_OK(trine_resnet_set_bn(net, c->bn));
    ASSERT_OK(trine_resnet_set_precision(net, precision));
    if (c->freeze) ASSERT_OK(trine_resnet_freeze(net, c->freeze));
    ASSERT_OK(trine_gradients_create(net, dev.stream, &g));
    ASSERT_OK(trine_optimizer_create(dev.context, &desc, trine_resnet_flat_count(net), &sgd));
    trine_session *s = session_of(net, c, backward);
    out.bytes = trine_session_bytes(s);
    pass(s, c, net, g, BATCH, 20, false, &out);
    pass(s, c, net, g, BATCH - 1, 30, true, &out);
    ASSERT_OK(trine_resnet_step(net, dev.stream, sgd, g, 1e-2f));
    trine_gradients_clear(g);
    pass(s, c, net, g, BATCH, 40, false, &out);
    out.gradients = all_gradients(net, g, &out.count);
    ASSERT_OK(trine_resnet_state_hash(net, dev.stream, &out.parameters, &out.statistics, NULL));
    trine_session_destroy(&s);
    trine_optimizer_destroy(&sgd);
    trine_gradients_destroy(&g);
    trine_resnet_destroy(&net);
    return out;
}

START_TEST(test_checkpoint)
{
    static const int in_half[HALF_CASES] = {2, 4, 10};
    const struct memory_case *c = &cases[_i < CASES ? _i : in_half[_i - CASES]];
    const trine_dtype precision = _i < CASES ? TRINE_F32 : TRINE_F16;
    if (test_small() && strcmp(c->arch, "resnet50") == 0) return;
    outcome keep = train(c, TRINE_BACKWARD_KEEP, precision),
            checkpoint = train(c, TRINE_BACKWARD_CHECKPOINT, precision);
    double sum = 0;
    ck_assert_uint_eq(keep.count, checkpoint.count);
    for (size_t i = 0; i < keep.count; i++)
        sum += keep.gradients[i] < 0 ? -keep.gradients[i] : keep.gradients[i];
    ck_assert(sum > 0);
    ck_assert_mem_eq(keep.embedding, checkpoint.embedding, keep.width * sizeof *keep.embedding);
    ck_assert_mem_eq(keep.gradients, checkpoint.gradients, keep.count * sizeof *keep.gradients);
    ck_assert_uint_eq(keep.parameters, checkpoint.parameters);
    ck_assert_uint_eq(keep.statistics, checkpoint.statistics);
    ck_assert_uint_le(checkpoint.bytes, keep.bytes);
    if (!c->freeze) ck_assert_uint_lt(checkpoint.bytes, keep.bytes);
    free(keep.gradients);
    free(keep.embedding);
    free(checkpoint.gradients);
    free(checkpoint.embedding);
}
END_TEST

/* Values that the forward pass makes and the backward pass reads: inputs of BatchNorms and of blocks; or of blocks alone. What the next
 * convolution makes of a BatchNorm's input for itself is made at no time. */
START_TEST(test_kept)
{
    static const struct memory_case c = {"resnet50", "train", NULL, 64, 0, TRINE_EMBED_POOL};
    trine_resnet *net = make_network(c.arch, 3);
    trine_session *keep = session_of(net, &c, TRINE_BACKWARD_KEEP),
                  *checkpoint = session_of(net, &c, TRINE_BACKWARD_CHECKPOINT);
    int normalising = 0;
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__session_unit *u = &keep->units[i];
        const bool block_output = u->residual >= 0;
        ck_assert_int_eq(keep->values[u->y].last >= (int)keep->forward_count, block_output);
        ck_assert_int_ge(keep->values[u->z].last, (int)keep->forward_count);
        ck_assert_int_lt(checkpoint->units[i].source, 0);
        if (u->source < 0) continue;
        const trine__session_unit *source = &keep->units[u->source];
        ck_assert_int_lt(keep->values[source->y].last, 0);
        ck_assert_int_lt(source->y_copy, 0);
        normalising++;
    }
    ck_assert_int_eq(normalising > 0, dev.context->caps.cpu); /* minimal filtering's */
    int crossing = 0;
    for (size_t i = 0; i < checkpoint->value_count; i++) {
        const trine__value *v = &checkpoint->values[i];
        const int end = (int)checkpoint->forward_count;
        crossing += !v->external && v->first < end && v->last >= end;
    }
    ck_assert_int_eq(crossing,
                     net->spec.block_count + 3); /* the pooled stem, the pool's indices, the features */
    trine_session_destroy(&keep);
    trine_session_destroy(&checkpoint);
    ASSERT_FAILS(TRINE_ERR_ARG, trine_session_create_training(net, dev.stream, &(trine_shape){2, 3, 64, 64},
                                                              TRINE_EMBED_POOL, 3, &keep));
    trine_resnet_destroy(&net);
}
END_TEST

/* In inference a block's sum lies where its residual was. */
START_TEST(test_sums_in_place)
{
    trine_resnet *net = make_network("resnet50", 3);
    const trine_shape shape = {2, 3, 64, 64};
    trine_session *s = NULL;
    ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &s));
    int sums = 0;
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__session_unit *u = &s->units[i];
        if (u->residual < 0) continue;
        const trine__value *y = &s->values[u->y], *residual = &s->values[u->residual];
        ck_assert_uint_eq(y->offset, residual->offset);
        ck_assert_int_eq(y->first, residual->last);
        sums++;
    }
    ck_assert_int_eq(sums, net->spec.block_count);
    trine_session_destroy(&s);
    trine_resnet_destroy(&net);
}
END_TEST

/* Bytes that forward's convolutions prepare for every use, in nodes, and that stay prepared, in buffers. */
static void prepared(const trine_session *s, size_t *anew, size_t *kept)
{
    *anew = *kept = 0;
    for (size_t i = 0; i < s->forward_count; i++) {
        const trine__node *node = &s->nodes[i];
        if (node->kind != TRINE__NODE_CONV) continue;
        const trine__session_unit *u = &s->units[node->unit];
        *(u->prepared[TRINE_FORWARD] ? kept : anew) += trine_conv2d_prepared_bytes(u->conv, TRINE_FORWARD);
    }
}

/* Weights that do not train stay prepared where the session is modest all the same; large ones of a session that is not, and those that
 * train, do not. */
START_TEST(test_prepared)
{
    static const struct {
        const char *arch;
        int n, size;
        bool trains, keeps_all;
    } sessions[] = {{"resnet18", 8, 224, false, true},
                    {"wide_resnet50_2", 8, 224, false, false},
                    {"resnet18", 8, 64, true, false}};
    if (test_small()) return; /* for slow implementations */
    for (size_t i = 0; i < sizeof sessions / sizeof sessions[0]; i++) {
        size_t anew, kept;
        trine_resnet *net = make_network(sessions[i].arch, 3);
        trine_session *s = NULL;
        const trine_shape shape = {sessions[i].n, 3, sessions[i].size, sessions[i].size};
        if (sessions[i].trains)
            ASSERT_OK(trine_session_create_training(net, dev.stream, &shape, TRINE_EMBED_POOL,
                                                    TRINE_BACKWARD_KEEP, &s));
        else
            ASSERT_OK(trine_session_create_inference(net, dev.stream, &shape, &s));
        prepared(s, &anew, &kept);
        ck_assert_uint_gt(anew + kept, 0);
        if (dev.context->caps.cpu) /* GPUs prepare more */
            ck_assert_int_eq(anew == 0, sessions[i].keeps_all);
        ck_assert_int_eq(kept == 0, sessions[i].trains);
        trine_session_destroy(&s);
        trine_resnet_destroy(&net);
    }
}
END_TEST

int main(void)
{
    test_device_open();
    Suite *suite = suite_create("session_memory");
    TCase *tc = tcase_create("session_memory");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, test_checkpoint, 0, CASES + HALF_CASES);
    tcase_add_test(tc, test_kept);
    tcase_add_test(tc, test_sums_in_place);
    tcase_add_test(tc, test_prepared);
    suite_add_tcase(suite, tc);
    const int result = check_main(suite);
    test_device_close();
    return result;
}
