/* SPDX-License-Identifier: MIT */
/* The losses of trine finetune as options: which go together, what they default to, and how they are told. */
#include "cli_loss.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char losses[] = "triplet|angular|multi-similarity|nt-xent";
static const char minings[] =
    "batch-hard|batch-all|semi-hard|easy-positive|distance-weighted|hardest-fraction";
static const char negatives[] = "hardest|semi-hard|easiest";
static const char distances[] = "euclidean|squared|cosine";

static const cli_option loss_options[] = {
    {"loss", CLI_CHOICE, CLI_AT(loss), losses, "triplet", 0, 0, "the loss"},
    {"distance", CLI_CHOICE, CLI_AT(distance), distances, NULL, 0, 0,
     "between embeddings [euclidean; cosine with other losses than triplet]"},
    {"mining", CLI_CHOICE, CLI_AT(mining), minings, NULL, 0, 0,
     "triplet: which triplets of a batch count [batch-hard]"},
    {"margin", CLI_TEXT, CLI_AT(margin), "M", NULL, 0, 0,
     "triplet: a number >= 0, or soft for T log(1 + exp((d_ap - d_an) / T)) [0.2]"},
    {"swap", CLI_FLAG, CLI_AT(swap), NULL, NULL, 0, 0,
     "triplet: d_an is the smaller of the negative's distances to the anchor and to the positive"},
    {"temperature", CLI_TEXT, CLI_AT(temperature), "T|learn[:T]", NULL, 0, 0,
     "nt-xent [0.1], --margin soft [1]; learn: a parameter that begins there, not below 0.01, with a rate "
     "that "
     "--lr may give by the name temperature"},
    {"negative", CLI_CHOICE, CLI_AT(negative), negatives, NULL, 0, 0,
     "easy-positive: the negative of an anchor [hardest]"},
    {"window", CLI_TEXT, CLI_AT(window), "LOW[,HIGH]", NULL, 0, 0,
     "semi-hard: between what d_an - d_ap lies; without HIGH, a pair that has no such negative takes the "
     "farthest "
     "[0]"},
    {"fraction", CLI_REAL, CLI_AT(fraction), "X", NULL, 1e-6, 1,
     "hardest-fraction: share of each anchor's negatives [0.1]"},
    {"draw-range", CLI_TEXT, CLI_AT(draw_range), "LOW,HIGH", NULL, 0, 0,
     "distance-weighted: distances below LOW weigh as LOW, from HIGH on nothing is drawn [0.5,1.4]"},
    {"angle", CLI_REAL, CLI_AT(angle), "DEGREES", NULL, 1, 89, "angular [45]"},
    {"alpha", CLI_REAL, CLI_AT(alpha), "X", NULL, 1e-6, 1e6, "multi-similarity: sharpness for positives [2]"},
    {"beta", CLI_REAL, CLI_AT(beta), "X", NULL, 1e-6, 1e6, "multi-similarity: sharpness for negatives [50]"},
    {"base", CLI_REAL, CLI_AT(base), "X", NULL, -1, 1, "multi-similarity: similarity between them [0.5]"},
    {"epsilon", CLI_REAL, CLI_AT(epsilon), "X", NULL, 0, 2,
     "multi-similarity: tolerance of its mining; 2: all pairs [0.1]"},
    {"memory-size", CLI_INT, CLI_AT(memory_size), "N", "0", 0, 32000,
     "embeddings of earlier steps that are candidates too"},
    {"memory-start", CLI_INT, CLI_AT(memory_start), "STEP", NULL, 1, 1000000000,
     "the first step that is remembered [1]"},
};
const cli_section cli_loss_section = CLI_SECTION("Loss", loss_options);

/* "LOW,HIGH", or "LOW" alone, which leaves *high. */
static int parse_range(const cli_run *run, const char *option, const char *text, int alone, float *low,
                       float *high)
{
    char *end;
    const double first = strtod(text, &end);
    double second = 0;
    int good = end != text && isfinite(first);
    const int both = good && *end == ',';
    if (both) {
        const char *rest = end + 1;
        second = strtod(rest, &end);
        good = end != rest && isfinite(second) && second > first;
    }
    if (!good || *end != '\0' || (!both && !alone))
        return cli_usage(&run->command->syntax, "--%s wants %s with HIGH above LOW, not '%s'", option,
                         alone ? "LOW or LOW,HIGH" : "LOW,HIGH", text);
    *low = (float)first;
    if (both) *high = (float)second;
    return CLI_OK;
}

