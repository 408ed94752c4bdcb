/* SPDX-License-Identifier: MIT */
/* The collapse guard: conditions on single steps, counted while they hold without a break, and for classification on windows. Shares of what was at first are taken
 * as lengths; squared and cosine distances grow with the square of a length. Source of what collapse looks like: Schroff et al. 2015
 * (sec. 3.2), Hermans et al. 2017 (sec. 4.2, where losses stand at the margin and at ln 2). */
#include "trine/collapse.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { FIRST = 8, FIRST_LOSS = 16, SHORT = 8, STUCK = 100, IDLE = 50, LONG = 200, DIVERGED = 10 };

/* Consecutive steps at which a condition holds. */
typedef struct counts {
    int norm, distance, loss, stuck, all_active, none_active, diverged;
} counts;

struct trine_collapse_guard {
    bool classifies;
    int warmup;
    int classes;  /* classify: that there are */
    double share; /* of the largest of them */
    trine_triplet_desc loss;
    int normalize, running_statistics; /* layers that train and normalise with running statistics */
    double lr;
    double
        still; /* the loss where nothing is told apart: d_ap = d_an, or the classes' shares guessed; 0: not known */
    int seen, told; /* steps with terms */
    float first_norm, first_distance;
    double untrained;                /* loss of the first step */
    double first_loss, first_square; /* sums over FIRST_LOSS steps */
    counts holds;
    float losses[LONG], accuracies[LONG]; /* of the last steps, rings; index: seen % LONG */
};

const char *trine_collapse_sign_name(trine_collapse_sign sign)
{
    static const char *const names[] = {"none",       "norm",        "distance", "margin",      "ln2",
                                        "all-active", "none-active", "guessing", "no-progress", "diverged"};
    return (unsigned)sign < TRINE_COUNTOF(names) ? names[sign] : NULL;
}

static void expect_even(trine_collapse_guard *g, int classes)
{
    g->classes = classes;
    g->share = classes > 0 ? 1.0 / classes : 1;
    g->still = classes > 1 ? log(classes) : 0;
}

trine_status trine_collapse_guard_create(const trine_trainer_options *options, const trine_resnet *net,
                                         trine_collapse_guard **out)
{
    TRINE_CHECK(options && out, TRINE_ERR_ARG, "collapse guard: options or result is missing");
    TRINE_CHECK((unsigned)options->objective <= TRINE_OBJECTIVE_CLASSIFY, TRINE_ERR_ARG,
                "collapse guard: unknown objective %d", (int)options->objective);
    void *memory;
    TRINE_TRY(trine__calloc(1, sizeof(trine_collapse_guard), &memory));
    trine_collapse_guard *g = memory;
    const trine_triplet_desc *d = &options->triplet;
    g->classifies = options->objective == TRINE_OBJECTIVE_CLASSIFY;
    g->warmup = options->warmup;
    g->loss = *d;
    g->normalize = options->normalize;
    g->lr = options->lr;
    if (g->classifies && net) expect_even(g, trine_resnet_outputs(net));
    if (!g->classifies && d->loss == TRINE_LOSS_TRIPLET)
        g->still = d->soft ? (d->temperature > 0 ? (double)d->temperature : 1) * log(2) : (double)d->margin;
    for (int i = 0; net && i < trine_resnet_bn_count(net); i++) {
        trine_bn_info info;
        if (trine_resnet_bn(net, i, &info) == TRINE_OK)
            g->running_statistics += !info.batch_statistics && !info.frozen;
    }
    *out = g;
    return TRINE_OK;
}

void trine_collapse_guard_set_classes(trine_collapse_guard *g, const trine_dataset *data)
{
    const size_t count = trine_dataset_count(data);
    const int numbers = trine_dataset_class_count(data);
    size_t *images = calloc((size_t)numbers + 1, sizeof *images), largest = 0;
    if (!images) return; /* the network's outputs, then */
    double entropy = 0;
    int classes = 0;
    for (size_t i = 0; i < count; i++) images[trine_dataset_label(data, i)]++;
    for (int k = 0; k < numbers; k++) {
        const double share = (double)images[k] / (double)count;
        if (images[k] == 0) continue;
        entropy -= share * log(share);
        largest = images[k] > largest ? images[k] : largest;
        classes++;
    }
    free(images);
    expect_even(g, classes);
    if (classes < 2) return;
    g->still = entropy;
    g->share = (double)largest / (double)count;
}

