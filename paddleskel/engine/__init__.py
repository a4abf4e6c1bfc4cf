"""Training and evaluation."""

from paddleskel.runtime import import_paddle

import_paddle()
