"""Observe other libraries; each public module is named for the library that it observes.

`import eventbus` imports none of these modules, and none of them imports its library before it observes it.
"""
