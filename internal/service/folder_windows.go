package service

import (
	"os"

	"golang.org/x/sys/windows"
)

func administrator() bool { return windows.GetCurrentProcessToken().IsElevated() }

// private lets the system and administrators in, and nobody else; what lies in a folder inherits it.
const private = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"

// Protect makes the folder of a service of the machine, for nobody but administrators. Below ProgramData every user
// could read it otherwise.
func Protect(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	rules, err := windows.SecurityDescriptorFromString(private)
	if err != nil {
		return err
	}
	list, _, err := rules.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(folder, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil)
}

// HandOver has nothing to do: what lies in the folder has its rules.
func HandOver(string) error { return nil }
