"""`python -m fraud.cli`: the command line where its script isn't on the PATH."""

from fraud.cli.main import main

if __name__ == "__main__":
    main()
