"""``python -m tinystar_np`` is ``tinystar``, where the command itself is not on the path."""

import sys

from tinystar_np.cli.main import tinystar

if __name__ == "__main__":
    sys.exit(tinystar())
