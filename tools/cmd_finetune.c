/* SPDX-License-Identifier: MIT */
/* trine finetune: a metric loss from pretrained weights, with the retrieval figures before and after. */
#include "cli_events.h"
#include "cli_loss.h"
#include "cli_network.h"
#include "cli_report.h"
#include "cli_resume.h"
#include "cli_survey.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char feature_caches[] = "auto|off|memory|disk";

static const cli_option data_options[] = {
    {"weights", CLI_TEXT, CLI_AT(weights), "FILE", NULL, 0, 0,
     "pretrained weights: safetensors or a PyTorch checkpoint"},
    {"arch", CLI_TEXT, CLI_AT(arch), "A", NULL, 0, 0, "variant; not given: found from the weights"},
    {"data", CLI_TEXT, CLI_AT(data), "D", NULL, 0, 0,
     "training images: a folder of one folder per class, LIST.csv of path,label, idx:IMAGES,LABELS or "
     "npy:IMAGES,LABELS"},
    {"val", CLI_TEXT, CLI_AT(val), "D", NULL, 0, 0, "images to measure retrieval on, before and after"},
    {"classes", CLI_TEXT, CLI_AT(classes), "LIST", NULL, 0, 0,
     "class numbers and names to take from both, such as 5-9 or cat*"},
    {"input", CLI_TEXT, CLI_AT(input), "X.npy", NULL, 0, 0,
     "instead of --data: float32 [n][c][h][w], normalised already; all of it is the batch of every step"},
    {"labels", CLI_TEXT, CLI_AT(labels), "Y.npy", NULL, 0, 0, "its class numbers: int32 or int64"},
    {"out", CLI_TEXT, CLI_AT(out), "FILE", NULL, 0, 0, "weights to write (.safetensors or .pth)"},
    {"names", CLI_CHOICE, CLI_AT(names), "source|torchvision", "source", 0, 0,
     "tensor names in FILE: those that the weights came with, or torchvision's"},
};
static const cli_option batch_options[] = {
    {"embedding", CLI_CHOICE, CLI_AT(embedding), "pool|fc", NULL, 0, 0,
     "what the loss sees: globally pooled features, or the output of fc; not given: what the weights file "
     "says, else "
     "pool"},
    {"embedding-dim", CLI_INT, CLI_AT(embedding_dim), "D", "0", 0, 65536,
     "a fresh fc with D outputs; implies --embedding fc; 0: keep fc"},
    {"normalize", CLI_FLAG, CLI_AT(normalize), NULL, "1", 0, 0, "scale embeddings to length 1 (the default)"},
    {"no-normalize", CLI_NO, CLI_AT(normalize), NULL, NULL, 0, 0, "leave embeddings as they are"},
    {"classes-per-batch", CLI_INT, CLI_AT(classes_per_batch), "P", NULL, 1, 65536,
     "[8, or as many as there are]"},
    {"images-per-class", CLI_INT, CLI_AT(images_per_class), "K", NULL, 1, 65536,
     "of each class in a batch [8]; classes with fewer repeat some"},
    {"steps", CLI_INT, CLI_AT(steps), "N", NULL, 1, 1000000000, "steps to take [400]"},
    {"epochs", CLI_INT, CLI_AT(epochs), "N", NULL, 1, 1000000, "instead of --steps: passes over the images"},
};
static const cli_option policy_options[] = {
    {"freeze", CLI_TEXT, CLI_AT(freeze), "GLOBS", NULL, 0, 0,
     "parameters that do not train: GLOB,!GLOB,... in order, the last match wins, ! unfreezes"},
    {"bn", CLI_TEXT, CLI_AT(bn), "SPEC", NULL, 0, 0,
     "BatchNorm policies: [GLOB=]POLICY[:momentum=X][:eps=X],...; POLICY is train (also torch), eval, "
     "no-update, "
     "cumulative or "
     "auto: eval where frozen, train elsewhere; not given: what the weights file says, else auto"},
    {"feature-cache", CLI_CHOICE, CLI_AT(feature_cache), feature_caches, "auto", 0, 0,
     "where the features of a frozen trunk are kept, so that it runs once for each image; the losses are the "
     "same"},
    {"feature-memory", CLI_INT, CLI_AT(feature_memory), "MIB", "0", 0, 16777216,
     "most memory for them; 0: a quarter of the machine's"},
};
static const cli_section data_section = CLI_SECTION("Weights and data", data_options);
static const cli_section batch_section = CLI_SECTION("Embedding and batches", batch_options);
static const cli_section policy_section = CLI_SECTION("What may change", policy_options);
static const cli_section *const sections[] = {
    &data_section,          &cli_training_data_section, &cli_loss_section,   &batch_section,
    &policy_section,        &cli_precision_section,     &cli_resume_section, &cli_watch_section,
    &cli_optimizer_section, &cli_preprocess_section};

