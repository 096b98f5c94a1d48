"""`python -m duchenne`: the command line, where its script is not on the PATH."""

from duchenne.cli.main import main

main()
