/* groups.c - names put together; see groups.h. */
#include "groups.h"
#include "message.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands in a key for a number; no UTF-8 has this byte. */
#define GAP '\xff'
/* Ends the heading. */
#define TAB '\t'
/* Longer ones might not fit into 64 bits. */
#define DIGITS_MAX 18
/* Runs of numbers in braces that are written out. */
#define RUNS_SHOWN 4

/* ---- adding ------------------------------------------------------------ */

/* Length of the number that is all of the component at `at`; 0 for none. One
 * with a leading zero is text: its zeros would be lost. */
static size_t number_length(const char *at)
{
    size_t n = strspn(at, "0123456789");
    if (n == 0 || n > DIGITS_MAX || (at[n] != '.' && at[n] != '\0') ||
        (*at == '0' && n > 1))
        return 0;
    return n;
}

void groups_add(groups *list, const char *heading, const char *name)
{
    group_member member = {.key = malloc(strlen(heading) + strlen(name) + 2)};
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->members =
            realloc(list->members, list->capacity * sizeof *list->members);
    }
    if (!member.key || !list->members)
        message_no_memory();
    size_t length = strlen(heading);
    memcpy(member.key, heading, length + 1);
    char *to = member.key + length;
    *to++ = TAB;
    for (bool begins = true; *name; begins = *name++ == '.') {
        size_t n =
            begins && member.count < GROUP_NUMBERS ? number_length(name) : 0;
        if (n == 0) {
            *to++ = *name;
            continue;
        }
        member.numbers[member.count++] = strtoull(name, NULL, 10);
        *to++ = GAP;
        name += n - 1;
    }
    *to = '\0';
    list->members[list->count++] = member;
}

static int compare_members(const void *a, const void *b)
{
    const group_member *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    for (unsigned i = 0; order == 0 && i < x->count; i++)
        order =
            (x->numbers[i] > y->numbers[i]) - (x->numbers[i] < y->numbers[i]);
    return order;
}

void groups_sort(groups *list)
{
    if (list->count > 0)
        qsort(list->members, list->count, sizeof *list->members,
              compare_members);
    /* Headings become strings of their own. */
    for (size_t i = 0; i < list->count; i++)
        *strchr(list->members[i].key, TAB) = '\0';
}

void groups_free(groups *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->members[i].key);
    free(list->members);
    *list = (groups){0};
}

/* ---- a line ------------------------------------------------------------ */

static const char *pattern_of(const group_member *member)
{
    return member->key + strlen(member->key) + 1;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The different numbers in one place of a group's names, in order. */
static size_t distinct(const group_member *first, size_t count, unsigned place,
                       uint64_t *numbers)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        numbers[i] = first[i].numbers[place];
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || numbers[i] != numbers[kept - 1])
            numbers[kept++] = numbers[i];
    }
    return kept;
}

/* "7", "{0..39}", "{3,7,11}", "{0..2,4..6,8,10,...,40}". */
static void write_numbers(FILE *out, const uint64_t *numbers, size_t count)
{
    size_t runs = 0;
    if (count == 1) {
        fprintf(out, "%" PRIu64, numbers[0]);
        return;
    }
    fputc('{', out);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && numbers[end] == numbers[end - 1] + 1;)
            end++;
        bool is_last = end == count;
        if (++runs > RUNS_SHOWN && !is_last)
            continue;
        if (i > 0)
            fputs(runs > RUNS_SHOWN + 1 ? ",...," : ",", out);
        fprintf(out, "%" PRIu64, numbers[i]);
        if (end - i > 1)
            fprintf(out, "%s%" PRIu64, end - i == 2 ? "," : "..",
                    numbers[end - 1]);
    }
    fputc('}', out);
}

/* The product of the numbers of places may be beyond 64 bits; then it is more
 * than there are members, which is all that matters. */
static uint64_t times(uint64_t a, uint64_t b)
{
    return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static char *write_group(const group_member *first, size_t count)
{
    char *text = NULL;
    size_t bytes = 0;
    unsigned place = 0;
    uint64_t whole = 1;
    uint64_t *numbers = calloc(count, sizeof *numbers);
    FILE *out = message_stream(&text, &bytes);
    if (!numbers)
        message_no_memory();
    for (const char *at = pattern_of(first); *at; at++) {
        if (*at != GAP || place == first->count) {
            fputc(*at, out);
            continue;
        }
        size_t n = distinct(first, count, place++, numbers);
        whole = times(whole, n);
        write_numbers(out, numbers, n);
    }
    if (count > 1 && whole == count)
        fprintf(out, " (%zu)", count);
    else if (count > 1)
        fprintf(out, " (%zu of %" PRIu64 ")", count, whole);
    message_stream_end(out, &text);
    free(numbers);
    return text;
}

size_t groups_line(const groups *list, size_t at, const char **heading,
                   char **line)
{
    const group_member *first = &list->members[at];
    size_t end = at + 1;
    while (end < list->count &&
           strcmp(list->members[end].key, first->key) == 0 &&
           strcmp(pattern_of(&list->members[end]), pattern_of(first)) == 0)
        end++;
    *heading = first->key;
    *line = write_group(first, end - at);
    return end - at;
}
