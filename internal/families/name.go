package families

import (
	"slices"
	"strings"
)

// key writes a provider's or engine's id of a model in one form, in which ids of the same model look alike: without path
// and vendor, in lower case, words and numbers joined by hyphens. "meta-llama/Llama-3.3-70B-Instruct",
// "accounts/fireworks/models/llama-v3p3-70b-instruct" and "us.meta.llama3-3-70b-instruct-v1:0" all become
// "llama-3-3-70b-instruct", and "llama3.3:70b" becomes "llama-3-3-70b".
func key(id string) string {
	id = id[strings.LastIndexByte(id, '/')+1:]
	if rest, ok := afterVendor(id); ok {
		id = withoutRevision(rest)
	}
	out := make([]byte, 0, len(id)+8)
	for i := range len(id) {
		out = spell(out, id, i)
	}
	return strings.Trim(string(out), "-")
}

// afterVendor cuts Bedrock's "us.anthropic." off and says whether there was a vendor. "qwen2.5" has none, since a
// vendor's name has no digits; "deepseek.v3.2" keeps its own, since a bare version is no name.
func afterVendor(id string) (rest string, vendor bool) {
	for {
		name, after, found := strings.Cut(id, ".")
		if !found || len(after) < 2 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' }) {
			return id, vendor
		}
		vendor = true
		if isDigit(after[0]) || isDigit(after[1]) {
			return id, true
		}
		id = after
	}
}

// withoutRevision cuts "-v1", "-v2:0", "-1:0" and "-v1:0:24k" off, by which Bedrock numbers what it offers, not the model.
func withoutRevision(id string) string {
	number, _, _ := strings.Cut(id, ":")
	at := strings.LastIndexByte(number, '-')
	revision := strings.TrimPrefix(number[at+1:], "v")
	if at < 0 || strings.Trim(revision, "0123456789") != "" || len(number) == len(id) && number[at+1:] != "v1" {
		return number
	}
	return number[:at]
}

// spell appends the i-th byte of an id.
func spell(out []byte, id string, i int) []byte {
	c, before, digitNext := lower(id[i]), byte('-'), i+1 < len(id) && isDigit(id[i+1])
	if i > 0 {
		before = lower(id[i-1])
	}
	switch {
	case !isDigit(c) && !isLetter(c), c == 'p' && isDigit(before) && digitNext: // fireworks writes 3.3 as 3p3
		return hyphen(out)
	case c == 'v' && !isLetter(before) && !isDigit(before) && digitNext: // v3 is 3
		return out
	case isDigit(c) && isLetter(before):
		return append(hyphen(out), c)
	default:
		return append(out, c)
	}
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c && c <= 'z' }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func hyphen(out []byte) []byte {
	if len(out) == 0 || out[len(out)-1] == '-' {
		return out
	}
	return append(out, '-')
}

// noise is what stands at the end of a key to say how a model is served or packed, not which one it is. "turbo" alone is
// not among it, nor are "lite", "mini", "pro" and "thinking": those are other models.
var noise = []string{
	"-instruct", "-it", "-chat", "-latest", "-preview", "-exp", "-beta", "-fast", "-free", "-hf", "-highspeed", "-spot", "-us",
	"-versatile", "-instant", "-original", "-default", "-maas", "-tee", "-cloud", "-nitro", "-floor", "-online", "-extended",
	"-exacto", "-instruct-turbo", "-instruct-lite", "-text-preview", "-ultrafast",
	"-gguf", "-ggml", "-mlx", "-onnx", "-awq", "-gptq", "-quantized", "-dynamic", "-4bit", "-8bit", "-qat",
	"-fp-4", "-fp-8", "-fp-16", "-bf-16", "-nvfp-4", "-mxfp-4", "-int-4", "-int-8", "-w-4a-16", "-w-8a-8",
	"-k-m", "-k-s", "-k-l", "-k-xl", "-q-2", "-q-3", "-q-4", "-q-5", "-q-6", "-q-8", "-q-4-0", "-q-4-1", "-q-5-0", "-q-5-1",
	"-q-8-0", "-q-2-k", "-q-3-k", "-q-4-k", "-q-5-k", "-q-6-k", "-ud",
}

// makers are words at the beginning of a key that say who made or packed a model.
var makers = []string{"meta", "nvidia", "microsoft", "mistralai", "unsloth", "google", "openai", "anthropic", "labs"}

// shorter returns the key without one piece of noise, or without a date, at its end.
func shorter(k string) (string, bool) {
	for _, ending := range noise {
		if rest, ok := strings.CutSuffix(k, ending); ok {
			return rest, true
		}
	}
	return undated(k)
}

// undated returns the key without a date at its end: 2024-08-06, 20250929, 05-20, the four digits of 0528, the three of
// 001.
func undated(k string) (string, bool) {
	var sizes [3]int // how many digits the last words have, the last one first; 0: not only digits
	rest := k
	for i := range sizes {
		at := strings.LastIndexByte(rest, '-')
		if at < 0 {
			break
		}
		if word := rest[at+1:]; strings.Trim(word, "0123456789") == "" {
			sizes[i] = len(word)
		}
		rest = rest[:at]
	}
	switch {
	case sizes == [3]int{2, 2, 4}:
		return lessWords(k, 3), true
	case sizes[0] == 4 && sizes[1] == 2, sizes[0] == 2 && sizes[1] == 2:
		return lessWords(k, 2), true
	case sizes[0] == 8, sizes[0] == 4, sizes[0] == 3 && strings.Contains(k, "-0"):
		return lessWords(k, 1), true
	default:
		return k, false
	}
}

func lessWords(k string, n int) string {
	for range n {
		k = k[:strings.LastIndexByte(k, '-')]
	}
	return k
}

// lookup finds a key or, where that is unknown, ever shorter ones.
func lookup[T any](in map[string]T, k string) (T, bool) {
	for more := true; more; k, more = shorter(k) {
		if found, ok := in[k]; ok {
			return found, true
		}
		if maker, rest, ok := strings.Cut(k, "-"); ok && slices.Contains(makers, maker) {
			if found, ok := in[rest]; ok {
				return found, true
			}
		}
	}
	var none T
	return none, false
}
