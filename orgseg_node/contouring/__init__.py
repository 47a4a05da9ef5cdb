"""From a CT series to proven objects; knows no node, socket, database or scheduler."""
