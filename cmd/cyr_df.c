/*
 * cmd/cyr_df.c - how full the partitions are (admin/tool_cyr_df.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_cyr_df, argc, argv);
}
