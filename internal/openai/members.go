package openai

import (
	"bytes"
	"strings"
	"unicode"
)

// member is one member of an object: positions in the text, quotes of the key included.
type member struct {
	key, keyEnd int
	value, end  int
	// text is what the value counts as text for a model, in bytes.
	text int
	// print is a fingerprint of the folded key: equal for keys that fold to the same.
	print int
	// simple says that the key is plain ASCII without an escape.
	simple bool
}

// object is an object whose members are known.
type object struct {
	src []byte
	// open and closing are the positions of the braces.
	open, closing int
	members       []member
}

// bytesPerNumber is what a number counts as text: where a prompt is given as tokens it is one.
const bytesPerNumber = 4

// object reads the outermost object, which begins at i, and refuses a key that comes twice:
// readers differ on which one counts, and some take MODEL for model. room is reused for the members.
func (s *scanner) object(i int, room []member) object {
	o := object{src: s.src, open: i, members: room[:0]}
	i, more := s.enter(i, '}')
	for more {
		m := member{key: i}
		i = s.key(i)
		m.keyEnd, m.value, m.simple = s.keyEnd, i, s.simple
		text, numbers := s.text, s.numbers
		i = s.value(i, 1)
		if s.problem != "" {
			break
		}
		m.end, m.text = i, s.text-text+bytesPerNumber*(s.numbers-numbers)
		m.print = fingerprint(o.foldedKey(&m))
		if o.has(&m) {
			s.fail(m.key, "this key comes twice in the same object")
			break
		}
		if len(o.members) == MaxMembers {
			s.fail(m.key, "it has more than 256 members")
			break
		}
		o.members = append(o.members, m)
		i, more = s.next(i, '}')
	}
	o.closing = i - 1
	return o
}

// name is the decoded key.
func (o *object) name(m *member) []byte {
	if m.simple {
		return o.src[m.key+1 : m.keyEnd-1]
	}
	return []byte(unquote(o.src[m.key:m.keyEnd]))
}

// raw is the value as it is written.
func (o *object) raw(m *member) []byte { return o.src[m.value:m.end:m.end] }

// find returns the position of a member in the list, -1 when there is none.
func (o *object) find(name string) int {
	for i := range o.members {
		if string(o.name(&o.members[i])) == name {
			return i
		}
	}
	return -1
}

// has reports whether a member with the same key, letter case aside, is there already.
func (o *object) has(m *member) bool {
	for i := range o.members {
		if other := &o.members[i]; other.print == m.print && bytes.EqualFold(o.name(other), o.name(m)) {
			return true
		}
	}
	return false
}

// foldedKey is the key in the form in which keys that differ in letter case only look alike. Keys
// in plain ASCII are returned as they are; fingerprint sees to their case.
func (o *object) foldedKey(m *member) []byte {
	if m.simple {
		return o.name(m)
	}
	return []byte(strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, string(o.name(m))))
}

// fingerprint is made of a key's length and of its first and last letter.
func fingerprint(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	return len(key)<<16 | int(upper(key[0]))<<8 | int(upper(key[len(key)-1]))
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
