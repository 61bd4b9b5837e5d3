/*
 * cmd/ctl_history.c - what was purged and is kept, listed and given out
 * (admin/tool_ctl_history.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_ctl_history, argc, argv);
}
