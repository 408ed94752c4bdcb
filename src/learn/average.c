/* SPDX-License-Identifier: MIT */
/* Two flat buffers beside the network's. What has moved is known by its version, which is how a state is kept small and how the
 * sessions of parts that are frozen find, after an exchange, that nothing of theirs is another. */
#include "learn/average.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/resnet_private.h"
#include "net/state_guard.h"

enum { PARAMETERS, STATISTICS, PARTS };

struct trine__average {
    trine_resnet *net;
    trine__weight_average *op;
    double decay;
    trine_buffer *values[PARTS];
    uint64_t *params, *layers; /* versions at the beginning */
    bool *moved;               /* [parameters + layers] by what was restored, or seen to have moved */
    bool exchanged;
};

static trine_buffer *part_of(const trine_resnet *net, int part)
{
    return part == PARAMETERS ? net->parameters : net->statistics;
}

static size_t floats_of(const trine_resnet *net, int part)
{
    return part == PARAMETERS ? net->flat_count : net->statistics_count;
}

static trine_status create_buffers(trine__average *a, trine_stream *stream)
{
    const trine_resnet *net = a->net;
    for (int i = 0; i < PARTS; i++) {
        const size_t bytes = floats_of(net, i) * sizeof(float);
        TRINE_TRY(trine_buffer_create(net->context, bytes, &a->values[i]));
        TRINE_TRY(trine__stream_copy(stream, part_of(net, i), 0, a->values[i], 0, bytes));
    }
    return TRINE_OK;
}

trine_status trine__average_create(trine_resnet *net, trine_stream *stream, double decay,
                                   trine__average **out)
{
    const size_t params = (size_t)net->parameter_count, layers = (size_t)net->spec.unit_count;
    void *memory;
    trine_status status;
    TRINE_TRY(trine__calloc(1, sizeof(trine__average), &memory));
    trine__average *a = memory;
    a->net = net;
    a->decay = decay;
    TRINE_TRY_GOTO(trine__calloc(params + layers, sizeof *a->moved, &memory));
    a->moved = memory;
    TRINE_TRY_GOTO(trine__calloc(params + layers, sizeof *a->params, &memory));
    a->params = memory;
    a->layers = a->params + params;
    for (size_t i = 0; i < params; i++) a->params[i] = net->params[i].version;
    for (size_t i = 0; i < layers; i++) a->layers[i] = net->bns[i].version;
    TRINE_TRY_GOTO(trine__weight_average_create(net->context, &a->op));
    TRINE_TRY_GOTO(create_buffers(a, stream));
    *out = a;
    return TRINE_OK;
cleanup:
    trine__average_destroy(&a);
    return status;
}

void trine__average_destroy(trine__average **average)
{
    if (!average || !*average) return;
    trine__average *a = *average;
    for (int i = 0; i < PARTS; i++) trine_buffer_release(&a->values[i]);
    trine__weight_average_destroy(&a->op);
    free(a->params);
    free(a->moved);
    free(a);
    *average = NULL;
}

trine_status trine__average_update(trine__average *a, trine_stream *stream)
{
    for (int i = 0; i < PARTS; i++)
        TRINE_TRY(trine__weight_average_run(a->op, stream, part_of(a->net, i), a->values[i],
                                            floats_of(a->net, i), a->decay));
    return TRINE_OK;
}

bool trine__average_exchanged(const trine__average *a)
{
    return a->exchanged;
}

static bool parameter_moved(const trine__average *a, int i)
{
    return a->moved[i] || a->net->params[i].version != a->params[i];
}

static bool layer_moved(const trine__average *a, int i)
{
    return a->moved[a->net->parameter_count + i] || a->net->bns[i].version != a->layers[i];
}