typedef struct finetune_job {
    cli_run *run;
    cJSON *epochs;
    int epoch_steps;
    double epoch_start, loss_sum; /* of the epoch */
    cli_training training;
    int told_empty; /* that a batch had no triplets */
    cli_watch watch;
    cli_report report;
} finetune_job;

/* Time and mean loss of an epoch that is over; printed where the run goes by epochs. */
static void end_epoch(finetune_job *job, const trine_step_record *r)
{
    const double now = cli_seconds(), seconds = now - job->epoch_start,
                 loss = job->loss_sum / job->epoch_steps;
    cJSON *row = cJSON_CreateObject();
    cli_set(row, "epoch", r->epoch);
    cli_set(row, "loss", loss);
    cli_set(row, "seconds", seconds);
    cJSON_AddItemToArray(job->epochs, row);
    if (job->run->v.epochs != CLI_UNSET)
        cli_print(job->run, "epoch %d  loss %.4f  %.2f s\n", r->epoch, loss, seconds);
    job->epoch_start = now;
    job->loss_sum = 0;
}

static int each_step(void *user, const trine_step_record *r, int steps)
{
    finetune_job *job = user;
    if (!job->told_empty && !(r->loss > 0) && !(r->d_ap > 0) && !(r->d_an > 0) && isfinite(r->loss)) {
        cli_talk(job->run, "warning: no triplets in the batch of step %d: the loss is 0", r->step);
        job->told_empty = 1;
    }
    const int ends = cli_watch_step(&job->watch, r, steps);
    if (job->watch.failed_step > 0) return ends;
    job->loss_sum += (double)r->loss;
    if (r->step % job->epoch_steps == 0) end_epoch(job, r);
    return ends;
}

