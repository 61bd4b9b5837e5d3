/*
 * cmd/reconstruct.c - derived data made again, the rest checked
 * (admin/tool_reconstruct.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_reconstruct, argc, argv);
}
