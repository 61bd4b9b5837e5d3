/*
 * tests/fuzz/fuzz_imap_session.c - whole sessions against a store in memory.
 *
 * The input is what clients send: bytes below 8 are not sent but do something:
 * 0-3 speak as client 0 (or a second one) from here on, 4 lets the world turn,
 * 5 hangs up and connects again, 6 makes the client slow or fast, 7 changes the
 * role.  Client 0 begins logged in, with mail.  Nothing may crash, hang or
 * leak, and every session must end when its client goes.
 */
#include "tests/imapd/fake_io.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char preface[] =
    "l LOGIN fred secret\r\n"
    "m APPEND INBOX (\\Seen $x) {52+}\r\n"
    "From: a@b\r\nSubject: x\r\nTo: c\r\n\r\nbody of the message\r\n"
    "n CREATE INBOX/y\r\n"
    "o SELECT INBOX\r\n";

static void
slow_or_fast(struct fake_client *c)
{
    c->full_at = c->full_at == 0 ? 100 : 0;
    buf_clear(&c->out);
    if (c->session != NULL)
        imap_session_drained(c->session);
}

/* Bytes that do something; the client that speaks after it. */
static size_t
act(struct fake_world *w, size_t who, uint8_t byte)
{
    struct fake_client *c = &w->clients[who];

    switch (byte) {
    case 4:
        fake_turn(w);
        break;
    case 5:
        fake_hang_up(c);
        fake_connect(w, who);
        buf_add_str(&c->in, "l LOGIN fred secret\r\n");
        break;
    case 6:
        slow_or_fast(c);
        break;
    case 7:
        store_set_role(w->store,
                       store_role(w->store) == ROLE_MASTER ? ROLE_REPLICA
                                                           : ROLE_MASTER,
                       1);
        break;
    default:
        return byte % 2;
    }
    return who;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fake_world w;
    size_t who = 0;

    fake_open(&w);
    fake_connect(&w, 0);
    fake_connect(&w, 1);
    buf_add_str(&w.clients[0].in, preface);
    fake_turn(&w);
    for (size_t i = 0; i < size; i++) {
        if (data[i] < 8)
            who = act(&w, who, data[i]);
        else
            buf_add_byte(&w.clients[who].in, data[i]);
    }
    fake_turn(&w);
    for (size_t i = 0; i < 2; i++)
        slow_or_fast(&w.clients[i]);
    fake_turn(&w);
    fake_close_world(&w);
    return 0;
}
