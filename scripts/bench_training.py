"""Launches `gmn_encoder.training.representation.bench`: python scripts/bench_training.py --help"""

from gmn_encoder.training.representation.bench import main

if __name__ == "__main__":
    main()
