"""Launches `gmn_encoder.fitting.bench`: python scripts/bench_fit.py --help"""

from gmn_encoder.fitting.bench import main

if __name__ == "__main__":
    main()
