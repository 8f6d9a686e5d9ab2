"""The command `faultline`, a module for each subcommand."""
