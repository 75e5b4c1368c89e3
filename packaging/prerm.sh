#!/bin/sh
set -e
# An upgrade keeps the services; a removal ends them.
if [ "$1" = remove ]; then
	if [ -d /run/systemd/system ]; then
		systemctl disable --now shareai || true
	fi
	if [ -e /etc/systemd/system/shareai-node.service ]; then
		/usr/bin/shareai node uninstall || true
	fi
fi
