/* SPDX-License-Identifier: MIT */
#include "cli_survey.h"

#include <stdio.h>

#include "cli_json.h"

enum { MOST_IMAGES = 4096, SHOWN = 3 }; /* that are decoded of each set; pairs that are shown */

static void add_json(cJSON *parent, const char *key, const trine_survey_summary *m)
{
    cJSON *o = cJSON_AddObjectToObject(parent, key);
    cli_set(o, "images", (double)m->images);
    cli_set(o, "looked_at", (double)m->looked_at);
    cli_set(o, "unreadable", (double)m->unreadable);
    cli_set(o, "grey", (double)m->grey);
    cli_set(o, "min_width", m->min_width);
    cli_set(o, "max_width", m->max_width);
    cli_set(o, "min_height", m->min_height);
    cli_set(o, "max_height", m->max_height);
    cli_set(o, "classes", m->classes);
    cli_set(o, "single_image_classes", m->single_classes);
    cli_set(o, "smallest_class_images", (double)m->smallest_images);
    cli_set(o, "largest_class_images", (double)m->largest_images);
}

/* "200 images a class, all 32x32, grey": how many classes there are has been said (cli_talk_data()) */
static void describe(const trine_survey_summary *m, char *out, size_t size)
{
    char images[48], sides[64];
    if (m->smallest_images == m->largest_images)
        snprintf(images, sizeof images, "%zu", m->largest_images);
    else
        snprintf(images, sizeof images, "%zu to %zu", m->smallest_images, m->largest_images);
    if (m->max_width == 0)
        snprintf(sides, sizeof sides, "none readable");
    else if (m->mixed_sizes)
        snprintf(sides, sizeof sides, "%d to %d wide, %d to %d high", m->min_width, m->max_width,
                 m->min_height, m->max_height);
    else
        snprintf(sides, sizeof sides, "all %dx%d", m->max_width, m->max_height);
    snprintf(out, size, "%s image%s a class, %s%s", images, m->largest_images == 1 ? "" : "s", sides,
             m->grey == 0                              ? ""
             : m->grey == m->looked_at - m->unreadable ? ", grey"
                                                       : ", some grey");
}

static void talk_set(const cli_run *run, const char *what, const trine_dataset *data,
                     const trine_survey *survey)
{
    const trine_survey_summary m = trine_survey_get_summary(survey);
    char text[200];
    describe(&m, text, sizeof text);
    cli_talk(run, "%-12s %s", what, text);
    if (m.looked_at < m.images)
        cli_talk(run, "%-12s (looked at %zu of %zu images)", "", m.looked_at, m.images);
    if (m.unreadable > 0)
        cli_talk(run, "warning: %zu image%s cannot be read, such as %s", m.unreadable,
                 m.unreadable == 1 ? "" : "s", trine_dataset_name(data, trine_survey_unreadable(survey, 0)));
}

/* What spoils training. */
static void talk_classes(const cli_run *run, const trine_dataset *data, const trine_survey *survey)
{
    enum { UNEVEN = 10 };
    const trine_survey_summary m = trine_survey_get_summary(survey);
    if (m.single_classes > 0 && run->v.min_per_class < 2)
        cli_talk(run,
                 "warning: %d of %d classes have one image only, which has no positive: --min-per-class 2 "
                 "leaves them out",
                 m.single_classes, m.classes);
    if (m.largest_images >= UNEVEN * m.smallest_images && m.smallest_images > 1)
        cli_talk(run, "warning: class '%s' has %zu images, '%s' %zu: --max-per-class evens them out",
                 trine_dataset_class_name(data, m.largest), m.largest_images,
                 trine_dataset_class_name(data, m.smallest), m.smallest_images);
}

/* Images of b that are in a too. */
static void talk_twice(const cli_run *run, const char *key, cJSON *report, const trine_dataset *a,
                       const trine_survey *in_a, const trine_dataset *b, const trine_survey *in_b,
                       const char *says)
{
    trine_survey_pair pairs[SHOWN];
    const size_t count = trine_survey_duplicates(in_a, in_b, pairs, SHOWN);
    cJSON *rows = cJSON_AddArrayToObject(report, key);
    cli_set(report, a == b ? "likely_duplicates" : "likely_duplicates_of_training", (double)count);
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        cJSON *row = cJSON_CreateArray();
        cJSON_AddItemToArray(row, cli_json_text(trine_dataset_name(a, pairs[i].a)));
        cJSON_AddItemToArray(row, cli_json_text(trine_dataset_name(b, pairs[i].b)));
        cJSON_AddItemToArray(rows, row);
    }
    if (count > 0)
        cli_talk(run, "warning: %zu %simage%s like one %s, such as %s and %s", count,
                 a == b ? "" : "validation ", count == 1 ? " looks" : "s look", says,
                 trine_dataset_name(a, pairs[0].a), trine_dataset_name(b, pairs[0].b));
}

int cli_survey_data(cli_run *run, const trine_dataset *data, const trine_dataset *val)
{
    trine_survey *in_data = NULL, *in_val = NULL;
    int code = CLI_OK;
    if (!run->v.data_report || (data == NULL && val == NULL)) return CLI_OK;
    cJSON *report = cJSON_AddObjectToObject(run->json, "data_report");
    if (data != NULL) {
        CLI_TRY(trine_survey_create(data, MOST_IMAGES, run->v.threads, &in_data));
        const trine_survey_summary m = trine_survey_get_summary(in_data);
        talk_set(run, "train data", data, in_data);
        talk_classes(run, data, in_data);
        add_json(report, "training", &m);
        talk_twice(run, "duplicates", report, data, in_data, data, in_data, "before it in --data");
    }
    if (val != NULL) {
        CLI_TRY(trine_survey_create(val, MOST_IMAGES, run->v.threads, &in_val));
        const trine_survey_summary m = trine_survey_get_summary(in_val);
        talk_set(run, "val data", val, in_val);
        add_json(report, "validation", &m);
    }
    if (data != NULL && val != NULL)
        talk_twice(run, "duplicates_of_training", report, data, in_data, val, in_val,
                   "of --data, which makes the figures too good");
cleanup:
    trine_survey_destroy(&in_data);
    trine_survey_destroy(&in_val);
    return code;
}
