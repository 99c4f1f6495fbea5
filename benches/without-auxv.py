"""Runs a program with one question to the kernel refused, for `cargo xtask bench --profile`.

Valgrind shows a program a process without a vDSO. rustix asks the kernel by prctl(PR_GET_AUXV), which valgrind passes on
as it is, learns of the vDSO that the kernel mapped, and reads where nothing is. Refused, it asks in a way that valgrind
answers. The filter is seccomp's; everything else is allowed.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_GET_AUXV = 22, 38, 0x41555856
SECCOMP_MODE_FILTER = 2
ALLOW, REFUSE_AS_INVALID = 0x7FFF0000, 0x00050000 | 22
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16

prctl_number = {"x86_64": 157, "aarch64": 167}[platform.machine()]
lines = [
    (LOAD, 0, 0, NUMBER_AT),
    (JUMP_IF_EQUAL, 0, 3, prctl_number),
    (LOAD, 0, 0, FIRST_ARGUMENT_AT),
    (JUMP_IF_EQUAL, 0, 1, PR_GET_AUXV),
    (RETURN, 0, 0, REFUSE_AS_INVALID),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


program = Program(len(lines), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in [
    (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
]:
    if libc.prctl(*arguments) != 0:
        sys.exit(f"prctl{arguments[:2]} failed: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