/* Through memory that is there for as long as this takes. */
static trine_status exchange_part(trine__average *a, trine_stream *stream, int part)
{
    trine_buffer *spare = NULL, *const values = part_of(a->net, part);
    const size_t bytes = floats_of(a->net, part) * sizeof(float);
    trine_status status;
    TRINE_TRY_GOTO(trine_buffer_create(a->net->context, bytes, &spare));
    TRINE_TRY_GOTO(trine__stream_copy(stream, values, 0, spare, 0, bytes));
    TRINE_TRY_GOTO(trine__stream_copy(stream, a->values[part], 0, values, 0, bytes));
    TRINE_TRY_GOTO(trine__stream_copy(stream, spare, 0, a->values[part], 0, bytes));
    TRINE_TRY_GOTO(trine_stream_sync(stream));
cleanup:
    trine_buffer_release(&spare);
    return status;
}

static trine_status exchange(trine__average *a, trine_stream *stream)
{
    trine_resnet *net = a->net;
    for (int i = 0; i < PARTS; i++) TRINE_TRY(exchange_part(a, stream, i));
    for (int i = 0; i < net->parameter_count; i++)
        if (parameter_moved(a, i)) net->params[i].version = net->values_version = ++net->next_version;
    for (int i = 0; i < net->spec.unit_count; i++)
        if (layer_moved(a, i)) net->bns[i].version = ++net->next_version;
    a->exchanged = !a->exchanged;
    return TRINE_OK;
}

trine_status trine__average_exchange(trine__average *a, trine_stream *stream)
{
    trine__guard guard;
    TRINE_TRY(
        trine__guard_begin(&guard, a->net, stream, "trine_trainer_exchange_average", TRINE__MAY_NOTHING));
    for (int i = 0; guard.state && i < a->net->parameter_count; i++)
        if (parameter_moved(a, i)) trine__guard_allow_parameter(&guard, i);
    for (int i = 0; guard.state && i < a->net->spec.unit_count; i++)
        if (layer_moved(a, i)) trine__guard_allow_layer(&guard, i);
    return trine__guard_end(&guard, exchange(a, stream));
}

/* ---- in a run's state ---- */

enum { NAME_BYTES = TRINE__NAME_BYTES + 32 };

/* The running mean (which 0) or variance (1) of a layer: its name and where it lies. */
static size_t statistics_at(const trine_resnet *net, int layer, int which, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "average.%s.%s", net->spec.units[layer].bn,
             which ? "running_var" : "running_mean");
    return which ? net->bns[layer].var_offset : net->bns[layer].mean_offset;
}

static trine_status save_parameters(const trine__average *a, const float *flat, float *dense,
                                    trine_weights *out)
{
    for (int i = 0; i < a->net->parameter_count; i++) {
        const trine__parameter *p = &a->net->params[i];
        char name[NAME_BYTES];
        int64_t dims[4];
        if (!parameter_moved(a, i)) continue;
        for (int d = 0; d < p->rank; d++) dims[d] = p->dims[d];
        snprintf(name, sizeof name, "average.%s", p->name);
        trine__weight_layout_to_dense(&p->layout, flat + p->offset, dense);
        TRINE_TRY(trine_weights_add(out, name, TRINE_F32, p->rank, dims, dense));
    }
    return TRINE_OK;
}

static trine_status save_statistics(const trine__average *a, const float *flat, trine_weights *out)
{
    for (int i = 0; i < a->net->spec.unit_count; i++) {
        const int64_t channels = a->net->spec.units[i].out_channels;
        for (int which = 0; which < 2 && layer_moved(a, i); which++) {
            char name[NAME_BYTES];
            const size_t at = statistics_at(a->net, i, which, name);
            TRINE_TRY(trine_weights_add(out, name, TRINE_F32, 1, &channels, flat + at));
        }
    }
    return TRINE_OK;
}

/* Room for a part as it lies on the device, and behind it for one dense tensor of it. */
static trine_status read_part(const trine__average *a, trine_stream *stream, int part, float **out)
{
    const size_t floats = floats_of(a->net, part);
    void *memory;
    TRINE_TRY(trine__calloc(2 * floats, sizeof(float), &memory));
    const trine_status status = trine_buffer_read(stream, a->values[part], 0, memory, floats * sizeof(float));
    if (status == TRINE_OK)
        *out = memory;
    else
        free(memory);
    return status;
}

