/* checkpoint.c - fuzz target: whole conversions, in a folder on a memory file
 * system. The input is a byte of options and then either text or a recipe.
 * Text is, with a byte 1 between: config.json, a rules file, the index and the
 * headers of two shards, to which data of the right size are added; without an
 * index the first shard is the whole. A recipe says which rules and tensors to
 * make these texts of, so that most of them fit together. What plan accepts,
 * quantize must convert, verify must find nothing wrong with, and inspect must
 * find in agreement. */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

#include "safetensors.h"

enum { SECTIONS = 5, MOST_DATA = 100000 };

typedef struct section {
    const char *text;
    size_t length;
} section;

static char folder[64], source[80], result[80], rules[80];

static void leave(void)
{
    rmdir(folder);
}

static void choose_folder(void)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    if (folder[0])
        return;
    snprintf(folder, sizeof folder, "%s/fp8cast-fuzz.XXXXXX", base);
    require(mkdtemp(folder) != NULL, "cannot make a folder in %s", base);
    snprintf(source, sizeof source, "%s/src", folder);
    snprintf(result, sizeof result, "%s/dst", folder);
    snprintf(rules, sizeof rules, "%s/my.rules", folder);
    atexit(leave);
}

static int delete_one(const char *path, const struct stat *st, int kind,
                      struct FTW *ftw)
{
    (void)st;
    (void)kind;
    return ftw->level == 0 && !strcmp(path, folder) ? 0 : remove(path);
}

static void clear_folder(void)
{
    require(nftw(folder, delete_one, 8, FTW_DEPTH | FTW_PHYS) == 0,
            "cannot clear %s", folder);
}

/* One file of the source out of up to three pieces. */
static void put(const char *path, const section *pieces, size_t count)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    require(fd >= 0, "cannot make %s", path);
    for (size_t i = 0; i < count; i++)
        require(write(fd, pieces[i].text, pieces[i].length) ==
                    (ssize_t)pieces[i].length,
                "cannot write %s", path);
    require(close(fd) == 0, "cannot close %s", path);
}

static void put_in_source(const char *name, const section *pieces, size_t count)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", source, name);
    put(path, pieces, count);
}

/* The end of the last tensor, as far as the header says so. */
static size_t data_size(const section *header)
{
    json_error_t why;
    json_t *tree = json_loadb(header->text, header->length, 0, &why), *entry;
    const char *name;
    json_int_t most = 0;

    json_object_foreach(tree, name, entry)
    {
        json_int_t end = json_integer_value(
            json_array_get(json_object_get(entry, "data_offsets"), 1));
        if (end > most && end <= MOST_DATA)
            most = end;
    }
    json_decref(tree);
    return (size_t)most;
}

/* Length, header and data. No byte is above 0x3f, so that every weight is
 * finite whatever its type. */
static void put_shard(const char *name, const section *header)
{
    static char bytes[MOST_DATA];
    char prefix[8];
    size_t n = data_size(header);

    for (size_t i = 0; i < 8; i++)
        prefix[i] = (char)(header->length >> 8 * i & 0xff);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)((i * 37 + i / 251) & 0x3f);
    put_in_source(name, (section[]){{prefix, 8}, *header, {bytes, n}}, 3);
}

static void put_source(const section *sections)
{
    require(mkdir(source, 0700) == 0, "cannot make %s", source);
    put_in_source("config.json", &sections[0], 1);
    put(rules, &sections[1], 1);
    if (sections[2].length == 0) {
        put_shard("model.safetensors", &sections[3]);
        return;
    }
    put_in_source("model.safetensors.index.json", &sections[2], 1);
    put_shard("a.safetensors", &sections[3]);
    put_shard("b.safetensors", &sections[4]);
}

