"""Launches `llana_eval.representation.bench`: python scripts/bench_retrieval.py --help"""

from llana_eval.representation.bench import main

if __name__ == "__main__":
    main()
