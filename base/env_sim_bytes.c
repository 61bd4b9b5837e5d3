/*
 * base/env_sim_bytes.c - what files hold: two images in pages, a dirty bit a
 * sector, and blocks that are counted.
 */
#include "base/env_sim_private.h"

#include <errno.h>
#include <stdlib.h>

static size_t
pages_of(uint64_t size)
{
    return (size_t)((size + PAGE_BYTES - 1) / PAGE_BYTES);
}

void
simbytes_reserve(struct simnode *node, size_t npages)
{
    if (npages <= node->npages)
        return;
    size_t n = MAX(npages, node->npages + node->npages / 2 + 4);
    node->pages = xrealloc(node->pages, n * sizeof(*node->pages));
    node->charged = xrealloc(node->charged, n * sizeof(*node->charged));
    for (size_t i = node->npages; i < n; i++) {
        node->pages[i] = NULL;
        node->charged[i] = false;
    }
    node->npages = n;
}

/* A block for page I; false when the disk is full. */
static bool
charge(struct env_sim *sim, struct simnode *node, size_t i)
{
    simbytes_reserve(node, i + 1);
    if (node->charged[i])
        return true;
    if (sim->used >= sim->limit)
        return false;
    node->charged[i] = true;
    node->ncharged++;
    sim->used++; /* it is open, so it counts */
    return true;
}

struct simpage *
simbytes_page(struct simnode *node, size_t i)
{
    simbytes_reserve(node, i + 1);
    if (node->pages[i] == NULL)
        node->pages[i] = xcalloc(1, sizeof(*node->pages[i]));
    return node->pages[i];
}

static void
sector_to_disk(struct simpage *page, size_t sector)
{
    memcpy(page->disk + sector * SECTOR_BYTES,
           page->live + sector * SECTOR_BYTES, SECTOR_BYTES);
}

/* Change N bytes of PAGE from FROM on; NULL makes them zeros. */
static void
page_write(struct env_sim *sim, struct simpage *page, size_t at,
           const uint8_t *from, size_t n)
{
    for (size_t s = at / SECTOR_BYTES; s <= (at + n - 1) / SECTOR_BYTES; s++) {
        if ((page->dirty >> s & 1) != 0 && sim_chance(&sim->writeback, 4))
            sector_to_disk(page, s);
        page->dirty |= (uint8_t)(1U << s);
    }
    if (from == NULL)
        memset(page->live + at, 0, n);
    else
        memcpy(page->live + at, from, n);
}

static void
set_size(struct simnode *node, uint64_t size)
{
    if (size != node->size)
        node->size_dirty = true;
    node->size = size;
}

ssize_t
simbytes_write(struct env_sim *sim, struct simnode *node, const uint8_t *from,
               size_t n, uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        size_t i = (size_t)((offset + done) / PAGE_BYTES);
        size_t at = (size_t)((offset + done) % PAGE_BYTES);
        size_t part = MIN(n - done, PAGE_BYTES - at);
        if (!charge(sim, node, i))
            break;
        page_write(sim, simbytes_page(node, i), at, from + done, part);
        done += part;
    }
    if (done > 0) {
        set_size(node, MAX(node->size, offset + done));
        if (offset + done > node->disk_size)
            node->size_dirty = true; /* even if a failed sync cleaned it */
    }
    return done == 0 && n > 0 ? -ENOSPC : (ssize_t)done;
}

