/* commands.c - one function a command; see commands.h. Each fills an option
 * struct, calls the library, hands the outcome to tables.c or json.c, and
 * chooses the exit status. */
#include "commands.h"
#include "confine.h"
#include "differences.h"
#include "json.h"
#include "message.h"
#include "output.h"
#include "report.h"
#include "report_file.h"
#include "tables.h"
#include "text.h"
#include "values.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LARGEST_SHOWN 5
#define TOP_SHOWN 20

/* ---- what several commands need ---------------------------------------- */

/* A run that tells its progress and can be stopped. */
typedef struct run {
    progress view;
    atomic_int *stop;
} run;

static int on_progress(void *user, const f8_progress *now)
{
    run *current = user;
    message_progress_step(&current->view, now);
    return atomic_load(current->stop);
}

/* Which kernels to use; NULL for the fastest. */
static const char *wished_cpu(void)
{
    /* Nothing sets the environment.
     * NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *wish = getenv("FP8CAST_CPU");
    return wish && *wish ? wish : NULL;
}

/* False, with a line that says so, when a command that computes is to use
 * kernels that do not run here. */
static bool check_cpu(command_id command)
{
    const char *wish = wished_cpu(), *name = NULL;
    char names[PROBLEM_BYTES] = "";
    size_t used = 0;
    if (!wish ||
        (command != COMMAND_QUANTIZE && command != COMMAND_DEQUANTIZE &&
         command != COMMAND_PLAN && command != COMMAND_VERIFY))
        return true;
    for (size_t i = 0; (name = f8_cpu_name(i)) && used < sizeof names; i++) {
        if (strcmp(name, wish) == 0)
            return true;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                 i ? ", " : "", name);
    }
    message_error(
        "FP8CAST_CPU: expected kernels that this CPU runs (%s), found "
        "'%s'",
        names, wish);
    return false;
}

static f8_options library_options(const arguments *given, run *current)
{
    f8_options options = {
        .size = sizeof options,
        .threads = (unsigned)given->threads,
        .memory_bytes = given->memory_bytes,
        .shard_bytes = given->shard_bytes,
        .rules = given->rules,
        .overrides = given->overrides,
        .overrides_count = given->overrides_count,
        .scale_dtype = given->scale_dtype,
        .overwrite = given->overwrite,
        .follow_links = given->follow_links,
        .progress = current ? on_progress : NULL,
        .progress_user = current,
        .cpu = wished_cpu(),
        .scales = given->scales,
        .layout = given->layout,
        .direction = given->dequantize || given->command == COMMAND_DEQUANTIZE
                         ? F8_FROM_FP8
                         : F8_TO_FP8,
        .value_dtype = given->value_dtype,
        .fuse = given->fuse,
        .requantize = given->requantize,
    };
    return options;
}

static int failed(const f8_error *err)
{
    if (err->status == F8_ERR_CANCELLED)
        message_error("stopped; the same command begins anew");
    else
        message_error("%s", err->message);
    return EXIT_FAILED;
}

static void print_json(json_t *document)
{
    message_json(document);
    json_decref(document);
}

/* ---- plan -------------------------------------------------------------- */

/* Looks at the file system that `path` is on or would be on: of a folder that
 * is yet to be made, its nearest parent's. */
static plan_place place_of(const char *path)
{
    struct statvfs found;
    plan_place place = {0};
    char *folder = strdup(path);
    if (!folder)
        message_no_memory();
    while (statvfs(folder, &found) != 0) {
        char *slash = strrchr(folder, '/');
        bool is_top = strcmp(folder, ".") == 0 || strcmp(folder, "/") == 0;
        if ((errno != ENOENT && errno != ENOTDIR) || is_top)
            goto out;
        if (!slash)
            strcpy(folder, "."); /* it had one character at least */
        else
            slash[slash == folder] = '\0';
    }
    place.is_known = true;
    place.free_bytes = (uint64_t)found.f_bavail * (uint64_t)found.f_frsize;
out:
    free(folder);
    return place;
}

