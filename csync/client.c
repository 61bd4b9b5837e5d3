/*
 * csync/client.c - the blocking client: greeting, STARTTLS, login, and commands
 * with their answers.
 *
 * An answer's data lines are collected with their literals before they are
 * parsed; each is bounded by the limits of csync/dlist.h.
 */
#include "csync/client.h"

#include <poll.h>
#include <stdlib.h>

#include "net/lineread.h"
#include "net/sasl.h"

#define LINE_MAX_BYTES (256U << 10)
#define GREETING_LINES_MAX 64U
/* Of one answer of a peer, and how many times the limit of one silence it may
 * take; connecting may take so many times that. */
#define ANSWER_BYTES ((size_t)64 << 20)
#define ANSWER_TIMES 6U
#define CONNECT_TIMES 3U

struct csync_client {
    struct bclient *conn;
    int timeout_ms;
    bool is_bounded; /* answers are: it is a peer's, and logged in */
    bool has_log;
    bool has_starttls;
    bool has_deflate;
    bool has_zstd, takes_zstd;
    char mechs[512];
    struct buf line;
    struct arena arena;
};

/* ---- where to ---------------------------------------------------------- */

enum errcode
csync_target_from_config(const struct config *cfg, const char *channel,
                         const char *host, struct csync_target *ret,
                         struct error *err)
{
    struct csync_target t = {0};

    t.host =
        host != NULL ? host : config_channel_string(cfg, channel, "sync_host");
    if (t.host == NULL || t.host[0] == '\0')
        return error_set(err, ERR_NOTFOUND,
                         "no replica is configured: set sync_host in "
                         "imapd.conf, or name it with -S");
    t.port = config_channel_string(cfg, channel, "sync_port");
    t.authname = config_channel_string(cfg, channel, "sync_authname");
    t.password = config_channel_string(cfg, channel, "sync_password");
    t.realm = config_channel_string(cfg, channel, "sync_realm");
    t.must_tls = config_channel_switch(cfg, channel, "sync_tls_required");
    t.any_certificate = !config_channel_switch(cfg, channel, "sync_tls_verify");
    t.tls_ca_file = config_channel_string(cfg, channel, "sync_tls_ca_file");
    t.compress = config_channel_switch(cfg, channel, "sync_compress");
    t.timeout_ms =
        (int)MIN(config_duration_s(cfg, "client_timeout"), (uint64_t)3600) *
        1000;
    *ret = t;
    return ERR_OK;
}

/* "host[:port][/tls][/noauth]" and "[v6]:port" taken apart. */
struct address {
    char host[256];
    char port[64];
    bool tls;
    bool noauth;
};

/* The words behind the first slash, each once or more. */
static enum errcode
take_address_words(const struct csync_target *t, struct span words,
                   struct address *a, struct error *err)
{
    for (;;) {
        const ptrdiff_t slash = span_find_byte(words, '/', 0);
        struct span word =
            slash < 0 ? words : span_sub(words, 0, (size_t)slash);
        if (span_eq_str(word, "tls"))
            a->tls = true;
        else if (span_eq_str(word, "noauth"))
            a->noauth = true;
        else
            return error_set(err, ERR_SYNTAX,
                             "sync_host \"%s\": unknown \"/%.*s\", only /tls "
                             "and /noauth are known",
                             t->host, SPAN_FMT(word));
        if (slash < 0)
            return ERR_OK;
        words = span_skip(words, (size_t)slash + 1);
    }
}

static enum errcode
split_address(const struct csync_target *t, struct address *ret,
              struct error *err)
{
    struct span s = span_str(t->host);
    struct address a = {.tls = t->require_tls};
    const ptrdiff_t slash = span_find_byte(s, '/', 0);

