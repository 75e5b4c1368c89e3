// Package tokenizer counts tokens: how much of a model's context a prompt takes. A count is slow (some 7 MB a second) and
// needs a vocabulary in memory, so it is asked for where a cheap estimate leaves doubt, and a vocabulary is unpacked when
// it is first needed.
//
// Two vocabularies are on board, OpenAI's o200k and cl100k. Other families are counted with the nearer one, times a
// factor. What providers report is what money is settled on; where one reports nothing, these counts are, marked as
// estimates.
package tokenizer
