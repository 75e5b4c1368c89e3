package gguf

import (
	"bytes"
	"strings"
	"testing"
)

func TestSameSeedSameModel(t *testing.T) {
	for name, write := range map[string]func(uint64) []byte{"chat": Chat, "embed": Embed} {
		one, again, other := write(1), write(1), write(2)
		if !bytes.Equal(one, again) {
			t.Errorf("%s: two models of one seed differ", name)
		}
		if bytes.Equal(one, other) {
			t.Errorf("%s: the seed changes nothing", name)
		}
	}
}

// The likeliest answer is a walk through the successors: it ends only if no word leads back to itself.
func TestNoSentenceGoesInCircles(t *testing.T) {
	successors := map[string][]string{}
	for line := range strings.Lines(sentences) {
		words := strings.Fields(line)
		for i := range words[1:] {
			successors[words[i]] = append(successors[words[i]], words[i+1])
		}
	}
	const onPath, finished = 1, 2
	state := map[string]int{}
	var walk func(path []string, word string)
	walk = func(path []string, word string) {
		path = append(path, word)
		switch state[word] {
		case onPath:
			t.Errorf("a circle: %s", strings.Join(path, " "))
			return
		case finished:
			return
		}
		state[word] = onPath
		for _, next := range successors[word] {
			walk(path, next)
		}
		state[word] = finished
	}
	for word := range successors {
		walk(nil, word)
	}
}

func TestEveryTensorStartsAligned(t *testing.T) {
	f := &file{}
	f.set("name", "x")
	f.add("a", []float32{1}, 1)
	f.add("b", []float32{2, 3}, 2)
	got := f.bytes()
	if len(got)%alignment != 0 {
		t.Errorf("the file has %d bytes", len(got))
	}
	want := append(pad(appendFloats(nil, []float32{1})), pad(appendFloats(nil, []float32{2, 3}))...)
	if !bytes.HasSuffix(got, want) {
		t.Errorf("tensor data = %x", got[len(got)-2*alignment:])
	}
}