/* ---- conditions ---- */

static float larger(const trine_step_record *r)
{
    return fmaxf(r->d_ap, r->d_an);
}

/* Are both distances below this share of the length that they had at first? */
static bool shrunk(const trine_collapse_guard *g, const trine_step_record *r, double share)
{
    const double bound = g->loss.distance == TRINE_EUCLIDEAN ? share : share * share;
    return (double)larger(r) <= bound * (double)g->first_distance;
}

static bool alike(const trine_collapse_guard *g, const trine_step_record *r)
{
    return (double)r->d_an <= 1.5 * (double)r->d_ap + 1e-3 * (double)g->first_distance;
}

static bool at_still(const trine_collapse_guard *g, const trine_step_record *r, double within)
{
    return g->still > 0 && fabs((double)r->loss - g->still) <= within * g->still;
}

static bool hinges(const trine_collapse_guard *g)
{
    return g->loss.loss == TRINE_LOSS_TRIPLET && !g->loss.soft;
}

/* Mining under which no healthy loss stays at the margin. */
static bool may_not_stay(const trine_collapse_guard *g)
{
    const trine_mining mining = g->loss.mining;
    return mining == TRINE_BATCH_HARD || mining == TRINE_BATCH_ALL || mining == TRINE_HARDEST_FRACTION;
}

static void count(int *holds, bool now)
{
    *holds = now ? *holds + 1 : 0;
}

/* Mean and squared standard error of `n` losses from number `from` on. */
static void average(const trine_collapse_guard *g, int from, int n, double *mean, double *error)
{
    double sum = 0, square = 0;
    for (int i = from; i < from + n; i++) sum += (double)g->losses[i % LONG];
    *mean = sum / n;
    for (int i = from; i < from + n; i++)
        square += ((double)g->losses[i % LONG] - *mean) * ((double)g->losses[i % LONG] - *mean);
    *error = square / ((double)n * (n - 1));
}

/* Is the loss of the last LONG steps neither falling nor lower than at first? */
static bool stands(const trine_collapse_guard *g)
{
    double older, newer, whole, older_error, newer_error, whole_error;
    const int from = g->seen - LONG;
    average(g, from, LONG / 2, &older, &older_error);
    average(g, from + LONG / 2, LONG / 2, &newer, &newer_error);
    average(g, from, LONG, &whole, &whole_error);
    const double first = g->first_loss / FIRST_LOSS;
    const double first_error = fmax(0, g->first_square / FIRST_LOSS - first * first) / (FIRST_LOSS - 1);
    return newer >= older - sqrt(older_error + newer_error) &&
           whole >= first - 2 * sqrt(first_error + whole_error);
}

/* Is the accuracy of the last LONG steps hardly above what one answer for all gives? */
static bool guesses(const trine_collapse_guard *g)
{
    double sum = 0;
    for (int i = 0; i < LONG; i++) sum += (double)g->accuracies[i];
    return sum / LONG <= g->share + 0.05 * (1 - g->share);
}

static trine_collapse_sign judge_classes(trine_collapse_guard *g, const trine_step_record *r)
{
    double mean, error, older, newer, older_error, newer_error;
    if (!(g->still > 0)) return TRINE_COLLAPSE_NONE;
    count(&g->holds.diverged, (double)r->loss > DIVERGED * fmax(g->still, g->untrained));
    if (g->holds.diverged >= SHORT) return TRINE_COLLAPSE_DIVERGED;
    if (g->seen < LONG + FIRST_LOSS || r->step < g->warmup + LONG || !guesses(g)) return TRINE_COLLAPSE_NONE;
    average(g, g->seen - LONG, LONG, &mean, &error);
    average(g, g->seen - LONG, LONG / 2, &older, &older_error);
    average(g, g->seen - LONG / 2, LONG / 2, &newer, &newer_error);
    if (fabs(mean - g->still) <= 0.02 * g->still && newer >= older - sqrt(older_error + newer_error))
        return TRINE_COLLAPSE_GUESSING;
    return mean >= 0.9 * g->still && stands(g) ? TRINE_COLLAPSE_NO_PROGRESS : TRINE_COLLAPSE_NONE;
}

