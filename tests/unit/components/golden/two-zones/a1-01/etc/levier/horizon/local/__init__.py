# root:horizon 0640
# Makes this directory a package.