static void check_result(const f8_options *options)
{
    f8_verdict *verdict = NULL;
    f8_inventory *inventory = NULL;
    f8_inventory_summary summary;
    f8_error err = {0};

    f8_status status = f8_verify(source, result, options, &verdict, &err);
    require(status == F8_OK, "verify: %s", err.message);
    require(!f8_verdict_fault(verdict, 0), "verify: %s",
            f8_verdict_fault(verdict, 0));
    /* We carry all over, and write no member that nobody reads. */
    require(!f8_verdict_warning(verdict, 0), "verify: %s",
            f8_verdict_warning(verdict, 0));
    require(!f8_verdict_note(verdict, 0), "verify: %s",
            f8_verdict_note(verdict, 0));
    f8_verdict_free(verdict);
    status = f8_inspect(result, &inventory, &err);
    require(status == F8_OK, "inspect: %s", err.message);
    f8_inventory_get_summary(inventory, &summary);
    require(summary.agrees, "inspect: %s", f8_inventory_problem(inventory, 0));
    f8_inventory_free(inventory);
}

static void convert(const f8_options *options)
{
    f8_plan *plan = NULL;
    f8_report *report = NULL;
    f8_report_summary summary;
    f8_error err = {0};

    f8_status status = f8_plan_create(source, options, &plan, &err);
    if (status != F8_OK) {
        require(!plan && err.message[0] && !strpbrk(err.message, "\n\r\033"),
                "the message '%s'", err.message);
        require(status != F8_ERR_INTERNAL && status != F8_ERR_NOMEM, "%s",
                err.message);
        return;
    }
    status = f8_quantize(plan, result, options, &report, &err);
    require(status == F8_OK, "planned, but quantize: %s", err.message);
    f8_report_free(report);
    check_result(options);
    /* The same again finds nothing to do. */
    status = f8_quantize(plan, result, options, &report, &err);
    require(status == F8_OK, "again: %s", err.message);
    f8_report_get_summary(report, &summary);
    require(summary.already_done, "again: something was done");
    f8_report_free(report);
    f8_plan_free(plan);
}

/* ---- recipes ------------------------------------------------------------- */

static const char *const rule_lines[] = {
    "keep n.*\n",
    "keep *.bias optional\n",
    "quantize q.{n}.weight\n",
    "quantize *.weight optional\n",
    "keep k.{n}.weight linear optional\n",
    "split m.experts.gu experts=0 parts=1:g,u optional\n",
    "split m.experts.d experts=0 parts=1:d optional\n",
    "split *.gu experts=0 parts=1:a,b,c oneof=o\n",
    "keep k.* always group=g\n",
    "quantize q.{n}.* optional group=h\n",
    "fused qk = q k\n",
    "fused gu = g u listed\n",
    "keep * optional\n",
    "keep *.experts.* optional linear\n",
    "quantize *.experts.{n}.g.weight optional\n",
    "keep q.1* optional always\n",
};
static const char *const names[] = {
    "n.a",
    "n.b",
    "q.0.weight",
    "q.1.weight",
    "k.0.weight",
    "k.1.weight",
    "q.0.bias",
    "m.experts.gu",
    "m.experts.d",
    "l.m.experts.gu",
    "m.experts.0.g.weight",
    "m.experts.1.g.weight",
    "m.experts.0.u.weight",
    "k.weight",
    "q.10.weight",
    "q.weight_scale_inv",
    "q.0.weight_scale_inv",
    "a.q.weight",
    "a.k.weight",
    "x\xc3\xa9\n.weight",
    "",
    "model.q.0.weight",
    "a.g.weight",
    "a.u.weight",
};

/* A header as it grows. */
typedef struct shard {
    f8_buf text;
    uint64_t end;
} shard;

