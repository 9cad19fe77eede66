# Run by `unshare` in namespaces of its own: makes a small root with what programs need to start and one folder to write
# to, leaves everything else behind, becomes the user it shall be, and turns into the program.
#
#   walls ROOT OWN UID GID root|reader|user SHOWN... -- PROGRAM ARGUMENTS...
set -euf
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 own=$2 uid=$3 gid=$4 who=$5
shift 5
umask 022

# Each program that this starts takes a millisecond of every client program's time. So what is to be mounted is noted, and
# then mounted by one program.
folders=/etc files='' links='' table='' odd=''

# The same path in the small root, for reading.
show() {
    if [ -L "$1" ]; then
        links="$links $1"
        [ -z "${1%/*}" ] || folders="$folders ${1%/*}"
    elif [ -d "$1" ]; then
        folders="$folders $1"
        table="$table
$1 $root$1 none rbind,ro,nodev 0 0"
    elif [ -e "$1" ]; then
        folders="$folders ${1%/*}" files="$files $1"
        table="$table
$1 $root$1 none bind 0 0"
    fi
    case $1 in *[[:space:]\\]*) odd=yes ;; esac
}

# One by one: where a name has a space in it, and where the kernel lets a mount of others not be made unwritable.
show_slowly() {
    if [ -L "$1" ]; then
        mkdir -p "$root${1%/*}"
        cp -P "$1" "$root$1"
    elif [ -d "$1" ]; then
        mkdir -p "$root$1"
        mount -o rbind,ro,nodev "$1" "$root$1" 2>/dev/null || mount --rbind "$1" "$root$1"
    elif [ -e "$1" ]; then
        mkdir -p "$root${1%/*}"
        : >"$root$1"
        mount --bind "$1" "$root$1"
    fi
}

quickly() {
    mkdir -p "$root/dev/shm" "$root/tmp" "$root/proc" "$root/old"
    # What is shown may lie below /tmp as well.
    echo "walls $root/dev/shm tmpfs mode=1777 0 0
walls $root/tmp tmpfs mode=1777,size=64m 0 0
proc $root/proc proc defaults 0 0" >"$root/table"
    mount -a -T "$root/table" || return 1
    made=
    for path in $folders; do made="$made $root$path"; done
    mkdir -p $made "$root$own" || return 1
    for path in $links; do [ -L "$root$path" ] || cp -P "$path" "$root$path" || return 1; done
    for path in $files; do : >"$root$path" || return 1; done
    echo "$table
$own $root$own none bind 0 0" >"$root/table"
    mount -a -T "$root/table" 2>/dev/null || return 1
    : >"$root/table"
}

system=
for path in /bin /sbin /lib /lib32 /lib64 /libx32; do
    # On most systems all of them are links into /usr.
    if [ -L "$path" ]; then system="$system $path"; else show "$path"; fi
done
for path in /usr /etc/ld.so.cache /etc/alternatives /var/cache/postgresql \
    /dev/null /dev/zero /dev/full /dev/random /dev/urandom; do
    show "$path"
done
count=0
for path in "$@"; do
    [ "$path" != -- ] || break
    count=$((count + 1))
    show "$path"
done
case $root$own in *[[:space:]\\]*) odd=yes ;; esac

mount -t tmpfs -o mode=0755,size=4m walls "$root"
if [ -n "$odd" ] || ! quickly; then
    umount -R "$root"
    mount -t tmpfs -o mode=0755,size=4m walls "$root"
    mkdir -p "$root/dev/shm" "$root/tmp" "$root/proc" "$root/old" "$root/etc"
    mount -t tmpfs -o mode=1777 walls "$root/dev/shm"
    mount -t tmpfs -o mode=1777,size=64m walls "$root/tmp"
    mount -t proc proc "$root/proc"
    mkdir -p "$root$own"
    for path in /bin /sbin /lib /lib32 /lib64 /libx32 /usr /etc/ld.so.cache /etc/alternatives /var/cache/postgresql \
        /dev/null /dev/zero /dev/full /dev/random /dev/urandom; do
        [ -L "$path" ] || show_slowly "$path"
    done
    for path in "$@"; do
        [ "$path" != -- ] || break
        show_slowly "$path"
    done
    mount --bind "$own" "$root$own"
fi
[ -z "$system" ] || cp -P $system "$root/"
shift $((count + 1))

# What is mounted below a folder that is shown came along with it, and can be written to still.
case $root in *[[:space:]\\]*) seen=$(printf '%s' "$root" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g') ;; *) seen=$root ;; esac
grep -F " $seen/" /proc/self/mountinfo | while read -r _ _ _ _ point options _; do
    point=$(printf '%b' "$point/") point=${point%/}
    case $options in ro | ro,*) continue ;; esac
    case $point in "$root$own" | "$root$own"/* | "$root/tmp" | "$root/proc" | "$root/dev/"*) continue ;; esac
    [ ! -d "$point" ] || mount -o remount,bind,ro "$point" || [ "$who" = user ]
done

printf 'root:x:0:0::/:/bin/false\ndrill:x:%s:%s::%s:/bin/false\n' "$uid" "$gid" "$own" >"$root/etc/passwd"
printf 'root:x:0:\ndrill:x:%s:\n' "$gid" >"$root/etc/group"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro / 2>/dev/null || true
cd "$own"
unset OLDPWD
# Nobody else has this uid, so no more than the drill is counted.
[ "$who" = user ] || ulimit -u 4096 2>/dev/null || ulimit -p 4096 2>/dev/null || true
case $who in
root) exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs --pdeathsig=KILL -- "$@" ;;
reader)
    set -- --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search --no-new-privs --pdeathsig=KILL -- "$@"
    # The right to read is one over what is seen here. Held in the machine's user namespace it would open any file of a
    # file system by its number; so there is another one, in which each user is who he is.
    unshare --user -- /bin/true 2>/dev/null || exec setpriv "$@"
    unshare --user -- /bin/sh -c 'until read -r _ </proc/self/gid_map; do :; done; exec setpriv "$@"' walls "$@" &
    while [ "/proc/$!/ns/user" -ef /proc/self/ns/user ]; do :; done
    echo '0 0 4294967295' >"/proc/$!/uid_map"
    echo '0 0 4294967295' >"/proc/$!/gid_map"
    wait "$!"
    ;;
user) exec unshare --user --map-user="$uid" --map-group="$gid" -- setpriv --no-new-privs --pdeathsig=KILL -- "$@" ;;
esac
