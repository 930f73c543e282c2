/* words.h - many words, of which those are looked up with which a text begins
 * or ends. However many do, one search finds the longest, and the others lie
 * within it. */
#ifndef F8_WORDS_H
#define F8_WORDS_H

#include "error.h"

#define F8_WORD_NONE UINT32_MAX

typedef struct f8_word {
    const char *text;
    uint32_t length;
    uint32_t item;   /* whatever the caller knows it by */
    uint32_t place;  /* the caller's: a number of which the least counts */
    uint32_t within; /* the longest other word that lies at the same end of it,
                        or F8_WORD_NONE */
    uint32_t jump;   /* one further within, for long ways */
    uint32_t depth;  /* how many do */
} f8_word;

/* Where in a text its words are looked for. */
typedef enum f8_words_end {
    F8_WORDS_IN_FRONT, /* and a dot follows, or nothing */
    F8_WORDS_BEHIND
} f8_words_end;

typedef struct f8_words {
    f8_word *words;
    uint32_t count;
    f8_words_end end;
} f8_words;

/* Orders `count` words, each of another text, of which text and item are set;
 * all places are F8_WORD_NONE then. */
void f8_words_order(f8_words *words);

/* The longest word that lies in the first n bytes of the text at that end of
 * them, or NULL. */
f8_word *f8_words_find(const f8_words *words, const char *text, size_t n);

/* The least place of each word counts for all that lie within it as well. */
void f8_words_pass_on(f8_words *words);
/* And that of all that lie within a word for the word. */
void f8_words_gather(f8_words *words);

#endif
