package gguf

import "fmt"

// space is how SentencePiece and llama.cpp's WordPiece spell the blank before a word.
const space = "\u2581"

// Kinds of token, as tokenizer.ggml.token_type numbers them.
const (
	kindNormal  = 1
	kindUnknown = 2
	kindControl = 3
	kindByte    = 6
)

// vocabulary numbers tokens in the order they are first added.
type vocabulary struct {
	texts  []string
	scores []float32
	kinds  []int32
	ids    map[string]int
}

func newVocabulary() *vocabulary { return &vocabulary{ids: map[string]int{}} }

// add returns the id of text, which is new or already there. The score orders SentencePiece's merges, highest first.
func (v *vocabulary) add(text string, kind int32, score float32) int {
	if id, ok := v.ids[text]; ok {
		return id
	}
	id := len(v.texts)
	v.ids[text] = id
	v.texts = append(v.texts, text)
	v.scores = append(v.scores, score)
	v.kinds = append(v.kinds, kind)
	return id
}

func (v *vocabulary) size() int { return len(v.texts) }

// writeTo stores the tokens under the keys that every tokenizer model reads.
func (v *vocabulary) writeTo(f *file, tokenizer string) {
	f.set("tokenizer.ggml.model", tokenizer)
	f.set("tokenizer.ggml.pre", "default")
	f.set("tokenizer.ggml.tokens", v.texts)
	f.set("tokenizer.ggml.scores", v.scores)
	f.set("tokenizer.ggml.token_type", v.kinds)
}

// byteToken is how SentencePiece spells one raw byte, for what the vocabulary has no letter for.
func byteToken(b byte) string { return fmt.Sprintf("<0x%02X>", b) }

// addWord adds every beginning of word, the leading blank included. SentencePiece joins two neighbours only if the
// result is a token, so a known word grows letter by letter from its blank into one token, and an unknown one stops
// where it leaves the known words.
func (v *vocabulary) addWord(word string) {
	for i := range space + word {
		if i > 0 {
			v.add((space + word)[:i], kindNormal, -1)
		}
	}
	v.add(space+word, kindNormal, -1)
}
