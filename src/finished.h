/* finished.h - has a result folder all that a plan asks for? claim.c asks. */
#ifndef F8_FINISHED_H
#define F8_FINISHED_H

#include "journal.h"

/* What a run wants of its result folder. */
typedef struct f8_intent {
    bool overwrite;
    const f8_buf *index, *config; /* what those files will be */
    const f8_watch *watch;        /* may be NULL */
} f8_intent;

/* A file beside the weights, in a folder that is finished otherwise. */
typedef enum f8_side_state {
    F8_SIDE_TO_WRITE, /* it is not there, or not carried over */
    F8_SIDE_THERE,    /* as in the source */
    F8_SIDE_UNLIKE    /* there, but otherwise than in the source: perhaps a card
                         or settings that somebody wrote */
} f8_side_state;

/* Whether config.json and index are there, with these bytes, and the journal
 * knows all that it would know today. Of the shards the caller knows. */
bool f8_finished(const f8_plan *plan, const char *dst,
                 const f8_side_files *files, const f8_journal *journal,
                 const f8_intent *intent);
/* Looks at every file beside the weights. *all: none is to be written; with
 * overwrite one that is unlike the source's is. F8_ERR_CANCELLED when the watch
 * says so. */
f8_status f8_finished_sides(const f8_plan *plan, const char *dst,
                            const f8_side_files *files, const f8_intent *intent,
                            f8_side_state *states, bool *all, f8_error *err);

#endif
