"""What image and ramdisk builds share: running tools, this machine's package archive, the shelf of finished builds."""
