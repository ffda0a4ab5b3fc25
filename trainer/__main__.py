"""`python -m trainer` is the `trainer` command."""

from .cli import main

if __name__ == "__main__":
    main()
