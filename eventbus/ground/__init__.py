"""The ground: it imports nothing else of `eventbus`."""
