"""`python -m kappa` is the command `kappa`."""

import sys

from kappa.cli import main

if __name__ == "__main__":
    sys.exit(main())
