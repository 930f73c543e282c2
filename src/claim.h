/* claim.h - may we write into this folder, and what of it is already ours?
 * Looking touches nothing; clearing removes only what looking found to be
 * ours. docs/format.md section 7. */
#ifndef F8_CLAIM_H
#define F8_CLAIM_H

#include "finished.h"

typedef struct f8_claim {
    f8_side_files files; /* all that DST holds, no links followed */
    f8_journal journal;
    bool replace;  /* another conversion is to be removed */
    bool settled;  /* it has a config.json: it was finished once */
    bool finished; /* it is, but perhaps for files beside the weights */
    bool edited;   /* config.json is not as it was written, and stays so */
    bool complete; /* everything that the plan asks for is there */
    f8_side_state *sides; /* by plan->sides */
    bool *shard_done;     /* finished by an earlier run of this plan */
    uint32_t shards_done;
} f8_claim;

/* Refuses a DST that is SRC, inside it or around it, by whatever path. */
f8_status f8_claim_place(const f8_plan *plan, const char *dst, f8_error *err);

/* Refuses foreign files in a folder that never was finished, another conversion
 * without overwrite, and too little free space. Files beside the weights that
 * are not the source's are its user's, unless overwrite is set. Free claim in
 * any case. */
f8_status f8_claim_look(const f8_plan *plan, const char *dst,
                        const char *work_dir, const f8_intent *intent,
                        f8_claim *claim, f8_error *err);

/* Removes what is to be replaced, or what a stopped run left. */
f8_status f8_claim_clear(const f8_plan *plan, const char *dst,
                         const char *work_dir, bool overwrite,
                         const f8_claim *claim, f8_error *err);
void f8_claim_free(f8_claim *claim);

#endif
