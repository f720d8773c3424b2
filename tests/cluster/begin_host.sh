# The first process of a host (hosts.py), in namespaces of its own: makes its disk and its network, and serves ssh.
#
#     begin_host.sh ADDRESS GATEWAY NAME FOLDER SIZE [SHARED PLACE]...
#
# FOLDER has the key pair with which the hosts reach each other, and is where the disk is put together: it shows this
# machine's, keeps what is changed in memory, at most SIZE, and has nothing in /tmp, /root and /run but each folder SHARED,
# at its PLACE. Says "begun", waits for a line, by when the host has its eth0, and says "ready" when ssh answers.
set -eu
address=$1 gateway=$2 name=$3 folder=$4 size=$5
shift 5

echo begun
read -r _
mount --make-rprivate /
hostname "$name"
ip link set lo up
ip link set eth0 up
ip address add "$address/24" dev eth0
ip route add default via "$gateway" # nobody is there, but programs ask by which way they would reach the world

exec 3<"$folder" # the mounts below may hide it
mount -t tmpfs -o "size=$size" disk "$folder"
mkdir "$folder/changes" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" disk "$folder/root"
root=$folder/root
mount --rbind /dev "$root/dev"
mount -t tmpfs -o "size=$size" memory "$root/dev/shm"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
for own in tmp root run; do mount -t tmpfs -o "size=$size" "$own" "$root/$own"; done
chmod 1777 "$root/tmp"
chmod 700 "$root/root"
while [ $# -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
mkdir -m 700 "$root/root/.ssh"
cp /proc/self/fd/3/id_ed25519 "$root/root/.ssh/"
cp /proc/self/fd/3/id_ed25519.pub "$root/root/.ssh/authorized_keys"
exec 3<&-
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >"$root/etc/hosts"

mkdir "$root/run/before"
cd "$root"
pivot_root . run/before
cd /
umount -l /run/before
rmdir /run/before

mkdir /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /run/sshd/key
/usr/sbin/sshd -D -e -f /dev/null -h /run/sshd/key -o "ListenAddress=$address" -o PidFile=none \
    -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o UsePAM=no 2>/run/sshd/log &
until (: </dev/tcp/"$address"/22) 2>/dev/null; do
    kill -0 $! 2>/dev/null || { cat /run/sshd/log >&2; exit 1; }
    sleep 0.05
done
echo ready
while :; do
    sleep 1000 & # as long as it waits, the shell takes in what lost its parent
    wait $!
done