/* Looks at the result folder as the conversion would. Being refused is no
 * failure of the plan; running out of memory is. */
static bool meet(const arguments *given, const f8_plan *plan, plan_place *place,
                 f8_error *err)
{
    if (given->paths_count < 2)
        return true;
    place->is_given = true;
    f8_status status = f8_plan_meet(plan, given->paths[1], given->overwrite,
                                    &place->meeting, &place->shards_done, err);
    if (status == F8_ERR_NOMEM)
        return false;
    place->refused = status == F8_OK ? NULL : err->message;
    return true;
}

/* The first warning about an engine. */
static const char *first_warning(const f8_serving *serving, f8_engine engine)
{
    f8_finding finding;
    for (size_t i = 0; f8_serving_get_finding(serving, i, &finding); i++) {
        if (finding.is_warning && finding.engine == engine)
            return finding.what;
    }
    return "?";
}

/* False, with a line that says so, when an engine that --for names would not
 * load the result, or not on so many devices. */
static bool suits(const f8_serving *serving, f8_engine which, uint64_t devices)
{
    f8_serving_engine engine;
    unsigned k = 0;
    f8_serving_get_engine(serving, which, &engine);
    while (1u << k < devices)
        k++;
    if (engine.warnings > 0)
        message_error("--for %s: %s warning%s, the first: %s", engine.name,
                      text_count(engine.warnings).text,
                      engine.warnings == 1 ? "" : "s",
                      first_warning(serving, which));
    else if (devices > 1 && engine.unknown)
        message_error("--for %s:%u: not known: %s", engine.name, 1u << k,
                      engine.unknown);
    else if (devices > 1 && !(engine.tp_sizes >> k & 1))
        message_error("--for %s:%u: does not load on so many devices (not on "
                      "%s)",
                      engine.name, 1u << k,
                      f8_serving_limit(serving, which, 1u << k, false));
    else
        return true;
    return false;
}

static int judge_serving(const arguments *given, const f8_serving *serving)
{
    int status = EXIT_DONE;
    for (int e = 0; e < F8_ENGINE_COUNT; e++) {
        if (given->engines[e] > 0 &&
            !suits(serving, (f8_engine)e, given->engines[e]))
            status = EXIT_FAILED;
    }
    return status;
}

static int run_plan(const arguments *given)
{
    f8_error err;
    f8_plan *plan = NULL;
    f8_serving *serving = NULL;
    f8_options options = library_options(given, NULL);
    const char *target = given->paths[given->paths_count - 1];
    int status = EXIT_FAILED;
    /* Engines take what they want of a model that is not FP8. */
    if (f8_plan_create(given->paths[0], &options, &plan, &err) != F8_OK ||
        (!given->dequantize &&
         f8_plan_serving(plan, &serving, &err) != F8_OK)) {
        failed(&err);
        goto out;
    }
    plan_place place = place_of(target);
    if (!meet(given, plan, &place, &err)) {
        failed(&err);
        goto out;
    }
    if (given->json) {
        print_json(json_plan(plan, serving, &place, given->tensors));
    } else if (!given->quiet) {
        if (given->tensors) {
            table_plan_tensors(plan);
            message_text("\n");
        }
        table_plan(plan, &place);
        if (serving) {
            message_text("\n");
            table_serving(serving);
        }
    }
    status = serving ? judge_serving(given, serving) : EXIT_DONE;
out:
    f8_serving_free(serving);
    f8_plan_free(plan);
    return status;
}

/* ---- verify ------------------------------------------------------------ */

static f8_status verify(const arguments *given, run *current,
                        f8_verdict **verdict, f8_error *err)
{
    f8_options options = library_options(given, current);
    message_progress_begin(&current->view, "verify", given->quiet);
    f8_status status =
        f8_verify(given->paths[0], given->paths[1], &options, verdict, err);
    message_progress_end(&current->view);
    return status;
}