/* What the options say without a look at any file. */
static int choose(cli_run *run, trine_trainer_options *options)
{
    cli_values *v = &run->v;
    /* Chosen by measurement: docs/recipes.md. A frozen trunk runs once for each image if nothing is cropped at random. */
    const int augment = v->freeze == NULL && v->input == NULL;
    const cli_train_defaults defaults = {TRINE_ADAMW,           0.01,    1e-3,   1e-4,
                                         TRINE_SCHEDULE_COSINE, augment, augment};
    int code = CLI_OK;
    if (v->steps != CLI_UNSET && v->epochs != CLI_UNSET)
        return cli_usage(&run->command->syntax, "--steps and --epochs exclude each other");
    if (v->embedding_dim > 0 && v->embedding == 0)
        return cli_usage(&run->command->syntax,
                         "--embedding-dim replaces fc: it does not go with --embedding pool");
    if (v->data != NULL && v->input != NULL)
        return cli_usage(&run->command->syntax, "--data and --input exclude each other");
    if (v->input != NULL && v->labels == NULL)
        return cli_usage(&run->command->syntax, "--input needs --labels");
    if (v->data == NULL && v->input == NULL) return cli_usage(&run->command->syntax, "--data D is needed");
    if (v->input != NULL && v->augment != NULL && strcmp(v->augment, "none") != 0)
        return cli_usage(&run->command->syntax, "--augment works on images, not on --input");
    if (v->input != NULL && v->accumulate > 1)
        return cli_usage(&run->command->syntax,
                         "all of --input is the batch: --accumulate does not go with it");
    if (v->input != NULL && (v->classes_per_batch != CLI_UNSET || v->images_per_class != CLI_UNSET))
        return cli_usage(&run->command->syntax, "all of --input is the batch: --classes-per-batch and "
                                                "--images-per-class do not go with it");
    if (v->images_per_class == CLI_UNSET) v->images_per_class = 8;
    if (v->embedding_dim > 0) v->embedding = 1;
    options->objective = TRINE_OBJECTIVE_TRIPLET;
    options->normalize = v->normalize;
    options->images_per_class = v->images_per_class;
    options->feature_cache = (trine_feature_cache)v->feature_cache;
    options->feature_memory = (size_t)v->feature_memory << 20;
    options->steps = v->steps != CLI_UNSET ? v->steps : v->epochs == CLI_UNSET ? 400 : 0;
    options->epochs = options->steps > 0 ? 0 : v->epochs;
    CLI_RUN(cli_choose_loss(run, options));
    CLI_RUN(cli_train_options(run, &defaults, options));
    CLI_RUN(cli_check_out(run));
    CLI_RUN(cli_report_check(run));
cleanup:
    return code;
}

/* Freezing and policies: options (--bn is in force already), else the file's (they too), else nothing frozen and auto. */
static int set_policies(cli_run *run)
{
    int code = CLI_OK;
    if (run->v.freeze != NULL) CLI_TRY(trine_resnet_freeze(run->net, run->v.freeze));
    if (run->v.bn == NULL && trine_weights_metadata(run->weights, "bn") == NULL)
        CLI_TRY(trine_resnet_set_bn(run->net, "auto"));
cleanup:
    return code;
}

static int choose_batch(cli_run *run, const cli_source *source, trine_trainer_options *options)
{
    int classes = 0;
    if (source->dataset == NULL) return CLI_OK;
    const int code = cli_classes_present(source->dataset, &classes);
    options->classes_per_batch = run->v.classes_per_batch;
    if (options->classes_per_batch == CLI_UNSET) options->classes_per_batch = classes < 8 ? classes : 8;
    return code;
}

static int recipe_is_default(const cli_run *run)
{
    const cli_values *v = &run->v;
    return v->bn == NULL && v->freeze == NULL && v->optimizer == CLI_UNSET && v->lr == NULL &&
           isnan(v->momentum) && isnan(v->weight_decay) && !v->nesterov && v->schedule == CLI_UNSET &&
           v->augment == NULL && v->accumulate == 1 && v->ema <= 0 && v->warmup == CLI_UNSET &&
           v->clip_norm <= 0 && v->steps == CLI_UNSET && v->epochs == CLI_UNSET &&
           v->classes_per_batch == CLI_UNSET;
}