    if (slash >= 0) {
        enum errcode rc =
            take_address_words(t, span_skip(s, (size_t)slash + 1), &a, err);
        if (rc != ERR_OK)
            return rc;
        s = span_sub(s, 0, (size_t)slash);
    }
    struct span host = s;
    struct span port = span_str(t->port == NULL ? "csync" : t->port);
    if (s.n > 0 && s.p[0] == '[') {
        const ptrdiff_t close = span_find_byte(s, ']', 0);
        if (close < 0)
            return error_set(err, ERR_SYNTAX, "sync_host \"%s\": no ]",
                             t->host);
        host = span_sub(s, 1, (size_t)close - 1);
        s = span_skip(s, (size_t)close + 1);
        if (s.n > 0 && s.p[0] != ':')
            return error_set(err, ERR_SYNTAX, "\"%s\" is not HOST[:PORT]",
                             t->host);
        if (s.n > 0)
            port = span_skip(s, 1);
    } else {
        const ptrdiff_t colon = span_find_byte(s, ':', 0);
        if (colon >= 0 && span_find_byte(s, ':', (size_t)colon + 1) < 0) {
            host = span_sub(s, 0, (size_t)colon);
            port = span_skip(s, (size_t)colon + 1);
        }
    }
    if (host.n == 0 || host.n >= sizeof(a.host) || port.n == 0 ||
        port.n >= sizeof(a.port))
        return error_set(err, ERR_SYNTAX, "\"%s\" is not HOST[:PORT]", t->host);
    memcpy(a.host, host.p, host.n);
    memcpy(a.port, port.p, port.n);
    *ret = a;
    return ERR_OK;
}

/* ---- answers ----------------------------------------------------------- */

/* One response line with the literals in it, into c->line (with CRLF). */
static enum errcode
read_response(struct csync_client *c, struct error *err)
{
    AUTO(buf_free) struct buf part = BUF_MAX(LINE_MAX_BYTES);

    buf_clear(&c->line);
    for (;;) {
        enum errcode rc = bclient_read_line(c->conn, LINE_MAX_BYTES,
                                            c->timeout_ms, &part, err);
        if (rc != ERR_OK)
            return rc;
        struct literal lit = {0};
        struct span before = SPAN_EMPTY;
        enum literal_found found =
            line_literal(buf_span(&part), LINE_MAX_BYTES, &lit, &before);
        if (found == LITERAL_TOO_BIG)
            return error_set(err, ERR_PROTO,
                             "answer has a literal of over %u "
                             "bytes",
                             LINE_MAX_BYTES);
        buf_add(&c->line, buf_span(&part));
        buf_add_str(&c->line, "\r\n");
        if (found == LITERAL_OK) {
            uint8_t *to = buf_reserve(&c->line, (size_t)lit.n);
            if (to == NULL)
                break;
            rc = bclient_read_exact(c->conn, to, (size_t)lit.n, c->timeout_ms,
                                    err);
            if (rc != ERR_OK)
                return rc;
            c->line.n += (size_t)lit.n;
            continue;
        }
        if (!c->line.full)
            return ERR_OK;
        break;
    }
    return error_set(err, ERR_PROTO, "answer of over %u bytes", LINE_MAX_BYTES);
}

static const struct {
    const char *word;
    enum errcode code;
} no_codes[] = {
    {"POLLUX-HISTORY", ERR_HISTORY},   {"POLLUX-EPOCH", ERR_FENCED},
    {"POLLUX-FENCED", ERR_FENCED},     {"POLLUX-ROLE", ERR_READONLY},
    {"POLLUX-GAP", ERR_GAP},           {"POLLUX-CONFLICT", ERR_CONFLICT},
    {"POLLUX-EXISTS", ERR_EXISTS},     {"POLLUX-LIMIT", ERR_LIMIT},
    {"POLLUX-SYNTAX", ERR_SYNTAX},     {"POLLUX-IO", ERR_IO},
    {"POLLUX-QUOTA", ERR_QUOTA},       {"POLLUX-BADNAME", ERR_BADNAME},
    {"POLLUX-CLOSED", ERR_CLOSED},     {"POLLUX-VERSION", ERR_VERSION},
    {"POLLUX-AGAIN", ERR_AGAIN},       {"POLLUX-CORRUPT", ERR_CORRUPT},
    {"POLLUX-NOSPACE", ERR_NOSPACE},   {"POLLUX-BUSY", ERR_BUSY},
    {"POLLUX-NOTFOUND", ERR_NOTFOUND}, {"POLLUX-UNSUPPORTED", ERR_UNSUPPORTED},
};

