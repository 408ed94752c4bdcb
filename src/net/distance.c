/* SPDX-License-Identifier: MIT */
#include "net/distance.h"

#include <math.h>

double trine__norm(const float *v, size_t count)
{
    double square = 0;
    for (size_t i = 0; i < count; i++) square += (double)v[i] * v[i];
    return sqrt(square);
}

double trine__distance(const float *a, const float *b, size_t count)
{
    double square = 0;
    for (size_t i = 0; i < count; i++) square += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(square);
}

double trine__mean_norm(const float *v, size_t rows, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++) sum += trine__norm(v + i * count, count);
    return sum / (double)rows;
}

static double ratio(double a, double b)
{
    return a == 0 ? 0 : a / b;
}

double trine__mean_moved(const float *mean, const float *from, const float *from_var, size_t channels)
{
    double spread = 0;
    for (size_t i = 0; i < channels; i++) spread += from_var[i];
    return ratio(trine__distance(mean, from, channels), sqrt(spread));
}

double trine__var_moved(const float *var, const float *from_var, size_t channels)
{
    return ratio(trine__distance(var, from_var, channels), trine__norm(from_var, channels));
}
