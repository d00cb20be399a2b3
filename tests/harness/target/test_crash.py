"""The search for crash messages in the output of servers. Real programs have printed them."""

import pytest

from harness.target.crash import LINES, SEEN, find, since, tail

PYTHON = """\
127.0.0.1 connected
Traceback (most recent call last):
  File "server.py", line 31, in <module>
    serve(connection)
    ~~~~~^^^^^^^^^^^^
  File "server.py", line 12, in serve
    message = connection.recv(2048)
ConnectionResetError: [Errno 104] Connection reset by peer
"""
CHAINED = """\
Traceback (most recent call last):
  File "server.py", line 2, in <module>
    clients[name]
KeyError: 'anna'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "server.py", line 4, in <module>
    clients.remove(connection)
ValueError: list.remove(x): x not in list
"""
GO = """\
listening
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48906a]

goroutine 1 [running]:
main.serve(...)
\t/tmp/server.go:4
main.main()
\t/tmp/server.go:5 +0x6a
exit status 2
"""
NODE = """\
node:events:502
      throw er; // Unhandled 'error' event
      ^

Error: read ECONNRESET
    at TCP.onStreamRead (node:internal/stream_base_commons:216:20)
Emitted 'error' event on Socket instance at:
    at emitErrorNT (node:internal/streams/destroy:151:8) {
  errno: -104,
  code: 'ECONNRESET',
  syscall: 'read'
}

Node.js v20.20.2
"""
NODE_SOURCE = """\
/srv/chat/server.js:1
const clients = {}; function serve(){ return clients.x.write("a"); }
                                                       ^

TypeError: Cannot read properties of undefined (reading 'write')
    at serve (/srv/chat/server.js:1:56)
    at Object.<anonymous> (/srv/chat/server.js:2:1)

Node.js v20.20.2
"""
JAVA = """\
hi
Exception in thread "Thread-3" java.util.ConcurrentModificationException
\tat java.base/java.util.ArrayList$Itr.checkForComodification(ArrayList.java:1013)
\tat Server.broadcast(Server.java:21)
Caused by: java.net.SocketException: Connection reset
\t... 2 more
"""
JAVA_PRINTED = """\
java.net.SocketException: Broken pipe
\tat java.base/sun.nio.ch.NioSocketImpl.implWrite(NioSocketImpl.java:413)
"""
RUST = """\
hi

thread 'main' (20118) panicked at src/main.rs:1:87:
index out of bounds: the len is 0 but the index is 0
stack backtrace:
   0: __rustc::rust_begin_unwind
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
RUBY = """\
server.rb:1:in `serve': undefined method `write' for nil:NilClass (NoMethodError)

def serve(c); c.write("x"); end
               ^^^^^^
\tfrom server.rb:3:in `<main>'
"""
RUBY_THREAD = """\
#<Thread:0x00007f0097073b38 b.rb:1 run> terminated with exception (report_on_exception is true):
b.rb:1:in `block in <main>': end of file reached (EOFError)
"""
PERL = """\
Can't call method "send" on an undefined value at server.pl line 1.
"""
CPP = """\
terminate called after throwing an instance of 'std::out_of_range'
  what():  vector::_M_range_check: __n (which is 3) >= this->size() (which is 0)
"""
SANITIZER = """\
=================================================================
==19913==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000012 at pc 0x56512f
READ of size 1 at 0x602000000012 thread T0
    #0 0x56512f14643d in main /srv/chat/a.c:4
    #1 0x7f5917845249 in __libc_start_call_main ../sysdeps/nptl/libc_start_call_main.h:58

