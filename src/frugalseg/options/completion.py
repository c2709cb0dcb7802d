"""Options of `completion`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print a script that completes commands, options and their values in your shell."""

    shell: Literal["bash", "zsh", "fish"]
    """bash, zsh or fish; may be given as first argument without the flag. The script goes to standard output, for
    example: source <(frugalseg completion bash)."""
