/*
 * failover/show.c - see failover/show.h.
 *
 * Colours are put on the finished text, by word: what is said and how it looks
 * are apart, and nothing can be said in colour alone.
 */
#include "failover/show.h"

#include <poll.h>
#include <stdlib.h>

#define RED "\033[1;31m"
#define GREEN "\033[32m"
#define YELLOW "\033[1;33m"
#define BLUE "\033[1;34m"
#define PLAIN "\033[0m"
#define CLEAR "\033[H\033[2J\033[3J"
#define SLICE_MS 100

static const struct {
    const char *word;
    const char *color;
} words[] = {
    {"FENCE UP", RED},
    {"UNEQUAL", RED},
    {"not reachable", RED},
    {"DAMAGED", RED},
    {"LOG STUCK", RED},
    {"SYNC_ACK REFUSES", RED},
    {"parked", RED},
    {"reseed", RED},
    {"down", RED},
    {"fenced", RED},
    {"SYNC_ACK DEGRADED", RED},
    {"waits for a seed", YELLOW},
    {"connecting", YELLOW},
    {"behind", YELLOW},
    {"seeding", YELLOW},
    {"unknown", YELLOW},
    {"equal", GREEN},
    {"streaming", GREEN},
    {"master", YELLOW},
    {"replica", BLUE},
};

static bool
is_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The word that S begins with, and ends there. */
static int
find_word(struct span s)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct span w = span_str(words[i].word);
        if (span_starts(s, w) && (s.n == w.n || !is_word(s.p[w.n])))
            return (int)i;
    }
    return -1;
}

/* Sentences for a person stay as they are: on the lines that begin with a
 * blank, and behind the state of a channel. */
static void
color_line(struct span line, struct buf *ret)
{
    bool plain = line.n > 0 && line.p[0] == ' ';
    bool is_channel = span_starts(line, SPAN_LIT("channel "));
    size_t at = 0;

    while (at < line.n) {
        struct span rest = span_skip(line, at);
        int word =
            plain || (at > 0 && is_word(line.p[at - 1])) ? -1 : find_word(rest);
        if (word < 0) {
            buf_add_byte(ret, line.p[at++]);
            continue;
        }
        buf_add_str(ret, words[word].color);
        buf_add_str(ret, words[word].word);
        buf_add_str(ret, PLAIN);
        at += strlen(words[word].word);
        plain = plain || is_channel;
    }
}

void
ctl_color(struct span text, struct buf *ret)
{
    while (text.n > 0) {
        ptrdiff_t lf = span_find_byte(text, '\n', 0);
        size_t n = lf < 0 ? text.n : (size_t)lf;
        color_line(span_sub(text, 0, n), ret);
        if (lf >= 0)
            buf_add_byte(ret, '\n');
        text = span_skip(text, lf < 0 ? n : n + 1);
    }
}

static enum ctl_exit
look_once(const struct ctl_options *o, const struct ctl_show *show)
{
    struct ctl_options mine = *o;
    AUTO(buf_free) struct buf out = BUF_INIT;
    char *text = NULL;
    size_t n = 0;

    mine.out = open_memstream(&text, &n);
    if (mine.out == NULL)
        return ctl_run(o, "status");
    enum ctl_exit code = ctl_run(&mine, "status");
    fclose(mine.out);
    if (show->clear)
        buf_add_str(&out, CLEAR);
    if (show->color && !o->json)
        ctl_color(span_of(text, n), &out);
    else
        buf_add(&out, span_of(text, n));
    fwrite(out.p, 1, out.n, o->out);
    fflush(o->out);
    free(text);
    return code;
}

/* False: it is over. */
static bool
rest(const struct ctl_options *o, const struct ctl_show *show)
{
    const uint64_t until_ns =
        env_mono_ns(o->env) + (uint64_t)show->every_s * 1000000000;

    while (show->stop == NULL || !show->stop(show->ctx)) {
        if (env_mono_ns(o->env) >= until_ns)
            return true;
        (void)poll(NULL, 0, SLICE_MS);
    }
    return false;
}

enum ctl_exit
ctl_show_status(const struct ctl_options *o, const struct ctl_show *show)
{
    enum ctl_exit code;

    do
        code = look_once(o, show);
    while (show->every_s > 0 && !ferror(o->out) && rest(o, show));
    return code;
}
