#!/bin/sh
# The first process of our test systems: the usual mounts, the modules, then a root shell on the first serial
# port, for people and scripts. With the shell's end another begins.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
hostname -F /etc/hostname

# Only what is worse than an error is printed over a script's console; dmesg has everything.
dmesg -n 2

while read -r module; do modprobe "$module"; done </lib/modules/load

PS1="$(hostname)# "
export PS1
cd /root || exit
while :; do
	setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1
done