static void talk(const cli_run *run, const cli_source *source, const trine_dataset *val,
                 const trine_preprocess *preprocess, const trine_trainer_options *o,
                 const trine_trainer *trainer)
{
    const char *kept = trine_weights_metadata(run->weights, "freeze");
    const char *freeze = run->v.freeze != NULL ? run->v.freeze : kept != NULL ? kept : "";
    cli_talk(run, "recipe       %s, docs/recipes.md",
             recipe_is_default(run) ? "the default" : "the default where no option says otherwise");
    cli_talk_network(run, run->v.weights, o->embedding);
    cli_talk(run, "freeze       %s%s", freeze[0] != '\0' ? freeze : "nothing",
             run->v.freeze == NULL && freeze[0] != '\0' ? ", from the weights file" : "");
    if (source->dataset != NULL)
        cli_talk_data(run, "training", source->name, source->dataset);
    else
        cli_talk(run, "training     %d images of %s, all of them in every step", source->shape.n,
                 source->name);
    if (val != NULL) cli_talk_data(run, "validation", run->v.val, val);
    if (source->dataset != NULL || val != NULL) cli_talk_images(run, preprocess);
    if (source->dataset != NULL)
        cli_talk(
            run, "batch        %d class%s x %d image%s%s", o->classes_per_batch,
            o->classes_per_batch == 1 ? "" : "es", o->images_per_class, o->images_per_class == 1 ? "" : "s",
            run->v.classes_per_batch == CLI_UNSET && o->classes_per_batch < 8 ? " (there are no more classes)"
                                                                              : "");
    cli_talk_loss(run, o);
    cli_talk(run, "embedding    %s, %d values, %s",
             o->embedding == TRINE_EMBED_FC ? "output of fc" : "pooled features",
             o->embedding == TRINE_EMBED_FC ? trine_resnet_outputs(run->net)
                                            : trine_resnet_features(run->net),
             o->normalize ? "scaled to length 1" : "not normalised");
    cli_talk_optimizer(run, o, trine_trainer_steps(trainer));
    if (trine_trainer_note(trainer)[0] != '\0') cli_talk(run, "trunk        %s", trine_trainer_note(trainer));
    cli_talk_out(run, run->v.names == 1 ? "torchvision's names" : "names as in the weights file");
}

/* What the run works on. */
typedef struct finetune_data {
    cli_source source;
    trine_dataset *val;
    trine_preprocess preprocess;
} finetune_data;

static void report_distance(cli_run *run, cJSON *object, const char *when, const char *name,
                            const trine_retrieval *figures)
{
    cJSON *part = cJSON_AddObjectToObject(object, name);
    cli_set_retrieval(part, figures);
    cli_print(run, "%-6s  %-9s  %11.4f  %11.4f  %11.4f  %8.4f\n", when, name, figures->recall_at_1,
              figures->recall_at_5, figures->r_precision, figures->map_at_r);
}

/* Retrieval on --val as it is now: the cosine figures flat, both distances as objects. The vectors stay in *out. */
static int evaluate(finetune_job *job, const finetune_data *d, const char *when, int step, trine_vectors *out)
{
    cli_run *run = job->run;
    const double start = cli_seconds();
    cli_progress progress;
    cli_progress_begin(&progress, "evaluating", "images", run->v.quiet);
    trine_embed_options options = cli_embed_options(run, &d->preprocess, &progress);
    trine_retrieval cosine, euclidean;
    trine_retrieval_options by = {.distance = TRINE_COSINE, .threads = run->v.threads};
    int code = CLI_OK;
    CLI_TRY(trine_embed_dataset(run->net, run->stream, d->val, &options, out));
    CLI_TRY(trine_retrieval_measure(run->stream, out->data, out->labels, out->count, out->dim, &by, &cosine));
    by.distance = TRINE_EUCLIDEAN;
    CLI_TRY(
        trine_retrieval_measure(run->stream, out->data, out->labels, out->count, out->dim, &by, &euclidean));
    cli_progress_end(&progress);
    cJSON *object = cJSON_AddObjectToObject(run->json, when);
    cli_set_text(object, "distance", "cosine"); /* of the figures beside it */
    cli_set_retrieval(object, &cosine);
    cli_print(run, "%-6s  %-9s  %11s  %11s  %11s  %8s\n", "", "distance", "recall_at_1", "recall_at_5",
              "r_precision", "map_at_r");
    report_distance(run, object, when, "cosine", &cosine);
    report_distance(run, object, when, "euclidean", &euclidean);
    job->watch.evaluate_seconds += cli_seconds() - start;
    cli_events_vectors(job->watch.events, run, when, step, out);
    CLI_RUN(cli_events_projector(job->watch.events, when, d->val, out));
    if (run->v.report == NULL) trine_vectors_free(out); /* nobody looks at them */
cleanup:
    cli_progress_end(&progress);
    return code;
}

