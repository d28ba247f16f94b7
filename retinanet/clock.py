"""The speed of a run."""

import time


class Clock:
    """Images per second, smoothed over the last steps."""

    def __init__(self) -> None:
        self.seconds_per_image: float | None = None
        self.restart()

    def restart(self) -> None:
        """Begin to count after a pause."""
        self.last = time.perf_counter()

    def rate(self, images: int) -> float:
        """Images per second, `images` more of them done since the last call."""
        now = time.perf_counter()
        sample = (now - self.last) / images
        self.last = now
        old = self.seconds_per_image
        self.seconds_per_image = sample if old is None else 0.9 * old + 0.1 * sample
        return 1 / self.seconds_per_image
