/* replay.c - runs a fuzz target on the files and folders that it is given,
 * and so on the corpus: what `make check` does, with any compiler. Prints TAP,
 * a line for each folder or file; a target that fails ends the process. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    struct stat st;

    require(file && fstat(fileno(file), &st) == 0, "%s: cannot open", path);
    data = malloc((size_t)st.st_size + 1);
    require(data != NULL, "out of memory");
    size_t n = fread(data, 1, (size_t)st.st_size, file);
    fclose(file);
    /* In a piece of its own size, for the sanitizer. */
    data = realloc(data, n ? n : 1);
    require(data != NULL, "out of memory");
    fprintf(stderr, "# %s\n", path);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
}

static unsigned run(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    unsigned count = 0;

    if (!dir) {
        run_file(path);
        return 1;
    }
    while ((entry = readdir(dir))) {
        char inner[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        count += run(inner);
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    printf("1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++) {
        unsigned count = run(argv[i]);
        printf("%sok %d - %s: %u inputs\n", count ? "" : "not ", i, argv[i],
               count);
    }
    return argc > 1 ? 0 : 2;
}
