/*
 * cmd/quota.c - limits and usage of quota roots (admin/tool_quota.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_quota, argc, argv);
}
