"""Further programs that people point at a mail store."""

import os

import mail
import maildir
from world import check, contents, fetched, mbox_of, must, need, same


def offlineimap_rc(w, at, user, box):
    return w.file("offlineimap-%s.rc" % user, """
[general]
accounts = all
metadata = %s
maxsyncaccounts = 1
[Account all]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = %s
sep = /
[Repository far]
type = IMAP
remotehost = %s
remoteport = %d
remoteuser = %s
remotepass = %s
ssl = no
starttls = yes
sslcacertfile = %s
auth_mechanisms = PLAIN
""" % (w.dir("offlineimap-" + user), box, at.host, at.imap_port, user,
       w.password(user), w.pair.cert))


def offlineimap_both_ways(w):
    """offlineimap: all mail here, then changes of both sides"""
    need("offlineimap")
    user = "offline"
    w.lmtp_in([user], list(mail.variety()))
    c = w.imap(user)
    must(c.create("Work/Deep"))
    must(c.create("&AMk-t&AOk-"))
    w.append(c, "Work/Deep", [mail.plain(n) for n in range(10)], "(\\Seen)")
    box = w.dir("offlineimap-mail")
    rc = offlineimap_rc(w, w.master, user, box)

    def run():
        out, err = w.run("offlineimap", "-c", rc, "-u", "basic", "-o")
        check(b"ERROR" not in out + err, "offlineimap: %s",
              (out + err)[-800:])
    run()
    same("INBOX", len(maildir.files(box, "INBOX")), len(list(mail.variety())))
    same("Work/Deep", len(maildir.files(box, "Work/Deep")), 10)
    maildir.add(box, "INBOX", mail.plain(70, "from offline"), 70, "F")
    os.remove(maildir.files(box, "Work/Deep")[0])
    maildir.reflag(maildir.files(box, "Work/Deep")[0], "FS")
    must(c.select("INBOX"))
    must(c.store("1:3", "+FLAGS", "(\\Deleted)"))
    must(c.expunge())
    run()
    run()
    same("INBOX here", len(maildir.files(box, "INBOX")),
         len(list(mail.variety())) - 2)
    there = contents(c, "INBOX")
    same("INBOX there", len(there), len(list(mail.variety())) - 2)
    same("flagged there", [f for d, f in there.values() if "\\Flagged" in f],
         [("\\Flagged",)])
    deep = contents(c, "Work/Deep")
    same("Work/Deep", sorted(f for d, f in deep.values()),
         sorted([("\\Seen",)] * 8 + [("\\Flagged", "\\Seen")]))
    c.logout()


def getmail_both_sides(w):
    """getmail: everything from master and replica, once"""
    need("getmail")
    user = "getmail"
    w.lmtp_in([user], list(mail.variety()))
    c = w.imap(user)
    must(c.create("More"))
    w.append(c, "More", [mail.plain(n) for n in range(5)])
    c.logout()
    w.equal()
    want = len(list(mail.variety())) + 5
    for at in (w.replica, w.master):
        box, script = mbox_of(w, "getmail-" + at.name)
        state = w.dir("getmail-state-" + at.name)
        w.file("getmail-state-%s/rc" % at.name, """
[retriever]
type = SimpleIMAPRetriever
server = %s
port = %d
username = %s
password = %s
mailboxes = ("INBOX", "More")
[destination]
type = MDA_external
path = %s
allow_root_commands = true
[options]
read_all = false
delete = false
""" % (at.host, at.imap_port, user, w.password(user), script))
        for _ in range(2):
            w.run("getmail", "--getmaildir", state, "--rcfile", "rc")
            same("messages from " + at.name,
                 len(fetched(box)), want)


def imapfilter_sorts(w):
    """imapfilter: search, flag, move, and wait with IDLE"""
    need("imapfilter")
    user = "filter"
    w.lmtp_in([user], [mail.plain(n, "%s %d" % (
        "spam" if n % 2 else "ham", n)) for n in range(10)])
    rc = w.file("imapfilter.lua", """
options.timeout = 60
options.create = true
options.subscribe = true
options.starttls = false
account = IMAP { server = "%s", port = %d, username = "%s", password = "%s" }
account:create_mailbox("Spam")
spam = account.INBOX:contain_subject("spam")
spam:move_messages(account.Spam)
ham = account.INBOX:is_unseen() * account.INBOX:contain_field("Subject", "ham")
ham:mark_flagged()
ham:add_flags({"sorted"})
big = account.INBOX:is_larger(100000)
assert(#big == 0)
account.INBOX:contain_body("message 4."):copy_messages(account.Kept)
a, b, c, d = account.INBOX:check_status()
assert(a == 5, "exists")
""" % (w.master.host, w.master.imap_port, user, w.password(user)))
    w.run("imapfilter", "-c", rc)
    c = w.imap(user)
    same("INBOX", sorted(f for d, f in contents(c, "INBOX").values()),
         [("\\Flagged", "sorted")] * 5)
    same("Spam", len(contents(c, "Spam")), 5)
    same("Kept", len(contents(c, "Kept")), 1)
    check(b"Kept" in b"".join(must(c.lsub())), "not subscribed")
    c.logout()


ALL = [offlineimap_both_ways, getmail_both_sides, imapfilter_sorts]