/* The figures of before the first step, which a resumed run can no longer measure, and of the epoch so far. */
static int note_figures(void *user, trine_weights *state)
{
    const finetune_job *job = user;
    char sum[32];
    snprintf(sum, sizeof sum, "%.17g", job->loss_sum);
    const cJSON *before = cJSON_GetObjectItemCaseSensitive(job->run->json, "before");
    char *text = before != NULL ? cJSON_PrintUnformatted(before) : NULL;
    int code = text != NULL ? cli_set_note(state, "before", text) : CLI_OK;
    cJSON_free(text);
    if (code == CLI_OK) code = cli_set_note(state, "epoch", sum);
    return code;
}

static void recall_epoch(finetune_job *job, const cli_resume *resume)
{
    const char *text = cli_resume_note(resume, "epoch");
    if (text != NULL) job->loss_sum = strtod(text, NULL);
}

static int measure_before(finetune_job *job, const cli_resume *resume, const finetune_data *d)
{
    if (resume->state == NULL)
        return d->val != NULL ? evaluate(job, d, "before", 0, &job->watch.before) : CLI_OK;
    const char *text = cli_resume_note(resume, "before");
    cJSON *before = text != NULL ? cJSON_Parse(text) : NULL;
    if (before != NULL) cJSON_AddItemToObject(job->run->json, "before", before);
    return CLI_OK;
}

static int run_steps(cli_run *run, const cli_resume *resume, const trine_trainer_options *options,
                     finetune_job *job)
{
    int code = CLI_OK;
    job->epochs = cJSON_AddArrayToObject(run->json, "epochs");
    job->epoch_steps = trine_trainer_epoch_steps(job->training.trainer);
    job->epoch_start = cli_seconds();
    recall_epoch(job, resume);
    /* The trainer has said so where every batch is like that; an array (no classes_per_batch) it has seen. */
    job->told_empty = options->classes_per_batch <= 1 || options->images_per_class == 1;
    cli_watch_begin(&job->watch, "fine-tuning");
    CLI_RUN(cli_run_training(run, resume, &job->training));
    cli_watch_end(&job->watch);
    cli_set(run->json, "bad_images", (double)trine_trainer_bad_images(job->training.trainer));
cleanup:
    return code;
}

/* Said before anything is trained, which would be in vain. */
static int check_val(const cli_run *run, const trine_dataset *val)
{
    int classes = 0;
    const size_t count = trine_dataset_count(val);
    const int code = cli_classes_present(val, &classes);
    if (code != CLI_OK || (size_t)classes < count) return code;
    return cli_error(
        CLI_BAD_INPUT,
        "--val %s: %zu image%s of %d class%s, one of each: retrieval cannot be measured, expected "
        "two of a class at least",
        run->v.val, count, count == 1 ? "" : "s", classes, classes == 1 ? "" : "es");
}

/* The network as it begins or goes on, and the data. */
static int open_all(cli_run *run, const cli_resume *resume, finetune_data *d)
{
    int code = CLI_OK;
    if (resume->state == NULL) CLI_RUN(cli_read_weights(run));
    CLI_RUN(cli_open_source(run, &d->source));
    if (run->v.val != NULL) CLI_RUN(cli_open_val(run, &d->val));
    if (d->val != NULL) CLI_RUN(check_val(run, d->val));
    CLI_RUN(cli_open_network(run, resume->state == NULL ? run->v.embedding_dim : 0));
    CLI_RUN(cli_resume_check_outputs(run, resume));
    CLI_RUN(cli_check_channels(&d->source, run->net));
    CLI_RUN(set_policies(run));
    CLI_RUN(cli_choose_preprocess(run, d->source.dataset != NULL ? d->source.dataset : d->val,
                                  trine_resnet_arch(run->net), d->source.dataset != NULL, &d->preprocess));
cleanup:
    return code;
}

