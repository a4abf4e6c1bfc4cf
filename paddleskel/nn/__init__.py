"""Layers. All of them work on (N, C, T, V): N = batch x persons, C channels, T frames, V joints."""

from paddleskel.runtime import import_paddle

import_paddle()
