"""What every floor may use: errors, files, seeds, memory, statistics, fingerprints, plugins."""
