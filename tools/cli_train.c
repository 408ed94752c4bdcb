/* SPDX-License-Identifier: MIT */
/* Options and talk of training; checkpoints. */
#include "cli_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char optimizers[] = "sgd|adam|adamw";
static const char schedules[] = "constant|step|cosine|plateau";

static const cli_option optimizer_options[] = {
    {"optimizer", CLI_CHOICE, CLI_AT(optimizer), optimizers, NULL, 0, 0,
     "with PyTorch's formulas; train: sgd; finetune: adamw, or sgd where --momentum or --nesterov is given"},
    {"lr", CLI_TEXT, CLI_AT(lr), "X[,GLOB=X...]", NULL, 0, 0,
     "learning rate, and rates of parameters by name, the last match wins, such as 1e-3,fc.*=1e-2; sgd: 0.1 "
     "in "
     "train, 0.01 in finetune; adam, adamw: 1e-3, and 1e-4 in finetune for networks of larger images than "
     "32x32"},
    {"clip-norm", CLI_REAL, CLI_AT(clip_norm), "X", "0", 0, 1e9,
     "scale gradients down to this norm of all of them together; 0: no"},
    {"warmup", CLI_INT, CLI_AT(warmup), "N", NULL, 0, 1000000000,
     "steps in which the rate rises linearly; the schedule covers the rest [0]"},
    {"momentum", CLI_REAL, CLI_AT(momentum), "X", NULL, 0, 0.9999, "of sgd [0.9]"},
    {"nesterov", CLI_FLAG, CLI_AT(nesterov), NULL, NULL, 0, 0, "Nesterov's momentum"},
    {"weight-decay", CLI_REAL, CLI_AT(weight_decay), "X", NULL, 0, 1000,
     "sgd: 5e-4 in train, 1e-4 in finetune; adam: 0; adamw: 0.01"},
    {"schedule", CLI_CHOICE, CLI_AT(schedule), schedules, NULL, 0, 0,
     "of the learning rate: constant, x 0.1 at 1/2 and 3/4, cosine to 0 (the default), or x 0.1 when the "
     "loss "
     "stands"},
    {"augment", CLI_TEXT, CLI_AT(augment), "LIST", NULL, 0, 0,
     "none, or random changes, with what each of them takes: flip; crop; flip-crop (both); "
     "rrc (a part of the image, resized) :scale=0.08-1 :ratio=0.75-1.333; "
     "jitter (of colours) :brightness=0.4 :contrast=0.4 :saturation=0.4 :hue=0.1; "
     "erase (a rectangle) :p=0.5 :scale=0.02-0.33 :ratio=0.3-3.3 :value=0 or random; such as "
     "flip,rrc:scale=0.2-1,jitter; torchvision's semantics "
     "[flip-crop; finetune: none with --freeze, so that features can be kept, and with --input]"},
    {"accumulate", CLI_INT, CLI_AT(accumulate), "N", "1", 1, 65536,
     "batches of a step, whose gradients are averaged; each is mined and normalised by itself"},
    {"ema", CLI_REAL, CLI_AT(ema), "DECAY", "0", 0, 0.9999999,
     "keep a running average of the weights, DECAY * average + (1 - DECAY) * weights after every step, "
     "BatchNorm's running "
     "statistics included: it is what --out gets and --val measures; 0: no"},
    {"checkpoint-activations", CLI_FLAG, CLI_AT(checkpoint_activations), NULL, NULL, 0, 0,
     "keep only what goes into each block and run blocks again on the way back: less memory, about one "
     "forward pass more time, the same results"},
};
const cli_section cli_optimizer_section = CLI_SECTION("Optimizer", optimizer_options);

int cli_rate_given(const cli_run *run)
{
    const char *text = run->v.lr;
    return text != NULL && memchr(text, '=', strcspn(text, ",")) == NULL;
}

/* --lr: a number, "GLOB=X,...", or both. */
static int choose_rates(const cli_run *run, trine_trainer_options *out)
{
    const char *text = run->v.lr;
    if (text == NULL) return CLI_OK;
    const size_t first = strcspn(text, ",");
    if (cli_rate_given(run)) {
        char *end;
        const double value = strtod(text, &end);
        if (end == text || end != text + first || !(value >= 0 && value <= 1000))
            return cli_usage(&run->command->syntax,
                             "--lr: '%s', expected a number from 0 to 1000, GLOB=X,... or both", text);
        out->lr = value;
        text += first + (text[first] == ',');
    }
    out->lr_globs = text[0] != '\0' ? text : NULL;
    return CLI_OK;
}

