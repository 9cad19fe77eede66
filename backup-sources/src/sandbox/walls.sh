# Run by `unshare` in namespaces of its own: makes a small root with what programs need to start and one folder to write
# to, leaves everything else behind, becomes the user it shall be, and turns into the program.
#
#   walls ROOT OWN UID GID root|reader|user SHOWN... -- PROGRAM ARGUMENTS...
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 own=$2 uid=$3 gid=$4 who=$5
shift 5

# The same path in the small root, for reading. Each program that this starts takes a millisecond, of every client program's
# time, so there are as few as can be.
show() {
    if [ -L "$1" ]; then
        [ -d "$root${1%/*}" ] || mkdir -p "$root${1%/*}"
        cp -P "$1" "$root$1"
    elif [ -d "$1" ]; then
        [ -d "$root$1" ] || mkdir -p "$root$1"
        mount -o rbind,ro,nodev "$1" "$root$1" 2>/dev/null || mount --rbind "$1" "$root$1"
    elif [ -e "$1" ]; then
        [ -d "$root${1%/*}" ] || mkdir -p "$root${1%/*}"
        : >"$root$1"
        mount --bind "$1" "$root$1"
    fi
}

umask 022
mount -t tmpfs -o mode=0755,size=4m walls "$root"
mkdir -p "$root/dev/shm" "$root/tmp" "$root/proc" "$root/etc/alternatives" "$root/var/cache/postgresql" "$root/usr" \
    "$root/old"
mount -t tmpfs -o mode=1777 walls "$root/dev/shm"
mount -t tmpfs -o mode=1777,size=64m walls "$root/tmp"
mount -t proc proc "$root/proc"
links=
for path in /bin /sbin /lib /lib32 /lib64 /libx32; do
    if [ -L "$path" ]; then links="$links $path"; else show "$path"; fi
done
# On most systems all of them are links into /usr.
[ -z "$links" ] || cp -P $links "$root/"
for path in /usr /etc/ld.so.cache /etc/alternatives /var/cache/postgresql \
    /dev/null /dev/zero /dev/full /dev/random /dev/urandom; do
    show "$path"
done
while [ "$1" != -- ]; do
    show "$1"
    shift
done
shift
mkdir -p "$root$own"
mount --bind "$own" "$root$own"
printf 'root:x:0:0::/:/bin/false\ndrill:x:%s:%s::%s:/bin/false\n' "$uid" "$gid" "$own" >"$root/etc/passwd"
printf 'root:x:0:\ndrill:x:%s:\n' "$gid" >"$root/etc/group"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro / 2>/dev/null || true
cd "$own"
unset OLDPWD
case $who in
root) exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs --pdeathsig=KILL -- "$@" ;;
reader) exec setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search --no-new-privs --pdeathsig=KILL -- "$@" ;;
user) exec unshare --user --map-user="$uid" --map-group="$gid" -- setpriv --no-new-privs --pdeathsig=KILL -- "$@" ;;
esac
