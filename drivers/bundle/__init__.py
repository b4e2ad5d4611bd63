"""Release bundles: built in a root of the hosts' operating system, delivered to hosts, put in use by links."""

from drivers.bundle.builder import build_bundle
from drivers.bundle.catalog import Bundle, bundle_file, find_bundle, list_bundles, remove_bundles, verify_bundle

__all__ = ["Bundle", "build_bundle", "bundle_file", "find_bundle", "list_bundles", "remove_bundles", "verify_bundle"]