static enum errcode
refusal(struct span text, struct error *err)
{
    enum errcode code = ERR_PROTO;
    ptrdiff_t blank = span_find_byte(text, ' ', 0);
    struct span word = blank < 0 ? text : span_sub(text, 0, (size_t)blank);

    if (span_eq_str(word, "Permission"))
        code = ERR_DENIED;
    if (span_eq_str(word, "Please"))
        code = ERR_AUTH;
    for (size_t i = 0; i < ARRAY_LEN(no_codes); i++)
        if (span_eq_str(word, no_codes[i].word)) {
            code = no_codes[i].code;
            text = span_trim(span_skip(text, word.n));
        }
    return error_set(err, code, "%.*s", (int)MIN(text.n, (size_t)400), text.p);
}

static enum errcode
command(struct csync_client *c, struct span line,
        void (*each)(void *ctx, const struct dlist *d), void *ctx,
        struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    size_t bytes = 0;

    buf_add(&out, line);
    buf_add_str(&out, "\r\n");
    enum errcode rc =
        bclient_write(c->conn, buf_span(&out), c->timeout_ms, err);
    while (rc == ERR_OK) {
        rc = read_response(c, err);
        if (rc != ERR_OK)
            break;
        struct span in = buf_span(&c->line);
        bytes += in.n;
        if (c->is_bounded && bytes > ANSWER_BYTES)
            return error_set(err, ERR_PROTO, "%s: answer of over %zu bytes",
                             bclient_name(c->conn), ANSWER_BYTES);
        if (span_starts(in, SPAN_LIT("OK")))
            return ERR_OK;
        if (span_starts(in, SPAN_LIT("NO ")))
            return refusal(span_trim(span_skip(in, 3)), err);
        if (span_starts(in, SPAN_LIT("BAD ")))
            return refusal(span_trim(span_skip(in, 4)), err);
        if (span_starts(in, SPAN_LIT("BYE")))
            return error_set(err, ERR_CLOSED, "the peer is shutting down");
        if (!span_starts(in, SPAN_LIT("* ")))
            return error_set(err, ERR_PROTO, "not a CSYNC answer: %.60s",
                             buf_cstr(&c->line));
        struct dlist *d = NULL;
        size_t used = 0;
        arena_reset(&c->arena);
        if (dlist_parse(span_skip(in, 2), &dlist_default_limits, &c->arena, &d,
                        &used, err) != PARSE_DONE)
            return error_prefix(err, "answer");
        if (each != NULL)
            each(ctx, d);
    }
    return rc;
}

enum errcode
csync_command(struct csync_client *c, struct span line,
              void (*each)(void *ctx, const struct dlist *d), void *ctx,
              struct error *err)
{
    if (c->is_bounded && c->timeout_ms > 0)
        bclient_set_deadline(c->conn, (uint64_t)c->timeout_ms * ANSWER_TIMES);
    enum errcode rc = command(c, line, each, ctx, err);
    if (c->is_bounded)
        bclient_set_deadline(c->conn, 0);
    return rc;
}

/* ---- connecting -------------------------------------------------------- */

/* WORD among the words of LINE? */
static bool
has_word(struct span line, struct span word)
{
    while (line.n > 0) {
        ptrdiff_t blank = span_find_byte(line, ' ', 0);
        struct span first = blank < 0 ? line : span_sub(line, 0, (size_t)blank);
        if (span_eq(first, word))
            return true;
        line = blank < 0 ? SPAN_EMPTY : span_skip(line, (size_t)blank + 1);
    }
    return false;
}

static void
take_capability(struct csync_client *c, struct span line)
{
    if (span_starts_nocase(line, SPAN_LIT("SASL "))) {
        struct span mechs = span_skip(line, 5);
        size_t n = MIN(mechs.n, sizeof(c->mechs) - 1);
        memcpy(c->mechs, mechs.p, n);
        c->mechs[n] = '\0';
    } else if (span_eq_nocase_str(line, "STARTTLS")) {
        c->has_starttls = true;
    } else if (span_eq_nocase_str(line, "COMPRESS DEFLATE")) {
        c->has_deflate = true;
    } else if (span_starts_nocase(line, SPAN_LIT("POLLUX-LOG"))) {
        c->has_log = true;
        c->has_zstd = has_word(line, SPAN_LIT("ZSTD"));
    }
}

