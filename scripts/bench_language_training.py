"""Launches `llana_gmn.training.bench`: python scripts/bench_language_training.py --help"""

from llana_gmn.training.bench import main

if __name__ == "__main__":
    main()
