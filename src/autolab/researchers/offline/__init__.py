"""The built-in researcher, `researcher.OfflineResearcher`: no key, no network, deterministic for a lab's seed."""
