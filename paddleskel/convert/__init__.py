"""How our weights correspond to the published ones, and reading and writing those."""

from paddleskel.runtime import import_paddle

import_paddle()