static enum errcode
read_greeting(struct csync_client *c, struct error *err)
{
    c->has_log = c->has_starttls = c->has_deflate = c->has_zstd = false;
    c->mechs[0] = '\0';
    for (unsigned i = 0; i < GREETING_LINES_MAX; i++) {
        enum errcode rc =
            bclient_read_line(c->conn, 2046, c->timeout_ms, &c->line, err);
        if (rc != ERR_OK)
            return error_prefix(err, "greeting");
        struct span line = buf_span(&c->line);
        /* A port of IMAP, which many hosts have beside it, begins like that. */
        const bool is_imap = span_find(line, SPAN_LIT("IMAP4")) >= 0;
        if (span_starts(line, SPAN_LIT("* OK")) && !is_imap)
            return ERR_OK;
        if (!span_starts(line, SPAN_LIT("* ")) || is_imap)
            return error_set(err, ERR_PROTO,
                             "%s is not a csync port: it greets with \"%.60s\"",
                             bclient_name(c->conn), buf_cstr(&c->line));
        take_capability(c, span_skip(line, 2));
    }
    return error_set(err, ERR_PROTO, "endless greeting from %s",
                     bclient_name(c->conn));
}

static enum errcode
start_tls(struct csync_client *c, const struct csync_target *t,
          const struct config *cfg, const struct address *a, bool command,
          struct error *err)
{
    AUTO(tls_context_free) struct tls_context *tls = NULL;
    bool has_ca = t->tls_ca_file != NULL ||
                  config_string(cfg, "tls_server_ca_file") != NULL ||
                  config_string(cfg, "tls_server_ca_dir") != NULL;

    enum errcode rc = tls_client_from_config(
        cfg, t->any_certificate ? TLS_VERIFY_OFF : TLS_VERIFY_REQUIRED,
        t->tls_ca_file, &tls, err);
    if (rc == ERR_OK && command)
        rc = csync_command(c, SPAN_LIT("STARTTLS"), NULL, NULL, err);
    if (rc == ERR_OK)
        rc = bclient_start_tls(c->conn, tls, a->host, c->timeout_ms, err);
    if (rc != ERR_OK)
        return error_prefix(err, "TLS with %s%s", bclient_name(c->conn),
                            has_ca || t->any_certificate
                                ? ""
                                : " (sync_tls_ca_file is not set, so the "
                                  "system's authorities are believed)");
    return ERR_OK;
}

static enum errcode
exchange(struct csync_client *c, struct saslcli *sasl, struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_MAX(SASL_STEP_BYTES);
    AUTO(buf_free) struct buf out = BUF_INIT;
    const char *mech = NULL;
    bool has_initial = false;

    enum errcode rc =
        saslcli_start(sasl, c->mechs, &mech, &has_initial, &raw, err);
    if (rc != ERR_OK)
        return rc;
    buf_addf(&out, "AUTHENTICATE %s", mech);
    if (has_initial) {
        buf_add_byte(&out, ' ');
        if (raw.n == 0)
            buf_add_byte(&out, '=');
        sasl_encode_base64(buf_span(&raw), &out);
    }
    for (unsigned step = 0; step < SASL_STEPS_MAX; step++) {
        buf_add_str(&out, "\r\n");
        rc = bclient_write(c->conn, buf_span(&out), c->timeout_ms, err);
        if (rc == ERR_OK)
            rc = bclient_read_line(c->conn, 4 * SASL_STEP_BYTES / 3,
                                   c->timeout_ms, &c->line, err);
        if (rc != ERR_OK)
            return rc;
        struct span line = buf_span(&c->line);
        if (span_starts(line, SPAN_LIT("OK")))
            return saslcli_finish(sasl, false, SPAN_EMPTY, err);
        if (!span_starts(line, SPAN_LIT("+")))
            return error_set(err, ERR_AUTH, "login refused: %.100s",
                             buf_cstr(&c->line));
        AUTO(buf_free) struct buf challenge = BUF_MAX(SASL_STEP_BYTES);
        if (!sasl_decode_base64(span_trim(span_skip(line, 1)), &challenge))
            return error_set(err, ERR_PROTO, "challenge is not base64");
        buf_clear(&raw);
        rc = saslcli_step(sasl, buf_span(&challenge), &raw, err);
        if (rc != ERR_OK)
            return rc;
        buf_clear(&out);
        sasl_encode_base64(buf_span(&raw), &out);
    }
    return error_set(err, ERR_PROTO, "endless login exchange");
}

