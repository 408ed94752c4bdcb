/* SPDX-License-Identifier: MIT */
/* The file of a run's state, and the loop of steps that writes it. */
#include "cli_resume.h"

#include "cli_history.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_option resume_options[] = {
    {"save-every", CLI_INT, CLI_AT(save_every), "N", NULL, 1, 1000000000,
     "save every N steps: the weights so far to --out's FILE, the run's state to FILE.state; Ctrl-C and "
     "SIGTERM save, too"},
    {"resume", CLI_FLAG, CLI_AT(resume), NULL, NULL, 0, 0,
     "go on with the run whose state is in FILE.state, by the same options; --weights may be left out"},
};
const cli_section cli_resume_section = CLI_SECTION("Saving and resuming", resume_options);

static const char network_prefix[] = "network.", note_prefix[] = "cli.";
enum { KEY_BYTES = 8192 }; /* a prefix and the longest name that a list takes */

static char *join(const char *a, const char *b)
{
    char *text = malloc(strlen(a) + strlen(b) + 1);
    if (text != NULL) sprintf(text, "%s%s", a, b);
    return text;
}

/* ---- the file ---- */

/* The parts of the file, and how their names begin. */
typedef enum part { PART_TRAINER, PART_NETWORK, PART_HISTORY } part;
static const char *const prefixes[] = {"", network_prefix, CLI_HISTORY_PREFIX};

static part part_of(const char *name)
{
    for (part p = PART_NETWORK; p <= PART_HISTORY; p++)
        if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0) return p;
    return PART_TRAINER;
}

/* Add the network's list to the state, under names of its own. */
static int add_network(trine_weights *state, const trine_weights *net)
{
    char name[KEY_BYTES];
    int code = CLI_OK;
    for (size_t i = 0; i < trine_weights_count(net); i++) {
        const trine_weights_tensor *t = trine_weights_at(net, i);
        snprintf(name, sizeof name, "%s%s", network_prefix, t->name);
        CLI_TRY(trine_weights_add(state, name, t->dtype, t->rank, t->dims, t->data));
    }
    for (size_t i = 0; i < trine_weights_metadata_count(net); i++) {
        const char *key = trine_weights_metadata_key(net, i);
        snprintf(name, sizeof name, "%s%s", network_prefix, key);
        CLI_TRY(trine_weights_set_metadata(state, name, trine_weights_metadata(net, key)));
    }
cleanup:
    return code;
}

/* The reverse: one part under its own names. */
static int take_part(const trine_weights *file, part wanted, trine_weights **out)
{
    const size_t skip = strlen(prefixes[wanted]);
    trine_weights *found = NULL;
    int code = CLI_OK;
    CLI_TRY(trine_weights_create(&found));
    for (size_t i = 0; i < trine_weights_count(file); i++) {
        const trine_weights_tensor *t = trine_weights_at(file, i);
        if (part_of(t->name) == wanted)
            CLI_TRY(trine_weights_add(found, t->name + skip, t->dtype, t->rank, t->dims, t->data));
    }
    for (size_t i = 0; i < trine_weights_metadata_count(file); i++) {
        const char *key = trine_weights_metadata_key(file, i);
        if (part_of(key) == wanted)
            CLI_TRY(trine_weights_set_metadata(found, key + skip, trine_weights_metadata(file, key)));
    }
    *out = found;
    found = NULL;
cleanup:
    trine_weights_destroy(&found);
    return code;
}

int cli_set_note(trine_weights *state, const char *key, const char *text)
{
    char name[KEY_BYTES];
    snprintf(name, sizeof name, "%s%s", note_prefix, key);
    const trine_status status = trine_weights_set_metadata(state, name, text);
    return status == TRINE_OK ? CLI_OK : cli_fail(status);
}

const char *cli_resume_note(const cli_resume *resume, const char *key)
{
    char name[KEY_BYTES];
    snprintf(name, sizeof name, "%s%s", note_prefix, key);
    return resume->state != NULL ? trine_weights_metadata(resume->state, name) : NULL;
}

static int write_state(cli_run *run, const cli_resume *resume, const cli_training *training)
{
    cli_checkpoint checkpoint = training->checkpoint;
    trine_weights *state = NULL, *net = NULL;
    const char *weights = resume->state != NULL ? cli_resume_note(resume, "weights") : run->v.weights;
    int code = CLI_OK;
    checkpoint.torchvision_names = 0; /* --names source must find the source's names again */
    CLI_TRY(trine_trainer_save(training->trainer, &state));
    CLI_RUN(cli_make_checkpoint(run, &checkpoint, &net));
    CLI_RUN(add_network(state, net));
    if (weights != NULL) CLI_RUN(cli_set_note(state, "weights", weights));
    CLI_RUN(cli_history_save(training->watch, state));
    if (training->note != NULL) CLI_RUN(training->note(training->user, state));
    CLI_TRY(trine_weights_write(state, resume->path));
cleanup:
    trine_weights_destroy(&net);
    trine_weights_destroy(&state);
    return code;
}

