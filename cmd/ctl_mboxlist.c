/*
 * cmd/ctl_mboxlist.c - the list of mailboxes: dumped, loaded, verified
 * (admin/tool_ctl_mboxlist.c).
 */
#include "master/program_main.h"

int
main(int argc, char **argv)
{
    return program_main(&tool_ctl_mboxlist, argc, argv);
}