int cli_train_options(cli_run *run, const cli_train_defaults *defaults, trine_trainer_options *out)
{
    const cli_values *v = &run->v;
    const int sgd = !isnan(v->momentum) || v->nesterov;
    const trine_optimizer_kind kind = v->optimizer != CLI_UNSET ? (trine_optimizer_kind)v->optimizer
                                      : sgd                     ? TRINE_SGD
                                                                : defaults->optimizer;
    if (kind != TRINE_SGD && sgd)
        return cli_usage(&run->command->syntax, "--momentum and --nesterov belong to --optimizer sgd");
    out->optimizer = trine_optimizer_desc_default(kind);
    if (kind == TRINE_SGD) {
        out->optimizer.momentum = isnan(v->momentum) ? 0.9f : (float)v->momentum;
        out->optimizer.nesterov = v->nesterov;
        out->optimizer.weight_decay = (float)defaults->sgd_weight_decay;
    }
    if (v->nesterov && !(out->optimizer.momentum > 0))
        return cli_usage(&run->command->syntax, "--nesterov needs a momentum above 0");
    if (!isnan(v->weight_decay)) out->optimizer.weight_decay = (float)v->weight_decay;
    out->lr = kind == TRINE_SGD ? defaults->sgd_lr : defaults->adam_lr;
    const int code = choose_rates(run, out);
    if (code != CLI_OK) return code;
    out->clip_norm = v->clip_norm;
    out->warmup = v->warmup != CLI_UNSET ? v->warmup : 0;
    out->schedule = v->schedule != CLI_UNSET ? (trine_schedule)v->schedule : defaults->schedule;
    out->augment = (trine_augment){.flip = defaults->flip, .crop = defaults->crop};
    if (v->augment != NULL && trine_augment_parse(v->augment, &out->augment) != TRINE_OK)
        return cli_usage(&run->command->syntax, "--%s", trine_last_error());
    out->accumulate = v->accumulate;
    out->ema = v->ema;
    out->checkpoint_activations = v->checkpoint_activations;
    out->seed = v->seed;
    out->threads = v->threads;
    out->fail_bad = v->on_bad_image == 0;
    out->log = cli_log;
    out->log_user = run;
    return CLI_OK;
}

/* What accumulation does to BatchNorm's running statistics, whose layers mostly have one momentum. */
static void talk_accumulation(const cli_run *run, int batches)
{
    char running[96] = "running ones stay";
    double first = -1;
    int one = 1;
    for (int i = 0; i < trine_resnet_bn_count(run->net); i++) {
        trine_bn_info info;
        if (trine_resnet_bn(run->net, i, &info) != TRINE_OK || !info.updates) continue;
        const double momentum = info.policy == TRINE_BN_CUMULATIVE ? -2 : (double)info.momentum;
        if (first == -1) first = momentum;
        one = one && momentum == first;
    }
    if (first != -1) snprintf(running, sizeof running, "running ones move %d times a step", batches);
    cli_talk(run,
             "accumulate   %d batches a step, the mean of their gradients; BatchNorm's statistics are each "
             "batch's own, %s",
             batches, running);
    if (first >= 0 && one)
        cli_talk(run, "             (momentum %g acts as %.4g a step)", first, 1 - pow(1 - first, batches));
}

static void talk_average(const cli_run *run, double decay, int steps)
{
    const double begun = pow(decay, steps);
    cli_talk(run,
             "ema          %g: --out%s the average of weights and running statistics%s; %.2g %% of it is how "
             "the run began",
             decay, run->v.val != NULL ? " and validation get" : " gets",
             run->v.save_every != CLI_UNSET || run->v.resume ? ", FILE.state the weights themselves" : "",
             100 * begun);
    if (begun > 0.05)
        cli_talk(run,
                 "warning: %g ^ %d steps = %.2f: much of the average is how the run began; a smaller --ema "
                 "forgets faster",
                 decay, steps, begun);
}

