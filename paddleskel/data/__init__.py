"""From annotation files to the network's input. Nothing in here imports paddle: a data worker is numpy only."""
