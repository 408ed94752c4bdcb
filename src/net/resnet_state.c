/* SPDX-License-Identifier: MIT */
/* A network's state as a whole: snapshots of the running statistics, and hashes of all that can move. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "net/state_guard.h"

struct trine_bn_snapshot {
    float *values; /* [count] the whole statistics buffer */
    size_t count;
    int64_t *batches; /* [layers] */
    bool *tracked;    /* [layers] */
    int layers;
};

void trine_bn_snapshot_destroy(trine_bn_snapshot **snapshot)
{
    if (!snapshot || !*snapshot) return;
    free((*snapshot)->values);
    free((*snapshot)->batches);
    free((*snapshot)->tracked);
    free(*snapshot);
    *snapshot = NULL;
}

trine_status trine_resnet_bn_snapshot(const trine_resnet *net, trine_stream *stream, trine_bn_snapshot **out)
{
    trine_status status;
    void *p = NULL;
    TRINE_TRY(trine__calloc(1, sizeof(trine_bn_snapshot), &p));
    trine_bn_snapshot *s = p;
    s->count = net->statistics_count;
    s->layers = net->spec.unit_count;
    TRINE_TRY_GOTO(trine__calloc(s->count, sizeof(float), &p));
    s->values = p;
    TRINE_TRY_GOTO(trine__calloc((size_t)s->layers, sizeof(int64_t), &p));
    s->batches = p;
    TRINE_TRY_GOTO(trine__calloc((size_t)s->layers, sizeof(bool), &p));
    s->tracked = p;
    for (int i = 0; i < s->layers; i++) {
        s->batches[i] = net->bns[i].batches;
        s->tracked[i] = net->bns[i].tracked;
    }
    TRINE_TRY_GOTO(trine_buffer_read(stream, net->statistics, 0, s->values, s->count * sizeof(float)));
    *out = s;
    return TRINE_OK;
cleanup:
    trine_bn_snapshot_destroy(&s);
    return status;
}

trine_status trine_resnet_bn_restore(trine_resnet *net, trine_stream *stream,
                                     const trine_bn_snapshot *snapshot)
{
    TRINE_CHECK(snapshot->count == net->statistics_count && snapshot->layers == net->spec.unit_count,
                TRINE_ERR_ARG, "the snapshot is of another network (%d layers, this one has %d)",
                snapshot->layers, net->spec.unit_count);
    trine__guard guard;
    TRINE_TRY(trine__guard_begin(&guard, net, stream, "trine_resnet_bn_restore", TRINE__MAY_STATISTICS));
    for (int i = 0; i < snapshot->layers; i++) {
        net->bns[i].batches = snapshot->batches[i];
        net->bns[i].version = ++net->next_version;
        trine__bn_set_tracked(net, i, snapshot->tracked[i]);
    }
    return trine__guard_end(&guard, trine_buffer_write(stream, net->statistics, 0, snapshot->values,
                                                       snapshot->count * sizeof(float)));
}

/* Hash of each parameter's dense values. @param values room for the flat buffer */
static trine_status hash_parameters(const trine_resnet *net, trine_stream *stream, float *values,
                                    uint64_t *out)
{
    size_t largest = 0;
    void *dense = NULL;
    for (int i = 0; i < net->parameter_count; i++)
        if (net->params[i].count > largest) largest = net->params[i].count;
    TRINE_TRY(trine_buffer_read(stream, net->parameters, 0, values, net->flat_count * sizeof(float)));
    TRINE_TRY(trine__calloc(largest, sizeof(float), &dense));
    for (int i = 0; i < net->parameter_count; i++) {
        const trine__parameter *p = &net->params[i];
        trine__weight_layout_to_dense(&p->layout, values + p->offset, dense);
        out[i] = trine__hash(dense, p->count * sizeof(float), 0);
    }
    free(dense);
    return TRINE_OK;
}

/* Hash of each BatchNorm layer's counter and running statistics. @param values room for all of them */
static trine_status hash_statistics(const trine_resnet *net, trine_stream *stream, float *values,
                                    uint64_t *out)
{
    TRINE_TRY(trine_buffer_read(stream, net->statistics, 0, values, net->statistics_count * sizeof(float)));
    for (int i = 0; i < net->spec.unit_count; i++) {
        const trine__bn_layer *bn = &net->bns[i];
        const size_t bytes = (size_t)net->spec.units[i].out_channels * sizeof(float);
        out[i] = trine__hash(&bn->batches, sizeof bn->batches, bn->tracked ? 0 : 1);
        out[i] = trine__hash(values + bn->mean_offset, bytes, out[i]);
        out[i] = trine__hash(values + bn->var_offset, bytes, out[i]);
    }
    return TRINE_OK;
}

trine_status trine__state_hashes(const trine_resnet *net, trine_stream *stream, uint64_t *parameters,
                                 uint64_t *layers)
{
    void *values = NULL;
    trine_status status = TRINE_OK;
    const size_t largest = net->flat_count > net->statistics_count ? net->flat_count : net->statistics_count;
    TRINE_TRY(trine__calloc(largest, sizeof(float), &values));
    if (parameters) TRINE_TRY_GOTO(hash_parameters(net, stream, values, parameters));
    if (layers) TRINE_TRY_GOTO(hash_statistics(net, stream, values, layers));
cleanup:
    free(values);
    return status;
}

trine_status trine_resnet_parameter_hashes(const trine_resnet *net, trine_stream *stream, uint64_t *out)
{
    return trine__state_hashes(net, stream, out, NULL);
}

trine_status trine_resnet_state_hash(const trine_resnet *net, trine_stream *stream, uint64_t *parameters,
                                     uint64_t *statistics, uint64_t *layers)
{
    void *p = NULL;
    const size_t params = (size_t)net->parameter_count, units = (size_t)net->spec.unit_count;
    TRINE_TRY(trine__calloc(params + units, sizeof(uint64_t), &p));
    uint64_t *each = p, *each_layer = each + params;
    const trine_status status =
        trine__state_hashes(net, stream, parameters ? each : NULL, statistics || layers ? each_layer : NULL);
    if (status == TRINE_OK && parameters) *parameters = trine__hash(each, params * sizeof *each, 0);
    if (status == TRINE_OK && statistics) *statistics = trine__hash(each_layer, units * sizeof *each, 0);
    if (status == TRINE_OK && layers) memcpy(layers, each_layer, units * sizeof *each);
    free(p);
    return status;
}
