/*
 * master/program_main.h - the main() of a tool (admin/tool.h), with what only
 * this folder knows: which imapd.conf the instance that started it has, and
 * whom it runs as.
 */
#ifndef POLLUX_MASTER_PROGRAM_MAIN_H
#define POLLUX_MASTER_PROGRAM_MAIN_H

#include "admin/tool.h"

/* Returns the exit code. */
int
program_main(const struct tool_def *def, int argc, char **argv);

#endif
