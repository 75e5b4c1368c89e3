package node

import (
	"context"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// lastInput is LASTINPUTINFO.
type lastInput struct {
	size  uint32
	ticks uint32 // milliseconds since the start, which begin again after 49 days
}

// away asks for the last input of this session. A service runs in a session of its own, where nobody ever touches
// anything: there the answer is that it can not be read.
func (m *machineSensors) away(context.Context) time.Duration {
	var session uint32
	if err := windows.ProcessIdToSessionId(windows.GetCurrentProcessId(), &session); err != nil || session == 0 {
		return nobody
	}
	info := lastInput{size: uint32(unsafe.Sizeof(lastInput{}))}
	ok, _, _ := windows.NewLazySystemDLL("user32.dll").NewProc("GetLastInputInfo").Call(uintptr(unsafe.Pointer(&info)))
	if ok == 0 {
		return nobody
	}
	now, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetTickCount").Call()
	return time.Duration(uint32(now)-info.ticks) * time.Millisecond
}

// powerStatus is SYSTEM_POWER_STATUS.
type powerStatus struct {
	line, battery, percent, saver byte
	left, full                    uint32
}

func (m *machineSensors) power(context.Context) Power {
	var s powerStatus
	ok, _, _ := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetSystemPowerStatus").Call(uintptr(unsafe.Pointer(&s)))
	switch {
	case ok == 0:
		return PowerUnknown
	case s.line == 0:
		return Battery
	case s.line == 1:
		return Mains
	default:
		return PowerUnknown
	}
}
