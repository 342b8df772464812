"""Files that were made to do harm, and every reader and command that meets them."""
