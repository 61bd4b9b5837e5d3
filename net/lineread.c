/*
 * net/lineread.c - looks for the LF only as far as a line may reach, so an
 * endless line costs MAX + 2 bytes; the literal is read backwards from the
 * line's end.
 */
#include "net/lineread.h"

enum parse
line_take(struct span in, size_t max, struct span *ret_line, size_t *ret_used)
{
    size_t reach = in.n;
    if (reach > max && reach - max > 2)
        reach = max + 2; /* a line of MAX bytes, CR, LF */
    ptrdiff_t lf = span_find_byte(span_sub(in, 0, reach), '\n', 0);

    if (lf < 0) {
        /* MAX + 1 bytes may still end in CR, and the LF be on its way. */
        if (in.n > max && (in.n - max > 1 || in.p[max] != '\r'))
            return PARSE_BAD;
        return PARSE_MORE;
    }
    size_t n = (size_t)lf;
    if (n > 0 && in.p[n - 1] == '\r')
        n--;
    if (n > max)
        return PARSE_BAD;
    *ret_line = span_sub(in, 0, n);
    *ret_used = (size_t)lf + 1;
    return PARSE_DONE;
}

enum literal_found
line_literal(struct span line, uint64_t max, struct literal *ret,
             struct span *ret_before)
{
    if (line.n < 3 || line.p[line.n - 1] != '}')
        return LITERAL_NONE;

    struct literal lit = {0};
    size_t end = line.n - 1;
    if (line.p[end - 1] == '+' || line.p[end - 1] == '-') {
        lit.nonsync = true;
        end--;
    }
    size_t start = end;
    while (start > 0 && line.p[start - 1] >= '0' && line.p[start - 1] <= '9')
        start--;
    if (start == end || start == 0 || line.p[start - 1] != '{')
        return LITERAL_NONE;

    size_t before = start - 1;
    if (before > 0 && line.p[before - 1] == '~') {
        lit.binary = true;
        before--;
    }
    if (!parse_u64(span_sub(line, start, end - start), &lit.n))
        lit.n = UINT64_MAX;
    *ret = lit;
    *ret_before = span_sub(line, 0, before);
    return lit.n > max || lit.n == UINT64_MAX ? LITERAL_TOO_BIG : LITERAL_OK;
}
