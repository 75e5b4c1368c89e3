package openai

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"
)

const (
	// mediaFloor is the length from which a string of plain ASCII without one space or escape is
	// taken for encoded media (an image, a sound, a file) and not for text.
	mediaFloor = 4096
	// mediaBytes is what such a string counts as text, about a thousand tokens.
	mediaBytes = 4096
)

// scanner walks over one JSON text and checks it completely. Its methods take the position to look
// at and return the position after what they read, so a caller can look at parts of the text while
// the scanner passes over the rest.
//
// The first problem sticks: from then on every method returns len(src), where nothing can follow,
// so that callers need not check after each step.
type scanner struct {
	src []byte
	// text counts the bytes of string values, numbers the numbers; neither counts keys.
	text, numbers int
	// keyEnd is the position after the last key, its quote included.
	keyEnd int
	// simple says that the last string has no escape and no byte beyond ASCII.
	simple bool
	// problem is the first thing wrong, "" while all is well, and at its position.
	problem string
	at      int
}

func (s *scanner) fail(at int, problem string) int {
	if s.problem == "" {
		s.problem, s.at = problem, at
	}
	return len(s.src)
}

// unexpected fails at i, where something else stands than what was wanted.
func (s *scanner) unexpected(i int, wanted string) int {
	if i >= len(s.src) {
		return s.fail(i, "it ends where "+wanted+" must follow")
	}
	return s.fail(i, wanted+" must stand here")
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// begin finds the brace with which a text that is an object begins.
func (s *scanner) begin() int {
	i := skipSpace(s.src, 0)
	if i < len(s.src) && s.src[i] == '{' {
		return i
	}
	if bytes.HasPrefix(s.src, []byte("\xEF\xBB\xBF")) {
		return s.fail(0, "it begins with a byte order mark, which JSON does not allow")
	}
	return s.unexpected(i, "an object, {…},")
}

// finish checks that nothing but space follows.
func (s *scanner) finish(i int) {
	if i = skipSpace(s.src, i); i < len(s.src) {
		s.fail(i, "something follows after the end of the object")
	}
}

// enter steps over the bracket at i that opens an object or array. more is false when it is closed
// at once; else the position is that of the first key or element.
func (s *scanner) enter(i int, closing byte) (next int, more bool) {
	i = skipSpace(s.src, i+1)
	if i >= len(s.src) {
		return s.unexpected(i, "more"), false
	}
	if s.src[i] == closing {
		return i + 1, false
	}
	return i, true
}

// next steps from the end of a member or element to the one after it. more is false when the
// closing bracket comes instead.
func (s *scanner) next(i int, closing byte) (next int, more bool) {
	i = skipSpace(s.src, i)
	if i < len(s.src) {
		switch s.src[i] {
		case ',':
			return skipSpace(s.src, i+1), true
		case closing:
			return i + 1, false
		}
	}
	return s.unexpected(i, "a comma or "+string(closing)), false
}

// key reads a key and its colon and returns where the value begins. The key ends at s.keyEnd.
func (s *scanner) key(i int) int {
	if i >= len(s.src) || s.src[i] != '"' {
		return s.unexpected(i, "a key in double quotes")
	}
	s.keyEnd = s.str(i)
	i = skipSpace(s.src, s.keyEnd)
	if i >= len(s.src) || s.src[i] != ':' {
		return s.unexpected(i, "a colon")
	}
	return skipSpace(s.src, i+1)
}

// name is the key that was read last, without quotes and as it is written.
func (s *scanner) name(key int) []byte {
	if s.problem != "" {
		return nil
	}
	return s.src[key+1 : s.keyEnd-1]
}

// slice is the text of a value, nil after a problem.
func (s *scanner) slice(i, end int) []byte {
	if s.problem != "" {
		return nil
	}
	return s.src[i:end:end]
}

// first is the first byte of the value at i, 0 at the end of the text.
func (s *scanner) first(i int) byte {
	if i < len(s.src) {
		return s.src[i]
	}
	return 0
}

// eachMember walks over the object at i, or passes over any other value. visit gets a key as it is
// written and where its value begins, and returns where the value ends.
func (s *scanner) eachMember(i int, visit func(name []byte, i int) int) int {
	if s.first(i) != '{' {
		return s.value(i, 0)
	}
	i, more := s.enter(i, '}')
	for more {
		key := i
		i = s.key(i)
		i, more = s.next(visit(s.name(key), i), '}')
	}
	return i
}

// eachElement walks over the array at i, or passes over any other value. visit gets where an element
// begins and returns where it ends.
func (s *scanner) eachElement(i int, visit func(i int) int) int {
	if s.first(i) != '[' {
		return s.value(i, 0)
	}
	i, more := s.enter(i, ']')
	for more {
		i, more = s.next(visit(i), ']')
	}
	return i
}

// brackets remembers for up to 128 open brackets whether each is an object's: a stack of bits.
type brackets struct{ high, low uint64 }

func (k *brackets) push(object uint64) {
	k.high, k.low = k.high<<1|k.low>>63, k.low<<1|object
}

func (k *brackets) pop() {
	k.low, k.high = k.low>>1|k.high<<63, k.high>>1
}

// closing is the character that closes the innermost bracket.
func (k *brackets) closing() byte {
	if k.low&1 == 1 {
		return '}'
	}
	return ']'
}

// value reads any value. depth is the number of brackets already open around it.
func (s *scanner) value(i, depth int) int {
	b := s.src
	var stack brackets
	outside := depth
	for {
		more := false // an element or member of an open bracket begins at i
		switch {
		case i >= len(b):
			return s.unexpected(i, "a value")
		case b[i] == '"':
			i = s.countedString(i)
		case b[i] == '{' || b[i] == '[':
			if depth == MaxDepth {
				return s.fail(i, "it is nested more than 128 levels deep")
			}
			stack.push(uint64(b[i]>>5) & 1) // '{' is 0x7B, '[' is 0x5B
			depth++
			if i, more = s.enter(i, stack.closing()); !more {
				stack.pop()
				depth--
			}
		default:
			i = s.scalar(i)
		}
		for !more && depth > outside {
			if i, more = s.next(i, stack.closing()); !more {
				stack.pop()
				depth--
			}
		}
		if !more {
			return i
		}
		if stack.closing() == '}' {
			i = s.key(i)
		}
	}
}

// countedString reads a string value and adds it to the text.
func (s *scanner) countedString(i int) int {
	end := s.str(i)
	n := end - i - 2
	if n >= mediaFloor && s.simple && bytes.IndexByte(s.src[i:end], ' ') < 0 {
		n = mediaBytes
	}
	s.text += n
	return end
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// run returns the position of the next quote, backslash or control character at or after i, and a
// word with a high bit set if a byte beyond ASCII came before. It looks at 8 bytes at a time.
func run(b []byte, i int) (int, uint64) {
	var seen uint64
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		// With bit 1 flipped, control characters and the quote are exactly what is below 0x21. A
		// borrow can set false bits only above the lowest true one, which is the one we take.
		low := w ^ 0x02*ones
		back := w ^ '\\'*ones
		stop := ((low-0x21*ones)&^low | (back-ones)&^back) & highs
		if stop != 0 {
			n := bits.TrailingZeros64(stop)
			return i + n>>3, seen | w&(1<<(n&^7)-1)
		}
		seen |= w
		i += 8
	}
	for ; i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\'; i++ {
		seen |= uint64(b[i])
	}
	return i, seen
}

