#!/bin/sh
# The machine's only task: run the command of the run, pass on what it prints, and report how it ended.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb NO_COLOR=1 CI=1 NODE_COMPILE_CACHE=/tmp/node-compile-cache
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
ln -s /proc/self/fd /dev/fd
mkdir -p /run/netns /run/lock
hostname fairlead-vm
ip link set lo up
mount --bind /node_modules /fairlead/node_modules

port() {
  for each in /sys/class/virtio-ports/*; do
    [ "$(cat "$each/name")" = "$1" ] && echo "/dev/${each##*/}"
  done
}
output=$(port output)
report=$(port report)

cd /fairlead || exit 1
. ./.vm-environment
sh ./.vm-command </dev/null >"$output" 2>&1
status=$?
{
  echo "$status"
  [ -f /tmp/report.json ] && cat /tmp/report.json
  echo
  echo "end of report"
} >"$report"
sync
poweroff -f
