"""Time of `frugalseg --help`."""

from __future__ import annotations

import subprocess
import sys

from tables import median_seconds, show

TARGET_S = 0.5


def main() -> None:
    def start(*arguments: str) -> float:
        return median_seconds(
            lambda: subprocess.run([sys.executable, "-m", "frugalseg", *arguments], check=True, capture_output=True)
        )

    show(
        "Start-up",
        [
            ("frugalseg --help", f"{start('--help'):.2f} s", f"< {TARGET_S} s"),
            ("frugalseg finetune --help", f"{start('finetune', '--help'):.2f} s", ""),
        ],
    )


if __name__ == "__main__":
    main()
