/* convert.c - the smallest honest program that embeds libfp8cast: plans,
 * converts and proves a checkpoint. Usage: convert SRC DST */
#include <fp8cast.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int stop; /* set by Ctrl-C, read by the library's threads */

static void on_interrupt(int number)
{
    atomic_store(&stop, number);
}

static int on_progress(void *user, const f8_progress *now)
{
    if (now->finished)
        fprintf(user, "%s is done\n", now->finished);
    return atomic_load(&stop); /* anything but 0 cancels the run */
}

int main(int argc, char **argv)
{
    f8_options options = {.size = sizeof options, .progress = on_progress};
    f8_plan *plan = NULL;
    f8_report *report = NULL;
    f8_verdict *verdict = NULL;
    f8_plan_summary planned;
    f8_verdict_summary proved;
    f8_error err = {.message = "usage: convert SRC DST"};
    int status = argc == 3 ? 1 : 2; /* as fp8cast: 1 failed, 2 usage */

    signal(SIGINT, on_interrupt);
    options.progress_user = stderr;
    if (argc != 3 || f8_plan_create(argv[1], &options, &plan, &err) != F8_OK)
        goto out;
    f8_plan_get_summary(plan, &planned);
    printf("%" PRIu64 " bytes in, %" PRIu64 " bytes out\n",
           planned.source_bytes, planned.result_bytes);
    if (f8_quantize(plan, argv[2], &options, &report, &err) != F8_OK ||
        f8_verify(argv[1], argv[2], &options, &verdict, &err) != F8_OK)
        goto out;
    f8_verdict_get_summary(verdict, &proved);
    printf("%" PRIu64 " faults\n", proved.faults);
    status = proved.faults > 0 ? 3 : 0;
out:
    if (!verdict)
        fprintf(stderr, "convert: %s\n", err.message);
    f8_verdict_free(verdict);
    f8_report_free(report);
    f8_plan_free(plan);
    return status;
}
