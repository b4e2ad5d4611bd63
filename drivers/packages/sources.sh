# The files that tell apt where packages come from, and those of them that are set aside.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
apt=/etc/apt
aside=/etc/levier/apt-sources
# Names with other characters apt does not read.
found() { find "$1" -maxdepth 2 -type f ! -name '*[!A-Za-z0-9_.-]*' \( -path "$1/sources.list" -o -path "$1/sources.list.d/*.list" -o \
    -path "$1/sources.list.d/*.sources" -o -path "$1/apt.conf.d/90levier-proxy" \) 2> /dev/null | sort; }
state() {
    . /etc/os-release && printf 'os %s %s\n' "$ID" "${VERSION_CODENAME:-none}"
    for path in $(found $apt) $(found $aside); do
        printf 'file %s %s %s\n' "$path" "$(stat -c %a -- "$path")" "$(base64 -w0 < "$path")"
    done
}
# Both only move within one file system: at every moment a file is here or there.
set_aside() {
    for path in "$@"; do
        install -d -m 0755 "$(dirname -- "$aside/${path#"$apt/"}")" && mv -f -- "$path" "$aside/${path#"$apt/"}" || return
    done
}
put_back() {
    for path in "$@"; do mv -f -- "$path" "$apt/${path#"$aside/"}" || return; done
}
# A directory that holds anything else stays: that is no error.
tidy() { rmdir -- $aside/sources.list.d $aside/apt.conf.d $aside /etc/levier 2> /dev/null || true; }
