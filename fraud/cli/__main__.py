"""The command line's way in: the script `fraud-detect`, and `python -m fraud.cli` where that isn't on the PATH."""

import signal


def main() -> None:
    """Import the command line and run it; meanwhile Ctrl-C ends the process as it ends any other.

    Python raises an interruption wherever it happens to be, and one that meets a callback of the import system's
    own is printed and forgotten there: one Ctrl-C of sixty in the first half second.
    """
    ours = signal.getsignal(signal.SIGINT)
    if ours is signal.default_int_handler:  # else somebody ignores it, as a shell does for what runs behind it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fraud.cli.main import main as run

    signal.signal(signal.SIGINT, ours)
    run()


if __name__ == "__main__":
    main()