void cli_talk_optimizer(const cli_run *run, const trine_trainer_options *o, int steps)
{
    const trine_optimizer_desc *d = &o->optimizer;
    char more[64] = "";
    char warm[48] = "", clip[48] = "";
    if (o->clip_norm > 0) snprintf(clip, sizeof clip, ", gradients clipped to norm %g", o->clip_norm);
    if (o->warmup > 0)
        snprintf(warm, sizeof warm, " after %d step%s of warm-up", o->warmup, o->warmup == 1 ? "" : "s");
    if (d->kind == TRINE_SGD)
        snprintf(more, sizeof more, ", momentum %g%s", (double)d->momentum, d->nesterov ? " (Nesterov)" : "");
    cli_talk(run, "optimizer    %s, lr %g%s%s%s, weight decay %g, schedule %s%s%s",
             cli_choice_name(optimizers, (int)d->kind), o->lr, o->lr_globs != NULL ? "," : "",
             o->lr_globs != NULL ? o->lr_globs : "", more, (double)d->weight_decay,
             cli_choice_name(schedules, (int)o->schedule), warm, clip);
    char epochs[32] = "", augment[TRINE_AUGMENT_TEXT] = "";
    trine_augment_text(&o->augment, augment);
    if (o->epochs > 0) snprintf(epochs, sizeof epochs, " (%d epoch%s)", o->epochs, o->epochs == 1 ? "" : "s");
    cli_talk(run, "run          %d step%s%s, augmentation %s, seed %llu", steps, steps == 1 ? "" : "s",
             epochs, augment, (unsigned long long)o->seed);
    if (o->accumulate > 1) talk_accumulation(run, o->accumulate);
    if (o->ema > 0) talk_average(run, o->ema, steps);
    uint64_t planned = 0;
    trine_context_memory(run->context, &planned, NULL);
    cli_set(run->json, "planned_bytes", (double)planned);
    cli_talk(run, "memory       %.0f MiB on the device%s", (double)planned / (1 << 20),
             o->checkpoint_activations ? ", blocks run again on the way back" : "");
}

void cli_talk_network(const cli_run *run, const char *origin, trine_embedding embedding)
{
    const trine_device_info *device = trine_context_device(run->context);
    const trine_resnet *net = run->net;
    double all = 0, trained = 0;
    for (int i = 0; i < trine_resnet_parameter_count(net); i++) {
        trine_parameter_info info;
        if (trine_resnet_parameter(net, i, &info) != TRINE_OK) continue;
        double count = 1;
        for (int k = 0; k < info.rank; k++) count *= info.dims[k];
        all += count;
        const int reached = embedding == TRINE_EMBED_FC || strncmp(info.name, "fc.", 3) != 0;
        trained += info.trainable && reached ? count : 0;
    }
    char summary[160];
    cli_bn_summary(net, summary, sizeof summary);
    cli_talk(run, "device       %d: %s (%s)", device->index, device->name, device->platform);
    cli_talk(run, "network      %s%s%s, %d outputs", trine_resnet_arch(net),
             origin != NULL ? " from " : ", random initial values", origin != NULL ? origin : "",
             trine_resnet_outputs(net));
    cli_talk(run, "parameters   %.0f of %.0f train%s", trained, all,
             embedding == TRINE_EMBED_FC ? "" : "; the loss does not reach fc, which stays as it is");
    cli_talk(run, "batchnorm    %s", summary);
    cli_set_text(run->json, "batchnorm", summary);
    cli_set(run->json, "frozen_batchnorm_moving", cli_bn_moving(net));
}

void cli_talk_data(const cli_run *run, const char *what, const char *name, const trine_dataset *data)
{
    int classes = 0;
    if (cli_classes_present(data, &classes) != CLI_OK) return;
    cli_talk(run, "%-12s %zu images of %d class%s in %s", what, trine_dataset_count(data), classes,
             classes == 1 ? "" : "es", name);
}

void cli_talk_images(const cli_run *run, const trine_preprocess *preprocess)
{
    char text[200];
    cli_preprocess_text(preprocess, text, sizeof text);
    cli_talk(run, "images       %s", text);
    cli_talk(run, "bad images   %s",
             run->v.on_bad_image == 0 ? "the first one fails the run"
                                      : "others of their class take their places in training");
}

void cli_talk_out(const cli_run *run, const char *names)
{
    if (run->v.out == NULL)
        cli_talk(run, "no --out: the network is not kept");
    else
        cli_talk(run, "out          %s, %s", run->v.out, names);
}

int cli_check_out(const cli_run *run)
{
    if (run->v.out == NULL) return CLI_OK;
    const int code = cli_check_weights_name("--out", run->v.out);
    return code != CLI_OK ? code : cli_check_writable("--out", run->v.out);
}