// str reads the string whose opening quote is at i.
func (s *scanner) str(i int) int {
	b := s.src
	start := i
	i, seen := run(b, i+1)
	s.simple = i < len(b) && b[i] == '"' && seen&highs == 0
	if s.simple {
		return i + 1
	}
	for i < len(b) && b[i] == '\\' {
		if i = s.escape(i); s.problem != "" {
			return i
		}
		var more uint64
		i, more = run(b, i)
		seen |= more
	}
	switch {
	case i >= len(b):
		return s.fail(start, "a string that begins here is not closed")
	case b[i] != '"':
		return s.fail(i, "a control character must be written as an escape such as \\n")
	case seen&highs != 0 && !utf8.Valid(b[start:i]):
		return s.fail(start+invalidAt(b[start:i]), "it is not valid UTF-8")
	}
	return i + 1
}

// invalidAt is the position of the first byte that is not UTF-8.
func invalidAt(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}

// escape reads the escape sequence whose backslash is at i. Lone surrogates pass, as they do in
// JSON's grammar.
func (s *scanner) escape(i int) int {
	b := s.src
	if i+1 < len(b) {
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			return i + 2
		case 'u':
			if i+6 <= len(b) && isHex(b[i+2]) && isHex(b[i+3]) && isHex(b[i+4]) && isHex(b[i+5]) {
				return i + 6
			}
		}
	}
	return s.fail(i, "there is no such escape sequence")
}

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func isDigit(c byte) bool { return c-'0' < 10 }

// scalar reads a number, true, false or null.
func (s *scanner) scalar(i int) int {
	c := s.src[i]
	if isDigit(c) || c == '-' {
		s.numbers++
		return s.number(i)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if c == word[0] && len(s.src)-i >= len(word) && string(s.src[i:i+len(word)]) == word {
			return i + len(word)
		}
	}
	return s.unexpected(i, "a value")
}

func (s *scanner) number(i int) int {
	b := s.src
	if b[i] == '-' {
		i++
	}
	end := digits(b, i)
	if end == i || b[i] == '0' && end > i+1 {
		return s.fail(i, "a number must not be written like this")
	}
	i = end
	if i < len(b) && b[i] == '.' {
		if end = digits(b, i+1); end == i+1 {
			return s.unexpected(end, "a digit")
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if end = digits(b, i); end == i {
			return s.unexpected(end, "a digit")
		}
		i = end
	}
	return i
}

func digits(b []byte, i int) int {
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i
}

// plainCount reads a number that is written as digits only, cut off at maxTokens.
func plainCount(raw []byte) (n int64, ok bool) {
	for _, digit := range raw {
		if !isDigit(digit) {
			return 0, false
		}
		n = min(n*10+int64(digit-'0'), maxTokens)
	}
	return n, len(raw) > 0
}

// unquote decodes a JSON string, quotes included, that a scanner has passed.
func unquote(raw []byte) string {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var text string
	// The copy keeps everything that leads to raw from escaping to the heap, for the usual keys too.
	if err := json.Unmarshal(bytes.Clone(raw), &text); err != nil {
		return string(raw[1 : len(raw)-1]) // can not happen to a scanned string
	}
	return text
}

// kindName says what kind of value raw is, with its article, for a message.
func kindName(raw []byte) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
