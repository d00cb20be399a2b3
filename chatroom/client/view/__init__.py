"""The window: what a person sees at a terminal, with prompt_toolkit (the extra `client`).

It takes the whole screen, as the chats that people run in tmux and over ssh do, instead of writing
above a prompt into the terminal's own scrollback. For only who draws all of the screen knows what
of it has been seen (a status line that counts the unread), can let a text that came without its end
grow where it stands, and can wrap everything anew when the screen gets another size. What the
terminal's scrollback is good for is not lost: on leaving, the end of the conversation is left on
the screen, and the mouse stays the terminal's own, to select and copy with, unless it is asked for.

In reading order:

    conversation.py   pure: what was said, line by line
    pages.py          pure: which rows of it are on the screen
    link.py           the connection, which is made again when it is lost
    output.py         a terminal that can't make us wait
    window.py         what is on the screen, and what the keys do
    run.py            from the first frame to the last word

Nothing else in the project imports prompt_toolkit, and link.py and conversation.py do not either.
"""
