"""The scenarios, in the order in which they run.  Each has users of its own;
the swap comes last but for what is asked after it."""

import imaplib
import os
import re
import ssl
import threading

import mail
import maildir
import more
from pair import wait_for
from world import (Load, Raw, Skip, World, Wrong, check, digest, fetched,
                   folders, mbox_of, must, need, quote, same, whole)

__all__ = ["ALL", "Skip", "World"]

# ---- mbsync -----------------------------------------------------------------

PULL = "Sync Pull\nCreate Near\nExpunge Near\nRemove Near"
BOTH = "Sync All\nCreate Both\nExpunge Both"


def fill(w, user):
    w.lmtp_in([user], mail.variety())
    w.lmtp_in([user], [mail.plain(n) for n in range(60)])
    c = w.imap(user)
    for name in mail.FOLDERS:
        must(c.create(quote(name)))
    for n, name in enumerate(mail.FOLDERS[:-1]):
        w.append(c, name, list(mail.variety())[n::3], "(\\Flagged)")
        w.append(c, name, [mail.plain(200 + 10 * n + i) for i in range(10)])
    must(c.select("INBOX"))
    must(c.store("1:20", "+FLAGS", "(\\Seen)"))
    must(c.store("5,7,9:12", "+FLAGS", "(\\Answered)"))
    must(c.store("3:4", "+FLAGS", "(\\Draft \\Flagged)"))
    must(c.store("30:33", "+FLAGS", "(\\Deleted)"))
    must(c.uid("EXPUNGE", "31:32"))
    c.logout()
    w.equal()


def pull(w):
    """Both sides into a Maildir each, which must be the same."""
    trees = []
    for name, at in (("pull-a", w.pair.a), ("pull-b", w.pair.b)):
        rc = maildir.config(w, name, at, "alice", PULL)
        maildir.sync(w, rc)
        trees.append(maildir.tree(os.path.join(w.base, name)))
    if trees[0] != trees[1]:
        for name in sorted(set(trees[0]) | set(trees[1])):
            same("folder %s from b and a" % name, trees[1].get(name),
                 trees[0].get(name))
    return trees[0]


def as_served(tree):
    """A tree of maildir.tree() as {folder: {UID: digest}}."""
    return {name: {uid: m[0] for uid, m in far.items()}
            for name, (validity, far) in tree.items()}


def served(w, user, at):
    """As the same tree; mbsync does not take what is marked as deleted."""
    c = w.imap(user, at)
    found = {name: {uid: m[0] for uid, m in box.items()
                    if "\\Deleted" not in m[1]}
             for name, box in whole(c).items()}
    c.logout()
    return found


def mbsync_same_trees(w):
    """mbsync from master and replica: the same tree, and what is served"""
    need("mbsync")
    fill(w, "alice")
    tree = pull(w)
    want = served(w, "alice", w.master)
    same("folders", sorted(as_served(tree)), sorted(want))
    for name in want:
        same("messages of " + name, as_served(tree)[name], want[name])
    check(len(tree["INBOX"][1]) >= 70, "only %d messages",
          len(tree["INBOX"][1]))


def mbsync_second_run(w):
    """a second run changes nothing, here and there"""
    need("mbsync")
    if not os.path.isdir(os.path.join(w.base, "pull-a")):  # alone, by --only
        mbsync_same_trees(w)
    before = w.durable()
    old = [maildir.listing(os.path.join(w.base, n)) for n in
           ("pull-a", "pull-b")]
    pull(w)
    new = [maildir.listing(os.path.join(w.base, n)) for n in
           ("pull-a", "pull-b")]
    for a, b in zip(old, new):
        same("changed files", sorted(k for k in set(a) | set(b)
                                     if a.get(k) != b.get(k)), [])
    same("log position", w.durable(), before)


def settle(w, rc, box, timeout=300):
    """Run mbsync until a run changes nothing: three times at most."""
    for _ in range(4):
        old = maildir.listing(box)
        maildir.sync(w, rc, timeout)
        if maildir.listing(box) == old:
            return
    raise Wrong("mbsync still finds something to do")


FLAG_OF = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen",
           "T": "\\Deleted"}


