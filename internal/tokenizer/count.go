package tokenizer

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"
)

// The vocabularies. Unpacking one takes 15 to 40 ms and 4 to 7 MB, which stay.
var (
	o200k  = sync.OnceValue(codec.NewO200kBase)
	cl100k = sync.OnceValue(codec.NewCl100kBase)
)

// A measure is how the tokens of a family are counted.
type measure struct {
	vocabulary func() *codec.Codec
	percent    int64 // tokens of the family for 100 of the vocabulary
}

// measures are known families. The factors are rough, for English text and code: vocabularies that were made from
// cl100k's differ little from it, a smaller one cuts text into more tokens.
var measures = map[string]measure{
	"o200k":    {o200k, 100},
	"cl100k":   {cl100k, 100},
	"llama4":   {o200k, 100},
	"gemini":   {o200k, 105},
	"gemma":    {o200k, 105},
	"grok":     {o200k, 105},
	"kimi":     {o200k, 100},
	"minimax":  {o200k, 105},
	"command":  {o200k, 110},
	"nova":     {o200k, 115},
	"claude":   {o200k, 120},
	"llama3":   {cl100k, 100},
	"qwen":     {cl100k, 102},
	"deepseek": {cl100k, 105},
	"glm":      {cl100k, 102},
	"phi":      {cl100k, 100},
	"tekken":   {cl100k, 105},
	"mistral":  {cl100k, 120},
}

// Families lists the families that are told apart. Any other word is counted as o200k.
func Families() []string {
	list := make([]string, 0, len(measures))
	for name := range measures {
		list = append(list, name)
	}
	return list
}

// Count counts the tokens of a text in the vocabulary of a family: "o200k", "llama3", "qwen". What comes after the
// first 256 KiB is counted by sample.
func Count(family, text string) int64 {
	t := newTally(family)
	t.text(text)
	return t.total()
}

const (
	// pieceSize bounds what is tokenized at once, in bytes: the time for white space grows with its square.
	pieceSize = 1 << 10
	// stretch is how many bytes are tokenized before the tally looks less closely.
	stretch = 256 << 10
	// wider is how much less closely.
	wider = 8
	// lookBack is how far before the end of a piece a gap between words is looked for.
	lookBack = 64
)

// A tally adds up the tokens of many texts. It tokenizes one of every `stride` pieces, and takes the others to be like
// it: every piece at first, one of 8 after a stretch, one of 64 after another, so that 10 MB cost hardly more than 1 MB.
type tally struct {
	measure
	stride int
	pieces int   // in this stretch
	bytes  int64 // of this stretch
	looked int64 // those of them that were tokenized
	tokens int64 // in those
	before int64 // tokens of earlier stretches
	fixed  int64 // tokens that are no text: of the family, not of the vocabulary
}

func newTally(family string) *tally {
	m, ok := measures[family]
	if !ok {
		m = measures["o200k"]
	}
	return &tally{measure: m, stride: 1}
}

func (t *tally) text(s string) {
	for len(s) > 0 {
		end := pieceEnd(s)
		if t.pieces%t.stride == 0 {
			if t.looked >= stretch {
				t.before += t.estimate()
				t.stride, t.pieces, t.bytes, t.looked, t.tokens = t.stride*wider, 0, 0, 0, 0
			}
			t.look(s[:end])
		}
		t.pieces++
		t.bytes += int64(end)
		s = s[end:]
	}
}

func (t *tally) look(piece string) {
	n, err := t.vocabulary().Count(piece)
	if err != nil {
		n = len(piece)/4 + 1 // the usual length of a token; there is no such error so far
	}
	t.tokens += int64(n)
	t.looked += int64(len(piece))
}

// estimate is the tokens of this stretch.
func (t *tally) estimate() int64 {
	if t.looked == t.bytes {
		return t.tokens
	}
	return int64(float64(t.tokens) * float64(t.bytes) / float64(t.looked))
}

func (t *tally) total() int64 {
	return ((t.before+t.estimate())*t.percent+99)/100 + t.fixed
}

// pieceEnd is where the first piece of a text ends: before a gap between words, which begins a token in every
// vocabulary, or else between two characters.
func pieceEnd(s string) int {
	if len(s) <= pieceSize {
		return len(s)
	}
	if gap := strings.LastIndexByte(s[pieceSize-lookBack:pieceSize], ' '); gap >= 0 {
		return pieceSize - lookBack + gap
	}
	end := pieceSize
	for end > pieceSize-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return end
}
