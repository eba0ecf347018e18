"""`python -m ringback.cli`, for where the `ringback` script is not on the path."""

from ringback.cli import main

main(prog_name="ringback")