static trine_collapse_sign judge(trine_collapse_guard *g, const trine_step_record *r)
{
    counts *h = &g->holds;
    if (g->loss.soft && r->temperature > 0) g->still = (double)r->temperature * log(2); /* it may be learnt */
    const bool is_alike = alike(g, r) && (double)r->loss >= 0.5 * g->still;
    const double norm = (double)r->embedding_norm, first = (double)g->first_norm;
    count(&h->norm, (norm <= 0.02 * first && is_alike) || (g->normalize && norm <= 0.01 * first));
    count(&h->distance, shrunk(g, r, 0.05) && is_alike);
    count(&h->loss, at_still(g, r, 0.05) && shrunk(g, r, 0.2));
    count(&h->stuck, at_still(g, r, 0.02) && may_not_stay(g));
    count(&h->all_active, hinges(g) && r->active_fraction >= 1 && r->d_an <= r->d_ap);
    count(&h->none_active, hinges(g) && r->active_fraction <= 0 && (double)r->d_an <= 1.05 * (double)r->d_ap);
    if (h->norm >= SHORT) return TRINE_COLLAPSE_NORM;
    if (h->distance >= SHORT) return norm <= 0.1 * first ? TRINE_COLLAPSE_NORM : TRINE_COLLAPSE_DISTANCE;
    if (h->loss >= SHORT || h->stuck >= STUCK)
        return g->loss.soft ? TRINE_COLLAPSE_LN2 : TRINE_COLLAPSE_MARGIN;
    if (h->none_active >= IDLE) return TRINE_COLLAPSE_NONE_ACTIVE;
    if (h->all_active >= LONG && g->seen >= LONG + FIRST_LOSS && stands(g)) return TRINE_COLLAPSE_ALL_ACTIVE;
    return TRINE_COLLAPSE_NONE;
}

/* ---- the sentence ---- */

typedef struct sentence {
    char *text;
    size_t size, used;
} sentence;

static void say(sentence *s, const char *format, ...) TRINE_PRINTF(2, 3);
static void say(sentence *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(s->text + s->used, s->size - s->used, format, args);
    va_end(args);
    if (length > 0) s->used += (size_t)length < s->size - s->used ? (size_t)length : s->size - s->used - 1;
}

static double percent(float now, float first)
{
    return first > 0 ? 100 * (double)now / (double)first : 0;
}

static void say_classes(sentence *s, const trine_collapse_guard *g, const trine_collapse *c)
{
    const trine_step_record *r = &c->record;
    const bool even = g->share * g->classes < 1.001;
    if (c->sign == TRINE_COLLAPSE_DIVERGED)
        say(s, "the loss has grown beyond %d times that of guessing (%.4g)", DIVERGED, g->still);
    else if (c->sign == TRINE_COLLAPSE_NO_PROGRESS)
        say(s, "for %d steps the loss is no lower than at first (mean of the first %d steps: %.4g)", LONG,
            FIRST_LOSS, g->first_loss / FIRST_LOSS);
    else if (even)
        say(s, "for %d steps the loss stays at %.4g = ln %d, which it is where every class is as likely",
            LONG, g->still, g->classes);
    else
        say(s, "for %d steps the loss stays at %.4g, that of guessing by the shares of the %d classes", LONG,
            g->still, g->classes);
    say(s, "; loss %.4g, accuracy %.3g, norm %.3g", (double)r->loss, (double)r->accuracy,
        (double)r->embedding_norm);
    if (g->lr > 0)
        say(s, ". Try a lower learning rate (%g now)%s", g->lr,
            c->sign == TRINE_COLLAPSE_DIVERGED ? ", a warm-up, clipped gradients" : ", or a higher one");
    else
        say(s, ". Try a learning rate above 0 (%g now)", g->lr);
    if (c->sign != TRINE_COLLAPSE_DIVERGED) say(s, "; look at the labels");
    if (g->running_statistics > 0)
        say(s, "; BatchNorm with the batch's statistics (policy train; %d layers use the running ones)",
            g->running_statistics);
}

