#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /etc/shareai /var/lib/shareai /var/lib/private/shareai /var/lib/shareai-node /var/lib/private/shareai-node
fi
