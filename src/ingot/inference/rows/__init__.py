"""Models whose memory is a row of state, or a source: their engine."""