static void say_sign(sentence *s, const trine_collapse_guard *g, const trine_collapse *c)
{
    const trine_step_record *r = &c->record;
    switch (c->sign) {
    case TRINE_COLLAPSE_NORM:
        say(s, "the embeddings' norms have shrunk to %.2g %% of what they were (%.3g, at first %.3g)",
            percent(r->embedding_norm, c->first_norm), (double)r->embedding_norm, (double)c->first_norm);
        break;
    case TRINE_COLLAPSE_DISTANCE:
        say(s,
            "all embeddings are moving to one point: the larger distance is %.2g %% of what it was (at first "
            "%.3g)",
            percent(larger(r), c->first_distance), (double)c->first_distance);
        break;
    case TRINE_COLLAPSE_MARGIN:
        say(s, "the loss stays at the margin of %g, which it is where positives are as far as negatives",
            g->still);
        break;
    case TRINE_COLLAPSE_LN2:
        say(s,
            "the loss stays at %.4g = temperature * ln 2, which it is where positives are as far as "
            "negatives",
            g->still);
        break;
    case TRINE_COLLAPSE_ALL_ACTIVE:
        say(s,
            "every term has been active for %d steps, and the loss is no lower than at first (mean of the "
            "first %d "
            "steps: %.4g)",
            LONG, FIRST_LOSS, g->first_loss / FIRST_LOSS);
        break;
    default:
        say(s, "no term has been active for %d steps, though positives are about as far as negatives", IDLE);
        break;
    }
    say(s, "; loss %.4g, d_ap %.3g, d_an %.3g, norm %.3g, active %.2f", (double)r->loss, (double)r->d_ap,
        (double)r->d_an, (double)r->embedding_norm, (double)r->active_fraction);
}

/* What to change, the likeliest first. */
static void say_advice(sentence *s, const trine_collapse_guard *g, const trine_collapse *c)
{
    const bool hinge = hinges(g), triplet = g->loss.loss == TRINE_LOSS_TRIPLET;
    if (c->sign == TRINE_COLLAPSE_NONE_ACTIVE) {
        say(s, ". Try a larger margin (%g now)", (double)g->loss.margin);
        return;
    }
    if (c->sign == TRINE_COLLAPSE_ALL_ACTIVE) {
        say(s,
            ". Look at the labels and at what is frozen; try another learning rate (%g now), a smaller "
            "margin (%g now)",
            g->lr, (double)g->loss.margin);
        if (g->loss.mining == TRINE_BATCH_HARD) say(s, " or semi-hard mining");
        return;
    }
    say(s, ". Try ");
    if (!g->normalize) say(s, "embeddings scaled to length 1 (normalize), ");
    say(s, "a lower learning rate (%g now)", g->lr);
    if (triplet && g->loss.mining != TRINE_SEMI_HARD) say(s, ", semi-hard mining");
    if (hinge && g->normalize) say(s, ", another margin (%g now)", (double)g->loss.margin);
    if (g->running_statistics > 0)
        say(s,
            ", BatchNorm with the batch's statistics (policy train; %d layers that train use the running "
            "ones)",
            g->running_statistics);
}

int trine_collapse_guard_step(trine_collapse_guard *guard, const trine_step_record *r, trine_collapse *found)
{
    trine_collapse_guard *g = guard;
    const bool empty = !(r->loss > 0) && !(r->d_ap > 0) && !(r->d_an > 0) && !g->classifies;
    if (g->told || empty || !isfinite(r->loss) || !isfinite(larger(r)) || !isfinite(r->embedding_norm))
        return 0;
    if (g->seen == 0) g->untrained = (double)r->loss;
    g->accuracies[g->seen % LONG] = r->accuracy;
    g->losses[g->seen++ % LONG] = r->loss;
    if (g->seen <= FIRST_LOSS) {
        g->first_loss += (double)r->loss;
        g->first_square += (double)r->loss * (double)r->loss;
    }
    if (g->seen <= FIRST) {
        g->first_norm = fmaxf(g->first_norm, r->embedding_norm);
        g->first_distance = fmaxf(g->first_distance, larger(r));
        if (!g->classifies) return 0;
    }
    const trine_collapse_sign sign = g->classifies ? judge_classes(g, r) : judge(g, r);
    if (sign == TRINE_COLLAPSE_NONE) return 0;
    g->told = 1;
    *found = (trine_collapse){
        .sign = sign, .record = *r, .first_norm = g->first_norm, .first_distance = g->first_distance};
    sentence s = {found->text, sizeof found->text, 0};
    say(&s, "collapse at step %d: ", r->step);
    if (g->classifies) {
        say_classes(&s, g, found);
        return 1;
    }
    say_sign(&s, g, found);
    say_advice(&s, g, found);
    return 1;
}

void trine_collapse_guard_destroy(trine_collapse_guard **guard)
{
    if (!guard) return;
    free(*guard);
    *guard = NULL;
}
