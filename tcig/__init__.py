"""Benchmark and reproduction harness for mask-controlled text-to-image generation on COCO."""
