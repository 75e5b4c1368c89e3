package timeline

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Page is where a trace is drawn.
type Page interface {
	Print(format string, args ...any)
	Bold(text string) string
	Faint(text string) string
}

func plain(text string) string { return text }

// PageWidth is the width that every terminal has.
const PageWidth = 80

// wrapped prints text behind a head. Lines that do not fit go on below the text.
func wrapped(p Page, head, text string, style func(string) string) {
	indent := utf8.RuneCountInString(head)
	lines := wrap(text, PageWidth-indent)
	for i, line := range lines {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		p.Print("%s%s\n", head, style(line))
	}
}

// wrap breaks a text between words so that no line is longer than width characters, unless a word is.
// What would move a terminal's cursor becomes a space: some of it is text from elsewhere.
func wrap(text string, width int) []string {
	visible := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	lines := []string{""}
	for _, word := range strings.Fields(visible) {
		last := &lines[len(lines)-1]
		switch n := utf8.RuneCountInString(*last); {
		case n == 0:
			*last = word
		case n+1+utf8.RuneCountInString(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// Number writes a count with its thousands apart.
func Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