/* Adds the tensor that five bytes describe to its shard and to the index. */
static void add_tensor(const uint8_t *recipe, shard *s, const char *file,
                       f8_buf *index)
{
    static const uint64_t sizes[] = {0, 1, 2, 3, 4, 6, 12, 127, 128, 129, 200};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    const char *name = names[recipe[0] % (sizeof names / sizeof *names)];
    f8_dtype dtype = recipe[1] < 128 ? F8_DTYPE_BF16
                                     : (f8_dtype)(recipe[1] % F8_DTYPE_COUNT);
    unsigned rank = recipe[2] & 3;
    const uint64_t shape[] = {sizes[recipe[3] % SIZES],
                              sizes[recipe[4] % SIZES],
                              sizes[(recipe[3] >> 4) % SIZES]};
    uint64_t bytes = f8_dtype_bytes(dtype);

    for (unsigned i = 0; i < rank; i++)
        bytes *= shape[i];
    if (s->end + bytes > MOST_DATA)
        return;
    f8_st_header_add(&s->text, name, dtype, rank, shape, s->end,
                     s->end + bytes);
    s->end += bytes;
    f8_buf_puts(index, index->data[index->length - 1] == '{' ? "" : ",");
    f8_buf_json_string(index, name);
    f8_buf_printf(index, ":\"%s\"", file);
}

/* Two bytes of which rules to take, then five for every tensor. The texts are
 * the caller's to free. */
static void cook(const uint8_t *data, size_t size, bool indexed, f8_buf *texts)
{
    shard shards[2] = {{{0}, 0}, {{0}, 0}};

    f8_buf_puts(&texts[0], "{\"model_type\": \"t\"}");
    f8_buf_puts(&texts[1], "family t\nmodel_type t\n");
    for (size_t i = 0; i < 16 && size >= 2; i++) {
        if (data[i / 8] >> i % 8 & 1)
            f8_buf_puts(&texts[1], rule_lines[i]);
    }
    f8_buf_puts(&texts[2], "{\"weight_map\":{");
    for (size_t k = 0; k < 2; k++)
        f8_st_header_begin(&shards[k].text);
    for (size_t at = 2; at + 5 <= size; at += 5) {
        bool second = indexed && data[at + 2] >> 7;
        add_tensor(data + at, &shards[second],
                   second ? "b.safetensors" : "a.safetensors", &texts[2]);
    }
    f8_buf_puts(&texts[2], "}}");
    if (!indexed)
        texts[2].length = 0;
    for (size_t k = 0; k < 2; k++) {
        f8_st_header_finish(&shards[k].text);
        texts[3 + k] = shards[k].text;
    }
}

/* Text into its sections. */
static void cut(const char *at, size_t size, section *sections)
{
    const char *end = at + size;

    for (size_t i = 0; i < SECTIONS; i++) {
        const char *stop = memchr(at, 1, (size_t)(end - at));
        if (!stop || i + 1 == SECTIONS)
            stop = end;
        sections[i] = (section){at, (size_t)(stop - at)};
        at = stop < end ? stop + 1 : end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t shard_bytes[] = {0, 1, 1000, 40000};
    section sections[SECTIONS] = {{0}};
    f8_buf texts[SECTIONS] = {{0}};

    if (size < 1)
        return -1;
    f8_options options = {.size = sizeof options,
                          .threads = 1,
                          .memory_bytes = 64 << 20,
                          .scale_dtype = (f8_scale_dtype)(data[0] & 3),
                          .shard_bytes = shard_bytes[data[0] >> 2 & 3],
                          .rules = data[0] & 16 ? NULL : rules};
    if (data[0] & 32) {
        cook(data + 1, size - 1, data[0] & 64, texts);
        for (size_t i = 0; i < SECTIONS; i++) {
            size_t head = i < 3 ? 0 : F8_ST_PREFIX_BYTES;
            require(!texts[i].failed, "out of memory");
            sections[i] =
                (section){texts[i].data + head, texts[i].length - head};
        }
    } else {
        cut((const char *)data + 1, size - 1, sections);
    }
    choose_folder();
    put_source(sections);
    convert(&options);
    clear_folder();
    for (size_t i = 0; i < SECTIONS; i++)
        f8_buf_free(&texts[i]);
    return 0;
}
