"""What comes back: structure sets that persons edited, compared with what the node delivered.

::

    Inbox (C-STORE, STOW) or `orgseg feedback add`
        -> row RECEIVED, before the sender gets Success          `rows`
        -> child process: what it is, what it refers to          `reading`
        -> the delivered job and object                          `matching`
        -> child process: each organ measured                    `measuring`
        -> a named state, and a row for each organ               `rows`

`desk` does it periodically; `charts` and `planners` look at all of it together.
"""
