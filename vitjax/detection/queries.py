"""How many queries suit the data."""

import math


def queries_for(objects: int) -> int:
    """How many queries find the objects of data that have images of up to so many: seven times as many, in twenties.

    They are 60 at least and 300 at most. With too few several find one object and others none; with too many a short
    training does not learn to keep the idle ones quiet.
    """
    return min(max(60, 20 * math.ceil(7 * objects / 20)), 300)


def note_on_queries(queries: int, objects: int) -> str | None:
    """What to tell a user whose data have images of up to so many objects; None where the queries are enough."""
    if objects <= queries:
        return None
    return (
        f"note: the model has {queries} queries and the data up to {objects} objects in an image: those that no query "
        f"is left for are not trained on; the metric 'unmatched' counts them. Set num_queries to at least {objects}."
    )
