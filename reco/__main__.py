"""`python -m reco`: the command, where its script is not on the path."""

from reco.cli import main

if __name__ == "__main__":
    main()
