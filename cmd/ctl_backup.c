/*
 * cmd/ctl_backup.c - backups, made, checked and restored
 * (admin/tool_ctl_backup.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_ctl_backup, argc, argv);
}
