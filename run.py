"""The command line: `python run.py --help`."""

import sys

try:
    from posedance.pipeline.cli import main
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("posedance"):
        raise
    sys.exit("posedance is not installed: run `make demo`, or `pip install -e .` in this folder")

if __name__ == "__main__":
    sys.exit(main())
