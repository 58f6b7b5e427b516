"""Recipes: plain modules, read top to bottom. The only storey where engine meets train."""
