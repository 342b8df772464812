"""Launches `llana_gmn.web.page_picture`: python scripts/picture_of_page.py --help"""

from gmn_encoder.command_line import parse_arguments
from llana_gmn.web.page_picture import picture_of_page

if __name__ == "__main__":
    picture_of_page(**parse_arguments(picture_of_page))
