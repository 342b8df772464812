"""Launches `llana_gmn.conversion.round_trip`: python scripts/llana_round_trip.py --help"""

from llana_gmn.conversion.round_trip import main

if __name__ == "__main__":
    main()
