package openai

import (
	"slices"
	"unicode/utf8"
)

// Mender parses the chunks of one stream and puts together characters that an engine has cut in two.
//
// Engines that turn tokens into text one by one cut characters of more than one byte when a token ends
// inside of one: a string in chunk k ends with the first bytes of the character, and the same string in
// the choice's next chunk begins with the rest. Neither chunk is UTF-8, so neither is JSON. A Mender
// moves the beginning of the character, three bytes at most, from the one to the other. Anything else
// that is not UTF-8 stays malformed.
//
// The zero value is ready. Use one Mender for each stream of an upstream.
type Mender struct {
	// halves are the beginnings of characters whose rest is still to come.
	halves []half
}

// half is the beginning of a character, cut off at the end of a string.
type half struct {
	choice int
	key    string // the member whose string was cut
	bytes  []byte // 1 to 3
}

// ParseChunk is the function ParseChunk for a stream in which characters may be cut: the chunk it makes
// of data is always UTF-8. Data that is well formed costs nothing more, and is not copied.
func (m *Mender) ParseChunk(data []byte, c *Chunk) error {
	err := ParseChunk(data, c)
	if err == nil {
		if len(m.halves) > 0 {
			m.abandon(c)
		}
		return nil
	}
	if mended := m.mend(data, c); mended != nil {
		return ParseChunk(mended, c)
	}
	return err
}

// abandon drops the halves whose rest can not come any more, as their choice went on without it.
func (m *Mender) abandon(c *Chunk) {
	m.halves = slices.DeleteFunc(m.halves, func(h half) bool {
		return slices.ContainsFunc(c.Choices, func(choice Choice) bool {
			return choice.Index == h.choice && (choice.Content || choice.FinishReason != "")
		})
	})
}

// mend is data with whole characters, or nil when cut characters are not all that is wrong with it. It
// uses c to find out which choice the chunk belongs to.
func (m *Mender) mend(data []byte, c *Chunk) []byte {
	cuts := findCuts(data)
	if len(cuts) == 0 || ParseChunk(splitOff(data, cuts), c) != nil || len(c.Choices) != 1 {
		return nil
	}
	choice := c.Choices[0].Index
	var halves []half
	for i := range cuts {
		cut := &cuts[i]
		whole := append(m.take(choice, cut.key), data[cut.start:cut.head]...)
		switch {
		case cut.start == cut.head: // what was taken has no rest
		case cut.head == cut.end && isHalf(whole): // a piece from the middle of a character
			halves = append(halves, half{choice: choice, key: cut.key, bytes: whole})
		case utf8.Valid(whole) && utf8.RuneCount(whole) == 1:
			cut.whole = whole
		default:
			return nil
		}
		if cut.tail < cut.end {
			halves = append(halves, half{choice: choice, key: cut.key, bytes: slices.Clone(data[cut.tail:cut.end])})
		}
	}
	if m.halves = append(m.halves, halves...); len(m.halves) > maxChoices {
		m.halves = nil // no engine; let nobody fill the memory
	}
	return splitOff(data, cuts)
}

// take removes and returns the oldest half that a string of a choice waits for, nil when there is none.
func (m *Mender) take(choice int, key string) []byte {
	for i, h := range m.halves {
		if h.choice == choice && h.key == key {
			m.halves = slices.Delete(m.halves, i, i+1)
			return h.bytes
		}
	}
	return nil
}

// isHalf reports whether b is the beginning of a character and not the whole of it.
func isHalf(b []byte) bool { return len(b) > 0 && !utf8.FullRune(b) }

// cut is a string value of which a character at the beginning or the end is not whole.
type cut struct {
	// key is the member that has the value, as it is written.
	key string
	// The value is the text from start to end, without its quotes: up to head the rest of a character
	// that began in another chunk, from tail on the beginning of one that ends in another.
	start, head, tail, end int
	// whole is the character to put in the place of the rest.
	whole []byte
}

// findCuts returns the cut strings of a JSON text; none when some string has other faults. The text's
// syntax remains to be checked.
func findCuts(data []byte) []cut {
	const maxKey = 64
	var cuts []cut
	key := ""
	for i := 0; i < len(data); i++ {
		if data[i] != '"' {
			continue
		}
		start, end := i+1, stringEnd(data, i+1)
		i = end
		if next := skipSpace(data, min(end+1, len(data))); next < len(data) && data[next] == ':' {
			key = string(data[start:min(end, start+maxKey)])
		} else if !utf8.Valid(data[start:end]) {
			found := cutIn(data, start, end)
			if !utf8.Valid(data[found.head:found.tail]) {
				return nil
			}
			found.key = key
			cuts = append(cuts, found)
		}
	}
	return cuts
}

// stringEnd returns the position of the quote that closes the string at i, len(data) when none does.
func stringEnd(data []byte, i int) int {
	for ; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return min(i, len(data))
}

// cutIn measures what is cut at both ends of a string.
func cutIn(data []byte, start, end int) cut {
	c := cut{start: start, head: start, tail: end, end: end}
	for c.head < end && c.head < start+utf8.UTFMax-1 && !utf8.RuneStart(data[c.head]) {
		c.head++
	}
	for n := 1; n < utf8.UTFMax && end-n >= c.head; n++ {
		if isHalf(data[end-n : end]) {
			c.tail = end - n
			break
		}
	}
	return c
}

// splitOff is a copy of data without the cut ends of its strings, and with the characters in their place.
func splitOff(data []byte, cuts []cut) []byte {
	out := make([]byte, 0, len(data)+utf8.UTFMax*len(cuts))
	from := 0
	for _, c := range cuts {
		out = append(append(out, data[from:c.start]...), c.whole...)
		out = append(out, data[c.head:c.tail]...)
		from = c.end
	}
	return append(out, data[from:]...)
}