static int open_trainer(cli_run *run, const finetune_data *d, trine_trainer_options *options,
                        cli_resume *resume, trine_trainer **trainer)
{
    const cli_source *source = &d->source;
    int code = CLI_OK;
    CLI_RUN(choose_batch(run, source, options));
    options->embedding = cli_embedding(run);
    options->preprocess = d->preprocess;
    if (!cli_rate_given(run) && options->optimizer.kind != TRINE_SGD &&
        !cli_has_ending(trine_resnet_arch(run->net), "_cifar"))
        options->lr = 1e-4;
    if (source->dataset != NULL)
        CLI_TRY(trine_trainer_create(run->net, run->stream, options, source->dataset, trainer));
    else
        CLI_TRY(trine_trainer_create_array(run->net, run->stream, options, source->array.data, &source->shape,
                                           source->labels, trainer));
    CLI_RUN(cli_resume_trainer(run, resume, *trainer));
cleanup:
    return code;
}

static cli_checkpoint checkpoint_of(const cli_run *run, const finetune_data *d,
                                    const trine_trainer_options *options)
{
    const int known = d->source.dataset != NULL || d->val != NULL || run->v.preprocess != NULL ||
                      trine_weights_metadata(run->weights, "preprocess") != NULL;
    return (cli_checkpoint){.preprocess = known ? &d->preprocess : NULL,
                            .classes = d->source.dataset,
                            .embedding = options->embedding,
                            .normalize = options->normalize,
                            .torchvision_names = run->v.names == 1};
}

static int finetune(cli_run *run)
{
    trine_trainer_options options = {0};
    finetune_data d = {0};
    trine_trainer *trainer = NULL;
    cli_resume resume = {0};
    finetune_job job = {.run = run};
    cli_text talked = {0};
    int code = CLI_OK;
    run->talked = &talked;
    CLI_RUN(choose(run, &options));
    CLI_RUN(cli_resume_open(run, &resume));
    CLI_RUN(open_all(run, &resume, &d));
    CLI_RUN(open_trainer(run, &d, &options, &resume, &trainer));
    talk(run, &d.source, d.val, &d.preprocess, &options, trainer);
    cli_talk_resume(run, &resume);
    if (resume.state == NULL) CLI_RUN(cli_survey_data(run, d.source.dataset, d.val));
    CLI_RUN(cli_watch_open(run, &options, d.source.dataset, resume.history, resume.from, &job.watch));
    CLI_RUN(measure_before(&job, &resume, &d));
    job.training = (cli_training){.trainer = trainer,
                                  .checkpoint = checkpoint_of(run, &d, &options),
                                  .watch = &job.watch,
                                  .each_step = each_step,
                                  .note = note_figures,
                                  .user = &job};
    CLI_RUN(run_steps(run, &resume, &options, &job));
    if (d.val != NULL) CLI_RUN(evaluate(&job, &d, "after", trine_trainer_step(trainer), &job.report.after));
    job.report.val = d.val;
    job.report.batch =
        d.source.dataset != NULL ? options.classes_per_batch * options.images_per_class : d.source.shape.n;
    CLI_RUN(cli_report_write(run, &job.watch, &job.report));
    CLI_RUN(cli_events_close(&job.watch.events));
    code = cli_watch_verdict(&job.watch);
cleanup:
    cli_watch_close(&job.watch);
    trine_vectors_free(&job.report.after);
    cli_text_free(&talked);
    run->talked = NULL;
    trine_trainer_destroy(&trainer);
    trine_dataset_destroy(&d.val);
    cli_close_source(&d.source);
    cli_resume_close(&resume);
    return code;
}

const cli_command cmd_finetune = {
    {"finetune", "", "fine-tune pretrained weights with a metric loss", 0, 0, sections, CLI_COUNTOF(sections),
     "No other option is needed than in: trine finetune --weights resnet50.pth --data photos/train --val "
     "photos/val --out mine.safetensors. Everything that was chosen is printed before the first step. With "
     "--val, "
     "retrieval is measured in evaluation mode "
     "before and after, by cosine and by Euclidean distance; in --json the figures of `before` and "
     "`after` themselves are by cosine. Without --out nothing is kept."},
    finetune};
