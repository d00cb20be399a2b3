"""The window: the client's view at a terminal, with prompt_toolkit (the extra `client`).

The window takes the whole screen, as other chat programs do. Only a program that draws the whole
screen can count unread lines, add text to an unfinished line in place, and wrap everything again
when the size of the screen changes. A simpler program would print messages above a prompt, into the
terminal's scrollback. The window has the advantages of the scrollback, too: when the user leaves,
the end of the conversation stays on the screen; and the mouse selects and copies as usual, unless
`--mouse` is given.

In reading order:

    conversation.py   the lines of the conversation; no I/O
    cells.py          text whose columns are the same in all terminals; no I/O
    pages.py          the rows of the conversation that are on the screen; no I/O
    link.py           the connection, and reconnecting when it is lost
    output.py         output that never blocks, and draws whole rows
    window.py         the contents of the screen, and the keys
    run.py            the window from its first frame to its last

No module outside this folder imports prompt_toolkit; link.py and conversation.py do not, either.
"""
