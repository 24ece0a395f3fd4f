"""What the operating system refuses, told in one line: what, where, and what to do."""

import errno
import os

AGAIN = "then run the same command again to go on"
REMEDIES = {
    errno.ENOSPC: f"free some space, {AGAIN}",
    errno.EDQUOT: f"free some space, {AGAIN}",
    errno.EACCES: "let this user read and write it, or name another place",
    errno.EPERM: "let this user read and write it, or name another place",
    errno.EROFS: "name a place that can be written",
    errno.EEXIST: "something of that name is in the way: move it elsewhere",
    errno.ENOTEMPTY: "something is in the way there: move it elsewhere",
    errno.ENOTDIR: "a part of this path is a file where a folder is wanted: name another, or move the file",
    errno.EISDIR: "it is a folder where a file is wanted: move it elsewhere, or name another",
    errno.ENOENT: f"see whether it was moved or removed meanwhile, {AGAIN}",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files, or end other programs",
    errno.ENOMEM: f"free some memory, {AGAIN}",
}
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
"""What a file system without `flock` says: EBADF is that of NFS for a file opened for reading."""


def told(error: OSError) -> str:
    """The line for an error of the system (`errno` is not None)."""
    assert error.errno is not None
    remedy = REMEDIES.get(error.errno, f"see to it, {AGAIN}")
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' and '.join(map(str, names))}: " if names else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no space left: {remedy}"
    return f"{where}{(error.strerror or str(error)).lower()}: {remedy}"
