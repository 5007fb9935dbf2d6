"""The page that a reviewer reads: one HTML file with all of a comparison, no server, no network."""
