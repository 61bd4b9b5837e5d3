/*
 * master/services.c - see master/services.h.
 *
 * `lock` is over the list and not over the services: the main thread takes it
 * where it adds or frees one, who looks takes it for the length of the look.
 */
#include "master/services.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct services {
    const struct service_host *host;
    pthread_mutex_t lock;
    struct service **now; /* in the order of the file */
    size_t n;
    struct service **retired; /* not in the file any more */
    size_t nretired;
};

static void
add(struct services *s, struct service *service)
{
    pthread_mutex_lock(&s->lock);
    s->now = xrealloc(s->now, (s->n + 1) * sizeof(*s->now));
    s->now[s->n++] = service;
    pthread_mutex_unlock(&s->lock);
}

static bool
is_planned(const struct service *s, const struct plan *plan)
{
    for (size_t i = 0; i < plan->nservices; i++)
        if (service_is(s, &plan->services[i]))
            return true;
    return false;
}

static struct service *
find(const struct services *s, const struct plan_service *p)
{
    for (size_t i = 0; i < s->n; i++)
        if (service_is(s->now[i], p))
            return s->now[i];
    return NULL;
}

static void
retire(struct services *s, size_t i)
{
    struct service *gone = s->now[i];

    log_notice(NULL, "service.closed",
               "service=%s why=\"no longer in cyrus.conf\" conns=%u",
               service_name(gone), service_conns(gone));
    service_quiet(gone);
    pthread_mutex_lock(&s->lock);
    s->retired = xrealloc(s->retired, (s->nretired + 1) * sizeof(*s->retired));
    s->retired[s->nretired++] = gone;
    memmove(&s->now[i], &s->now[i + 1], (s->n - i - 1) * sizeof(*s->now));
    s->n--;
    pthread_mutex_unlock(&s->lock);
}

/* ---- public ------------------------------------------------------------ */

struct services *
services_new(const struct service_host *host)
{
    struct services *s = xcalloc(1, sizeof(*s));

    s->host = host;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void
services_free(struct services **services)
{
    struct services *s = *services;

    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        service_free(&s->now[i]);
    for (size_t i = 0; i < s->nretired; i++)
        service_free(&s->retired[i]);
    free(s->now);
    free(s->retired);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *services = NULL;
}

enum errcode
services_bind(struct services *s, const struct plan *plan, struct error *err)
{
    for (size_t i = 0; i < plan->nservices; i++) {
        struct service *one = service_new(&plan->services[i], s->host);
        add(s, one);
        enum errcode rc = service_bind(one, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

static void
start(struct service *s, struct reactor_pool *pool)
{
    struct error err = {0};
    enum errcode rc = ERR_OK;

    if (service_address(s)[0] == '\0')
        rc = service_bind(s, &err);
    if (rc == ERR_OK && !service_is_serving(s))
        rc = service_start(s, pool, &err);
    if (rc != ERR_OK)
        log_error(NULL, "service.not_started",
                  "why=\"%s\" then=\"the others go on; SIGHUP tries again\"",
                  err.text);
}

void
services_start(struct services *s, struct reactor_pool *pool)
{
    for (size_t i = 0; i < s->n; i++)
        start(s->now[i], pool);
}

/* Old ones go before new ones come, since they may want the same address. */
void
services_change(struct services *s, const struct plan *plan)
{
    for (size_t i = s->n; i-- > 0;)
        if (!is_planned(s->now[i], plan))
            retire(s, i);
    for (size_t i = 0; i < s->n; i++) {
        struct error err = {0};
        if (service_reload(s->now[i], &err) != ERR_OK)
            log_error(NULL, "service.not_reloaded",
                      "why=\"%s\" then=\"goes on as before\"", err.text);
    }
    for (size_t i = 0; i < plan->nservices; i++)
        if (find(s, &plan->services[i]) == NULL)
            add(s, service_new(&plan->services[i], s->host));
}

void
services_quiet(struct services *s)
{
    for (size_t i = 0; i < s->n; i++)
        service_quiet(s->now[i]);
}

void
services_rest(struct services *s)
{
    for (size_t i = 0; i < s->n; i++)
        service_rest(s->now[i]);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->nretired; i++)
        service_free(&s->retired[i]);
    s->nretired = 0;
    pthread_mutex_unlock(&s->lock);
}

void
services_goodbye(struct services *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++)
        service_goodbye(s->now[i], text);
    for (size_t i = 0; i < s->nretired; i++)
        service_goodbye(s->retired[i], text);
}

size_t
services_count(const struct services *s)
{
    return s->n;
}

size_t
services_look(struct services *s, struct metrics_service *ret, size_t max)
{
    size_t n = 0;

    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n && n < max; i++)
        service_look(s->now[i], &ret[n++]);
    pthread_mutex_unlock(&s->lock);
    return n;
}
