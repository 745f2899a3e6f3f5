"""Model files looked at before they are loaded: `inspect` is our side, `child` the process that reads them."""
