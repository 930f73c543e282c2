/* readme.c - the front matter of a source's card: found here, understood by
 * whoever writes another card. A README.md may be anything, so one without
 * front matter, or with a broken one, is no fault of the checkpoint. */
#include "readme.h"
#include "folder.h"
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of the line at `at` with its end, 0 when it is no fence. The last line
 * of a file needs no end. */
static size_t fence_bytes(const char *at, size_t left)
{
    size_t n = 3;
    if (left < n || memcmp(at, "---", n) != 0)
        return 0;
    while (n < left && (at[n] == ' ' || at[n] == '\t' || at[n] == '\r'))
        n++;
    if (n < left && at[n] != '\n')
        return 0;
    return n < left ? n + 1 : n;
}

bool f8_front_matter_find(const char *text, size_t n, size_t *first,
                          size_t *bytes)
{
    size_t at = fence_bytes(text, n);
    *first = at;
    while (at > 0 && at < n) {
        if (fence_bytes(text + at, n - at) > 0) {
            *bytes = at - *first;
            return true;
        }
        const char *end = memchr(text + at, '\n', n - at);
        at = end ? (size_t)(end - text) + 1 : n;
    }
    return false;
}

/* Whether it is the file itself that cannot be opened: there is none, a folder
 * or a fifo, a socket, a link to nowhere or to itself, or one that we may not
 * read. Nothing of that becomes better when it is tried again. */
static bool is_no_file(f8_status status, const f8_error *why)
{
    switch (why->sys_errno) {
    case 0: /* it was opened, and is no plain file */
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENXIO:
    case EACCES:
        return status == F8_ERR_IO;
    default:
        return false;
    }
}

/* Up to the end of the longest front matter with its fences; nothing where
 * there is no such file. */
static f8_status read_beginning(const f8_folder *folder, f8_buf *buf,
                                f8_error *err)
{
    static const char name[] = "README.md";
    const size_t most = F8_CARD_BYTES + 16;
    int fd = -1;
    uint64_t bytes = 0;
    char *full = f8_path_join(folder->path, name), *text = NULL;
    if (!full)
        return f8_fail_nomem(err, "a path");
    f8_status status =
        f8_folder_open_file(folder, name, &fd, &bytes, NULL, err);
    if (is_no_file(status, err)) {
        status = F8_OK;
        goto out;
    }
    if (status != F8_OK)
        goto out;
    size_t n = bytes < most ? (size_t)bytes : most;
    text = malloc(n + 1);
    status = text ? f8_read_at(fd, text, n, 0, full, err)
                  : f8_fail_nomem(err, "a model card");
    if (status == F8_OK)
        f8_buf_append(buf, text, n);
    if (buf->failed)
        status = f8_fail_nomem(err, "a model card");
out:
    if (fd >= 0)
        close(fd);
    free(full);
    free(text);
    return status;
}

f8_status f8_read_card(const char *src, bool follow_links,
                       char card[F8_CARD_BYTES], f8_error *err)
{
    f8_folder folder = F8_FOLDER_NONE;
    f8_buf buf = {0};
    f8_error wrong = {0};
    size_t first = 0, bytes = 0;
    *card = '\0';
    f8_status status = f8_folder_open(src, follow_links, &folder, err);
    if (status == F8_OK) {
        status = read_beginning(&folder, &buf, &wrong);
        if (status != F8_OK && err)
            *err = wrong;
    }
    if (status == F8_OK && buf.data &&
        f8_front_matter_find(buf.data, buf.length, &first, &bytes) &&
        bytes < F8_CARD_BYTES && !memchr(buf.data + first, '\0', bytes)) {
        memcpy(card, buf.data + first, bytes);
        card[bytes] = '\0';
        if (!f8_json_is_utf8(card))
            *card = '\0';
    }
    f8_buf_free(&buf);
    f8_folder_close(&folder);
    return status;
}
