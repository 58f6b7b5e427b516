"""What Gemma 3 is: the forward pass over the op table, and the pages that its cache lives in."""
