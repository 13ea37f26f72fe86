"""`python -m vitjax`."""

import sys

from vitjax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
