#!/bin/sh
# A Docker engine that leaves nothing behind: engine.sh TREE PROJECT CGROUP
# docker_engine.py runs it in new namespaces for mounts, network and processes. TREE becomes the root, the project is seen in it
# at its own path, and dockerd runs until standard input ends. With this process all the rest ends: containers, mounts, networks.
set -e
tree=$1 project=$2 cgroup=$3
data=$project/target/docker/data

mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p ".$project" old
mount --bind "$project" ".$project"
pivot_root . old
umount --lazy old
cd /

ip link set lo up
dockerd --data-root "$data" --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" --log-level warn &
until docker version > /run/version 2>&1; do
    kill -0 $! || exit 1
    sleep 0.2
done
echo "the engine is ready"
cat > /run/input
kill $!
wait $! || true
find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} +