/* ---- options and resuming ---- */

/* A run without --resume will replace the state of another one: say what is lost. */
static void warn_of_state(const cli_run *run, const char *path)
{
    trine_weights *file = NULL;
    if (access(path, F_OK) != 0 || trine_weights_read(path, &file) != TRINE_OK) return;
    const char *step = trine_weights_metadata(file, "step"),
               *steps = trine_weights_metadata(file, "run.steps");
    if (step != NULL && steps != NULL && strcmp(step, steps) != 0)
        cli_talk(
            run,
            "warning: %s holds a run that stopped at step %s of %s; this one will replace it (--resume goes "
            "on with it)",
            path, step, steps);
    trine_weights_destroy(&file);
}

/* Options that only the beginning of a run looks at. */
static int check_beginning(const cli_run *run, const cli_resume *resume)
{
    const char *weights = cli_resume_note(resume, "weights"),
               *arch = trine_weights_metadata(run->weights, "arch");
    if (run->v.weights != NULL && weights != NULL && strcmp(run->v.weights, weights) != 0)
        return cli_error(CLI_USAGE, "--resume: --weights is %s here, but %s in the saved run", run->v.weights,
                         weights);
    if (run->v.arch != NULL && arch != NULL && strcmp(run->v.arch, arch) != 0)
        return cli_error(CLI_USAGE, "--resume: --arch is %s here, but %s in the saved run", run->v.arch,
                         arch);
    return CLI_OK;
}

int cli_resume_open(cli_run *run, cli_resume *resume)
{
    trine_weights *file = NULL;
    int code = CLI_OK;
    *resume = (cli_resume){0};
    if (run->v.out == NULL && (run->v.resume || run->v.save_every != CLI_UNSET))
        return cli_usage(&run->command->syntax, "%s needs --out",
                         run->v.resume ? "--resume" : "--save-every");
    if (run->v.out == NULL) return CLI_OK;
    resume->path = join(run->v.out, ".state");
    if (resume->path == NULL) return cli_error(CLI_FAILED, "out of memory");
    if (!run->v.resume) {
        warn_of_state(run, resume->path);
        return CLI_OK;
    }
    if (access(resume->path, F_OK) != 0)
        return cli_error(CLI_BAD_INPUT, "--resume: there is no saved run: %s: %s", resume->path,
                         strerror(errno));
    CLI_TRY(trine_weights_read(resume->path, &file));
    if (trine_weights_metadata(file, "trine.state") == NULL) {
        code = cli_error(CLI_BAD_INPUT, "--resume: %s is not the state of a run", resume->path);
        goto cleanup;
    }
    CLI_RUN(take_part(file, PART_NETWORK, &run->weights));
    CLI_RUN(take_part(file, PART_HISTORY, &resume->history));
    CLI_RUN(take_part(file, PART_TRAINER, &resume->state));
    CLI_RUN(check_beginning(run, resume));
    run->v.weights = resume->path;
cleanup:
    trine_weights_destroy(&file);
    return code;
}

int cli_resume_check_outputs(const cli_run *run, const cli_resume *resume)
{
    const int wanted = run->v.embedding_dim, outputs = trine_resnet_outputs(run->net);
    if (resume->state == NULL || wanted <= 0 || wanted == outputs) return CLI_OK;
    return cli_error(CLI_USAGE, "--resume: --embedding-dim is %d here, but %d in the saved run", wanted,
                     outputs);
}

int cli_resume_trainer(cli_run *run, cli_resume *resume, trine_trainer *trainer)
{
    if (resume->state == NULL) {
        cli_set_text(run->json, "resumed_from", NULL);
        return CLI_OK;
    }
    const trine_status status = trine_trainer_resume(trainer, resume->state);
    if (status != TRINE_OK) return cli_error(cli_exit_code(status), "--resume: %s", trine_last_error());
    resume->from = trine_trainer_step(trainer);
    cli_set(run->json, "resumed_from", resume->from);
    return CLI_OK;
}

void cli_talk_resume(const cli_run *run, const cli_resume *resume)
{
    if (resume->state != NULL)
        cli_talk(run, "resume       after step %d, from %s", resume->from, resume->path);
    if (run->v.save_every != CLI_UNSET)
        cli_talk(run, "save         every %d step%s, to go on with --resume: %s", run->v.save_every,
                 run->v.save_every == 1 ? "" : "s", resume->path);
}

void cli_resume_close(cli_resume *resume)
{
    free(resume->path);
    trine_weights_destroy(&resume->state);
    trine_weights_destroy(&resume->history);
    *resume = (cli_resume){0};
}

/* ---- running ---- */

static trine_trainer *volatile trainer_to_stop;
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
    trine_trainer_stop(trainer_to_stop);
}

static const int stopping[] = {SIGINT, SIGTERM};
enum { STOPPING = sizeof stopping / sizeof stopping[0] };