static enum errcode
log_in(struct csync_client *c, const struct csync_target *t,
       const struct address *a, struct error *err)
{
    struct tls_info tls = {0};
    bool has_tls = bclient_tls_info(c->conn, &tls);
    struct saslcli_options options = {
        .service = "csync",
        .hostname = a->host,
        .authname = t->authname,
        .password = t->password,
        .realm = t->realm,
        .mechs = t->mechs,
        .tls_bits = has_tls ? tls.bits : 0,
    };
    struct saslcli *sasl = NULL;

    if (c->mechs[0] == '\0')
        return error_set(err, ERR_AUTH, "%s offers no login%s",
                         bclient_name(c->conn), has_tls ? "" : " without TLS");
    if (t->authname == NULL)
        return error_set(err, ERR_AUTH,
                         "sync_authname is not set in imapd.conf");
    enum errcode rc = saslcli_new(&options, &sasl, err);
    if (rc == ERR_OK)
        rc = exchange(c, sasl, err);
    saslcli_free(&sasl);
    if (rc != ERR_OK)
        return error_prefix(err, "login at %s as %s", bclient_name(c->conn),
                            t->authname);
    return ERR_OK;
}

static enum errcode
start_deflate(struct csync_client *c, const struct csync_target *t,
              struct error *err)
{
    if (!c->has_deflate && !t->require_compress)
        return ERR_OK;
    if (!c->has_deflate)
        return error_set(err, ERR_UNSUPPORTED,
                         "%s offers no compression (there is none under TLS)",
                         bclient_name(c->conn));
    enum errcode rc =
        csync_command(c, SPAN_LIT("COMPRESS DEFLATE"), NULL, NULL, err);
    return rc == ERR_OK ? bclient_start_deflate(c->conn, err) : rc;
}

static struct csync_client *
client_new(struct bclient *conn, int timeout_ms)
{
    struct csync_client *c = xcalloc(1, sizeof(*c));

    c->conn = conn;
    c->timeout_ms = timeout_ms <= 0 ? 10000 : timeout_ms;
    c->line.max = 2 * LINE_MAX_BYTES;
    return c;
}

static enum errcode
establish(struct csync_client *c, const struct csync_target *t,
          const struct config *cfg, const struct address *a, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (a->tls)
        rc = start_tls(c, t, cfg, a, false, err);
    if (rc == ERR_OK)
        rc = read_greeting(c, err);
    if (rc == ERR_OK && !a->tls && c->has_starttls) {
        rc = start_tls(c, t, cfg, a, true, err);
        if (rc == ERR_OK)
            rc = read_greeting(c, err);
    } else if (rc == ERR_OK && !a->tls && t->must_tls) {
        rc = error_set(err, ERR_DENIED,
                       "%s offers no TLS, and sync_tls_required is set",
                       bclient_name(c->conn));
    }
    if (rc != ERR_OK || t->greeting_only)
        return rc;
    if (!a->noauth)
        rc = log_in(c, t, a, err);
    if (rc == ERR_OK && (t->compress || t->require_compress)) {
        c->takes_zstd = t->by_log && c->has_zstd;
        if (!c->takes_zstd)
            rc = start_deflate(c, t, err);
    }
    return rc;
}

enum errcode
csync_connect(const struct csync_target *target, const struct config *cfg,
              struct csync_client **ret, struct error *err)
{
    struct bclient *conn = NULL;
    struct address a = {.noauth = true};
    enum errcode rc;

