"""Launches `gmn_encoder.fitting.bench_foreign`: python scripts/bench_foreign.py --help"""

from gmn_encoder.fitting.bench_foreign import main

if __name__ == "__main__":
    main()