size_t
simbytes_read(const struct simnode *node, uint8_t *to, size_t n,
              uint64_t offset)
{
    if (offset >= node->size)
        return 0;
    n = (size_t)MIN(n, node->size - offset);
    for (size_t done = 0; done < n;) {
        size_t i = (size_t)((offset + done) / PAGE_BYTES);
        size_t at = (size_t)((offset + done) % PAGE_BYTES);
        size_t part = MIN(n - done, PAGE_BYTES - at);
        if (i < node->npages && node->pages[i] != NULL)
            memcpy(to + done, node->pages[i]->live + at, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return n;
}

void
simbytes_truncate(struct env_sim *sim, struct simnode *node, uint64_t size)
{
    for (size_t i = (size_t)(size / PAGE_BYTES); i < node->npages; i++) {
        size_t at =
            i == size / PAGE_BYTES ? (size_t)(size % PAGE_BYTES) : (size_t)0;
        if (node->pages[i] != NULL && node->size > size)
            page_write(sim, node->pages[i], at, NULL, PAGE_BYTES - at);
        if (at == 0 && node->charged[i]) {
            node->charged[i] = false;
            node->ncharged--;
            sim->used--;
        }
    }
    set_size(node, size);
}

int
simbytes_allocate(struct env_sim *sim, struct simnode *node, uint64_t offset,
                  uint64_t n)
{
    size_t first = (size_t)(offset / PAGE_BYTES);
    size_t end = pages_of(offset + n);
    size_t missing = 0;

    simbytes_reserve(node, end);
    for (size_t i = first; i < end; i++)
        missing += !node->charged[i];
    if (sim->used > sim->limit || missing > sim->limit - sim->used)
        return -ENOSPC;
    for (size_t i = first; i < end; i++)
        ENSURE(charge(sim, node, i));
    set_size(node, MAX(node->size, offset + n));
    return 0;
}

void
simbytes_sync(struct simnode *node, bool save)
{
    for (size_t i = 0; i < node->npages; i++) {
        struct simpage *page = node->pages[i];
        if (page == NULL || page->dirty == 0)
            continue;
        for (size_t s = 0; s < SECTORS && save; s++)
            if ((page->dirty >> s & 1) != 0)
                sector_to_disk(page, s);
        page->dirty = 0;
        if (save && i >= pages_of(node->size)) {
            free(page); /* zeros in both images */
            node->pages[i] = NULL;
        }
    }
    if (save && node->size_dirty)
        node->disk_size = node->size;
    node->size_dirty = false;
}

/* The size on the disk after a crash: old, new or between. */
static uint64_t
crash_size(const struct simnode *node, uint64_t *seed)
{
    uint64_t low = MIN(node->size, node->disk_size);
    uint64_t high = MAX(node->size, node->disk_size);

    if (!node->size_dirty)
        return node->disk_size;
    switch (sim_draw(seed) % 3) {
    case 0:
        return node->disk_size;
    case 1:
        return node->size;
    default: /* a shrinking is done or not, a growing may be half done */
        return node->size < node->disk_size
                   ? node->size
                   : low + sim_draw(seed) % (high - low + 1);
    }
}

void
simbytes_crash(struct simnode *node, uint64_t *seed)
{
    static const unsigned eighths[] = {0, 1, 4, 7, 8};
    unsigned keep = eighths[sim_draw(seed) % ARRAY_LEN(eighths)];
    uint64_t size = crash_size(node, seed);

    node->ncharged = 0;
    for (size_t i = 0; i < node->npages; i++) {
        struct simpage *page = node->pages[i];
        uint64_t start = (uint64_t)i * PAGE_BYTES;
        for (size_t s = 0; s < SECTORS && page != NULL; s++)
            if ((page->dirty >> s & 1) != 0 && sim_chance(seed, keep))
                sector_to_disk(page, s);
        if (page != NULL && start >= size) {
            free(page);
            page = node->pages[i] = NULL;
        } else if (page != NULL) {
            size_t n = (size_t)MIN(size - start, PAGE_BYTES);
            memset(page->disk + n, 0, PAGE_BYTES - n);
            memcpy(page->live, page->disk, PAGE_BYTES);
            page->dirty = 0;
        }
        node->charged[i] = start < size && (page != NULL || node->charged[i]);
        node->ncharged += node->charged[i];
    }
    node->size = node->disk_size = size;
    node->size_dirty = false;
    node->locked_by = NULL;
}
