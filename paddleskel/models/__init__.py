"""Networks, heads and losses, and the registries that configs name them by."""

from paddleskel.runtime import import_paddle

import_paddle()
