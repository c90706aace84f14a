"""Subscribers that are plugged in: found by entry point, loaded one by one, and given their options."""
