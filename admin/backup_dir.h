/*
 * admin/backup_dir.h - the directory of a backup: which generations it has,
 * and reading and writing its files.
 *
 *   gen-NNNNNNNN.manifest             a generation is whole once this is there
 *   gen-NNNNNNNN-rows-NNNNNN.plb      rows of the state, in the order of keys
 *   gen-NNNNNNNN-index-NNNNNN.plb     where each body lies, by GUID
 *   pack-NNNNNNNNNNNNNNNN.plx         bodies; generations share them
 *   lock                              held while a generation is made
 *
 * A file that no manifest names belongs to nobody: of a backup that was
 * interrupted.  No file is changed once a manifest names it.
 */
#ifndef POLLUX_ADMIN_BACKUP_DIR_H
#define POLLUX_ADMIN_BACKUP_DIR_H

#include "admin/backup_format.h"
#include "base/env.h"
#include "store/body.h"

/* A file of rows or index is followed by a new one when it has so many. */
#define BACKUP_FILE_BYTES ((uint64_t)64 << 20)
/* A pack likewise; a body is never in two. */
#define BACKUP_PACK_BYTES ((uint64_t)256 << 20)

/* One generation, as its manifest says; or why that cannot be read. */
struct backup_generation {
    uint64_t number;
    struct backup_manifest m; /* good when code is ERR_OK */
    enum errcode code;
    struct error err;
};

/* All of them, the oldest first. */
struct backup_list {
    struct backup_generation *v;
    size_t n;
    uint64_t highest_generation; /* of any file that lies there, 0: none */
    uint64_t highest_pack;
    struct arena arena;
};
/* ERR_NOTFOUND: there is no such directory; ERR_IO.  Manifests that cannot be
 * read are in the list, with their error. */
MUST_CHECK enum errcode
backup_list_read(struct env *env, const char *dir, struct backup_list *ret,
                 struct error *err);
void
backup_list_free(struct backup_list *l);
/* Generation NUMBER, or the newest (0).  ERR_NOTFOUND; what is wrong with its
 * manifest. */
MUST_CHECK enum errcode
backup_list_pick(const struct backup_list *l, const char *dir, uint64_t number,
                 const struct backup_manifest **ret, struct error *err);
/* Remove what no manifest names.  With a manifest that cannot be read nothing
 * is: what it needs is not known. */
MUST_CHECK enum errcode
backup_sweep(struct env *env, const char *dir, struct error *err);
/* Path of a file; the caller frees it.  GENERATION is of no account for
 * packs.*/
char *
backup_path(const char *dir, uint64_t generation, enum backup_kind kind,
            uint64_t number);
char *
backup_manifest_path(const char *dir, uint64_t generation);

/* ---- writing ----------------------------------------------------------- */

/* Files of one kind of one generation, one after the other. */
struct backup_out {
    struct env *env;
    const char *dir;
    struct backup_head head; /* kind, generation, cluster */
    uint64_t number;         /* of the file that is open, or was last */
    uint64_t file_bytes;     /* where the next one begins */
    uint64_t created_us;     /* packs */
    struct envfile *file;
    void *hash; /* XXH3 state */
    uint64_t bytes, written, synced;
    struct buf wait;           /* bytes that are not written yet */
    struct buf payload;        /* rows and index: of the frame being filled */
    struct backup_file *files; /* those that are done */
    size_t nfiles;
    uint64_t total; /* bytes put into all of them */
};
void
backup_out_init(struct backup_out *o, struct env *env, const char *dir,
                const struct backup_head *head, uint64_t first_number,
                uint64_t file_bytes);
void
backup_out_free(struct backup_out *o);
/* Rows and index: a record, which is whole in one file.  ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
backup_out_row(struct backup_out *o, struct span key, struct span value,
               struct error *err);
MUST_CHECK enum errcode
backup_out_entry(struct backup_out *o, const struct backup_entry *e,
                 struct error *err);
/* Packs: a body begins; *RET_PACK, *RET_OFFSET say where. */
MUST_CHECK enum errcode
backup_out_body(struct backup_out *o, uint64_t *ret_pack, uint64_t *ret_offset,
                struct error *err);
MUST_CHECK enum errcode
backup_out_part(struct backup_out *o, const struct guid *guid,
                const struct body_loc *loc, struct span stored,
                struct error *err);
/* Packs: forget the body that began at OFFSET. */
void
backup_out_undo(struct backup_out *o, uint64_t offset);
/* All is written and synced: o->files are good.  ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum errcode
backup_out_end(struct backup_out *o, struct error *err);

/* ---- reading ----------------------------------------------------------- */

/* Rows or index of one generation. */
struct backup_in {
    struct env *env;
    const char *dir;
    const struct backup_manifest *m;
    enum backup_kind kind;
    size_t next_file; /* in m->files */
    const struct backup_file *desc;
    struct envfile *file;
    void *hash;
    uint64_t at;
    struct buf bytes;  /* read, not yet taken */
    struct rd payload; /* of the frame under way */
    size_t used;       /* bytes of that frame */
    char *path;
};
void
backup_in_init(struct backup_in *in, struct env *env, const char *dir,
               const struct backup_manifest *m, enum backup_kind kind);
void
backup_in_free(struct backup_in *in);
/*
 * The next one; *RET_END says that there is none, and then every byte of all
 * files was what the manifest says.  Valid until the next call.  ERR_CORRUPT
 * (names the file), ERR_VERSION, ERR_NOTFOUND (a file is not there), ERR_IO.
 */
MUST_CHECK enum errcode
backup_in_row(struct backup_in *in, struct span *ret_key,
              struct span *ret_value, bool *ret_end, struct error *err);
MUST_CHECK enum errcode
backup_in_entry(struct backup_in *in, struct backup_entry *ret, bool *ret_end,
                struct error *err);

/* Packs that are open for reading. */
#define BACKUP_HANDLES 64U
struct backup_packs {
    struct env *env;
    const char *dir;
    struct {
        uint64_t number;
        struct envfile *file;
    } handles[BACKUP_HANDLES];
    struct buf bytes;
};
void
backup_packs_free(struct backup_packs *p);
/*
 * Each part of the body that E says, in order; CALL's error ends it.  STORED is
 * valid during the call; its hash was checked, the GUID of the whole was not.
 * ERR_CORRUPT, ERR_NOTFOUND (no such pack), ERR_IO.
 */
MUST_CHECK enum errcode
backup_packs_body(struct backup_packs *p, const struct backup_entry *e,
                  enum errcode (*call)(void *ctx, const struct guid *guid,
                                       const struct body_loc *loc,
                                       struct span stored, struct error *err),
                  void *ctx, struct error *err);
/* Is there a file of F's size? */
bool
backup_file_is_there(struct env *env, const char *dir, uint64_t generation,
                     const struct backup_file *f);

#endif
