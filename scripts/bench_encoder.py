"""Launches `gmn_encoder.encoders.gmn.bench`: python scripts/bench_encoder.py --help"""

from gmn_encoder.encoders.gmn.bench import main

if __name__ == "__main__":
    main()
