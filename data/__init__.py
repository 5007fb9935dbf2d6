"""What to draw: COCO annotations, layouts and manifests, the embedded emoji data set."""
