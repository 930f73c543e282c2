/* journal.h - what a stopped run leaves for the next: which conversion the
 * folder holds, which shards are finished and what was measured in them. */
#ifndef F8_JOURNAL_H
#define F8_JOURNAL_H

#include "report.h"

/* A change of what fp8cast writes for the same plan changes this number, so
 * that no folder mixes the work of two versions. */
#define F8_RESULT_FORMAT 1

typedef struct f8_journal {
    char *path;     /* DST/.fp8cast/journal.json */
    json_t *stored; /* what stands there, or NULL */
} f8_journal;

/* Reads the journal under work_dir; none is no error. */
f8_status f8_journal_read(const char *work_dir, f8_journal *journal,
                          f8_error *err);
void f8_journal_free(f8_journal *journal);

/* Whether the stored journal is of this very plan. If not, *why says what
 * differs: "another source", "other options". */
bool f8_journal_matches(const f8_journal *journal, const f8_plan *plan,
                        const char **why);
/* Whether a file is one that the stored conversion wrote or would write. */
bool f8_journal_lists(const f8_journal *journal, const char *path);

/* Writes the journal of plan, with the files it will write, over the one that
 * was read, unless they say the same. keep_names: files that only the stored
 * one lists are in DST still, and remain ours. */
f8_status f8_journal_begin(const f8_journal *stored, const f8_plan *plan,
                           bool keep_names, f8_error *err);

/* What was measured in a finished shard. Written before the shard gets its
 * final name: the name is what makes it finished. */
f8_status f8_journal_put_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, const f8_tally *tally,
                               f8_error *err);
/* Adds them to *tally; NULL only asks. F8_ERR_IO or F8_ERR_FORMAT when there
 * are none, or none of this plan; *tally is then as it was. */
f8_status f8_journal_get_shard(const char *work_dir, const f8_plan *plan,
                               uint64_t shard, f8_tally *tally, f8_error *err);

#endif
