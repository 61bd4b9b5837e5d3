"""A file system of its own on a loop device, whose power can be cut.

The ioctl that both ext4 and XFS know (EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN)
takes the file system away under those who use it: nothing that is not on the
device reaches it any more, every call answers EIO.  Unmounting and mounting it
again recovers the journal, as after a loss of power.  Root only.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile

from pair import wait_for

GOING_DOWN = 0x8004587D
# What becomes of the journal that is still in memory: it is lost; it is
# written; everything is written first (a loss of power just after a sync).
NOLOGFLUSH, LOGFLUSH, FLUSH = 2, 1, 0
WAYS = (NOLOGFLUSH, LOGFLUSH, NOLOGFLUSH, FLUSH)
MKFS = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True,
                          env={**os.environ,
                               "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    if done.returncode != 0:
        raise OSError("%s: %s" % (" ".join(args), done.stderr.strip()))
    return done.stdout.strip()


class CutDisk:
    """A file system of kind FS ("ext4", "xfs") and MIB mebibytes at PATH; its
    image is a file at PATH.img or, if that is asked for, in memory."""

    def __init__(self, path, fs, mib, in_memory=False):
        self.path = path
        self.fs = fs
        self.image = "%s.img" % path
        self.mounted = False
        if in_memory:
            fd, self.image = tempfile.mkstemp(".img", "pollux-cut-",
                                              "/dev/shm")
            os.close(fd)
        os.makedirs(path, exist_ok=True)
        try:
            with open(self.image, "wb") as f:
                f.truncate(mib << 20)
            run(*MKFS[fs], self.image)
            self.mount()
        except BaseException:
            self.close()
            raise

    def mount(self):
        run("mount", "-t", self.fs, "-o", "loop", self.image, self.path)
        self.mounted = True
        with open("/proc/self/mountinfo") as f:
            words = [line.split() for line in f]
        self.device = [w[w.index("-") + 2] for w in words
                       if w[4] == os.path.realpath(self.path)][-1]

    def cut(self, way=NOLOGFLUSH):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", way))
        finally:
            os.close(fd)

    def unmount(self):
        run("umount", self.path)
        self.mounted = False
        # The next mount would get the file system that was shut down, were it
        # still there.
        wait_for("the file system to be let go of", self.is_gone, 30)

    def is_gone(self):
        try:
            with open("/sys/block/%s/loop/backing_file" %
                      os.path.basename(self.device)) as f:
                return f.read().strip() != os.path.realpath(self.image)
        except OSError:
            return True

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], capture_output=True)
            self.mounted = False
        try:
            os.unlink(self.image)
        except FileNotFoundError:
            pass


def own_mounts():
    """Start this program again in a mount namespace of its own, once: one that
    another program makes meanwhile would hold what is mounted here, and the
    file system could not be let go of."""
    mark = "POLLUX_OWN_MOUNTS"
    apart = ["unshare", "--mount", "--propagation", "private"]
    if os.environ.get(mark) or os.geteuid() != 0 or \
            shutil.which(apart[0]) is None or \
            subprocess.run([*apart, "true"], capture_output=True).returncode:
        return
    os.environ[mark] = "yes"
    os.execvp(apart[0], [*apart, sys.executable, *sys.argv])


def why_not(fs):
    """Why file systems of kind FS cannot be cut here; None if they can."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if shutil.which(MKFS[fs][0], path=path) is None:
        return "no %s here" % MKFS[fs][0]
    top = tempfile.mkdtemp(prefix="pollux-cut-")
    try:
        disk = CutDisk(os.path.join(top, "disk"), fs, 320)
        try:
            disk.cut()
        finally:
            disk.close()
    except OSError as e:
        return str(e)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return None


def room_in_memory(mib):
    try:
        s = os.statvfs("/dev/shm")
        return s.f_bavail * s.f_frsize > 2 * (mib << 20)
    except OSError:
        return False
