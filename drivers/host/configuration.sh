# The state of users, directories and files before an operation, kept on the host itself: files hold secrets, and those
# belong into no log. Each function reads "KIND WORDS… NAME" lines on standard input; names hold no line breaks.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
set -eu
umask 077

# keep PLACE: what is there now is in PLACE, all of it or nothing; what was kept before stays. Prints what was kept.
keep() {
    if [ ! -e "$1" ]; then
        rm -rf -- "$1.part"
        mkdir -p -- "$1.part"
        number=0
        while read -r kind name; do
            number=$((number + 1))
            case $kind in
            user) if getent passwd "$name" >/dev/null; then echo "user present $name"; else echo "user absent $name"; fi ;;
            directory)
                if [ -d "$name" ]; then stat -c 'directory present %a %U %G' -- "$name" | tr '\n' ' ' && echo "$name"
                else echo "directory absent $name"; fi ;;
            file)
                if [ -L "$name" ] || [ -f "$name" ]; then cp -a -- "$name" "$1.part/$number" && echo "file $number $name"
                elif [ -e "$name" ]; then echo "$name is neither a file nor a link" >&2; exit 1
                else echo "file absent $name"; fi ;;
            esac
        done > "$1.part/manifest"
        sync -f -- "$1.part"
        mv -T -- "$1.part" "$1"
    fi
    cat -- "$1/manifest"
}

# put: users and directories are as the lines say. Prints what was changed.
put() {
    while read -r kind a b c name; do
        case $kind in
        user)
            if ! getent passwd "$name" >/dev/null; then
                useradd --system --user-group --no-create-home --home-dir "$a" --shell "$b" -- "$name"
                echo "user $name"
            fi
            for group in $(echo "$c" | tr , ' '); do
                [ "$group" = - ] && continue
                if ! id -Gn -- "$name" | tr ' ' '\n' | grep -qxF -- "$group"; then
                    usermod --append --groups "$group" -- "$name"
                    echo "group $group of $name"
                fi
            done ;;
        directory)
            if [ ! -d "$name" ]; then mkdir -m 0700 -- "$name"; echo "directory $name"; fi
            if [ "$(stat -c '%U %G' -- "$name")" != "$b $c" ]; then chown -- "$b:$c" "$name"; echo "directory $name"; fi
            if [ "$(stat -c '0%a' -- "$name")" != "$a" ]; then chmod -- "$a" "$name"; echo "directory $name"; fi ;;
        esac
    done
}

# processes USER: the numbers of the processes that are the user's by any of their four user identities (proc(5),
# status): userdel counts those, and a sudo that he called is root's by all but one.
processes() {
    user=$(id -u -- "$1")
    # One that ends meanwhile is passed over.
    { cat /proc/[0-9]*/status 2>/dev/null || true; } | awk -v user="$user" '
        $1 == "Pid:" { process = $2 }
        $1 == "Uid:" && ($2 == user || $3 == user || $4 == user || $5 == user) { print process }'
}

# end_processes USER: the user has no process. What services of his started, such as a proxy, may outlive them.
end_processes() {
    for round in TERM TERM KILL; do
        left=$(processes "$1")
        if [ -z "$left" ]; then return; fi
        for process in $left; do kill -s "$round" "$process" 2>/dev/null || true; done
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            if [ -z "$(processes "$1")" ]; then return; fi
            sleep 0.2  # between two looks
        done
    done
}

# same A B: two files or links of the same content, owner and mode.
same() {
    [ "$(stat -c '%F %a %u %g' -- "$1" 2>/dev/null)" = "$(stat -c '%F %a %u %g' -- "$2" 2>/dev/null)" ] || return 1
    if [ -L "$1" ]; then [ "$(readlink -- "$1")" = "$(readlink -- "$2")" ]; else cmp -s -- "$1" "$2"; fi
}

# unchanged PLACE: everything is as it was kept there.
unchanged() {
    while read -r kind what a b c name; do
        case "$kind $what" in
        "user present") getent passwd "$a" >/dev/null || return 1 ;;
        "user absent") if getent passwd "$a" >/dev/null; then return 1; fi ;;
        "directory present") [ "$(stat -c '%a %U %G' -- "$name" 2>/dev/null)" = "$a $b $c" ] || return 1 ;;
        "directory absent") [ ! -e "$a" ] || return 1 ;;
        *) # a file, whose name is what follows the first two words
            name=$a${b:+ $b}${c:+ $c}${name:+ $name}
            if [ "$what" = absent ]; then [ ! -e "$name" ] && [ ! -L "$name" ] || return 1
            else same "$1/$what" "$name" || return 1; fi ;;
        esac
    done < "$1/manifest"
}

# forget_unchanged PLACE: it is gone if everything is as it was kept there.
forget_unchanged() {
    if [ -e "$1" ] && unchanged "$1"; then
        rm -rf -- "$1.gone"
        drop "$1"
    fi
}

# drop PLACE: nothing is kept there, at no moment half of it, nor are directories that held nothing else.
drop() {
    mv -T -- "$1" "$1.gone"
    rm -rf -- "$1.gone"
    remove_bare "$(dirname -- "$1")"
}

# put_back PLACE: users, directories and files are as they were kept. Prints what was changed.
put_back() {
    rm -rf -- "$1.part" "$1.gone"
    if [ ! -e "$1" ]; then remove_bare "$(dirname -- "$1")"; return; fi
    tac -- "$1/manifest" > "$1/backwards"
    while read -r kind what name; do
        [ "$kind" = file ] || continue
        if [ "$what" = absent ]; then
            if [ -e "$name" ] || [ -L "$name" ]; then rm -f -- "$name"; echo "$name"; fi
        else
            same "$1/$what" "$name" && continue
            mkdir -p -- "$(dirname -- "$name")"
            rm -f -- "$name.levier-back"
            cp -a -- "$1/$what" "$name.levier-back"
            mv -fT -- "$name.levier-back" "$name"
            echo "$name"
        fi
    done < "$1/backwards"
    while read -r kind what a b c name; do
        [ "$kind" = directory ] || continue
        if [ "$what" = absent ]; then
            # It was made by the operation, and so was everything in it and mounted on it.
            awk -v top="$a/" 'index($2, top) == 1 { print $2 }' /proc/self/mounts | tac | while read -r mount; do
                umount -- "$(printf %b "$mount")"  # blanks are written as octal numbers there
            done
            if [ -d "$a" ]; then rm -rf --one-file-system -- "$a"; echo "$a"; fi
        elif [ -d "$name" ] && [ "$(stat -c '%a %U %G' -- "$name")" != "$a $b $c" ]; then
            chown -- "$b:$c" "$name"; chmod -- "0$a" "$name"; echo "$name"
        fi
    done < "$1/backwards"
    while read -r kind what name; do
        if [ "$kind $what" = "user absent" ] && getent passwd "$name" >/dev/null; then
            end_processes "$name"
            userdel -- "$name" >&2
            if getent group "$name" >/dev/null; then groupdel -- "$name" >&2; fi
            echo "$name"
        fi
    done < "$1/backwards"
    drop "$1"
}

# forget FILE: it is not there, whole or half, nor its description, nor directories that held nothing else.
forget() {
    rm -f -- "$1" "$1.part" "$1.schema"
    remove_bare "$(dirname -- "$1")"
}

# remove_bare DIRECTORY: it and those above it are gone, up to the first with something in it.
remove_bare() {
    if [ -d "$1" ]; then rmdir --parents --ignore-fail-on-non-empty -- "$1"; fi
}