static int parse_margin(const cli_run *run, trine_triplet_desc *triplet)
{
    const char *text = run->v.margin;
    char *end;
    if (text == NULL) return CLI_OK;
    if (strcmp(text, "soft") == 0) {
        triplet->soft = 1;
        return CLI_OK;
    }
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0 && value <= 1e6))
        return cli_usage(&run->command->syntax, "--margin wants soft or a number from 0 to 1e6, not '%s'",
                         text);
    triplet->margin = (float)value;
    return CLI_OK;
}

/* A number, learn, or learn:NUMBER. */
static int parse_temperature(const cli_run *run, trine_triplet_desc *triplet)
{
    const char *text = run->v.temperature;
    char *end;
    if (text == NULL) return CLI_OK;
    const int learn = strncmp(text, "learn", 5) == 0 && (text[5] == '\0' || text[5] == ':');
    triplet->learn_temperature = learn;
    if (learn && text[5] == '\0') return CLI_OK;
    const char *number = learn ? text + 6 : text;
    const double value = strtod(number, &end), least = learn ? (double)TRINE_LEAST_TEMPERATURE : 1e-6;
    if (end == number || *end != '\0' || !(value >= (learn ? 0.01 : 1e-6) && value <= 1e6))
        return cli_usage(
            &run->command->syntax,
            "--temperature wants a number from 1e-6 to 1e6, learn or learn:T with T from 0.01 to "
            "1e6, not '%s'",
            text);
    triplet->temperature = (float)fmax(value, least);
    return CLI_OK;
}

/* An option that was given says nothing without what it belongs to. */
static int check_company(const cli_run *run, const trine_triplet_desc *d)
{
    const cli_values *v = &run->v;
    const int triplet = d->loss == TRINE_LOSS_TRIPLET, similar = d->loss == TRINE_LOSS_MULTI_SIMILARITY;
    const struct {
        const char *name;
        int given, fits;
        const char *with;
    } rules[] = {
        {"mining", v->mining != CLI_UNSET, triplet, "--loss triplet"},
        {"margin", v->margin != NULL, triplet, "--loss triplet"},
        {"swap", v->swap, triplet, "--loss triplet"},
        {"temperature", v->temperature != NULL, d->loss == TRINE_LOSS_NT_XENT || (triplet && d->soft),
         "--loss nt-xent or --margin soft"},
        {"negative", v->negative != CLI_UNSET, triplet && d->mining == TRINE_EASY_POSITIVE,
         "--mining easy-positive"},
        {"window", v->window != NULL,
         triplet && (d->mining == TRINE_SEMI_HARD ||
                     (d->mining == TRINE_EASY_POSITIVE && d->negative == TRINE_SEMI_HARD_NEGATIVE)),
         "--mining semi-hard or --negative semi-hard"},
        {"fraction", !isnan(v->fraction), triplet && d->mining == TRINE_HARDEST_FRACTION,
         "--mining hardest-fraction"},
        {"draw-range", v->draw_range != NULL, triplet && d->mining == TRINE_DISTANCE_WEIGHTED,
         "--mining distance-weighted"},
        {"angle", !isnan(v->angle), d->loss == TRINE_LOSS_ANGULAR, "--loss angular"},
        {"alpha", !isnan(v->alpha), similar, "--loss multi-similarity"},
        {"beta", !isnan(v->beta), similar, "--loss multi-similarity"},
        {"base", !isnan(v->base), similar, "--loss multi-similarity"},
        {"epsilon", !isnan(v->epsilon), similar, "--loss multi-similarity"},
        {"memory-start", v->memory_start != CLI_UNSET, v->memory_size > 0, "--memory-size"},
    };
    for (size_t i = 0; i < CLI_COUNTOF(rules); i++)
        if (rules[i].given && !rules[i].fits)
            return cli_usage(&run->command->syntax, "--%s goes with %s", rules[i].name, rules[i].with);
    if ((similar || d->loss == TRINE_LOSS_ANGULAR) && d->distance != TRINE_COSINE)
        return cli_usage(&run->command->syntax,
                         "--loss %s is one of cosine distances: --distance %s does not go with it",
                         cli_choice_name(losses, (int)d->loss), cli_choice_name(distances, (int)d->distance));
    return CLI_OK;
}

