/*
 * metrics/page.h - metrics/page.html, as the build puts it into the program.
 */
#ifndef POLLUX_METRICS_PAGE_H
#define POLLUX_METRICS_PAGE_H

#include <stddef.h>

extern const unsigned char metrics_page[];
extern const size_t metrics_page_bytes;

#endif
