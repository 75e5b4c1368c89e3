#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# After an upgrade what ran goes on with the new program.
	for unit in shareai shareai-node; do
		if systemctl is-active --quiet $unit; then
			systemctl restart $unit || true
		fi
	done
fi
if [ "$1" = configure ] && [ -z "$2" ]; then
	echo 'A gateway:  sudo systemctl enable --now shareai'
	echo 'A node:     sudo shareai node install --gateway URL --token TOKEN'
fi
