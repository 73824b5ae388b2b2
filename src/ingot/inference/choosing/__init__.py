"""Which token follows: samplers, penalties and grammars."""
