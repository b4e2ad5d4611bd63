"""Operating system images: built from the distribution's own packages, cached by their inputs, checked before use."""

from drivers.images.builder import build_image
from drivers.images.catalog import BuiltImage, list_images, verify_image
from drivers.images.recipe import ImageRecipe, KernelFlavour, recipe_named
from drivers.images.seed import SeedSpec, render_seed

__all__ = [
    "BuiltImage",
    "ImageRecipe",
    "KernelFlavour",
    "SeedSpec",
    "build_image",
    "list_images",
    "recipe_named",
    "render_seed",
    "verify_image",
]