def mbsync_two_ways(w):
    """Sync All, Create Both, Expunge Both: both sides change and converge"""
    need("mbsync")
    user = "twoway"
    fill(w, user)
    rc = maildir.config(w, user, w.master, user, BOTH)
    box = os.path.join(w.base, user)
    settle(w, rc, box)

    # A user at this end ...
    for n in range(5):
        maildir.add(box, "INBOX", mail.plain(500 + n, "local new"), n)
        maildir.add(box, "Work", mail.plain(510 + n, "local seen"), 10 + n,
                    "FS")
        maildir.add(box, "Here/first", mail.plain(520 + n), 20 + n)
    near = maildir.files(box, "INBOX")
    for file in near[:8]:
        maildir.reflag(file, "RS")
    for file in maildir.files(box, "With space")[:3]:
        maildir.reflag(file, "T")
    os.remove(maildir.files(box, "R&-D")[0])
    # ... and at another one.
    c = w.imap(user)
    must(c.create("There"))
    w.append(c, "There", [mail.plain(530 + n) for n in range(4)], "(\\Draft)")
    must(c.select("INBOX"))
    must(c.store("50:55", "+FLAGS", "(\\Flagged)"))
    must(c.store("40:44", "+FLAGS", "(\\Deleted)"))
    must(c.expunge())
    must(c.select(quote("Dots.in.a.name")))
    must(c.copy("1:3", "There"))
    must(c.uid("MOVE", "4:5", "There"))
    c.logout()
    settle(w, rc, box)

    w.equal()
    tree = {name: {uid: (m[0], tuple(sorted(FLAG_OF[f] for f in m[1])))
                   for uid, m in far.items()}
            for name, (validity, far) in maildir.tree(box).items()}
    for at in (w.master, w.replica):
        c = w.imap(user, at)
        there = strip_tuid(c, whole_texts(c))
        c.logout()
        same("folders on " + at.name, sorted(tree), sorted(there))
        for name in there:
            same("%s on %s" % (name, at.name), tree[name], there[name])
    check(len(tree["There"]) == 9, "There has %d", len(tree["There"]))
    check(len(tree["Here/first"]) == 5, "Here/first has %d",
          len(tree["Here/first"]))
    check(not any("\\Deleted" in m[1] for b in tree.values()
                  for m in b.values()), "deleted mail is still there")


def whole_texts(c):
    """{folder: {UID: (text, flags)}}."""
    found = {}
    for name in folders(c):
        must(c.select(quote(name), readonly=True))
        found[name] = {}
        if c.untagged_responses.get("EXISTS", [b"0"])[-1] == b"0":
            continue
        for item in must(c.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])")):
            if isinstance(item, tuple):
                words = item[0].decode()
                flags = words.split("FLAGS (")[1].split(")")[0].split()
                found[name][int(words.split("UID ")[1].split()[0])] = (
                    item[1], tuple(sorted(f for f in flags
                                          if f != "\\Recent")))
    return found


def strip_tuid(c, texts):
    return {name: {uid: (digest(maildir.TUID.sub(
        b"", text.replace(b"\r\n", b"\n"))), flags)
        for uid, (text, flags) in box.items()} for name, box in texts.items()}


# ---- curl -------------------------------------------------------------------


def curl(w, at, path, *more, user="curl", ok=(0,), scheme="imap"):
    port = w.pair.ports["imaps"] if scheme == "imaps" else at.imap_port
    out, err = w.run(
        need("curl"), "-sS", "--max-time", "60", "--cacert", w.pair.cert, "-u",
        "%s:%s" % (user, w.password(user)), *more,
        "%s://%s:%d/%s" % (scheme, at.host, port, path), ok=ok)
    return out


def curl_works(w):
    """list, upload, fetch, sections, search, examine, store, create, delete"""
    at = w.master
    check(b"INBOX" not in curl(w, at, "nobox", ok=(0, 8, 67, 78)),
          "a mailbox that is not there")
    first = mail.plain(1, "curl first")
    big = list(mail.variety())[3]
    for n, text in enumerate((first, big)):
        file = w.file("upload-%d.eml" % n, text)
        if n == 0:
            curl(w, at, "", "-X", "CREATE Up")
        curl(w, at, "Up", "-T", file)
    out = curl(w, at, "")
    check(b'"/" Up' in out, "list: %r", out)
    same("message 1", curl(w, at, "Up;MAILINDEX=1"), first)
    same("message 2 by UID", curl(w, at, "Up;UID=2"), big)
    same("section", curl(w, at, "Up;MAILINDEX=1;SECTION=TEXT"),
         first.split(b"\r\n\r\n", 1)[1])
    out = curl(w, at, "Up;UID=1;SECTION=HEADER.FIELDS%20(SUBJECT)")
    same("header", out, b"Subject: curl first\r\n\r\n")
    same("partial", curl(w, at, "Up;UID=2;PARTIAL=10.20"), big[10:30])
    same("search", curl(w, at, "Up?SUBJECT%20%22curl%20first%22").split(),
         b"* SEARCH 1".split())
    same("search nothing", curl(w, at, "Up?SUBJECT%20absent").split(),
         b"* SEARCH".split())
    out = curl(w, at, "", "-X", "EXAMINE Up")
    check(b"* 2 EXISTS" in out and b"UIDVALIDITY" in out, "examine: %r", out)
    out = curl(w, at, "Up", "-X", "FETCH 1:* (FLAGS RFC822.SIZE ENVELOPE)")
    check(b"* 2 FETCH" in out and b"curl first" in out, "fetch: %r", out)
    curl(w, at, "Up", "-X", "STORE 1 +Flags \\Deleted")
    curl(w, at, "Up", "-X", "EXPUNGE")
    out = curl(w, at, "", "-X", "STATUS Up (MESSAGES UIDNEXT)")
    check(b"MESSAGES 1 UIDNEXT 3" in out, "status: %r", out)
    curl(w, at, "", "-X", "DELETE Up")
    check(b" Up" not in curl(w, at, ""), "deleted mailbox is listed")


