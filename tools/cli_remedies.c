/* SPDX-License-Identifier: MIT */
/* What trine drift --remedies says: one table, and what to do. */
#include "cli_remedies.h"

#include "cli_drift.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *yes_no(const trine_remedy *remedy, int value)
{
    return !remedy->possible ? "-" : value ? "yes" : "no";
}

static void set_answer(cJSON *object, const char *key, const trine_remedy *remedy, int value)
{
    if (remedy->possible)
        cJSON_AddBoolToObject(object, key, value);
    else
        cJSON_AddNullToObject(object, key);
}

static void set_row(cJSON *array, const trine_remedy *remedy)
{
    cJSON *object = cJSON_CreateObject();
    cli_set_text(object, "name", remedy->name);
    set_answer(object, "statistics_move", remedy, remedy->statistics_move);
    set_answer(object, "train_equals_eval", remedy, remedy->train_equals_eval);
    set_answer(object, "depends_on_batch", remedy, remedy->depends_on_batch);
    set_answer(object, "gradient_matches_eval", remedy, remedy->gradient_matches_eval);
    cli_set(object, "drift", remedy->drift); /* NaN becomes null */
    cJSON_AddItemToArray(array, object);
}

static void print_row(cli_run *run, const trine_remedy *remedy)
{
    char drift[32] = "-";
    if (remedy->possible && isnan(remedy->drift))
        snprintf(drift, sizeof drift, "NaN");
    else if (remedy->possible)
        snprintf(drift, sizeof drift, "%.4f %%", 100 * remedy->drift);
    cli_print(run, "%-20s  %-10s  %-7s  %-8s  %-9s  %12s\n", remedy->name,
              yes_no(remedy, remedy->statistics_move), yes_no(remedy, remedy->train_equals_eval),
              yes_no(remedy, remedy->depends_on_batch), yes_no(remedy, remedy->gradient_matches_eval), drift);
}

static int cures(const trine_remedy *r)
{
    return r->possible && !r->statistics_move && r->train_equals_eval && !r->depends_on_batch &&
           r->gradient_matches_eval && r->drift == 0;
}

static const trine_remedy *named(const trine_remedies *remedies, const char *name)
{
    for (int i = 0; i < remedies->count; i++)
        if (strcmp(remedies->items[i].name, name) == 0) return &remedies->items[i];
    return NULL;
}

static void print_advice(cli_run *run, const trine_remedies *remedies)
{
    const trine_remedy *cure = NULL, *chosen = named(remedies, "eval chosen layers");
    for (int i = 0; i < remedies->count && cure == NULL; i++)
        if (cures(&remedies->items[i])) cure = &remedies->items[i];
    cli_print(run, "\nWhat to do\n");
    if (cure == NULL)
        cli_print(run, "  No remedy holds on these images: look at the rows above.\n");
    else {
        cli_print(run, "  %s: nothing moves, and training sees the function that is evaluated:\n",
                  cure->name);
        cli_print_policy(run, cure->bn);
    }
    if (chosen != NULL && chosen->drift > 0) {
        cli_print(run, "  eval in the layers that most of the change comes from still leaves %.4g %%:\n",
                  100 * chosen->drift);
        cli_print_policy(run, chosen->bn);
    }
}

int cli_print_remedies(cli_run *run, const trine_remedies *remedies)
{
    cJSON *array = cJSON_AddArrayToObject(run->json, "remedies");
    cli_print(run, "\n%-20s  %-10s  %-7s  %-8s  %-9s  %12s\n", "remedy", "statistics", "train =", "depends",
              "gradients", "drift after");
    cli_print(run, "%-20s  %-10s  %-7s  %-8s  %-9s  %5d passes\n", "", "move", "eval", "on batch", "of eval",
              run->v.passes);
    for (int i = 0; i < remedies->count; i++) {
        print_row(run, &remedies->items[i]);
        set_row(array, &remedies->items[i]);
    }
    cli_print(run, "\nstatistics move    a running mean or variance has changed; counters aside\n"
                   "train = eval       the first training-mode output is evaluation's, within 1e-4\n"
                   "depends on batch   other images in the batch change an image's output\n"
                   "gradients of eval  they are those of evaluation's function, within 1e-3\n"
                   "Freezing parameters stops optimizer steps, and nothing else.\n"
                   "PyTorch's momentum 0 still counts num_batches_tracked; --bn no-update does not.\n");
    print_advice(run, remedies);
    return CLI_OK;
}
