"""The whole bench: planning, then reading. `python bench [options of bench/run.py]`; with --only, reading alone."""

import sys

import planning
import run

if not any(word.startswith(("--only", "-h", "--help")) for word in sys.argv[1:]):
    planning.main([])
    print(flush=True)
run.main()