/* The exit status of a verdict. With --quiet no table names the faults, and
 * a mismatch must not pass without a word. */
static int judge(const arguments *given, const f8_verdict *verdict)
{
    f8_verdict_summary summary;
    f8_verdict_get_summary(verdict, &summary);
    if (summary.faults == 0)
        return EXIT_DONE;
    const char *first = f8_verdict_fault(verdict, 0);
    if (given->quiet)
        message_error("%s: %s fault%s, the first: %s", given->paths[1],
                      text_count(summary.faults).text,
                      summary.faults == 1 ? "" : "s", first ? first : "?");
    return EXIT_MISMATCH;
}

/* file is NULL without --report. */
static int run_verify(const arguments *given, output *out, atomic_int *stop)
{
    f8_error err;
    f8_verdict *verdict = NULL;
    run current = {.stop = stop};
    if (verify(given, &current, &verdict, &err) != F8_OK)
        return failed(&err);
    if (given->json) {
        print_json(json_verdict(verdict));
    } else if (!given->quiet) {
        table_verdict(given->paths[1], verdict);
        table_errors(f8_verdict_report(verdict));
    }
    int status = judge(given, verdict);
    if (given->report &&
        !report_file_write(out, given, f8_verdict_report(verdict), verdict))
        status = EXIT_FAILED;
    f8_verdict_free(verdict);
    return status;
}

/* ---- diff -------------------------------------------------------------- */

static int run_diff(const arguments *given, atomic_int *stop)
{
    f8_error err;
    f8_diff *diff = NULL;
    f8_diff_summary summary;
    run current = {.stop = stop};
    f8_options options = library_options(given, &current);
    message_progress_begin(&current.view, "diff", given->quiet);
    f8_status status =
        f8_diff_create(given->paths[0], given->paths[1], &options, &diff, &err);
    message_progress_end(&current.view);
    if (status != F8_OK)
        return failed(&err);
    f8_diff_get_summary(diff, &summary);
    if (given->json)
        print_json(json_diff(diff));
    else if (!given->quiet)
        table_diff(diff, given->paths[0], given->paths[1],
                   given->top ? given->top : TOP_SHOWN);
    f8_diff_free(diff);
    return summary.same ? EXIT_DONE : EXIT_MISMATCH;
}

/* ---- quantize and dequantize ------------------------------------------- */

static f8_status convert(const arguments *given, run *current,
                         const f8_plan *plan, f8_report **report, f8_error *err)
{
    f8_options options = library_options(given, current);
    bool back = given->command == COMMAND_DEQUANTIZE;
    message_progress_begin(&current->view, options_command_name(given->command),
                           given->quiet);
    f8_status status =
        back ? f8_dequantize(plan, given->paths[1], &options, report, err)
             : f8_quantize(plan, given->paths[1], &options, report, err);
    message_progress_end(&current->view);
    return status;
}

/* Files of a finished result that are not the source's: few, or all of them. */
static void show_unlike(const f8_report *report)
{
    enum { SHOWN = 5 };
    const char *path;
    size_t i = 0;

    for (; (path = f8_report_get_unlike(report, i)); i++) {
        if (i < SHOWN)
            message_line("%s: is not as in the source, left as it is; "
                         "--overwrite writes it anew",
                         path);
    }
    if (i > SHOWN)
        message_line("and %s more", text_count(i - SHOWN).text);
}

/* serving is NULL on the way back. */
static void show_report(const arguments *given, const f8_plan *plan,
                        const f8_report *report, const f8_serving *serving,
                        uint64_t resumed_bytes)
{
    f8_report_summary summary;
    if (given->json || given->quiet)
        return;
    f8_report_get_summary(report, &summary);
    if (summary.already_done)
        message_line("%s is finished: nothing to do", given->paths[1]);
    show_unlike(report);
    table_convert(plan, report, resumed_bytes);
    /* verify tells of it too, with all else. */
    if (serving && !given->verify)
        table_serving_warnings(serving);
    table_errors(report);
}

