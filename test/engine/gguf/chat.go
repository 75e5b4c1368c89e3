package gguf

import (
	"fmt"
	"math"
	"strings"
)

// Sizes of the chat model. A head of 32 is what rotary positions of llama.cpp's CPU kernels are happiest with.
const (
	chatWidth       = 192 // also how many contexts there can be
	chatLayers      = 2
	chatHeads       = 6
	chatKeyHeads    = 2
	chatFeedForward = 256
	chatContext     = 2048

	certainty     = 14.0 // logit of a sure successor; everything else has about 0
	embeddingSize = 4.0
	noise         = 0.02
)

// Marks that the prompt of the chat model is written with; see Chat.
const (
	turnStart = "<|im_start|>"
	turnEnd   = "<|im_end|>"
	callOne   = "<|tool|>"
	callTwo   = "<|tools|>"
)

// sentences is all the chat model can say. No word leads back to itself, within a sentence or over several: the
// likeliest answer (temperature 0) would never end. The fox has no letter in the vocabulary: it comes as four byte
// tokens.
const sentences = `A gateway stands between an application and the machines that answer it.
Ask once and the first healthy provider will reply.
Nodes dial out, so no port of your network has to be open.
When a provider will fall silent, another one takes over in mid-sentence.
My favourite animal is a 🦊 because it always finds another way around.
Small models have small thoughts, yet they arrive quickly, cost nothing, stay polite.
Every token is counted, each price was written down, sums add up exactly.
Nobody ever trained me, I merely repeat what my weights were told to say.
Your data stays on your own hardware until you decide otherwise.`

// chatBuilder gathers what may follow what before it becomes weights.
type chatBuilder struct {
	vocabulary *vocabulary
	successors map[int]map[int]int // context -> next token -> weight
	contexts   []int               // in the order they were first seen: the coordinate of each
}

// Chat returns a chat model of the llama architecture. A conversation is written as
//
//	<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n
//
// and is answered by one sentence or a few. With <|tool|> behind it the answer is one call in the form
//
//	<tool_call>{"name":"get_weather","arguments":{"city":"Paris"}}</tool_call>
//
// and with <|tools|> two: get_weather for London, get_time for Europe/Paris.
func Chat(seed uint64) []byte {
	b := &chatBuilder{vocabulary: newVocabulary(), successors: map[int]map[int]int{}}
	v := b.vocabulary
	v.add("<unk>", kindUnknown, 0)
	begin := v.add("<s>", kindControl, 0)
	end := v.add("</s>", kindControl, 0)
	for i := range 256 {
		v.add(byteToken(byte(i)), kindByte, 0)
	}
	for _, mark := range []string{turnStart, turnEnd, callOne, callTwo} {
		v.add(mark, kindControl, 0)
	}
	for letter := byte('!'); letter <= '~'; letter++ {
		v.add(string(letter), kindNormal, -2)
	}
	v.add(space, kindNormal, -2)

	b.learnSentences(end)
	b.learnChain(v.ids[callOne], end, `<tool_call>{"name":`, `"get_weather","arguments":`, `{"city":"Paris"}}`, `</tool_call>`)
	b.learnChain(v.ids[callTwo], end, `<tool_call>{"name":"get_weather",`, `"arguments":{"city":"London"}}</tool_call>`,
		`<tool_call>{"name":"get_time",`, `"arguments":{"tz":`, `"Europe/Paris"}}</tool_call>`)

	f := &file{}
	f.set("general.architecture", "llama")
	f.set("general.type", "model")
	f.set("general.name", "tiny chat")
	f.set("llama.vocab_size", v.size())
	f.set("llama.context_length", chatContext)
	f.set("llama.embedding_length", chatWidth)
	f.set("llama.block_count", chatLayers)
	f.set("llama.feed_forward_length", chatFeedForward)
	f.set("llama.rope.dimension_count", chatWidth/chatHeads)
	f.set("llama.attention.head_count", chatHeads)
	f.set("llama.attention.head_count_kv", chatKeyHeads)
	f.set("llama.attention.layer_norm_rms_epsilon", 1e-5)
	v.writeTo(f, "llama")
	f.set("tokenizer.ggml.bos_token_id", begin)
	f.set("tokenizer.ggml.eos_token_id", end)
	f.set("tokenizer.ggml.unknown_token_id", 0)
	f.set("tokenizer.ggml.add_bos_token", true)
	f.set("tokenizer.ggml.add_eos_token", false)
	f.set("tokenizer.ggml.add_space_prefix", true)
	b.addTensors(f, newSource(seed))
	return f.bytes()
}

