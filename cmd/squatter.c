/*
 * cmd/squatter.c - mailboxes brought level in the index that SEARCH uses
 * (admin/tool_squatter.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_squatter, argc, argv);
}
