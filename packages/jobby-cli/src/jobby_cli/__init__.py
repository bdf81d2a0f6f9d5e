"""The `jobby` command: one file a verb in `commands`, over the typed client in `jobby_client`."""