int cli_choose_loss(cli_run *run, trine_trainer_options *options)
{
    const cli_values *v = &run->v;
    trine_triplet_desc *d = &options->triplet;
    int code = CLI_OK;
    *d = trine_triplet_desc_default((trine_triplet_loss)v->loss);
    const struct {
        double value;
        float *to;
    } reals[] = {{v->fraction, &d->fraction}, {v->angle, &d->angle}, {v->alpha, &d->alpha},
                 {v->beta, &d->beta},         {v->base, &d->base},   {v->epsilon, &d->epsilon}};
    for (size_t i = 0; i < CLI_COUNTOF(reals); i++)
        if (!isnan(reals[i].value)) *reals[i].to = (float)reals[i].value;
    if (v->mining != CLI_UNSET) d->mining = (trine_mining)v->mining;
    if (v->negative != CLI_UNSET) d->negative = (trine_negative)v->negative;
    if (v->distance != CLI_UNSET) d->distance = (trine_distance)v->distance;
    d->swap = v->swap;
    CLI_RUN(parse_margin(run, d));
    CLI_RUN(parse_temperature(run, d));
    CLI_RUN(check_company(run, d));
    if (v->window != NULL)
        CLI_RUN(parse_range(run, "window", v->window, 1, &d->window_lower, &d->window_upper));
    if (v->window != NULL && strchr(v->window, ',') == NULL) d->window_upper = d->window_lower; /* none */
    if (v->draw_range != NULL)
        CLI_RUN(parse_range(run, "draw-range", v->draw_range, 0, &d->weight_lower, &d->weight_upper));
    if (!(d->weight_lower > 0 && d->weight_upper < 2))
        code = cli_usage(&run->command->syntax,
                         "--draw-range lies between 0 and 2, the distances of unit "
                         "vectors, not '%s'",
                         v->draw_range);
    options->memory_size = v->memory_size;
    options->memory_start = v->memory_start == CLI_UNSET ? 0 : v->memory_start;
cleanup:
    return code;
}

/* What a triplet loss has beside its mining: ", margin 0.2, swap". */
static void triplet_words(const trine_triplet_desc *d, char *text, size_t size)
{
    char more[64] = "", margin[64];
    const int window = d->window_upper > d->window_lower;
    const char *learnt = d->learn_temperature ? ", learnt" : "";
    snprintf(margin, sizeof margin, "margin %g", (double)d->margin);
    if (d->soft && (d->temperature != 1 || d->learn_temperature))
        snprintf(margin, sizeof margin, "soft margin of temperature %g%s", (double)d->temperature, learnt);
    else if (d->soft)
        snprintf(margin, sizeof margin, "soft margin");
    if (d->mining == TRINE_HARDEST_FRACTION)
        snprintf(more, sizeof more, " of %g", (double)d->fraction);
    else if (d->mining == TRINE_DISTANCE_WEIGHTED)
        snprintf(more, sizeof more, " from %g to %g", (double)d->weight_lower, (double)d->weight_upper);
    else if (d->mining == TRINE_EASY_POSITIVE)
        snprintf(more, sizeof more, " with the %s negative", cli_choice_name(negatives, (int)d->negative));
    else if (d->mining == TRINE_SEMI_HARD && window)
        snprintf(more, sizeof more, " from %g to %g", (double)d->window_lower, (double)d->window_upper);
    else if (d->mining == TRINE_SEMI_HARD && d->window_lower != 0)
        snprintf(more, sizeof more, " from %g on", (double)d->window_lower);
    snprintf(text, size, "%s%s, %s distance, %s%s", cli_choice_name(minings, (int)d->mining), more,
             cli_choice_name(distances, (int)d->distance), margin, d->swap ? ", swap" : "");
}

void cli_talk_loss(const cli_run *run, const trine_trainer_options *options)
{
    const trine_triplet_desc *d = &options->triplet;
    char text[240];
    if (d->loss == TRINE_LOSS_TRIPLET)
        triplet_words(d, text, sizeof text);
    else if (d->loss == TRINE_LOSS_ANGULAR)
        snprintf(text, sizeof text, "angle %g, cosine distance", (double)d->angle);
    else if (d->loss == TRINE_LOSS_NT_XENT)
        snprintf(text, sizeof text, "temperature %g%s, %s distance", (double)d->temperature,
                 d->learn_temperature ? ", learnt" : "", cli_choice_name(distances, (int)d->distance));
    else
        snprintf(text, sizeof text, "alpha %g, beta %g, base %g, epsilon %g, cosine distance",
                 (double)d->alpha, (double)d->beta, (double)d->base, (double)d->epsilon);
    cli_talk(run, "loss         %s, %s", cli_choice_name(losses, (int)d->loss), text);
    if (options->memory_size > 0)
        cli_talk(run, "remembered   %d embeddings%s%.0d%s", options->memory_size,
                 options->memory_start > 1 ? ", from step " : "",
                 options->memory_start > 1 ? options->memory_start : 0,
                 options->memory_start > 1 ? " on" : "");
}