    if (target->host[0] == '/') {
        rc = bclient_connect_unix(target->host, target->timeout_ms, &conn, err);
    } else {
        rc = split_address(target, &a, err);
        if (rc == ERR_OK)
            rc =
                bclient_connect(a.host, a.port, target->timeout_ms, &conn, err);
    }
    if (rc != ERR_OK)
        return rc;

    struct csync_client *c = client_new(conn, target->timeout_ms);
    bclient_set_stop(conn, target->stop, target->stop_ctx);
    bclient_set_deadline(conn, (uint64_t)c->timeout_ms * CONNECT_TIMES);
    rc = establish(c, target, cfg, &a, err);
    if (rc != ERR_OK) {
        csync_client_close(&c);
        return rc;
    }
    bclient_set_deadline(conn, 0);
    c->is_bounded = true;
    *ret = c;
    return ERR_OK;
}

enum errcode
csync_connect_control(const char *path, int timeout_ms,
                      struct csync_client **ret, struct error *err)
{
    struct bclient *conn = NULL;

    enum errcode rc = bclient_connect_unix(path, timeout_ms, &conn, err);
    if (rc != ERR_OK)
        return rc;
    struct csync_client *c = client_new(conn, timeout_ms);
    rc = read_greeting(c, err);
    if (rc != ERR_OK) {
        csync_client_close(&c);
        return rc;
    }
    *ret = c;
    return ERR_OK;
}

void
csync_client_close(struct csync_client **c)
{
    if (*c == NULL)
        return;
    bclient_close(&(*c)->conn);
    buf_free(&(*c)->line);
    arena_free(&(*c)->arena);
    free(*c);
    *c = NULL;
}

bool
csync_client_has_log(const struct csync_client *c)
{
    return c->has_log;
}

bool
csync_client_takes_zstd(const struct csync_client *c)
{
    return c->takes_zstd;
}

void
csync_client_set_timeout(struct csync_client *c, int timeout_ms)
{
    c->timeout_ms = timeout_ms;
}

struct bclient *
csync_client_conn(struct csync_client *c)
{
    return c->conn;
}

/* ---- questions --------------------------------------------------------- */

struct status_answer {
    struct arena *arena;
    struct logstatus status;
    bool found;
    enum errcode rc;
    struct error err;
};

static void
on_status(void *ctx, const struct dlist *d)
{
    struct status_answer *answer = ctx;

    if (!span_eq_str(d->name, "LOGSTATUS"))
        return;
    answer->found = true;
    answer->rc =
        logstatus_read(d, answer->arena, &answer->status, &answer->err);
}

enum errcode
csync_log_status(struct csync_client *c, struct arena *a, struct logstatus *ret,
                 struct error *err)
{
    struct status_answer answer = {.arena = a};

    if (!c->has_log)
        return error_set(err, ERR_UNSUPPORTED,
                         "%s does not speak POLLUX-LOG: not a Pollux",
                         bclient_name(c->conn));
    enum errcode rc =
        csync_command(c, SPAN_LIT("LOG STATUS"), on_status, &answer, err);
    if (rc != ERR_OK)
        return rc;
    if (!answer.found)
        return error_set(err, ERR_PROTO, "no LOGSTATUS in the answer");
    if (answer.rc != ERR_OK) {
        if (err != NULL)
            *err = answer.err;
        return answer.rc;
    }
    *ret = answer.status;
    return ERR_OK;
}

struct digest_answer {
    uint64_t digest;
    bool found;
};

static void
on_digest(void *ctx, const struct dlist *d)
{
    struct digest_answer *answer = ctx;

    if (span_eq_str(d->name, "LOGDIGEST"))
        answer->found = dlist_get_hex64(d, "DIGEST", &answer->digest);
}

enum errcode
csync_log_digest(struct csync_client *c, lsn_t lsn, uint64_t *ret,
                 struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct digest_answer answer = {0};

    buf_addf(&line, "LOG DIGEST %" PRI_LSN, lsn);
    enum errcode rc =
        csync_command(c, buf_span(&line), on_digest, &answer, err);
    if (rc != ERR_OK)
        return rc;
    if (!answer.found)
        return error_set(err, ERR_PROTO, "no LOGDIGEST in the answer");
    *ret = answer.digest;
    return ERR_OK;
}
