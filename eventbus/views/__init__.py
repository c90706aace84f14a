"""What a session looks like: its skills, runs, nodes and hooks, and the words for them. Pure."""

from eventbus.views.session_view import HookView, NodeView, RunView, SessionView, SkillView

__all__ = ["HookView", "NodeView", "RunView", "SessionView", "SkillView"]