def curl_logins(w):
    """every way to log in; STARTTLS and imaps; wrong passwords refused"""
    mechs = ["PLAIN", "LOGIN"]
    if b"gsasl" in w.run(need("curl"), "--version")[0]:
        mechs += ["SCRAM-SHA-1", "SCRAM-SHA-256"]
    for at in (w.master, w.replica):
        for mech in mechs:
            for more in ([], ["--ssl-reqd"]):
                out = curl(w, at, "", "--login-options", "AUTH=" + mech, *more)
                check(b"INBOX" in out, "%s: %r", mech, out)
        check(b"INBOX" in curl(w, at, "", scheme="imaps"), "imaps")
        for version in ("1.2", "1.3"):
            out = curl(w, at, "", "--tlsv" + version, "--tls-max", version,
                       scheme="imaps")
            check(b"INBOX" in out, "TLS %s: %r", version, out)
        w.run("curl", "-sS", "-u", "curl:wrong",
              "imap://%s:%d/" % (at.host, at.imap_port), ok=(67,))


def curl_replica(w):
    """reads on the replica, is refused when it writes there"""
    text = mail.plain(7, "for the replica")
    curl(w, w.master, "INBOX", "-T", w.file("up.eml", text))
    w.equal()
    out = curl(w, w.replica, "", "-X", "STATUS INBOX (UIDNEXT)")
    uid = int(out.split(b"UIDNEXT ")[1].split(b")")[0]) - 1
    same("message", curl(w, w.replica, "INBOX;UID=%d" % uid), text)
    before = w.durable()
    for args in (["-T", os.path.join(w.base, "up.eml")],
                 ["-X", "STORE 1 +FLAGS \\Seen"],
                 ["-X", "CREATE Nowhere"]):
        check(b"* 1 FETCH" not in curl(w, w.replica, "INBOX", *args, ok=None),
              "the replica stored")
    same("log position", w.durable(), before)
    w.equal()


# ---- fetchmail --------------------------------------------------------------


def fetchmail_rc(w, at, name, options, mda):
    return w.file(name, "poll %s proto imap port %d\n user fetch password %s "
                  "%s\n mda \"%s\"\n" % (at.host, at.imap_port,
                                         w.password("fetch"), options, mda))


def fetchmail(w, rc, *more, ok=(0,)):
    return w.run(need("fetchmail"), "-f", rc, "--pidfile", rc + ".pid",
                 "-i", rc + ".ids", "--nosyslog", "-v", *more, ok=ok)


def fetchmail_keeps(w):
    """takes what is new, keeps it there, and does not take it again"""
    need("fetchmail")
    w.lmtp_in(["fetch"], list(mail.variety())[:3] +
              [mail.plain(n) for n in range(7)])
    w.equal()
    tls = "sslproto TLS1.2+ sslcertck sslcertfile %s" % w.pair.cert
    for at in (w.replica, w.master):
        path, script = mbox_of(w, "keep-" + at.name)
        rc = fetchmail_rc(w, at, "keep-%s.rc" % at.name,
                          "keep fetchall " + tls, script)
        before = w.durable()
        # fetchmail stores \\Seen after each message, which a replica refuses:
        # there it stops after one message, and nothing has changed.
        fetchmail(w, rc, ok=(7 if at is w.replica else 0,))
        if at is w.master:
            same("fetched from " + at.name, len(fetched(path)), 10)
        else:
            same("log position", w.durable(), before)
    path, script = mbox_of(w, "seen")
    rc = fetchmail_rc(w, w.master, "seen.rc", "keep sslproto ''", script)
    fetchmail(w, rc, ok=(0, 1))
    first = len(fetched(path))
    fetchmail(w, rc, ok=(1,))
    same("fetched again", len(fetched(path)), first)


def fetchmail_empties(w):
    """takes everything and deletes it there"""
    need("fetchmail")
    path, script = mbox_of(w, "empty")
    rc = fetchmail_rc(w, w.master, "empty.rc",
                      "nokeep fetchall expunge 2 sslproto ''", script)
    fetchmail(w, rc)
    same("fetched", len(fetched(path)), 10)
    c = w.imap("fetch")
    same("left over", must(c.select("INBOX")), [b"0"])
    c.logout()
    fetchmail(w, rc, ok=(1,))