static int run_convert(const arguments *given, output *out, atomic_int *stop)
{
    f8_error err;
    f8_plan *plan = NULL;
    f8_report *report = NULL;
    f8_serving *serving = NULL;
    f8_verdict *verdict = NULL;
    run current = {.stop = stop};
    f8_options options = library_options(given, NULL);
    int status = EXIT_DONE;

    if (f8_plan_create(given->paths[0], &options, &plan, &err) != F8_OK ||
        (given->command == COMMAND_QUANTIZE &&
         f8_plan_serving(plan, &serving, &err) != F8_OK) ||
        convert(given, &current, plan, &report, &err) != F8_OK)
        goto failure;
    show_report(given, plan, report, serving, current.view.resumed_bytes);
    if (given->report && !report_file_write(out, given, report, NULL))
        status = EXIT_FAILED;
    if (given->verify) {
        if (verify(given, &current, &verdict, &err) != F8_OK)
            goto failure;
        int verdict_status = judge(given, verdict);
        status = verdict_status != EXIT_DONE ? verdict_status : status;
    }
    if (given->json) {
        print_json(json_convert(plan, report, serving, verdict));
    } else if (verdict && !given->quiet) {
        /* Its error statistics are those that stand above. */
        message_text("\n");
        table_verdict(given->paths[1], verdict);
    }
    goto out;
failure:
    if (err.status == F8_ERR_CANCELLED)
        message_error("stopped; the same command continues");
    else
        failed(&err);
    status = EXIT_FAILED;
out:
    f8_verdict_free(verdict);
    f8_report_free(report);
    f8_serving_free(serving);
    f8_plan_free(plan);
    return status;
}

/* ---- inspect ----------------------------------------------------------- */

/* Puts the largest tensors into `largest`, largest first; of equals the first
 * one comes first. Returns how many there are. */
static size_t find_largest(const f8_inventory *inventory,
                           f8_tensor_info largest[LARGEST_SHOWN])
{
    f8_tensor_info info;
    size_t count = 0;
    for (uint64_t i = 0; f8_inventory_get(inventory, i, &info); i++) {
        size_t place = count;
        while (place > 0 && largest[place - 1].bytes < info.bytes)
            place--;
        if (place == LARGEST_SHOWN)
            continue;
        if (count < LARGEST_SHOWN)
            count++;
        memmove(&largest[place + 1], &largest[place],
                (count - 1 - place) * sizeof *largest);
        largest[place] = info;
    }
    return count;
}

static int run_inspect(const arguments *given)
{
    f8_error err;
    f8_inventory *inventory = NULL;
    f8_inventory_summary summary;
    f8_tensor_info largest[LARGEST_SHOWN];
    if (f8_inspect(given->paths[0], &inventory, &err) != F8_OK)
        return failed(&err);
    size_t count = find_largest(inventory, largest);
    f8_inventory_get_summary(inventory, &summary);
    if (given->json) {
        print_json(json_inventory(inventory, largest, count, given->tensors));
    } else if (!given->quiet) {
        if (given->tensors) {
            table_inventory_tensors(inventory);
            message_text("\n");
        }
        table_inventory(inventory, largest, count);
    }
    if (!summary.agrees)
        message_error("%s: index and shards disagree", given->paths[0]);
    f8_inventory_free(inventory);
    return summary.agrees ? EXIT_DONE : EXIT_FAILED;
}

/* ---- roofline ---------------------------------------------------------- */

static int run_roofline(const arguments *given)
{
    f8_error err;
    f8_roofline *roofline = NULL;
    f8_options options = library_options(given, NULL);
    if (f8_roofline_create(given->paths[0], &options, given->batch,
                           given->context, &roofline, &err) != F8_OK)
        return failed(&err);
    if (given->json)
        print_json(json_roofline(roofline, given->bandwidth));
    else if (!given->quiet)
        table_roofline(roofline, given->bandwidth);
    f8_roofline_free(roofline);
    return EXIT_DONE;
}

