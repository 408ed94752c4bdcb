/* SPDX-License-Identifier: MIT */
/* trine train: classification from random initial values, for a base to fine-tune. */
#include "cli_events.h"
#include "cli_network.h"
#include "cli_report.h"
#include "cli_resume.h"
#include "cli_survey.h"

#include <stdio.h>
#include <string.h>

static const cli_option own_options[] = {
    {"arch", CLI_TEXT, CLI_AT(arch), "A", NULL, 0, 0, "resnet18, resnet50, ..., resnet20_cifar, ..."},
    {"data", CLI_TEXT, CLI_AT(data), "D", NULL, 0, 0,
     "training images: a folder of one folder per class, LIST.csv of path,label, idx:IMAGES,LABELS or "
     "npy:IMAGES,LABELS"},
    {"val", CLI_TEXT, CLI_AT(val), "D", NULL, 0, 0, "images to measure the accuracy on at the end"},
    {"classes", CLI_TEXT, CLI_AT(classes), "LIST", NULL, 0, 0,
     "class numbers and names to take from both, such as 0-4 or 1,cat*"},
    {"epochs", CLI_INT, CLI_AT(epochs), "N", "10", 1, 1000000, "passes over the training images"},
    {"batch", CLI_INT, CLI_AT(batch), "B", "128", 2, 65536, "images a step"},
    {"bn", CLI_TEXT, CLI_AT(bn), "SPEC", NULL, 0, 0,
     "BatchNorm policies: [GLOB=]POLICY[:momentum=X][:eps=X],...; POLICY is train, "
     "eval, no-update, cumulative or auto [auto: train, as "
     "nothing is frozen]"},
    {"out", CLI_TEXT, CLI_AT(out), "FILE", NULL, 0, 0, "weights to write (.safetensors or .pth)"},
};
static const cli_section own_section = CLI_SECTION("Training", own_options);
static const cli_section *const sections[] = {
    &own_section,       &cli_training_data_section, &cli_precision_section, &cli_resume_section,
    &cli_watch_section, &cli_optimizer_section,     &cli_preprocess_section};

typedef struct train_job {
    cli_run *run;
    cli_watch watch;
    cli_report report;
    cJSON *epochs;
    cli_training training;
    int epoch, epoch_steps;
    double images, batch;        /* of an epoch, of a full step */
    double seen, loss, accuracy; /* of the epoch so far: images, and sums over them */
} train_job;

static void end_epoch(train_job *job)
{
    if (job->epoch_steps == 0) return;
    cJSON *row = cJSON_CreateObject();
    const double loss = job->loss / job->seen, accuracy = job->accuracy / job->seen;
    cli_set(row, "epoch", job->epoch);
    cli_set(row, "loss", loss);
    cli_set(row, "accuracy", accuracy);
    cJSON_AddItemToArray(job->epochs, row);
    cli_print(job->run, "epoch %d  loss %.4f  accuracy %.4f\n", job->epoch, loss, accuracy);
    job->epoch_steps = 0;
    job->seen = job->loss = job->accuracy = 0;
}

static int each_step(void *user, const trine_step_record *record, int steps)
{
    train_job *job = user;
    if (record->epoch != job->epoch) end_epoch(job);
    const double left = job->images - job->epoch_steps * job->batch;
    const double images = left < job->batch ? left : job->batch; /* an epoch's last step may be smaller */
    job->epoch = record->epoch;
    job->epoch_steps++;
    job->seen += images;
    job->loss += images * (double)record->loss;
    job->accuracy += images * (double)record->accuracy;
    const int ends = cli_watch_step(&job->watch, record, steps);
    if (record->step == steps) end_epoch(job);
    return ends;
}

/* The epoch that a saved run was in. */
static int note_epoch(void *user, trine_weights *state)
{
    const train_job *job = user;
    char text[128];
    snprintf(text, sizeof text, "%d %d %.17g %.17g %.17g", job->epoch, job->epoch_steps, job->seen, job->loss,
             job->accuracy);
    return cli_set_note(state, "epoch", text);
}

static void recall_epoch(train_job *job, const cli_resume *resume)
{
    const char *text = cli_resume_note(resume, "epoch");
    train_job saved = *job;
    if (text != NULL && sscanf(text, "%d %d %lf %lf %lf", &saved.epoch, &saved.epoch_steps, &saved.seen,
                               &saved.loss, &saved.accuracy) == 5)
        *job = saved;
}

