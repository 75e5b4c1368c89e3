package fault

import "strings"

// Clip bounds a text that others chose, in bytes, without cutting a character in two.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
