"""What image and ramdisk builds share: running tools, the package archive of this machine, the shelf of finished builds."""
