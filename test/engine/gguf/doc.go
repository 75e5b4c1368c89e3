// Package gguf makes tiny language models in the GGUF format, small enough to be written at the start of a test
// and real enough for llama.cpp to load and run.
//
// Nothing is trained. [Chat] writes what it wants the model to say straight into the weights:
//
//   - Every token that can be followed by a chosen successor (a context) owns one coordinate of the hidden state.
//     Its embedding is that unit vector, scaled.
//   - A row of the output matrix holds, at the coordinate of each context, how likely its token is to come next.
//     So the model is a table of bigrams in the clothes of a transformer.
//   - Attention and feed-forward layers are small noise. They make the choice among likely successors depend on
//     the whole prompt, and no more than that.
//   - A token that is no context shares the embedding of the line feed, which begins a sentence. Whatever a prompt
//     ends with, an English sentence comes out.
//
// [Embed] is a bag of words: random word vectors, nearly idle layers, mean pooling. Texts that share words point
// the same way.
//
// The same seed gives the same bytes on one architecture.
package gguf
