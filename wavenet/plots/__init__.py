"""Functions that return matplotlib figures: what `wavenet look` draws. They need the extra `plots`."""
