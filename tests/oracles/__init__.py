"""The official libraries as oracles: what they sign we accept, what we sign they accept, and where we differ.

`oracle` holds what an oracle is and how it is asked, `spoiled` makes the requests; each library has a test module with
the list of its differences from us, each with an input that shows it. docs/explanation/oracles.md tells the reasons.
"""