/* The pooled features of the validation images, for the report and event files alone. */
static int look_at_features(train_job *job, const trine_dataset *val, trine_embed_options *options)
{
    cli_run *run = job->run;
    const int step = trine_trainer_step(job->training.trainer);
    trine_vectors *vectors = &job->report.after;
    int code = CLI_OK;
    if (run->v.report == NULL && run->v.log_dir == NULL) return CLI_OK;
    options->embedding = TRINE_EMBED_POOL;
    CLI_TRY(trine_embed_dataset(run->net, run->stream, val, options, vectors));
    cli_events_vectors(job->watch.events, run, "after", step, vectors);
    CLI_RUN(cli_events_projector(job->watch.events, "after", val, vectors));
cleanup:
    return code;
}

static int validate(train_job *job, const trine_dataset *val, const trine_preprocess *preprocess)
{
    cli_run *run = job->run;
    const double start = cli_seconds();
    cli_progress progress;
    cli_progress_begin(&progress, "validating", "images", run->v.quiet);
    trine_embed_options options = cli_embed_options(run, preprocess, &progress);
    trine_vectors vectors = {0};
    double accuracy;
    int code = CLI_OK;
    options.embedding = TRINE_EMBED_FC;
    options.normalize = 0;
    CLI_TRY(trine_embed_dataset(run->net, run->stream, val, &options, &vectors));
    CLI_TRY(trine_classify_accuracy(vectors.data, vectors.labels, vectors.count, vectors.dim, &accuracy));
    CLI_RUN(look_at_features(job, val, &options));
    cli_progress_end(&progress);
    cli_set(run->json, "count", (double)vectors.count);
    cli_set(run->json, "accuracy", accuracy);
    cli_print(run, "accuracy on %zu validation images %.4f\n", vectors.count, accuracy);
    cli_events_scalar(job->watch.events, trine_trainer_step(job->training.trainer), "val/accuracy", accuracy);
    job->watch.evaluate_seconds += cli_seconds() - start;
cleanup:
    cli_progress_end(&progress);
    trine_vectors_free(&vectors);
    return code;
}

/* Class numbers are ranks of folder names: both data sets must mean the same by them. */
static int check_classes(const trine_dataset *data, const trine_dataset *val)
{
    const int classes = trine_dataset_class_count(data), others = trine_dataset_class_count(val);
    for (size_t i = 0; i < trine_dataset_count(val); i++)
        if (trine_dataset_label(val, i) >= classes)
            return cli_error(CLI_BAD_INPUT, "%s: has class number %d, but --data has classes 0 to %d only",
                             trine_dataset_name(val, i), trine_dataset_label(val, i), classes - 1);
    if (trine_dataset_is_idx(data) || trine_dataset_is_idx(val)) return CLI_OK;
    for (int i = 0; i < others; i++)
        if (i >= classes || strcmp(trine_dataset_class_name(data, i), trine_dataset_class_name(val, i)) != 0)
            return cli_error(CLI_BAD_INPUT, "class %d is '%s' in --val but '%s' in --data", i,
                             trine_dataset_class_name(val, i),
                             i < classes ? trine_dataset_class_name(data, i) : "not there");
    return CLI_OK;
}

static int open_data(cli_run *run, trine_dataset **data, trine_dataset **val)
{
    const cli_values *v = &run->v;
    int code = CLI_OK;
    if (v->arch == NULL) return cli_usage(&run->command->syntax, "--arch A is needed");
    if (v->data == NULL) return cli_usage(&run->command->syntax, "--data D is needed");
    CLI_RUN(cli_check_out(run));
    CLI_RUN(cli_report_check(run));
    CLI_RUN(cli_open_data(run, data));
    if (v->val == NULL) goto cleanup;
    CLI_RUN(cli_open_val(run, val));
    CLI_RUN(check_classes(*data, *val));
cleanup:
    return code;
}

/* Random initial values, or the network of the saved run. */
static int open_network(cli_run *run, const trine_dataset *data)
{
    const cli_values *v = &run->v;
    const trine_resnet_options what = {
        .arch = v->arch, .classes = trine_dataset_class_count(data), .seed = v->seed};
    int code = CLI_OK;
    const int fresh = run->weights == NULL;
    CLI_RUN(cli_open_device(run, 0));
    if (fresh) {
        CLI_TRY(trine_resnet_create(run->context, &what, &run->net));
        CLI_RUN(cli_set_precision(run));
    } else
        CLI_RUN(cli_open_network(run, 0));
    if (fresh || v->bn != NULL) CLI_TRY(trine_resnet_set_bn(run->net, v->bn != NULL ? v->bn : "auto"));
cleanup:
    return code;
}

