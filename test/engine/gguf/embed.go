package gguf

import (
	"fmt"
	"strings"
)

// Sizes of the embedding model.
const (
	// EmbedWidth is the length of every embedding.
	EmbedWidth = 128

	embedLayers      = 2
	embedHeads       = 4
	embedFeedForward = 256
	embedContext     = 512
)

// Embed returns a text embedding model of the bert architecture with [EmbedWidth] dimensions. Its vocabulary are
// the words of the chat model; any other word of English letters is spelled.
func Embed(seed uint64) []byte {
	v := newVocabulary()
	padding := v.add("[PAD]", kindControl, 0)
	unknown := v.add("[UNK]", kindUnknown, 0)
	class := v.add("[CLS]", kindControl, 0)
	separator := v.add("[SEP]", kindControl, 0)
	mask := v.add("[MASK]", kindControl, 0)
	for letter := byte('!'); letter <= '~'; letter++ { // the tokenizer lowers its input
		if text := strings.ToLower(string(letter)); text == string(letter) {
			v.add(space+text, kindNormal, 0) // begins a word
			v.add(text, kindNormal, 0)       // goes on with it
		}
	}
	for word := range strings.FieldsSeq(strings.ToLower(sentences)) {
		v.add(space+strings.Trim(word, ".,"), kindNormal, 0)
	}

	f := &file{}
	f.set("general.architecture", "bert")
	f.set("general.type", "model")
	f.set("general.name", "tiny embed")
	f.set("bert.context_length", embedContext)
	f.set("bert.embedding_length", EmbedWidth)
	f.set("bert.block_count", embedLayers)
	f.set("bert.feed_forward_length", embedFeedForward)
	f.set("bert.attention.head_count", embedHeads)
	f.set("bert.attention.layer_norm_epsilon", 1e-12)
	f.set("bert.attention.causal", false)
	f.set("bert.pooling_type", 1) // the mean
	v.writeTo(f, "bert")
	f.set("tokenizer.ggml.token_type_count", 2)
	f.set("tokenizer.ggml.bos_token_id", class)
	f.set("tokenizer.ggml.eos_token_id", separator)
	f.set("tokenizer.ggml.unknown_token_id", unknown)
	f.set("tokenizer.ggml.seperator_token_id", separator) // spelled so by the format
	f.set("tokenizer.ggml.padding_token_id", padding)
	f.set("tokenizer.ggml.cls_token_id", class)
	f.set("tokenizer.ggml.mask_token_id", mask)
	addEmbedTensors(f, newSource(seed), v.size())
	return f.bytes()
}

// addEmbedTensors makes the words loud and everything else quiet, so that the mean of a text is that of its words.
func addEmbedTensors(f *file, random source, n int) {
	const d, inner = EmbedWidth, embedFeedForward
	norm := func(name string) {
		f.add(name+".weight", constant(d, 1), d)
		f.add(name+".bias", constant(d, 0), d)
	}
	f.add("token_embd.weight", random.normal(n*d, 1), d, n)
	f.add("token_types.weight", random.normal(2*d, noise), d, 2)
	f.add("position_embd.weight", random.normal(embedContext*d, 0.1), d, embedContext)
	norm("token_embd_norm")
	for layer := range embedLayers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s", layer, part) }
		linear := func(part string, in, out int) {
			f.add(name(part)+".weight", random.normal(in*out, noise), in, out)
			f.add(name(part)+".bias", constant(out, 0), out)
		}
		linear("attn_q", d, d)
		linear("attn_k", d, d)
		linear("attn_v", d, d)
		linear("attn_output", d, d)
		norm(name("attn_output_norm"))
		linear("ffn_up", d, inner)
		linear("ffn_down", inner, d)
		norm(name("layer_output_norm"))
	}
}
