package node

import "golang.org/x/sys/windows"

// connectionRefused is the error of a connection to where nobody listens.
const connectionRefused = windows.WSAECONNREFUSED