trine_status trine__average_save(const trine__average *a, trine_stream *stream, trine_weights *out)
{
    float *flat;
    TRINE_TRY(read_part(a, stream, PARAMETERS, &flat));
    trine_status status = save_parameters(a, flat, flat + a->net->flat_count, out);
    free(flat);
    TRINE_TRY(status);
    TRINE_TRY(read_part(a, stream, STATISTICS, &flat));
    status = save_statistics(a, flat, out);
    free(flat);
    return status;
}

/* The tensor, NULL where there is none. */
static trine_status find(const trine_weights *state, const char *name, int rank, const int64_t *dims,
                         size_t *used, const float **out)
{
    const trine_weights_tensor *t = trine_weights_find(state, name);
    *out = NULL;
    if (!t) return TRINE_OK;
    bool same = t->dtype == TRINE_F32 && t->rank == rank;
    for (int d = 0; same && d < rank; d++) same = t->dims[d] == dims[d];
    TRINE_CHECK(same, TRINE_ERR_FORMAT, "the saved run's '%s' has another shape or element type", name);
    const float *values = t->data;
    bool finite = true;
    for (size_t i = 0; i < t->bytes / sizeof *values; i++) finite &= isfinite(values[i]) != 0;
    TRINE_CHECK(finite, TRINE_ERR_FORMAT, "the saved run's '%s' holds a value that is not a number", name);
    ++*used;
    *out = values;
    return TRINE_OK;
}

/* @param flat NULL: only check */
static trine_status take_parameters(trine__average *a, const trine_weights *state, const uint64_t *counts,
                                    float *flat, size_t *used)
{
    for (int i = 0; i < a->net->parameter_count; i++) {
        const trine__parameter *p = &a->net->params[i];
        char name[NAME_BYTES];
        int64_t dims[4];
        const float *values;
        for (int d = 0; d < p->rank; d++) dims[d] = p->dims[d];
        snprintf(name, sizeof name, "average.%s", p->name);
        TRINE_TRY(find(state, name, p->rank, dims, used, &values));
        TRINE_CHECK(values || counts[i] == 0, TRINE_ERR_FORMAT, "the saved run has no '%s'", name);
        if (!values || !flat) continue;
        trine__weight_layout_from_dense(&p->layout, values, flat + p->offset);
        a->moved[i] = true;
    }
    return TRINE_OK;
}

static trine_status take_statistics(trine__average *a, const trine_weights *state, float *flat, size_t *used)
{
    for (int i = 0; i < a->net->spec.unit_count; i++) {
        const int64_t channels = a->net->spec.units[i].out_channels;
        for (int which = 0; which < 2; which++) {
            char name[NAME_BYTES];
            const float *values;
            const size_t at = statistics_at(a->net, i, which, name);
            TRINE_TRY(find(state, name, 1, &channels, used, &values));
            if (!values || !flat) continue;
            memcpy(flat + at, values, (size_t)channels * sizeof *values);
            a->moved[a->net->parameter_count + i] = true;
        }
    }
    return TRINE_OK;
}

trine_status trine__average_restore(trine__average *a, trine_stream *stream, const trine_weights *state,
                                    const uint64_t *counts, bool load, size_t *used)
{
    for (int part = 0; part < PARTS; part++) {
        float *flat = NULL;
        if (load) TRINE_TRY(read_part(a, stream, part, &flat));
        trine_status status = part == PARAMETERS ? take_parameters(a, state, counts, flat, used)
                                                 : take_statistics(a, state, flat, used);
        if (status == TRINE_OK && load)
            status =
                trine_buffer_write(stream, a->values[part], 0, flat, floats_of(a->net, part) * sizeof *flat);
        free(flat);
        TRINE_TRY(status);
    }
    return TRINE_OK;
}
