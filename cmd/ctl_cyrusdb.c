/*
 * cmd/ctl_cyrusdb.c - what opening the store found, and checkpoints
 * (admin/tool_ctl_cyrusdb.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_ctl_cyrusdb, argc, argv);
}
