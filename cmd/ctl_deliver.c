/*
 * cmd/ctl_deliver.c - the marks of deliveries (admin/tool_ctl_deliver.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_ctl_deliver, argc, argv);
}
