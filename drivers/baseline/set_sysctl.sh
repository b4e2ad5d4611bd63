# put PATH VALUE writes a setting below /proc/sys and prints on one line, each in base64: whether it exists (`yes` or
# nothing), the value read back, and what went wrong.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
encode() { printf '%s' "$1" | base64 -w0; }
put() {
    if [ ! -f "/proc/sys/$1" ]; then
        printf '%s  %s\n' '' "$(encode 'no such setting')"
        return
    fi
    # env: the program reports the kernel's reason, the shell's own printf does not.
    error=$( { env printf '%s\n' "$2" > "/proc/sys/$1"; } 2>&1 )
    printf '%s %s %s\n' "$(encode yes)" "$(base64 -w0 < "/proc/sys/$1")" "$(encode "$error")"
}
