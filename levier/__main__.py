"""`python -m levier`."""

from levier.cli import main

if __name__ == "__main__":
    main()
