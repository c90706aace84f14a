"""Skills that begin, go on and end in different processes, with all state in the log."""
