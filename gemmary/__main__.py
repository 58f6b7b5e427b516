"""`python -m gemmary`, and `torchrun -m gemmary`, are the command `gemmary`."""

from .cli import main

if __name__ == "__main__":
    main()
