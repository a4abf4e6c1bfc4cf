"""paddleskel: skeleton-based action recognition on PaddlePaddle."""

from paddleskel.runtime import prepare_environment

__version__ = "0.1.0"

prepare_environment()
