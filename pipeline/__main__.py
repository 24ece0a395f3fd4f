"""`python -m posedance.pipeline` is `run.py`, wherever posedance is installed."""

import sys

from .cli import main

sys.exit(main())
