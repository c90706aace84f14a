"""From `publish` to a handler: what carries an event through the bus."""
