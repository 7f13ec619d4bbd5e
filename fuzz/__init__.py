# SPDX-License-Identifier: GPL-2.0-only
"""Search: everything that runs many schedules and keeps what they found.

Nothing here is installed: these are programs of the checkout (``python fuzz/run.py``,
``python fuzz/harness.py``). They import only cleanrace's public names and build.py.
"""
