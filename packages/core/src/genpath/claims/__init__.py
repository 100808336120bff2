"""The claims of the core's own components and topics, one file per concept.

A module is imported when somebody asks for its claims; running the library needs none of them.
"""
