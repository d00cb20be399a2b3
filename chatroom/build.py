"""The build of the modules that each message passes through: hatch_compile.py compiles them."""

from importlib.machinery import EXTENSION_SUFFIXES

from chatroom.protocol import message

BUILD = "compiled" if message.__file__.endswith(tuple(EXTENSION_SUFFIXES)) else "pure"
"""Either "compiled", or "pure" if Python runs their sources."""
