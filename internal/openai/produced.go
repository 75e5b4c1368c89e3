package openai

// Produced is what an answer, or the part of it that came, said: for counting its tokens where nobody reports them.
type Produced struct {
	// Sample is JSON values one after the other, as they came: texts, reasoning, tool calls. It is the beginning of what
	// was said, or all of it.
	Sample []byte
	// Sampled is how many bytes of content are in Sample, Bytes how many there were, Reasoning how many of these were
	// reasoning, Unreported how many of these came after the last usage block.
	Sampled, Bytes, Reasoning, Unreported int
}

const (
	// maxSample bounds what is kept of a stream, in bytes: a few thousand tokens. What comes after is taken to be like it.
	maxSample = 16 << 10
	// firstSample is room for a short answer.
	firstSample = 1 << 10
)

// add takes note of the next piece of a stream.
func (p *Produced) add(a *Answer) {
	if a.ContentBytes == 0 {
		return
	}
	p.Bytes += a.ContentBytes
	p.Reasoning += a.ReasoningBytes
	p.Unreported += a.ContentBytes
	if size := a.saidBytes(); len(p.Sample)+size <= maxSample {
		if p.Sample == nil {
			p.Sample = make([]byte, 0, max(firstSample, size))
		}
		p.Sample = a.appendSaid(p.Sample)
		p.Sampled += a.ContentBytes
	}
}

// Produced is what a whole answer said.
func (r *Reply) Produced() Produced {
	p := Produced{Bytes: r.ContentBytes, Sampled: r.ContentBytes, Reasoning: r.ReasoningBytes, Sample: r.appendSaid(nil)}
	if !r.Usage.Reported {
		p.Unreported = p.Bytes
	}
	return p
}

func (a *Answer) saidBytes() (n int) {
	for _, s := range a.said {
		n += s.to - s.from
	}
	return n
}

func (a *Answer) appendSaid(dst []byte) []byte {
	for _, s := range a.said {
		dst = append(dst, a.Data[s.from:s.to]...)
	}
	return dst
}
