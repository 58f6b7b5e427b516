"""People <-> ids: text, chat turns and tools on the way in; text and tool calls on the way out."""
