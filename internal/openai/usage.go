package openai

import "strconv"

// Usage is the token counts of an answer.
type Usage struct {
	// Prompt is all tokens of the prompt, cached ones included.
	Prompt int64
	// Cached is the part of Prompt that came from the provider's prompt cache.
	Cached int64
	// Completion is all tokens of the answer, reasoning included.
	Completion int64
	// Reasoning is the part of Completion that the user does not see.
	Reasoning int64
	// Reported is true when the upstream said so. It is false when there is no usage block, and for
	// a block of zeros, which some engines put on every chunk.
	Reported bool
}

// usage reads the usage block at i into Usage; null and other values leave it as it is.
func (r *answerReader) usage(i int) int {
	if r.first(i) != '{' {
		return r.skip(i, 1)
	}
	var u Usage
	var total int64
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		var end int
		switch string(r.name(key)) {
		case "prompt_tokens", "input_tokens":
			end = r.count(i, &u.Prompt)
		case "completion_tokens", "output_tokens":
			end = r.count(i, &u.Completion)
		case "total_tokens":
			end = r.count(i, &total)
		case "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens":
			end = r.count(i, &u.Cached)
		case "reasoning_tokens":
			end = r.count(i, &u.Reasoning)
		case "prompt_tokens_details", "input_tokens_details":
			end = r.detail(i, "cached_tokens", &u.Cached)
		case "completion_tokens_details", "output_tokens_details":
			end = r.detail(i, "reasoning_tokens", &u.Reasoning)
		default:
			end = r.skip(i, 2)
		}
		i, more = r.next(end, '}')
	}
	r.Usage = u.settled(total)
	return i
}

// settled puts the counts in proportion to each other.
func (u Usage) settled(total int64) Usage {
	// Some providers leave reasoning out of completion_tokens; the total tells.
	if u.Reasoning > 0 && total == u.Prompt+u.Completion+u.Reasoning {
		u.Completion += u.Reasoning
	}
	u.Cached = min(u.Cached, u.Prompt)
	u.Reasoning = min(u.Reasoning, u.Completion)
	u.Reported = u.Prompt > 0 || u.Completion > 0
	return u
}

// detail reads one count from the object at i.
func (r *answerReader) detail(i int, name string, to *int64) int {
	if r.first(i) != '{' {
		return r.skip(i, 2)
	}
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		var end int
		if string(r.name(key)) == name {
			end = r.count(i, to)
		} else {
			end = r.skip(i, 3)
		}
		i, more = r.next(end, '}')
	}
	return i
}

// count reads a number of tokens. Where several members give the same count the largest one holds;
// what is negative or no number is 0.
func (r *answerReader) count(i int, to *int64) int {
	end := r.skip(i, 3)
	raw := r.slice(i, end)
	n, ok := plainCount(raw)
	if !ok {
		n = fraction(raw)
	}
	*to = max(*to, n)
	return end
}

// fraction is the whole part of a count that is not written as plain digits.
func fraction(raw []byte) int64 {
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0
	}
	return int64(max(0, min(v, maxTokens)))
}

// appendUsage appends the block as OpenAI writes it.
func appendUsage(dst []byte, u Usage) []byte {
	dst = strconv.AppendInt(append(dst, `{"prompt_tokens":`...), u.Prompt, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.Completion, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.Prompt+u.Completion, 10)
	dst = strconv.AppendInt(append(dst, `,"prompt_tokens_details":{"cached_tokens":`...), u.Cached, 10)
	dst = strconv.AppendInt(append(dst, `},"completion_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
	return append(dst, `}}`...)
}
