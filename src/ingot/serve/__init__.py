"""Serving: OpenAI's HTTP surface over the engine, and a chat page. Read protocol, limits, worker, app."""
