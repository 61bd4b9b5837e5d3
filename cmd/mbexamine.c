/*
 * cmd/mbexamine.c - a mailbox and its messages as they are stored
 * (admin/tool_mbexamine.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_mbexamine, argc, argv);
}
