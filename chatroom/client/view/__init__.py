"""The window: the client's view at a terminal, with prompt_toolkit (the extra `client`).

It takes the whole screen, as other chat programs do, instead of writing above a prompt into the
terminal's scrollback. Only a program that draws the whole screen can count unread lines,
let an unfinished text grow in place, and wrap everything again when the size of the screen changes.
The advantages of the scrollback are kept: when the user leaves, the end of the conversation stays
on the screen; and the mouse selects and copies as usual, unless `--mouse` is given.

In reading order:

    conversation.py   pure: the lines of the conversation
    cells.py          pure: text whose columns are the same in all terminals
    pages.py          pure: the rows of the conversation that are on the screen
    link.py           the connection, and reconnecting when it is lost
    output.py         output that never blocks, and draws whole rows
    window.py         the contents of the screen, and the keys
    run.py            the window from its first frame to its last

Nothing else in the project imports prompt_toolkit; link.py and conversation.py do not either.
"""
