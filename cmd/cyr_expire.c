/*
 * cmd/cyr_expire.c - what has had its time goes for good
 * (admin/tool_cyr_expire.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_cyr_expire, argc, argv);
}