0x602000000012 is located 2 bytes inside of 8-byte region [0x602000000010,0x602000000018)
SUMMARY: AddressSanitizer: heap-use-after-free /srv/chat/a.c:4 in main
"""

CRASHES = {
    "Python": (PYTHON, "ConnectionResetError: [Errno 104] Connection reset by peer"),
    "Python, chained": (CHAINED, "ValueError: list.remove(x): x not in list"),
    "Go": (GO, "panic: runtime error: invalid memory address or nil pointer dereference"),
    "Node": (NODE, "Error: read ECONNRESET"),
    "Node, source": (
        NODE_SOURCE,
        "TypeError: Cannot read properties of undefined (reading 'write')",
    ),
    "Java": (JAVA, "java.util.ConcurrentModificationException"),
    "Java, printed": (JAVA_PRINTED, "java.net.SocketException: Broken pipe"),
    "Rust": (RUST, "index out of bounds: the len is 0 but the index is 0"),
    "Ruby": (
        RUBY,
        "server.rb:1:in `serve': undefined method `write' for nil:NilClass (NoMethodError)",
    ),
    "Ruby, thread": (
        RUBY_THREAD,
        "b.rb:1:in `block in <main>': end of file reached (EOFError)",
    ),
    "Perl": (PERL, PERL.strip()),
    "C++": (CPP, "vector::_M_range_check: __n (which is 3) >= this->size() (which is 0)"),
    "sanitizer": (
        SANITIZER,
        "AddressSanitizer: heap-use-after-free on address 0x602000000012 at pc 0x56512f",
    ),
    "undefined behaviour": (
        "a.c:5:3: runtime error: signed integer overflow\n",
        "a.c:5:3: runtime error: signed integer overflow",
    ),
    "assert": (
        "server: server.c:9: main: Assertion `fd >= 0' failed.\n",
        "server: server.c:9: main: Assertion `fd >= 0' failed.",
    ),
    "C's library": (
        "free(): double free detected in tcache 2\n",
        "free(): double free detected in tcache 2",
    ),
    "C's stack": ("*** stack smashing detected ***: terminated\n",) * 2,
}


@pytest.mark.parametrize("name", CRASHES)
def test_the_message_of_a_crash_is_found(name: str) -> None:
    output, says = CRASHES[name]
    found = find(output + "and a later line\n")
    assert found
    assert found.says == says.strip()
    assert 1 <= len(found.lines) <= LINES
    assert any(found.says in line for line in found.lines)
    assert found.lines[0] == output[found.begin :].splitlines()[0]


def test_the_innermost_calls_of_a_long_traceback_are_kept() -> None:
    frames = "".join(f'  File "a.py", line {n}, in f\n    f()\n' for n in range(50))
    found = find(f"Traceback (most recent call last):\n{frames}RecursionError: too deep\n")
    assert found
    assert found.lines[0].startswith("Traceback")
    assert found.lines[-3:] == (
        '  File "a.py", line 49, in f',
        "    f()",
        "RecursionError: too deep",
    )
    assert len(found.lines) == LINES


def test_the_last_crash_counts() -> None:
    found = find(PYTHON + GO)
    assert found
    assert found.says.startswith("panic: ")


@pytest.mark.parametrize(
    "output",
    [
        "",
        "127.0.0.1 connected\nValueError: a message that somebody sent\n",
        "Traceback (most recent call last):\n",
        "panic is no good advice\n",
        "x" * 100_000,
    ],
)
def test_other_output_is_no_crash(output: str) -> None:
    assert find(output) is None


def test_the_tail_of_an_output_contains_a_crash_that_begins_before_it() -> None:
    goroutines = "".join(f"goroutine {n} [IO wait]:\nmain.f()\n\t/a.go:1\n\n" for n in range(500))
    kept = tail(GO + goroutines, 100)
    assert kept.startswith("panic: runtime error")
    assert kept.endswith("…\n" + goroutines[-100:])
    assert tail(PYTHON, 4000) == PYTHON
    assert tail("x" * 500, 100) == "x" * 100


def test_since_leaves_out_earlier_output() -> None:
    assert since("", "new") == "new"
    assert since("old\n", "old\nnew") == "new"
    assert since("old\n", "another server") == "another server"
    before = "x" * SEEN + "old\n"
    # The beginning of the earlier output has been dropped.
    assert since(before, before[-SEEN:] + "new") == "new"
