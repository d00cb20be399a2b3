"""Compilation of some modules when a wheel is built: those that each message passes through.

mypyc translates the sources of these modules to C. The wheel contains their sources and the
extension modules (.so); Python imports the extension modules. In editable installations and
clones, Python imports the sources.

The environment variable CHATROOM_COMPILE has one of these values:

    auto  compile if a C compiler and Python's headers are installed; if they are not, or compiling
          fails, build a wheel of pure Python, and print one line with the reason (default)
    1     compile, or fail
    0     build a wheel of pure Python
"""

import contextlib
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

VARIABLE = "CHATROOM_COMPILE"

MODULES = [
    "chatroom/protocol/*.py",
    "chatroom/log/*.py",
    "chatroom/worker/*.py",
    "chatroom/sidecars/cluster/relay.py",
    "chatroom/sidecars/cluster/stream_message.py",
    "chatroom/system/doorbell.py",
    "chatroom/system/poller.py",
]
"""Patterns of the modules to compile. Files named __init__.py are left out: they have no code."""

REQUIRED = ["mypy[mypyc]~=2.4"]
"""Packages that are needed to compile."""


class CompileError(Exception):
    """The modules can't be compiled. The message is a single line."""


def mode() -> str:
    """Return the value of CHATROOM_COMPILE."""
    return os.environ.get(VARIABLE) or "auto"


def missing() -> str | None:
    """Return what is missing for compiling, as text; None if nothing is missing."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    compiler = shlex.split(command)[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        return f"Python's headers are not installed ({headers}/Python.h)"
    return None


def compile_modules(root: Path, folder: Path) -> dict[str, str]:
    """Compile the modules of the checkout `root`. Create all files in `folder`.

    Return the path of each extension module, with its path in the wheel. Raise CompileError on
    failure.
    """
    if lack := missing():
        raise CompileError(lack)
    try:
        from mypyc.build import mypycify
        from setuptools import Distribution
    except ImportError as error:
        raise CompileError(f"{error.name} is not installed") from None
    sources = [
        str(path.relative_to(root))
        for pattern in MODULES
        for path in sorted(root.glob(pattern))
        if path.name != "__init__.py"
    ]
    # These arguments override `platform` and `python_version` of mypy's section in pyproject.toml.
    target = ["--platform", sys.platform, "--python-version", "{}.{}".format(*sys.version_info)]
    try:
        with contextlib.chdir(root):
            extensions = mypycify(
                [*target, *sources],
                group_name="chatroom",
                target_dir=str(folder / "c"),
                debug_level="0",  # debugging information would contain paths of this machine
            )
            builder = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
            builder.build_temp, builder.build_lib = str(folder / "o"), str(folder / "lib")
            builder.ensure_finalized()
            builder.run()
    except (Exception, SystemExit) as error:  # mypyc calls sys.exit after a type error
        raise CompileError(f"compiling failed: {type(error).__name__}: {error}") from error
    made = (folder / "lib").rglob("*" + sysconfig.get_config_var("EXT_SUFFIX"))
    return {str(path): str(path.relative_to(folder / "lib")) for path in made}
