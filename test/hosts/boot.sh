#!/bin/sh
# boot.sh NAME ROOT TARGET: boots systemd up to a target in namespaces of its own, on an overlay of / whose changes stay in memory. What lies in ROOT/files
# is copied over it. Prints the id of systemd's process, and ends it, and everything below it, when standard input is closed.
set -eu
name=$1 root=$2 target=$3
groups="/sys/fs/cgroup/systemd /sys/fs/cgroup/unified"
for group in $groups; do
	mkdir "$group/$name"
	echo $$ >"$group/$name/cgroup.procs"
done
unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -euc '
	name=$1 root=$2 target=$3
	mount --make-rprivate /
	mount -t tmpfs tmpfs "$root/layer"
	mkdir "$root/layer/upper" "$root/layer/work" "$root/layer/host"
	cp -a "$root/files/." "$root/layer/upper/"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$root/layer/upper,workdir=$root/layer/work" "$root/layer/host"
	cd "$root/layer/host"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t tmpfs tmpfs run
	mount -t tmpfs tmpfs tmp
	mount --rbind /dev dev
	mount -t tmpfs tmpfs sys/fs/cgroup
	mkdir -p sys/fs/cgroup/systemd sys/fs/cgroup/unified
	mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
	mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
	echo "$name" >etc/hostname
	mkdir -p outside
	pivot_root . outside
	umount -l /outside
	exec env -i container=holdfast /lib/systemd/systemd --unit="$target"
' sh "$name" "$root" "$target" </dev/null >"$root/console" 2>&1 &
outer=$!
inner=
while test -z "$inner" && kill -0 $outer; do
	inner=$(tr -d ' ' <"/proc/$outer/task/$outer/children")
	test -n "$inner" || sleep 0.1
done
echo "$inner"
cat >/dev/null
kill -9 $outer || true
wait $outer || true
for group in $groups; do
	echo $$ >"$group/cgroup.procs"
	tries=100 # what was killed takes a moment to be gone
	while test -d "$group/$name" && test $tries -gt 0; do
		find "$group/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
		tries=$((tries - 1))
		test ! -d "$group/$name" || sleep 0.1
	done
	test ! -d "$group/$name"
done
