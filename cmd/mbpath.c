/*
 * cmd/mbpath.c - where the mail of a mailbox lies (admin/tool_mbpath.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_mbpath, argc, argv);
}