/* A signal that the caller has the program ignore (nohup, a background job) stays ignored. */
static void catch_signals(trine_trainer *trainer, struct sigaction old[STOPPING])
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    caught = 0;
    trainer_to_stop = trainer;
    for (int i = 0; i < STOPPING; i++)
        if (sigaction(stopping[i], NULL, &old[i]) == 0 && old[i].sa_handler != SIG_IGN)
            sigaction(stopping[i], &action, NULL);
}

static void release_signals(const struct sigaction old[STOPPING])
{
    for (int i = 0; i < STOPPING; i++) sigaction(stopping[i], &old[i], NULL);
}

/* Of the weights themselves, while the network holds their averages (--ema). */
static int write_state_of_values(cli_run *run, const cli_resume *resume, const cli_training *training)
{
    int code = CLI_OK;
    CLI_TRY(trine_trainer_exchange_average(training->trainer));
    CLI_RUN(write_state(run, resume, training));
    CLI_TRY(trine_trainer_exchange_average(training->trainer));
cleanup:
    return code;
}

/* The result, and a state beside it only if it is of this run. With --ema the network holds the averages from now on. */
static int save_result(cli_run *run, const cli_resume *resume, const cli_training *training)
{
    int code = CLI_OK;
    CLI_TRY(trine_trainer_exchange_average(training->trainer));
    CLI_RUN(cli_save(run, &training->checkpoint));
    if (run->v.out == NULL) return CLI_OK;
    if (run->v.save_every != CLI_UNSET || resume->state != NULL)
        CLI_RUN(write_state_of_values(run, resume, training));
    else if (remove(resume->path) == 0)
        cli_talk(run, "%s, of an earlier run, was removed", resume->path);
cleanup:
    return code;
}

static int save_between(cli_run *run, const cli_resume *resume, cli_training *training)
{
    int code = CLI_OK;
    training->checkpoint.steps = trine_trainer_step(training->trainer);
    CLI_TRY(trine_trainer_exchange_average(training->trainer));
    CLI_RUN(cli_write_checkpoint(run, &training->checkpoint));
    CLI_TRY(trine_trainer_exchange_average(training->trainer));
    CLI_RUN(write_state(run, resume, training));
cleanup:
    return code;
}

/* The steps up to the next save, or to the end; the watch sees the network at those that it wants to. */
static int run_some(cli_run *run, cli_training *training)
{
    trine_trainer *trainer = training->trainer;
    const int every = run->v.save_every, steps = trine_trainer_steps(trainer);
    const int done = trine_trainer_step(trainer);
    const int save = every != CLI_UNSET && every < steps - done ? done - done % every + every : steps;
    cli_watch *watch = training->watch;
    int step = done, before = done - 1;
    while (step < save && step > before && !watch->stop && watch->failed_step == 0 && caught == 0) {
        int next = step + 1;
        while (next < save && !cli_watch_is_due(next, steps)) next++;
        const trine_status status = trine_trainer_run_to(trainer, next, training->each_step, training->user);
        if (status != TRINE_OK) return cli_fail(status);
        before = step;
        step = trine_trainer_step(trainer);
    }
    if (watch->failed_step == 0) return CLI_OK;
    return cli_error(CLI_FAILED, "the loss is not a number at step %d: a smaller --lr may help; %s",
                     watch->failed_step,
                     every != CLI_UNSET ? "what was saved before stays" : "nothing was saved");
}

int cli_run_training(cli_run *run, const cli_resume *resume, cli_training *training)
{
    trine_trainer *trainer = training->trainer;
    const int steps = trine_trainer_steps(trainer), keeps = run->v.out != NULL;
    struct sigaction old[STOPPING];
    int code = CLI_OK, catches = 0;
    char tuning[TRINE_SESSION_TUNING];
    CLI_TRY(trine_trainer_tuning(trainer, tuning));
    cli_set_tuning(run, tuning);
    training->checkpoint.trainer = trainer;
    training->checkpoint.steps = trine_trainer_step(trainer);
    if (training->checkpoint.steps == steps) {
        cli_set_text(run->json, "checkpoint", run->v.out);
        cli_print(run, "%s: the run is complete, all %d steps were taken\n", run->v.out, steps);
        CLI_TRY(trine_trainer_exchange_average(trainer));
        return CLI_OK;
    }
    if (keeps) catch_signals(trainer, old);
    catches = keeps;
    while (trine_trainer_step(trainer) < steps) {
        CLI_RUN(run_some(run, training));
        if (trine_trainer_step(trainer) == steps || training->watch->stop) break;
        CLI_RUN(save_between(run, resume, training));
        if (caught == 0) continue;
        code = cli_error(CLI_FAILED, "stopped after step %d of %d: the same command with --resume goes on",
                         trine_trainer_step(trainer), steps);
        goto cleanup;
    }
    training->checkpoint.steps = trine_trainer_step(trainer);
    uint64_t peak = 0;
    trine_context_memory(run->context, NULL, &peak);
    cli_set(run->json, "peak_bytes", (double)peak);
    CLI_RUN(save_result(run, resume, training)); /* before images that may fail */
cleanup:
    if (catches) release_signals(old);
    return code;
}