/* ---- synth ------------------------------------------------------------- */

static int show_synth(const arguments *given, const f8_synth_options *options,
                      double seconds)
{
    f8_error err;
    f8_inventory *inventory = NULL;
    f8_inventory_summary summary;
    if (f8_inspect(given->paths[0], &inventory, &err) != F8_OK)
        return failed(&err);
    f8_inventory_get_summary(inventory, &summary);
    if (given->json)
        print_json(json_synth(given->paths[0], inventory, options, seconds));
    else if (!given->quiet)
        message_line("%s: %s, %s tensors, %s, %s file%s", given->paths[0],
                     summary.model_type, text_count(summary.tensors).text,
                     text_bytes_fully(summary.bytes).text,
                     text_count(summary.files).text,
                     summary.files == 1 ? "" : "s");
    f8_inventory_free(inventory);
    return EXIT_DONE;
}

static int run_synth(const arguments *given, atomic_int *stop)
{
    f8_error err;
    run current = {.stop = stop};
    f8_synth_options options = {
        .size = sizeof options,
        .layout = given->model,
        .layers = given->layers,
        .experts = given->experts,
        .hidden = given->hidden,
        .inter = given->inter,
        .vocab = given->vocab,
        .seed = given->seed,
        .shards = given->shards,
        .sparse = given->sparse,
        .progress = on_progress,
        .progress_user = &current,
    };
    message_progress_begin(&current.view, "synth", given->quiet);
    f8_status status = f8_synth(given->paths[0], &options, &err);
    double seconds = message_progress_end(&current.view);
    if (status != F8_OK)
        return failed(&err);
    return show_synth(given, &options, seconds);
}

/* ---- rules and help ---------------------------------------------------- */

static int run_rules(const arguments *given)
{
    const char *name = NULL, *wanted = given->paths[0];
    value_nearest nearest;
    if (!wanted && given->json)
        print_json(json_families());
    for (size_t i = 0; !wanted && !given->json && (name = f8_family_name(i));
         i++)
        message_line("%s", name);
    if (!wanted)
        return EXIT_DONE;
    value_nearest_begin(&nearest, wanted);
    for (size_t i = 0; (name = f8_family_name(i)); i++) {
        if (strcmp(name, wanted) == 0) {
            if (given->json)
                print_json(json_family(name, f8_family_text(i)));
            else
                message_text(f8_family_text(i));
            return EXIT_DONE;
        }
        value_nearest_offer(&nearest, name);
    }
    if (nearest.name)
        message_error("no built-in rules '%s' (did you mean '%s'?)", wanted,
                      nearest.name);
    else
        message_error("no built-in rules '%s' ('fp8cast rules' lists them)",
                      wanted);
    return EXIT_FAILED;
}

static int run_help(const arguments *given)
{
    char *text = given->all ? options_help_all() : options_help(given->topic);
    if (!text)
        message_no_memory();
    message_text(text);
    free(text);
    return EXIT_DONE;
}

/* ---- dispatch ---------------------------------------------------------- */

bool command_can_stop(command_id command)
{
    return command == COMMAND_QUANTIZE || command == COMMAND_DEQUANTIZE ||
           command == COMMAND_VERIFY || command == COMMAND_DIFF ||
           command == COMMAND_SYNTH;
}

static int dispatch(const arguments *given, output *out, atomic_int *stop)
{
    switch (given->command) {
    case COMMAND_QUANTIZE:
    case COMMAND_DEQUANTIZE:
        return run_convert(given, out, stop);
    case COMMAND_PLAN:
        return run_plan(given);
    case COMMAND_VERIFY:
        return run_verify(given, out, stop);
    case COMMAND_DIFF:
        return run_diff(given, stop);
    case COMMAND_INSPECT:
        return run_inspect(given);
    case COMMAND_ROOFLINE:
        return run_roofline(given);
    case COMMAND_REPORT:
        return report_run(given, out);
    case COMMAND_SYNTH:
        return run_synth(given, stop);
    case COMMAND_RULES:
        return run_rules(given);
    case COMMAND_HELP:
        return run_help(given);
    case COMMAND_NONE:
        break;
    }
    return EXIT_USAGE;
}

