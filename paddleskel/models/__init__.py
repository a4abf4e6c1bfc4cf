"""Networks, heads, losses and mixes. Importing the package fills the registries that configs name them by."""

from paddleskel.runtime import import_paddle

import_paddle()

from paddleskel.models import agcn, ctrgcn, dgstgcn, head, losses, mixing, msg3d, stgcn  # noqa: E402

__all__ = ["agcn", "ctrgcn", "dgstgcn", "head", "losses", "mixing", "msg3d", "stgcn"]
