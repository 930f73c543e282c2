/* splice.c - fuzz target: quantization_config put into a config.json, and
 * taken out. With it the result must be valid JSON, equal the source but for
 * the new member, and hold every byte of the source in its place; without it
 * again it must be the source. Where the source has one already, cutting it
 * out must leave the other members. */
#include "fuzz.h"

#include "manifest.h"

#define KEY "quantization_config"

/* What a conversion writes, with every kind of value that it has. */
static json_t *make_value(void)
{
    json_t *value =
        json_pack("{s:s, s:[ii], s:[ss], s:[]}", "quant_method", "fp8",
                  "weight_block_size", 128, 128, "modules_to_not_convert",
                  "lm_head", "a\n\"\\\xc3\xa9", "empty");

    require(value != NULL, "out of memory");
    return value;
}

/* Removing a run of bytes from the result must give the source. */
static void check_bytes(const f8_buf *source, const f8_buf *result)
{
    size_t more = result->length - source->length, begin = 0;

    require(result->length > source->length, "nothing was added");
    while (begin < source->length && source->data[begin] == result->data[begin])
        begin++;
    require(!memcmp(source->data + begin, result->data + begin + more,
                    source->length - begin),
            "bytes of the source have changed:\n%s", result->data);
}

/* The text that is left; false where our parser takes none of it, as it is
 * stricter than the one that has read it. */
static bool cut(const f8_buf *text, f8_buf *rest)
{
    f8_error err = {0};
    f8_status status = f8_json_cut(text, NULL, KEY, rest, &err);

    require(status == F8_OK || status == F8_ERR_FORMAT, "%s", err.message);
    return status == F8_OK;
}

static void check_cut(const f8_buf *source, json_t *before)
{
    f8_buf rest = {0};
    json_error_t why;

    if (cut(source, &rest)) {
        json_t *after =
            json_loadb(rest.data, rest.length, JSON_REJECT_DUPLICATES, &why);
        require(after != NULL, "%s: %s", why.text, rest.data);
        require(json_object_del(before, KEY) == 0 && json_equal(before, after),
                "another config: %s", rest.data);
        json_decref(after);
    }
    f8_buf_free(&rest);
}

static void check_inverse(const f8_buf *source, const f8_buf *result)
{
    f8_buf rest = {0};

    if (cut(result, &rest))
        require(rest.length == source->length &&
                    !memcmp(rest.data, source->data, rest.length),
                "not the source again:\n%s", rest.data);
    f8_buf_free(&rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    f8_buf source = {0}, result = {0};
    f8_error err = {0};
    json_error_t why;

    f8_buf_append(&source, data, size);
    json_t *before = source.data ? json_loadb(source.data, source.length,
                                              JSON_REJECT_DUPLICATES, &why)
                                 : NULL;
    if (json_is_object(before) && !json_object_get(before, KEY)) {
        json_t *value = make_value();
        f8_status status = f8_json_splice(&source, KEY, value, &result, &err);
        require(status == F8_OK, "%s", err.message);
        check_bytes(&source, &result);
        check_inverse(&source, &result);
        json_t *after = json_loadb(result.data, result.length,
                                   JSON_REJECT_DUPLICATES, &why);
        require(after != NULL, "%s: %s", why.text, result.data);
        require(json_equal(json_object_get(after, KEY), value),
                "another value: %s", result.data);
        require(json_object_del(after, KEY) == 0 && json_equal(before, after),
                "another config: %s", result.data);
        json_decref(after);
        json_decref(value);
    }
    if (json_object_get(before, KEY))
        check_cut(&source, before);
    json_decref(before);
    f8_buf_free(&result);
    f8_buf_free(&source);
    return 0;
}
