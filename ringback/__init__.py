"""Ringback: don't poll, they'll ring back. The ground that receiver and submitter stand on, and the command."""