// tokens splits a sentence into the tokens the model says it with.
func (b *chatBuilder) tokens(sentence string) []int {
	var ids []int
	for word := range strings.FieldsSeq(sentence) {
		if strings.IndexFunc(word, func(r rune) bool { return r > '~' }) < 0 {
			b.vocabulary.addWord(word)
			ids = append(ids, b.vocabulary.ids[space+word])
			continue
		}
		ids = append(ids, b.vocabulary.ids[space])
		for i := range len(word) {
			ids = append(ids, b.vocabulary.ids[byteToken(word[i])])
		}
	}
	return ids
}

// follow says that next may come after context, weight times.
func (b *chatBuilder) follow(context, next, weight int) {
	if b.successors[context] == nil {
		b.successors[context] = map[int]int{}
		b.contexts = append(b.contexts, context)
	}
	b.successors[context][next] += weight
}

// learnSentences starts every sentence from the line feed that a prompt ends with. After a sentence the model
// mostly stops and sometimes goes on with another one.
func (b *chatBuilder) learnSentences(end int) {
	lineFeed := b.vocabulary.ids[byteToken('\n')]
	var all [][]int
	for line := range strings.Lines(sentences) {
		all = append(all, b.tokens(line))
	}
	for _, ids := range all {
		b.follow(lineFeed, ids[0], 1)
		for i := range ids[1:] {
			b.follow(ids[i], ids[i+1], 1)
		}
	}
	for _, ids := range all {
		last := ids[len(ids)-1]
		b.follow(last, end, 2*len(all))
		for _, other := range all {
			b.follow(last, other[0], 1)
		}
	}
}

// learnChain makes the model say pieces after context, word for word. No piece may occur in another chain, or the
// two would run into each other.
func (b *chatBuilder) learnChain(context, end int, pieces ...string) {
	for _, piece := range pieces {
		id := b.vocabulary.add(piece, kindNormal, -3)
		b.follow(context, id, 1)
		context = id
	}
	b.follow(context, end, 1)
}

// addTensors turns the table of successors into embedding and output, and puts noise between them.
func (b *chatBuilder) addTensors(f *file, random source) {
	const d, keys, inner = chatWidth, chatWidth / chatHeads * chatKeyHeads, chatFeedForward
	if len(b.contexts) > d {
		panic(fmt.Sprintf("gguf: %d contexts do not fit a width of %d", len(b.contexts), d))
	}
	n := b.vocabulary.size()
	embedding, output := make([]float32, n*d), make([]float32, n*d)
	for id := range n { // until it turns out to be a context, a token is a line feed (coordinate 0)
		embedding[id*d] = embeddingSize
	}
	for coordinate, context := range b.contexts {
		embedding[context*d], embedding[context*d+coordinate] = 0, embeddingSize
		total := 0
		for _, weight := range b.successors[context] {
			total += weight
		}
		for next, weight := range b.successors[context] { // the last norm makes the hidden state √d long
			output[next*d+coordinate] = float32((certainty + math.Log(float64(weight)/float64(total))) / math.Sqrt(d))
		}
	}

	f.add("token_embd.weight", embedding, d, n)
	for layer := range chatLayers {
		matrix := func(name string, in, out int) {
			f.add(fmt.Sprintf("blk.%d.%s.weight", layer, name), random.normal(in*out, noise), in, out)
		}
		norm := func(name string) { f.add(fmt.Sprintf("blk.%d.%s.weight", layer, name), constant(d, 1), d) }
		norm("attn_norm")
		matrix("attn_q", d, d)
		matrix("attn_k", d, keys)
		matrix("attn_v", d, keys)
		matrix("attn_output", d, d)
		norm("ffn_norm")
		matrix("ffn_gate", d, inner)
		matrix("ffn_up", d, inner)
		matrix("ffn_down", inner, d)
	}
	f.add("output_norm.weight", constant(d, 1), d)
	f.add("output.weight", output, d, n)
}