def fetchmail_idles(w):
    """waits with IDLE and takes a message when it comes"""
    need("fetchmail")
    path, script = mbox_of(w, "idle-mbox")
    rc = fetchmail_rc(w, w.master, "idle.rc",
                      "keep fetchall idle sslproto ''", script)
    child = w.spawn("fetchmail", "-f", rc, "--pidfile", rc + ".pid", "-i",
                    rc + ".ids", "--nosyslog", "-v", "-v", "--nodetach",
                    "-d", "600", log="fetchmail-idle.log")
    log = os.path.join(w.base, "fetchmail-idle.log")

    def idles():
        with open(log, "rb") as f:
            said = f.read()
        return said.rfind(b" IDLE\n") > said.rfind(b"FETCH")
    for n in (1, 2, 3):
        text = mail.plain(n, "while idle %d" % n)
        wait_for("IDLE", idles, 60)
        w.lmtp_in(["fetch"], [text])
        wait_for("message %d in the mbox" % n, lambda: any(
            b"while idle %d\n" % n in m for m in fetched(path)), 60)
    same("fetchmail's end", child.poll(), None)


# ---- neomutt ----------------------------------------------------------------


def neomutt(w, name, folder, keys, at=None, tls=False):
    """Run neomutt with KEYS pushed after it has opened FOLDER."""
    at = at or w.master
    rc = w.file(name + ".muttrc", """
set imap_user=mutt imap_pass="%s" folder="imap://%s:%d/" spoolfile=+INBOX
set ssl_starttls=%s ssl_force_tls=%s certificate_file="%s"
set ssl_verify_host=no header_cache="" message_cachedir="" record=""
set confirmappend=no confirmcreate=no delete=yes quit=yes move=no mark_old=no
set wait_key=no imap_idle=yes sleep_time=0 auto_tag=no abort_key="<F20>"
set imap_check_subscribed=no sort=date
push '%s'
""" % (w.password("mutt"), at.host, at.imap_port,
       "yes" if tls else "no", "yes" if tls else "no", w.pair.cert, keys))
    return w.on_terminal(need("neomutt"), "-n", "-F", rc, "-f", folder)


def mutt_url(w, box, at=None):
    at = at or w.master
    return "imap://%s:%d/%s" % (at.host, at.imap_port, box)


def flags_of(w, subject, folder="INBOX"):
    c = w.imap("mutt")
    must(c.select(quote(folder), readonly=True))
    found = must(c.search(None, "SUBJECT", quote(subject)))[0].split()
    if not found:
        return None
    answer = must(c.fetch(found[0], "(FLAGS)"))[0].decode()
    c.logout()
    return set(answer.split("FLAGS (")[1].split(")")[0].split()) - {"\\Recent"}


def neomutt_reads(w):
    """shows headers, saves all messages into an mbox: master and replica"""
    need("neomutt")
    w.lmtp_in(["mutt"], [mail.plain(n, "mutt %d" % n) for n in range(8)] +
              list(mail.variety())[:6])
    w.equal()
    for at, tls in ((w.master, False), (w.replica, False), (w.master, True)):
        out = os.path.join(w.base, "mutt-%s-%s" % (at.name, tls))
        drawn = neomutt(
            w, "reads", mutt_url(w, "INBOX", at), "<tag-pattern>~A<enter>"
            "<tag-prefix><copy-message>%s<enter><exit>" % out, at, tls)
        check(b"mutt 3" in drawn, "no header line drawn")
        with open(out, "rb") as f:
            text = f.read()
        for n in range(8):
            check(b"\nSubject: mutt %d\n" % n in text, "mutt %d is missing", n)
        same("messages", len(re.findall(
            rb"^From \S+ \w{3} \w{3} [ \d]\d \d\d:", text, re.M)), 14)


def neomutt_changes(w):
    """reads, flags, answers, deletes, moves to another mailbox"""
    need("neomutt")
    c = w.imap("mutt")
    must(c.create("Saved"))
    c.logout()
    neomutt(
        w, "changes", mutt_url(w, "INBOX"),
        "<tag-pattern>~A<enter><tag-prefix><set-flag>N<untag-pattern>~A<enter>"
        "<search>~s \"mutt 1\"<enter><display-message><exit>"
        "<search>~s \"mutt 2\"<enter><flag-message>"
        "<search>~s \"mutt 3\"<enter><set-flag>r"
        "<delete-pattern>~s \"mutt 4\"<enter>"
        "<search>~s \"mutt 5\"<enter><save-message>=Saved<enter>"
        "<search>~s \"mutt 6\"<enter><copy-message>=Saved<enter>"
        "<sync-mailbox><quit>")
    check("\\Seen" in flags_of(w, "mutt 1"), "mutt 1 is unseen")
    check("\\Flagged" in flags_of(w, "mutt 2"), "mutt 2 has no flag")
    check("\\Answered" in flags_of(w, "mutt 3"), "mutt 3 is not answered")
    same("mutt 4", flags_of(w, "mutt 4"), None)
    same("mutt 5 in INBOX", flags_of(w, "mutt 5"), None)
    check(flags_of(w, "mutt 5", "Saved") is not None, "mutt 5 not saved")
    check(flags_of(w, "mutt 6") is not None, "mutt 6 is gone")
    check(flags_of(w, "mutt 6", "Saved") is not None, "mutt 6 not copied")


