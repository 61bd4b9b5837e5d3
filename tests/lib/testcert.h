/*
 * tests/lib/testcert.h - certificates for tests, made on the spot: a CA, a
 * server "localhost" / 127.0.0.1, a client "twin", a stranger of another CA.
 */
#ifndef POLLUX_TESTS_TESTCERT_H
#define POLLUX_TESTS_TESTCERT_H

#include "base/macros.h"

struct testcerts {
    char dir[64]; /* of its own, under /tmp */
    char ca[128];
    char server_cert[128], server_key[128];
    char client_cert[128], client_key[128];
    char other_ca[128];
    char other_cert[128], other_key[128]; /* CN "twin" too */
};

/* Ends the test program on failure. */
void
testcerts_make(struct testcerts *c);
/* Removes the files. */
void
testcerts_remove(struct testcerts *c);

#endif
