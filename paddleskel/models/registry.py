"""The tables of backbones, heads and losses."""

from paddleskel.registry import Registry

BACKBONES = Registry("backbone")
HEADS = Registry("head")
LOSSES = Registry("loss")
