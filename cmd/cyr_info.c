/*
 * cmd/cyr_info.c - the configuration as it is understood
 * (admin/tool_cyr_info.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_cyr_info, argc, argv);
}
