/*
 * cmd/unexpunge.c - what was expunged, told and brought back
 * (admin/tool_unexpunge.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_unexpunge, argc, argv);
}
