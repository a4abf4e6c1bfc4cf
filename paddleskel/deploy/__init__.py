"""Exported models: writing them, and running them without the training code."""

from paddleskel.runtime import import_paddle

import_paddle()
