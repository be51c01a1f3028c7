#!/bin/busybox sh
# The first process of the machine, in the initramfs: finds the disks and goes on there.
/bin/busybox mkdir -p /dev /proc /root
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in $(/bin/busybox cat /modules/order); do
  /bin/busybox insmod "/modules/$module"
done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root || exec /bin/busybox poweroff -f
/bin/busybox mount -t ext4 -o noatime /dev/vdb /root/fairlead || exec /bin/busybox poweroff -f
/bin/busybox umount /proc
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /fairlead/test/vm/guest/init.sh
