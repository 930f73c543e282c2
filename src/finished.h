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

/* A file beside the weights, in a folder of the same conversion. */
typedef enum f8_side_state {
    F8_SIDE_TO_WRITE, /* it is not there, or not carried over */
    F8_SIDE_THERE,    /* as in the source */
    F8_SIDE_UNLIKE    /* otherwise than in the source, or not to be read: a card
                         or settings that somebody wrote, or linked there */
} f8_side_state;

/* What stands in place of a file that the run itself makes up. */
typedef enum f8_made_state {
    F8_MADE_ABSENT,
    F8_MADE_SAME,
    F8_MADE_UNLIKE /* damaged, or edited when all was done */
} f8_made_state;

f8_made_state f8_finished_made(const char *dst, const f8_side_files *files,
                               const char *name, const f8_buf *bytes);
/* Looks at every file beside the weights. *all: none is to be written; with
 * overwrite one that is unlike the source's is, and refused where a link would
 * have to go. F8_ERR_CANCELLED when the watch says so. */
f8_status f8_finished_sides(const f8_plan *plan, const char *dst,
                            const f8_side_files *files, const f8_intent *intent,
                            f8_side_state *states, bool *all, f8_error *err);

#endif