def neomutt_uploads(w):
    """an mbox with odd mail into a mailbox"""
    need("neomutt")
    texts = list(mail.variety())[:8] + [mail.plain(n, "up %d" % n)
                                        for n in range(4)]
    path = w.file("up.mbox", b"".join(
        b"From me@example.org Mon Jan  5 10:00:00 2026\n" +
        t.replace(b"\r\n", b"\n").replace(b"\nFrom ", b"\n>From ") + b"\n"
        for t in texts))
    c = w.imap("mutt")
    must(c.create("Uploaded"))
    neomutt(w, "uploads", path, "<tag-pattern>~A<enter><tag-prefix>"
            "<copy-message>=Uploaded<enter><exit>")
    same("messages", must(c.select("Uploaded"))[0], b"%d" % len(texts))
    c.logout()


def neomutt_waits(w):
    """sees mail that comes while it is open (IDLE)"""
    need("neomutt")
    seen = []

    def deliver():
        wait_for("neomutt's login", lambda: os.path.exists(
            os.path.join(w.base, "mutt-open")), 60)
        w.lmtp_in(["mutt"], [mail.plain(99, "came later")])
        seen.append(1)
    t = threading.Thread(target=deliver)
    t.start()
    # <shell-escape> runs after the mailbox was opened; the second one returns
    # when the message was delivered, then the mailbox is asked for news.
    done = os.path.join(w.base, "mutt-delivered")
    w.file("wait.sh", "touch %s/mutt-open\n"
           "while [ ! -e %s ]; do sleep 0.05; done\n" % (w.base, done))

    def mark():
        t.join(90)
        w.file("mutt-delivered", "")
    threading.Thread(target=mark).start()
    drawn = neomutt(
        w, "waits", mutt_url(w, "INBOX"),
        "<shell-escape>sh %s/wait.sh<enter><imap-fetch-mail>"
        "<search>~s \"came later\"<enter><flag-message><sync-mailbox><exit>"
        % w.base)
    check(seen == [1], "not delivered")
    check(b"came later" in drawn, "the new message was not drawn")
    check("\\Flagged" in flags_of(w, "came later"), "not flagged")


# ---- cyradm and imtest ------------------------------------------------------


def cyradm(w, commands, at=None, *more):
    """Output of each command, in order."""
    at = at or w.master
    need("perl")
    w.cyrus()
    text = "".join("%s\n" % c for c in commands)
    out, err = w.run(
        "perl", os.path.join(w.cyrus(), "usr/bin/cyradm"), "--user", "cyrus",
        "--password", w.password("cyrus"), "--port", str(at.imap_port), *more,
        at.host, input=text.encode(), env=w.cyrus_env(),
        one_stream=True)
    parts = out.decode().split(at.host + "> ")
    check(len(parts) == len(commands) + 2, "cyradm: %r", parts)
    return [p.strip() for p in parts[1:-1]]


def cyradm_session(w):
    """createmailbox lm sam lam dam sq lq rename dm info version"""
    talk = [
        ("version", "name       : Pollux"),
        ("cm user/carol", ""),
        ("cm user/carol/Work", ""),
        ("cm user/carol", "createmailbox: [ALREADYEXISTS]"),
        ("lm user/carol*", "user/carol (\\HasChildren)"),
        ("sam user/carol bob lrs", ""),
        ("sam user/carol/Work anyone p", ""),
        ("lam user/carol", "bob lrs"),
        ("listacl user/carol/Work", "anyone p"),
        ("sam user/carol bob write", ""),
        ("lam user/carol", "bob lrswipk"),
        ("dam user/carol bob", ""),
        ("lam user/carol", "carol lrswipkxtecdan"),
        ("lam user/nobody", "[NONEXISTENT]"),
        ("sq user/carol STORAGE 10240", ""),
        ("lq user/carol", "STORAGE 0/10240"),
        ("lqr user/carol/Work", "user/carol STORAGE 0/10240"),
        ("sq user/carol none", "remove quota"),
        ("renm user/carol/Work user/carol/Jobs", ""),
        ("lm user/carol*", "user/carol/Jobs"),
        ("dm user/carol/nothing", "deletemailbox: [NONEXISTENT]"),
        ("sam user/carol/Jobs cyrus x", ""),
        ("dm user/carol/Jobs", ""),
        ("lm user/carol*", "user/carol (\\HasNoChildren)"),
        ("lm DELETED/*", "DELETED/user/carol/Jobs/"),
        ("subscribe user/carol", ""),
        ("lm -s", "user/carol"),
        ("unsubscribe user/carol", ""),
        ("rename user/carol user/caroline", ""),
        ("lm user/carol*", "user/caroline"),
        ("setinfo comment hello", ""),
        ("info", "hello"),
        ("mboxcfg user/caroline comment here", ""),
        ("info user/caroline", "here"),
        ("dm user/caroline", ""),
        ("lm user/carol*", ""),
    ]
    converse(w, talk)


