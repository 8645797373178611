"""`python -m origin` is `origin`."""

from __future__ import annotations

from origin.cli import main

if __name__ == "__main__":
    main()
