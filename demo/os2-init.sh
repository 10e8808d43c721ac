#!/bin/sh
# The first process of OS 2 in the demonstration: tells the VMM, by its module, that user space is reached; then as ever.
insmod /lib/understudy/understudy.ko
echo "first line of user space: Linux $(busybox uname -r)"
exec /init
