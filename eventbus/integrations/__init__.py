"""Observe other people's programs: each module is named for the library it observes.

Nothing here is imported by `import eventbus`; no module here imports its library before it is asked
to observe it.
"""
