"""Launches `llana_gmn.bench`: python scripts/bench_generate.py --help"""

from llana_gmn.bench import main

if __name__ == "__main__":
    main()
