package openai

import "strconv"

// Usage is the token counts of an answer.
type Usage struct {
	// Prompt is all tokens of the prompt: cached ones, written ones and audio included.
	Prompt int64
	// Cached is the part of Prompt that came from the provider's prompt cache.
	Cached int64
	// CacheWrite is the part of Prompt that went into the provider's prompt cache; CacheWrite1h is the part of it that
	// stays there for an hour.
	CacheWrite, CacheWrite1h int64
	// AudioInput is the part of Prompt that is sound.
	AudioInput int64
	// Completion is all tokens of the answer: reasoning and audio included.
	Completion int64
	// Reasoning is the part of Completion that the user does not see.
	Reasoning int64
	// AudioOutput is the part of Completion that is sound.
	AudioOutput int64
	// Reported is true when the upstream said so. It is false when there is no usage block, and for
	// a block of zeros, which some engines put on every chunk.
	Reported bool
}

// stated is a usage block as it is written.
type stated struct {
	Usage
	total int64
	// read, written and minutes are what Anthropic's own members say; minutes and CacheWrite1h are parts of written.
	read, written, minutes int64
	// inputTokens says that the prompt has the name that Anthropic gives it, and with it none of those.
	inputTokens bool
}

// usageBlock is a usage block or one of the objects in it.
type usageBlock byte

const (
	wholeUsage usageBlock = iota
	promptDetails
	completionDetails
	cacheCreation
)

// usage reads the usage block at i into Usage; null and other values leave it as it is.
func (r *answerReader) usage(i, depth int) int {
	if r.first(i) != '{' {
		return r.skip(i, depth)
	}
	var s stated
	end := r.counts(i, depth, wholeUsage, &s)
	r.Usage = s.settled()
	return end
}

// counts reads the numbers of a block at i.
func (r *answerReader) counts(i, depth int, block usageBlock, s *stated) int {
	i, more := r.enter(i, '}')
	for more {
		key := i
		i = r.key(i)
		inner := wholeUsage
		if block == wholeUsage && r.first(i) == '{' {
			inner = innerBlock(r.name(key))
		}
		var end int
		if inner != wholeUsage {
			end = r.counts(i, depth+1, inner, s)
		} else if to := s.place(block, r.name(key)); to != nil {
			end = r.count(i, depth+1, to)
		} else {
			end = r.skip(i, depth+1)
		}
		i, more = r.next(end, '}')
	}
	return i
}

// innerBlock is the object of a usage block that has this name.
func innerBlock(name []byte) usageBlock {
	switch string(name) {
	case "prompt_tokens_details", "prompt_token_details", "input_tokens_details":
		return promptDetails
	case "completion_tokens_details", "output_tokens_details":
		return completionDetails
	case "cache_creation":
		return cacheCreation
	default:
		return wholeUsage
	}
}

// place is where a member's count goes; nil for a member that says nothing of interest. The names are those of OpenAI,
// and what DeepSeek, Moonshot, Mistral, OpenRouter, LiteLLM and Anthropic call the same.
func (s *stated) place(block usageBlock, name []byte) *int64 {
	switch block {
	case promptDetails:
		switch string(name) {
		case "cached_tokens":
			return &s.Cached
		case "cache_write_tokens", "cache_creation_tokens":
			return &s.CacheWrite
		case "audio_tokens":
			return &s.AudioInput
		}
		return nil
	case completionDetails:
		switch string(name) {
		case "reasoning_tokens":
			return &s.Reasoning
		case "audio_tokens":
			return &s.AudioOutput
		}
		return nil
	case cacheCreation:
		switch string(name) {
		case "ephemeral_1h_input_tokens":
			return &s.CacheWrite1h
		case "ephemeral_5m_input_tokens":
			return &s.minutes
		}
		return nil
	}
	switch string(name) {
	case "prompt_tokens":
		return &s.Prompt
	case "input_tokens":
		s.inputTokens = true
		return &s.Prompt
	case "completion_tokens", "output_tokens":
		return &s.Completion
	case "total_tokens":
		return &s.total
	case "cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens":
		return &s.Cached
	case "cache_read_input_tokens":
		return &s.read
	case "cache_creation_input_tokens":
		return &s.written
	case "reasoning_tokens":
		return &s.Reasoning
	}
	return nil
}

// settled turns the counts into parts of wholes.
func (s *stated) settled() Usage {
	u := s.Usage
	s.written = max(s.written, s.minutes+s.CacheWrite1h)
	if s.isBeside() {
		u.Prompt += s.read + s.written
	}
	u.Cached, u.CacheWrite = max(u.Cached, s.read), max(u.CacheWrite, s.written)
	// Some leave out of a sum what they name beside it, or name not at all; the total tells.
	switch left := s.total - u.Prompt - u.Completion; {
	case left <= 0:
	case u.Prompt == 0 && u.Completion == 0: // of embeddings
		u.Prompt = left
	case u.Reasoning == left:
		u.Completion += left
	case u.Cached+u.CacheWrite == left:
		u.Prompt += left
	case u.Reasoning == 0:
		u.Reasoning, u.Completion = left, u.Completion+left
	}
	u.Cached = min(u.Cached, u.Prompt)
	u.CacheWrite = min(u.CacheWrite, u.Prompt-u.Cached)
	u.CacheWrite1h = min(u.CacheWrite1h, u.CacheWrite)
	u.AudioInput = min(u.AudioInput, u.Prompt)
	u.Reasoning = min(u.Reasoning, u.Completion)
	u.AudioOutput = min(u.AudioOutput, u.Completion)
	u.Reported = u.Prompt > 0 || u.Completion > 0
	return u
}

// isBeside says whether what Anthropic's members count comes on top of the prompt: so it is where the prompt has
// Anthropic's name as well, and mostly not where a translator has given it OpenAI's. A total settles it.
func (s *stated) isBeside() bool {
	switch extra, sum := s.read+s.written, s.Prompt+s.Completion; {
	case extra == 0:
		return false
	case s.total == sum:
		return false
	case s.total == sum+extra:
		return true
	default:
		return s.inputTokens || extra > s.Prompt
	}
}

// count reads a number of tokens. Where several members give the same count the largest one holds;
// what is negative or no number is 0.
func (r *answerReader) count(i, depth int, to *int64) int {
	end := r.skip(i, depth)
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
	dst = appendPart(dst, `,"cache_write_tokens":`, u.CacheWrite)
	dst = appendPart(dst, `,"audio_tokens":`, u.AudioInput)
	dst = strconv.AppendInt(append(dst, `},"completion_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
	dst = appendPart(dst, `,"audio_tokens":`, u.AudioOutput)
	return append(dst, `}}`...)
}

// appendPart appends a count that most answers do not have.
func appendPart(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), n, 10)
}
