/*
 * master/programs.h - the programs that a cyrus.conf may name, and what becomes
 * of them here.
 */
#ifndef POLLUX_MASTER_PROGRAMS_H
#define POLLUX_MASTER_PROGRAMS_H

#include <stdbool.h>

#include "base/arena.h"
#include "master/plan.h"

enum program_fate {
    PROGRAM_UNKNOWN,  /* not one of Cyrus's */
    PROGRAM_HOSTED,   /* a service in this process */
    PROGRAM_TOOL,     /* a tool of ours: the one beside us, wherever the line
                         says that it is */
    PROGRAM_NOT_YET,  /* not in this version */
    PROGRAM_NO_SENSE, /* has no meaning here: what it did needs no program */
};

struct program {
    const char *name;
    enum program_fate fate;
    enum service_kind kind; /* HOSTED */
    const char *why;        /* NO_SENSE: one clause */
};

/* What is known of a program by the last part of PATH; .name is that part.
 * IS_SERVICE: it stands in SERVICES. */
struct program
program_known(const char *path, bool is_service);

/*
 * "/usr/sbin/cyrus NAME ...", as Debian has it: the program that NAME stands
 * for ("expire" is cyr_expire); NULL if WORD is not that, or NAME none.
 */
const char *
program_dispatched(const char *word, const char *name);

/*
 * Where to find the program WORD of a cyrus.conf: a path that exists is taken
 * as it is; otherwise its last part is looked for in EXE_DIR and then, if WORD
 * has no '/', in PATH (may be NULL).  NULL if there is no such executable.
 */
const char *
program_find(const char *word, const char *exe_dir, const char *path,
             struct arena *a);

#endif
