/* loaders.c - see loaders.h. The data is built in, so it is as it should be. */
#include "loaders.h"
#include "builtin.h"

#include <stdio.h>
#include <string.h>

static int loader_of(const char *name)
{
    static const char *const names[LOADERS_COUNT] = {"transformers", "vllm",
                                                     "sglang"};
    for (int i = 0; i < LOADERS_COUNT; i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return LOADERS_COUNT;
}

/* version LOADER VERSION | model TYPE CLASS VERDICT... | why TYPE LOADER TEXT
 */
static void take_line(loaders *out, const char *model_type, const char *line)
{
    char a[64], b[64], words[LOADERS_COUNT][16];
    int text = 0, loader = 0;
    if (sscanf(line, "version %63s %63s", a, b) == 2) {
        if ((loader = loader_of(a)) < LOADERS_COUNT)
            snprintf(out->version[loader], sizeof out->version[0], "%.31s", b);
    } else if (sscanf(line, "model %63s %63s %15s %15s %15s", a, b, words[0],
                      words[1], words[2]) == 5) {
        if (strcmp(a, model_type) != 0)
            return;
        out->is_known = true;
        snprintf(out->auto_class, sizeof out->auto_class, "%s", b);
        for (int i = 0; i < LOADERS_COUNT; i++)
            out->is_right[i] = strcmp(words[i], "right") == 0;
    } else if (sscanf(line, "why %63s %63s %n", a, b, &text) == 2) {
        if (strcmp(a, model_type) == 0 &&
            (loader = loader_of(b)) < LOADERS_COUNT)
            snprintf(out->why[loader], sizeof out->why[0], "%s", line + text);
    }
}

loaders loaders_of(const char *model_type)
{
    loaders out = {0};
    const char *at = builtin_page("loaders");
    while (*at) {
        char line[1024];
        size_t length = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)length, at);
        take_line(&out, model_type, line);
        at += length + (at[length] == '\n');
    }
    return out;
}
