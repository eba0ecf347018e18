"""Results kept before they expire: fetched by `outbound.downloads`, stored in the user's place, written in the ledger.

`keeper` keeps one result; `places` are where results go, `spool` is where one lies until it is whole, `naming` says
what it is called and what cannot be one, `watch` raises the alarm. Nothing here decides when something is tried again:
that is `receiver.storing`, the built-in handler, or whoever typed `ringback results fetch`.
"""
