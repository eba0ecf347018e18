"""The receiver's HTTP side: one Starlette application. It never runs a handler and never asks a provider anything."""

from receiver.web.app import create_app

__all__ = ["create_app"]