/* Network and trainer, and what was chosen for them. */
static int prepare(train_job *job, const trine_dataset *data, const trine_dataset *val, cli_resume *resume,
                   trine_preprocess *preprocess, trine_trainer **trainer)
{
    static const cli_train_defaults defaults = {TRINE_SGD, 0.1, 1e-3, 5e-4, TRINE_SCHEDULE_COSINE, 1, 1};
    cli_run *run = job->run;
    const cli_values *v = &run->v;
    int code = CLI_OK;
    trine_trainer_options options = {.objective = TRINE_OBJECTIVE_CLASSIFY,
                                     .embedding = TRINE_EMBED_FC,
                                     .batch = v->batch,
                                     .epochs = v->epochs};
    CLI_RUN(cli_train_options(run, &defaults, &options));
    CLI_RUN(open_network(run, data));
    CLI_RUN(cli_choose_preprocess(run, data, trine_resnet_arch(run->net), 1, preprocess));
    options.preprocess = *preprocess;
    CLI_TRY(trine_trainer_create(run->net, run->stream, &options, data, trainer));
    CLI_RUN(cli_resume_trainer(run, resume, *trainer));
    cli_talk_network(run, v->weights, TRINE_EMBED_FC);
    cli_talk_data(run, "training", v->data, data);
    if (val != NULL) cli_talk_data(run, "validation", v->val, val);
    cli_talk_images(run, preprocess);
    cli_talk(run, "batch        %d images", v->batch);
    cli_talk_optimizer(run, &options, trine_trainer_steps(*trainer));
    cli_talk_out(run, "torchvision's names");
    cli_talk_resume(run, resume);
    if (trine_dataset_class_count(data) == 1)
        cli_talk(run, "warning: one class only: there is nothing to learn, the loss is 0");
    if (resume->state == NULL) CLI_RUN(cli_survey_data(run, data, val));
    CLI_RUN(cli_watch_open(run, &options, data, resume->history, resume->from, &job->watch));
cleanup:
    return code;
}

/* The figures of the whole run, those of a resumed one from its first step on. */
static int run_epochs(cli_run *run, const cli_resume *resume, train_job *job)
{
    int code = CLI_OK;
    job->epochs = cJSON_AddArrayToObject(run->json, "epochs");
    recall_epoch(job, resume);
    cli_watch_begin(&job->watch, "training");
    CLI_RUN(cli_run_training(run, resume, &job->training));
    if (job->watch.stop) end_epoch(job);
    cli_watch_end(&job->watch);
    cli_set(run->json, "bad_images", (double)trine_trainer_bad_images(job->training.trainer));
cleanup:
    return code;
}

static int train(cli_run *run)
{
    trine_dataset *data = NULL, *val = NULL;
    trine_trainer *trainer = NULL;
    trine_preprocess preprocess;
    cli_resume resume = {0};
    train_job job = {.run = run};
    cli_text talked = {0};
    int code = CLI_OK;
    run->talked = &talked;
    CLI_RUN(open_data(run, &data, &val));
    CLI_RUN(cli_resume_open(run, &resume));
    CLI_RUN(prepare(&job, data, val, &resume, &preprocess, &trainer));
    job.images = (double)trine_dataset_count(data);
    job.batch = (double)run->v.batch * run->v.accumulate;
    job.training = (cli_training){.trainer = trainer,
                                  .checkpoint = {.preprocess = &preprocess,
                                                 .classes = data,
                                                 .embedding = TRINE_EMBED_POOL,
                                                 .torchvision_names = 1},
                                  .watch = &job.watch,
                                  .each_step = each_step,
                                  .note = note_epoch,
                                  .user = &job};
    CLI_RUN(run_epochs(run, &resume, &job));
    if (val != NULL) CLI_RUN(validate(&job, val, &preprocess));
    job.report.val = val;
    job.report.batch = run->v.batch;
    CLI_RUN(cli_report_write(run, &job.watch, &job.report));
    CLI_RUN(cli_events_close(&job.watch.events));
    code = cli_watch_verdict(&job.watch);
cleanup:
    cli_watch_close(&job.watch);
    trine_vectors_free(&job.report.after);
    cli_text_free(&talked);
    run->talked = NULL;
    trine_trainer_destroy(&trainer);
    trine_dataset_destroy(&val);
    trine_dataset_destroy(&data);
    cli_resume_close(&resume);
    return code;
}

const cli_command cmd_train = {{"train", "",
                                "train a classifier from random weights, for a base to fine-tune", 0, 0,
                                sections, CLI_COUNTOF(sections), NULL},
                               train};
