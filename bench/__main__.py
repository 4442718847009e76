"""The whole bench: planning, reading, and what a rate does not show. `python bench [options of bench/run.py]`.

With --only or --profile, reading alone.
"""

import sys

import planning
import run
import steady

alone = any(word.startswith(("--only", "--profile", "-h", "--help")) for word in sys.argv[1:])
if not alone:
    planning.main([])
    print(flush=True)
run.main()
if not alone:
    print(flush=True)
    steady.main([])
