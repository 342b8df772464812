"""Launches `llana_gmn.inference.bench`: python scripts/bench_generate.py --help"""

from llana_gmn.inference.bench import main

if __name__ == "__main__":
    main()
