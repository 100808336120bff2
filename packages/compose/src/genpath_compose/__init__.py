"""Composition of trained experts for genpath: Feynman–Kac correctors, SMC and ACE.

Importing this imports nothing else; a name is loaded when it is used.
"""

from genpath_compose._version import __version__ as __version__
