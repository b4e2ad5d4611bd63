"""The releases that Levier ships: one directory each, with `release.yaml`, `lock.txt` and `build.txt`."""