/* The folder that the command writes into; NULL when it writes nowhere. */
static const char *written_folder(const arguments *given)
{
    if (given->command == COMMAND_QUANTIZE ||
        given->command == COMMAND_DEQUANTIZE)
        return given->paths[1];
    return given->command == COMMAND_SYNTH ? given->paths[0] : NULL;
}

/* Leaves the process what the command line names. */
static bool confine(const arguments *given, const char *around,
                    const output *out)
{
    const char *written = written_folder(given);
    bool is_path =
        given->command != COMMAND_RULES && given->command != COMMAND_HELP;
    confine_use use =
        given->command == COMMAND_REPORT ? CONFINE_READ : CONFINE_SOURCE;
    char problem[PROBLEM_BYTES];
    confine_place places[] = {
        {is_path ? given->paths[0] : NULL, use},
        {given->paths[1], CONFINE_SOURCE},
        {given->rules, CONFINE_READ},
        {given->model, CONFINE_READ},
        {around, CONFINE_AROUND},
        {out->folder, CONFINE_PUBLISH},
    };
    for (int i = 0; i < 2; i++) {
        if (written && places[i].path == written)
            places[i].use = CONFINE_WRITE;
    }
    if (confine_process(places, sizeof places / sizeof *places, problem))
        return true;
    message_error("%s", problem);
    return false;
}

static bool sync_folder(const char *folder)
{
    int fd;
    do
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return false;
    bool is_synced = output_sync(fd);
    int reason = errno;
    close(fd);
    errno = reason;
    return is_synced;
}

/* Makes the result's folder, so that the process can be confined to it before
 * it reads anything. One that is there, or has no folder to be made in, is the
 * command's to judge. */
static bool make_folder(const char *folder, const char *around, bool *made)
{
    const char *what = NULL, *where = folder;
    *made = mkdir(folder, 0777) == 0;
    if (!*made && errno != EEXIST && errno != ENOENT)
        what = "make the folder";
    if (*made && !sync_folder(around)) {
        what = "sync";
        where = around;
    }
    if (what)
        /* There are no other threads yet.
         * NOLINTNEXTLINE(concurrency-mt-unsafe) */
        message_error("%s: cannot %s: %s", where, what, strerror(errno));
    return !what;
}

/* Opens what `report` writes to, unless it is what it reads: replaced by a
 * drawing, the measurements would be gone. */
static bool begin_report(output *out, const arguments *given)
{
    struct stat from, to;
    char problem[PROBLEM_BYTES];
    assert(given->paths[0]); /* options.c has seen to that */
    bool same = stat(given->paths[0], &from) == 0 &&
                stat(given->output, &to) == 0 && from.st_dev == to.st_dev &&
                from.st_ino == to.st_ino;
    if (same)
        message_error("%s: expected another file than the report itself",
                      given->output);
    else if (output_begin(out, given->output, given->overwrite, problem))
        return true;
    else
        message_error("%s", problem);
    return false;
}

int command_run(const arguments *given, atomic_int *stop)
{
    const char *written = written_folder(given);
    char *around = written ? output_folder(written) : NULL;
    int status = EXIT_FAILED;
    bool made = false;
    output out =
        OUTPUT_NONE; /* of -o or --report, of which a command has one */

    if ((!given->output || begin_report(&out, given)) &&
        check_cpu(given->command) &&
        (!written || make_folder(written, around, &made)) &&
        (!given->report || report_file_begin(&out, given)) &&
        confine(given, around, &out))
        status = dispatch(given, &out, stop);
    output_end(&out);
    if (written && made && status != EXIT_DONE)
        rmdir(written); /* only when it is empty */
    free(around);
    return status;
}
