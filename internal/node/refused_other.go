//go:build !windows

package node

import "syscall"

// connectionRefused is the error of a connection to where nobody listens.
const connectionRefused = syscall.ECONNREFUSED
