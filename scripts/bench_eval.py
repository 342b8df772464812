"""Launches `llana_eval.captioning.bench`: python scripts/bench_eval.py --help"""

from llana_eval.captioning.bench import main

if __name__ == "__main__":
    main()