def converse(w, talk, at=None):
    """Each command with words of its answer; with "" there is none."""
    answers = cyradm(w, [c for c, _ in talk], at)
    for (command, want), got in zip(talk, answers):
        check(want in got if want else got == "", "%s: got %r, want %r",
              command, got, want)


def cyradm_replica(w):
    """looks on the replica, and is refused when it changes something there"""
    converse(w, [
        ("lm user/imtest", "user/imtest"),
        ("cm user/new", "read-only replica"),
        ("sam user/imtest bob lrs", "read-only replica"),
        ("sq user/imtest STORAGE 5", "read-only replica"),
        ("dm user/imtest", "read-only replica"),
        ("lam user/imtest", "imtest lrswipkxtecda"),
    ], w.replica)


def with_dots(w):
    """an instance without a twin, with Cyrus 2's names: user.x, INBOX.Work"""
    one = w.third(unixhierarchysep="no", altnamespace="no")
    converse(w, [
        ("cm user.carol", ""),
        ("cm user.carol.Work.Deep", ""),
        ("lm user.carol*", "user.carol (\\HasChildren)"),
        ("lm user.carol.%", "user.carol.Work"),
        ("sam user.carol.Work.Deep alice lrs", ""),
        ("sq user.carol STORAGE 1000", ""),
        ("lq user.carol", "STORAGE 0/1000"),
        ("sam user.carol cyrus all", ""),
        ("rename user.carol user.caroline", ""),
        ("lm user.caroline.Work.Deep", "user.caroline.Work.Deep"),
    ], one)
    c = w.imap("alice", one)
    same("separators", must(c.namespace())[0].decode(),
         '(("INBOX." ".")) (("user." ".")) (("" "."))')
    check(b'"." user.caroline.Work.Deep' in b"".join(
        must(c.list('""', "user.*"))), "shared mailbox is not listed")
    must(c.create("INBOX.Work.2026"))
    w.append(c, "INBOX.Work.2026", list(mail.variety()))
    w.lmtp_in(["alice"], [mail.plain(n) for n in range(10)], one)
    names = sorted(x.decode().split(' "." ')[1] for x in
                   must(c.list('""', "INBOX*")))
    check(names[0] == "INBOX" and "INBOX.Work.2026" in names, "list: %r",
          names)
    c.logout()
    need("mbsync")
    box = os.path.join(w.base, "dots")
    settle(w, maildir.config(w, "dots", one, "alice", BOTH), box)
    tree = maildir.tree(box)
    same("INBOX", len(tree["INBOX"][1]), 10)
    same("Work.2026", [len(far) for name, (v, far) in tree.items()
                       if name.endswith("Work/2026")],
         [len(list(mail.variety()))])


def cyradm_mechanisms(w):
    """every mechanism, with and without TLS"""
    w.imap("imtest").logout()  # makes its INBOX
    for mech in ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"):
        for more in (["--notls"], ["--tlskey", "", "--cafile", w.pair.cert]):
            got = cyradm(w, ["lm user/imtest"], None, "--auth", mech, *more)
            same("lm", got, ["user/imtest (\\HasNoChildren)"])


def imtest_mechanisms(w):
    """imtest -m each mechanism, plain and after STARTTLS"""
    program = os.path.join(w.cyrus(), "usr/lib/cyrus/bin/imtest")
    for at in (w.master, w.replica):
        for mech in ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", None):
            for tls in ([], ["-t", ""]):
                argv = [program, *(["-m", mech] if mech else []), *tls, "-u",
                        "imtest", "-a", "imtest", "-w", w.password("imtest"),
                        "-p", str(at.imap_port), at.host]
                out, err = w.run(*argv, env=w.cyrus_env(), input=(
                    b'a1 LIST "" *\r\na2 SELECT INBOX\r\na3 LOGOUT\r\n'))
                for want in (b"Authenticated.", b"a1 OK", b"INBOX", b"a3 OK"):
                    check(want in out, "%s %s: no %s in %r", mech, tls, want,
                          out[-800:])
                if tls:
                    check(b"TLS connection established" in out, "no TLS: %r",
                          out[-800:])
        out, err = w.run(
            program, "-m", "PLAIN", "-u", "imtest", "-a", "imtest", "-w",
            "wrong", "-p", str(at.imap_port), at.host, env=w.cyrus_env(),
            input=b". LOGOUT\r\n", ok=None)
        check(b"Authentication failed" in out, "wrong password: %r", out[-500:])


