"""`python -m chatroom`."""

if __name__ == "__main__":
    import signal

    # Until the room is there to be stopped, a Ctrl-C just ends the process, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from chatroom.cli import main

    main()