/* What a training run knows beside the network. */
static int set_training(trine_weights *file, const cli_checkpoint *checkpoint)
{
    int code = CLI_OK;
    char *classes = NULL, steps[16], tuning[TRINE_SESSION_TUNING] = "";
    if (checkpoint->classes != NULL) {
        cJSON *names = cli_class_names(checkpoint->classes);
        classes = cJSON_PrintUnformatted(names);
        cJSON_Delete(names);
        CLI_TRY(trine_weights_set_metadata(file, "classes", classes));
    }
    snprintf(steps, sizeof steps, "%d", checkpoint->steps);
    CLI_TRY(trine_weights_set_metadata(file, "embedding",
                                       checkpoint->embedding == TRINE_EMBED_FC ? "fc" : "pool"));
    CLI_TRY(trine_weights_set_metadata(file, "normalize", checkpoint->normalize ? "true" : "false"));
    CLI_TRY(trine_weights_set_metadata(file, "step", steps));
    if (checkpoint->trainer != NULL) CLI_TRY(trine_trainer_tuning(checkpoint->trainer, tuning));
    if (tuning[0] != '\0') CLI_TRY(trine_weights_set_metadata(file, "tuning", tuning));
cleanup:
    cJSON_free(classes);
    return code;
}

/* What another file says and the network itself does not. */
static int keep_metadata(trine_weights *file, const trine_weights *source)
{
    int code = CLI_OK;
    for (size_t i = 0; i < trine_weights_metadata_count(source); i++) {
        const char *key = trine_weights_metadata_key(source, i);
        if (trine_weights_metadata(file, key) == NULL)
            CLI_TRY(trine_weights_set_metadata(file, key, trine_weights_metadata(source, key)));
    }
cleanup:
    return code;
}

static int set_metadata(trine_weights *file, const cli_checkpoint *checkpoint)
{
    int code = CLI_OK;
    char *preprocess = NULL;
    if (checkpoint->preprocess != NULL) {
        CLI_TRY(trine_preprocess_to_json(checkpoint->preprocess, &preprocess));
        CLI_TRY(trine_weights_set_metadata(file, "preprocess", preprocess));
    }
    CLI_RUN(checkpoint->source != NULL ? keep_metadata(file, checkpoint->source)
                                       : set_training(file, checkpoint));
cleanup:
    free(preprocess);
    return code;
}

/* A last step may have gone too far: no loss has seen what it left behind. */
static int check_finite(const trine_weights *file)
{
    for (size_t i = 0; i < trine_weights_count(file); i++) {
        const trine_weights_tensor *t = trine_weights_at(file, i);
        const float *values = t->data;
        for (size_t k = 0; t->dtype == TRINE_F32 && k < t->bytes / sizeof *values; k++)
            if (!isfinite(values[k]))
                return cli_error(
                    CLI_FAILED,
                    "'%s' holds a value that is not a number after the last step: a smaller --lr may "
                    "help; nothing was saved",
                    t->name);
    }
    return CLI_OK;
}

int cli_make_checkpoint(cli_run *run, const cli_checkpoint *checkpoint, trine_weights **out)
{
    trine_weights *file = NULL;
    int code = CLI_OK;
    CLI_TRY(trine_resnet_to_weights(run->net, run->stream, checkpoint->torchvision_names, &file));
    if (checkpoint->source == NULL) CLI_RUN(check_finite(file));
    CLI_RUN(set_metadata(file, checkpoint));
    *out = file;
    file = NULL;
cleanup:
    trine_weights_destroy(&file);
    return code;
}

int cli_write_checkpoint(cli_run *run, const cli_checkpoint *checkpoint)
{
    trine_weights *file = NULL;
    int code = CLI_OK;
    CLI_RUN(cli_make_checkpoint(run, checkpoint, &file));
    CLI_TRY(trine_weights_write(file, run->v.out));
cleanup:
    trine_weights_destroy(&file);
    return code;
}

int cli_save(cli_run *run, const cli_checkpoint *checkpoint)
{
    const char *out = run->v.out;
    int code = CLI_OK;
    cli_set_text(run->json, "checkpoint", out);
    if (out == NULL) return CLI_OK;
    CLI_RUN(cli_write_checkpoint(run, checkpoint));
    cli_print(run, "checkpoint %s\n", out);
    if (!cli_has_ending(out, ".safetensors"))
        cli_talk(
            run,
            "%s: PyTorch's format holds no metadata: give preprocessing, embedding and --bn as options when "
            "using it",
            out);
cleanup:
    return code;
}
