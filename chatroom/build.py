"""The build that is running. hatch_compile.py lists the modules that a compiled build compiles."""

from importlib.machinery import EXTENSION_SUFFIXES

from chatroom.protocol import message

BUILD = "compiled" if message.__file__.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"
""""compiled", or "pure" if Python runs the sources."""
