"""The tables of backbones, heads, losses and mixes."""

from paddleskel.registry import Registry

BACKBONES = Registry("backbone")
HEADS = Registry("head")
LOSSES = Registry("loss")
MIXES = Registry("mix")
