"""The front door: the `reco` command line, one file a command, no logic of its own."""