def imtest_proxies(w):
    """an admin logs in and acts as another user"""
    program = os.path.join(w.cyrus(), "usr/lib/cyrus/bin/imtest")
    for mech in ("PLAIN", "SCRAM-SHA-256"):
        out, err = w.run(
            program, "-m", mech, "-u", "imtest", "-a", "cyrus", "-w",
            w.password("cyrus"), "-p", str(w.master.imap_port), w.master.host,
            env=w.cyrus_env(),
            input=b"a1 MYRIGHTS INBOX\r\na2 LOGOUT\r\n")
        check(b"Authenticated." in out and b"a1 OK" in out, "%s: %r", mech,
              out[-500:])
        out, err = w.run(
            program, "-m", mech, "-u", "alice", "-a", "imtest", "-w",
            w.password("imtest"), "-p", str(w.master.imap_port), w.master.host,
            env=w.cyrus_env(), input=b". LOGOUT\r\n", ok=None)
        check(b"Authenticated." not in out, "an ordinary user may proxy")


# ---- imaplib and raw --------------------------------------------------------


def imaplib_tour(w):
    """a whole session by python's imaplib, after STARTTLS"""
    c = imaplib.IMAP4(w.master.host, w.master.imap_port, 60)
    context = ssl.create_default_context(cafile=w.pair.cert)
    must(c.starttls(context))
    must(c.login("plib", w.password("plib")))
    must(c.enable("UTF8=ACCEPT") if "UTF8=ACCEPT" in c.capabilities
         else c.noop())
    must(c.create("Box"))
    must(c.create("Box/Deep/Deeper"))
    same("list", folders(c)[:3], ["Box", "Box/Deep", "Box/Deep/Deeper"]
         if "Box/Deep" in folders(c) else ["Box", "Box/Deep/Deeper", "INBOX"])
    texts = list(mail.variety())
    for text in texts:
        must(c.append("Box", "(\\Seen $Label1 custom)",
                      '"05-Jan-2026 10:11:12 +0100"', text))
    same("exists", must(c.select("Box")), [b"%d" % len(texts)])
    for n, text in enumerate(texts, 1):
        got = must(c.fetch(b"%d" % n, "(RFC822 INTERNALDATE FLAGS)"))
        same("message %d" % n, got[0][1], text)
    same("keyword", must(c.search(None, "KEYWORD", "custom"))[0].split()[-1],
         b"%d" % len(texts))
    c.literal = "süß".encode()
    found = must(c.search("UTF-8", "BODY"))
    check(found[0].split(), "SEARCH for UTF-8 found nothing")
    check(must(c.fetch("1:*", "(ENVELOPE BODYSTRUCTURE)")), "no structure")
    must(c.copy("1:3", "Box/Deep/Deeper"))
    must(c.store("2:3", "+FLAGS.SILENT", "(\\Deleted)"))
    same("expunged", must(c.expunge()), [b"2", b"2"])
    must(c.status("Box", "(MESSAGES UNSEEN UIDNEXT UIDVALIDITY RECENT)"))
    must(c.setacl("Box", "bob", "lrs"))
    check(b"bob lrs" in must(c.getacl("Box"))[0], "getacl")
    check(b"lrswipkxtecda" in must(c.myrights("Box"))[0], "myrights")
    must(c.deleteacl("Box", "bob"))
    must(c.getquotaroot("INBOX"))
    must(c.namespace())
    must(c.subscribe("Box"))
    check(any(b"Box" in line for line in must(c.lsub())), "lsub")
    must(c.unsubscribe("Box"))
    must(c.check())
    must(c.close())
    must(c.rename("Box", "Chest"))
    check("Chest/Deep/Deeper" in folders(c), "rename: %r", folders(c))
    must(c.delete("Chest/Deep/Deeper"))
    must(c.delete("Chest"))
    typ, data = c.select("Chest")
    same("select of a deleted one", typ, "NO")
    check(c.logout()[0] == "BYE", "logout")


def imaplib_two_sessions(w):
    """two sessions on a mailbox and one on the twin see each other's changes"""
    one, two = w.imap("plib"), w.imap("plib")
    twin = w.imap("plib", w.replica)
    for c in (one, two, twin):
        must(c.select("INBOX", readonly=c is twin))
    w.append(one, "INBOX", [mail.plain(n) for n in range(3)])
    must(two.noop())
    same("exists", two.response("EXISTS")[1][-1], b"3")

    def twin_has_three():
        must(twin.noop())
        return twin.untagged_responses.get("EXISTS", [b""])[-1] == b"3"
    wait_for("the twin's session to see mail", twin_has_three, 60)
    must(two.store("2", "+FLAGS", "(\\Deleted \\Flagged)"))
    must(one.noop())
    check(any(b"\\Flagged" in x for x in one.response("FETCH")[1]), "no FETCH")
    must(two.expunge())
    must(one.noop())
    same("expunge", one.response("EXPUNGE")[1], [b"2"])

    def twin_has_two():
        must(twin.noop())
        return twin.untagged_responses.get("EXPUNGE") == [b"2"]
    wait_for("the twin's session to see it", twin_has_two, 60)
    typ, data = twin.store("1", "+FLAGS", "(\\Seen)")
    same("STORE on the replica", typ, "NO")
    for c in (one, two, twin):
        c.logout()


