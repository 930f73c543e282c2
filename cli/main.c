/* main.c - the process: standard descriptors, signals, the command line and
 * the exit status. What a command does is in commands.c. */
#include "commands.h"
#include "message.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Set by the handler, read by the threads that report progress. */
static atomic_int stop;

/* The first signal asks the run to end in good order, the second one kills.
 * But not a second SIGHUP: kernel and shell both send one when a terminal is
 * closed. */
static void on_signal(int number)
{
    if (!atomic_exchange(&stop, 1) || number == SIGHUP)
        return;
    message_erase();
    signal(number, SIG_DFL);
    raise(number); /* comes when this function returns */
}

/* What the caller had ignored stays so: nohup, or a shell that started the
 * run in the background. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, before;

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (sigaction(numbers[i], NULL, &before) == 0 &&
            before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

/* If the caller closed 0, 1 or 2, the next file opened would get that number
 * and an error line could end up in a shard. What is put there can be read
 * but not written, so that printing fails as it should. */
static bool secure_descriptors(void)
{
    int fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDONLY);
    return fd >= 0 && close(fd) == 0;
}

/* Every worker has a file or two open, and a shard may have many workers. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* For jansson, whose version 2.14 loses members of an object, or more, when an
 * allocation fails: then the process ends where it stands. */
static void *must_allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory && bytes > 0)
        message_no_memory();
    return memory;
}

/* `fp8cast` alone: how to go on, where errors go. */
static int show_usage(void)
{
    char *usage = options_usage();
    if (!usage)
        message_no_memory();
    message_usage(usage);
    free(usage);
    return EXIT_USAGE;
}

static int run_arguments(const arguments *given)
{
    if (given->version) {
        message_line("fp8cast %s", f8_version());
        return EXIT_DONE;
    }
    if (command_can_stop(given->command))
        catch_signals();
    return command_run(given, &stop);
}

int main(int argc, char **argv)
{
    arguments given;
    char problem[PROBLEM_BYTES];
    int status = EXIT_USAGE;
    if (!secure_descriptors())
        return EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write beyond ulimit -f then fails by name */
    raise_file_limit();
    json_set_alloc_funcs(must_allocate, free);
    if (argc < 2)
        return show_usage();
    if (options_parse(argc, argv, &given, problem))
        status = run_arguments(&given);
    else
        message_error("%s", problem);
    arguments_free(&given);
    return message_finish() ? status : EXIT_FAILED;
}