def idle_raw(w):
    """IDLE: new mail, flags and expunges, on the master and on the replica"""
    user, password = "idler", w.password("idler")
    w.lmtp_in([user], [mail.plain(0)])
    w.equal()
    sessions = [Raw(at, user, password) for at in (w.master, w.replica)]
    for s in sessions:
        s.do("SELECT INBOX")
        s.send("i1 IDLE")
        check(s.line().startswith(b"+ "), "no continuation")
    for n in range(2, 6):
        w.lmtp_in([user], [mail.plain(n)])
        for s in sessions:
            s.wait_line(b"* %d EXISTS" % n)
    c = w.imap(user)
    must(c.select("INBOX"))
    must(c.store("3", "+FLAGS", "(\\Flagged)"))
    for s in sessions:
        s.wait_line(b"* 3 FETCH", b"\\Flagged")
    must(c.store("2", "+FLAGS.SILENT", "(\\Deleted)"))
    must(c.expunge())
    for s in sessions:
        s.wait_line(b"* 2 EXPUNGE")
        s.send("DONE")
        s.until("i1")
        s.do("NOOP")
    # DONE in one packet with the next command, and IDLE once more.
    s = sessions[0]
    s.send("i2 IDLE")
    s.wait_line(b"+ ")
    s.send("DONE\r\ni3 NOOP")
    s.until("i2")
    s.until("i3")
    s.send("i4 IDLE")
    s.wait_line(b"+ ")
    s.send("i5 NOOP")  # not DONE: an error, and the session goes on
    s.until("i4", "BAD")
    for s in sessions:
        s.close()
    c.logout()


# ---- the swap ---------------------------------------------------------------


def swap_under_load(w):
    """mbsync while mail comes in and the twins swap; then the same trees"""
    need("mbsync")
    if not os.path.isdir(os.path.join(w.base, "pull-a")):  # alone, by --only
        mbsync_same_trees(w)
    idle = Raw(w.replica, "alice", w.password("alice"))
    idle.do("SELECT INBOX")
    idle.send("i1 IDLE")
    idle.wait_line(b"+ ")
    load = Load(w, "alice", 2000)
    load.start()
    try:
        wait_for("mail", lambda: len(load.acked) > 30, 60)
        pull_each(w)
        w.master.must("swap")
        w.master, w.replica = w.replica, w.master
        before = len(load.acked)
        wait_for("mail after the swap",
                 lambda: len(load.acked) > before + 30, 60)
        pull_each(w)
    finally:
        load.end()
    w.equal()
    tree = pull(w)
    have = maildir.loads(os.path.join(w.base, "pull-b"))
    same("acknowledged and lost", sorted(set(load.acked) - set(have)), [])
    # LMTP tells a retry by its dedup mark; a client's APPEND cannot.
    same("delivered twice", [n for n in load.acked
                             if n % 3 and have.count(n) > 1], [])
    want = served(w, "alice", w.master)
    for name in want:
        same("messages of " + name, as_served(tree)[name], want[name])
    mbsync_second_run(w)
    # A session of the old replica lives on, and may write now.
    idle.wait_line(b"[READ-WRITE]")
    idle.send("DONE")
    idle.until("i1")
    idle.do("STORE 1 +FLAGS (\\Flagged)")
    idle.close()


def pull_each(w):
    """mbsync while things change: no errors, whatever it sees."""
    for name, at in (("pull-a", w.pair.a), ("pull-b", w.pair.b)):
        maildir.sync(w, maildir.config(w, name, at, "alice", PULL))


def swapped_two_ways(w):
    """the two-way Maildir goes on at the new master"""
    need("mbsync")
    user = "twoway"
    box = os.path.join(w.base, user)
    if not os.path.isdir(box):  # alone, by --only
        mbsync_two_ways(w)
    rc = maildir.config(w, user, w.master, user, BOTH)
    old = maildir.listing(box)
    maildir.sync(w, rc)
    same("changed by the swap", maildir.listing(box) == old, True)
    maildir.add(box, "INBOX", mail.plain(600, "after the swap"), 600)
    maildir.reflag(maildir.files(box, "Work")[0], "FRS")
    settle(w, rc, box)
    w.equal()
    same("served", served(w, user, w.replica), served(w, user, w.master))


ALL = [(f.__name__.replace("_", "-"), f) for f in (
    mbsync_same_trees, mbsync_second_run, mbsync_two_ways, curl_works,
    curl_logins, curl_replica, fetchmail_keeps, fetchmail_empties,
    fetchmail_idles, neomutt_reads, neomutt_changes, neomutt_uploads,
    neomutt_waits, cyradm_session, cyradm_mechanisms, cyradm_replica,
    with_dots, imtest_mechanisms, imtest_proxies, imaplib_tour,
    imaplib_two_sessions, idle_raw, *more.ALL, swap_under_load,
    swapped_two_ways)]
