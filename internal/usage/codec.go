package usage

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"

	"shareai/internal/catalog"
)

// A record is encoded as a version byte and its fields in a fixed order: integers as zigzag varints,
// strings and bytes with their length before them, booleans as bits of a flags byte. Attempts, the
// content and candidates are blocks with their length before them.
//
// Within a version, fields are only ever added at the end, of a record or of a block: a reader that
// does not know them skips them, and a reader that expects them takes their absence for the zero
// value. What can not be done that way needs the next version. The trace (appendTrace,
// appendAttemptTrace), then the labels and the prompt, then the kinds of tokens were added in this way: a journal of the
// release before ends where they begin.
const codecVersion = 1

const (
	flagStream = 1 << iota
	flagContent
	flagEstimated
	flagTruncated
	flagResumed
)

// The flags of an attempt.
const (
	flagRetry = 1 << iota
	flagHedge
)

// maxAttempts bounds what a decoder will allocate for a damaged count.
const maxAttempts = 4096

// maxCandidates bounds the candidates of a record: more say nothing to a reader and cost every request.
const maxCandidates = 256

var (
	errShort   = errors.New("the record ends too early")
	errVersion = errors.New("the record was written by a newer version")
)

// appendRecord appends the encoding of r. Parts of its content beyond MaxContent are cut.
func appendRecord(dst []byte, r *Record) []byte {
	var flags byte
	if r.Stream {
		flags |= flagStream
	}
	if r.Content != nil {
		flags |= flagContent
	}
	if r.Resumed {
		flags |= flagResumed
	}
	dst = append(dst, codecVersion, flags)
	dst = appendString(dst, r.ID)
	dst = binary.AppendVarint(dst, r.Start)
	dst = binary.AppendVarint(dst, r.Duration)
	dst = binary.AppendVarint(dst, r.FirstToken)
	dst = appendString(dst, r.Organization)
	dst = appendString(dst, r.Project)
	dst = appendString(dst, r.KeyID)
	dst = appendString(dst, string(r.Endpoint))
	dst = appendString(dst, r.Requested)
	dst = appendString(dst, r.Route)
	dst = appendString(dst, r.Policy)
	dst = appendString(dst, r.Model)
	dst = appendString(dst, r.Provider)
	dst = appendString(dst, r.Deployment)
	dst = binary.AppendVarint(dst, int64(r.Status))
	dst = appendString(dst, r.Code)
	dst = appendTokens(dst, r.Tokens)
	dst = appendString(dst, r.PriceVersion)
	dst = binary.AppendVarint(dst, r.Cost)
	dst = binary.AppendVarint(dst, r.BytesIn)
	dst = binary.AppendVarint(dst, r.BytesOut)
	dst = appendString(dst, r.TraceID)
	dst = appendString(dst, r.SpanID)
	dst = binary.AppendUvarint(dst, uint64(len(r.Attempts)))
	for i := range r.Attempts {
		dst = appendBlock(dst, &r.Attempts[i], appendAttempt)
	}
	if r.Content != nil {
		dst = appendBlock(dst, r.Content, appendContent)
	}
	dst = binary.AppendUvarint(appendLabels(appendTrace(dst, r), r.Labels), r.Prompt)
	return appendTokenKinds(dst, &r.Tokens)
}

// appendTrace appends why the request went the way it went.
func appendTrace(dst []byte, r *Record) []byte {
	dst = appendString(dst, r.Reason)
	dst = appendString(dst, r.Drill)
	dst = appendString(dst, r.Primary)
	dst = binary.AppendVarint(dst, r.PrimaryCost)
	dst = binary.AppendVarint(dst, r.PrimaryLatency)
	candidates := r.Candidates[:min(len(r.Candidates), maxCandidates)]
	dst = binary.AppendUvarint(dst, uint64(len(candidates)))
	for i := range candidates {
		dst = appendBlock(dst, &candidates[i], appendCandidate)
	}
	return dst
}

// appendLabels appends the labels of the project, which came after the trace in the same way.
func appendLabels(dst []byte, labels map[string]string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(labels)))
	for name, value := range labels {
		dst = appendString(appendString(dst, name), value)
	}
	return dst
}

func appendCandidate(dst []byte, c *Candidate) []byte {
	dst = appendString(dst, c.Deployment)
	dst = appendString(dst, c.Model)
	dst = appendString(dst, c.Reason)
	dst = appendString(dst, c.Origin)
	// The last bits of a grade are mostly zero: in front they make a short varint.
	return binary.AppendUvarint(dst, bits.ReverseBytes64(math.Float64bits(c.Grade)))
}

func appendAttempt(dst []byte, a *Attempt) []byte {
	dst = appendString(dst, a.Provider)
	dst = appendString(dst, a.Deployment)
	dst = appendString(dst, a.Model)
	dst = appendString(dst, a.ProviderKey)
	dst = appendString(dst, a.Outcome)
	dst = binary.AppendVarint(dst, int64(a.Status))
	dst = appendString(dst, a.Message)
	dst = binary.AppendVarint(dst, a.Offset)
	dst = binary.AppendVarint(dst, a.Headers)
	dst = binary.AppendVarint(dst, a.FirstToken)
	dst = binary.AppendVarint(dst, a.Duration)
	dst = appendTokens(dst, a.Tokens)
	dst = appendString(dst, a.PriceVersion)
	dst = binary.AppendVarint(dst, a.Cost)
	dst = appendString(dst, a.SpanID)
	return appendAttemptTrace(dst, a)
}

// appendAttemptTrace appends how an attempt came about.
func appendAttemptTrace(dst []byte, a *Attempt) []byte {
	var flags byte
	if a.Retry {
		flags |= flagRetry
	}
	if a.Hedge {
		flags |= flagHedge
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, a.Wait)
	dst = appendString(dst, a.Resumes)
	dst = appendString(dst, a.Drill)
	return appendTokenKinds(appendString(dst, a.Circuit), &a.Tokens)
}

func appendContent(dst []byte, c *Content) []byte {
	request, answer := c.Request[:min(len(c.Request), MaxContent)], c.Answer[:min(len(c.Answer), MaxContent)]
	var flags byte
	if c.Truncated || len(request) < len(c.Request) || len(answer) < len(c.Answer) {
		flags = flagTruncated
	}
	dst = append(dst, flags)
	dst = appendBytes(dst, request)
	return appendBytes(dst, answer)
}

func appendTokens(dst []byte, t catalog.Tokens) []byte {
	var flags byte
	if t.Estimated {
		flags = flagEstimated
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, t.Prompt)
	dst = binary.AppendVarint(dst, t.Cached)
	dst = binary.AppendVarint(dst, t.Completion)
	return binary.AppendVarint(dst, t.Reasoning)
}

// appendTokenKinds appends the counts that came after the first four.
func appendTokenKinds(dst []byte, t *catalog.Tokens) []byte {
	for _, n := range [...]int64{t.CacheWrite, t.CacheWrite1h, t.AudioInput, t.AudioOutput} {
		dst = binary.AppendVarint(dst, n)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// appendBlock appends what write appends, with its length before it in four bytes.
func appendBlock[T any](dst []byte, value *T, write func([]byte, *T) []byte) []byte {
	start := len(dst)
	dst = write(append(dst, 0, 0, 0, 0), value)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// decodeRecord reads what appendRecord wrote. The record does not refer to payload.
func decodeRecord(payload []byte, r *Record) error {
	*r = Record{}
	if len(payload) == 0 {
		return errShort
	}
	if payload[0] != codecVersion {
		return errVersion
	}
	d := decoder{text: string(payload[1:])} // one allocation for all strings of the record
	flags := d.byte()
	r.Stream, r.Resumed = flags&flagStream != 0, flags&flagResumed != 0
	r.ID = d.string()
	r.Start, r.Duration, r.FirstToken = d.int(), d.int(), d.int()
	r.Organization, r.Project, r.KeyID = d.string(), d.string(), d.string()
	r.Endpoint = catalog.Endpoint(d.string())
	r.Requested, r.Route, r.Policy = d.string(), d.string(), d.string()
	r.Model, r.Provider, r.Deployment = d.string(), d.string(), d.string()
	r.Status, r.Code = int(d.int()), d.string()
	r.Tokens = d.tokens()
	r.PriceVersion, r.Cost = d.string(), d.int()
	r.BytesIn, r.BytesOut = d.int(), d.int()
	r.TraceID, r.SpanID = d.string(), d.string()
	attempts := d.uint()
	if attempts > maxAttempts {
		return errShort
	}
	if attempts > 0 && !d.short {
		r.Attempts = make([]Attempt, attempts)
		for i := range r.Attempts {
			inner := d.block()
			r.Attempts[i].decode(&inner)
			d.short = d.short || inner.short
		}
	}
	if flags&flagContent != 0 {
		r.Content = &Content{}
		inner := d.block()
		r.Content.decode(&inner)
		d.short = d.short || inner.short
	}
	if !d.short && d.text != "" {
		r.decodeTrace(&d)
	}
	if !d.short && d.text != "" {
		r.decodeLabels(&d)
		r.Prompt = d.uint()
		d.tokenKinds(&r.Tokens)
	}
	if d.short {
		return errShort
	}
	return nil
}

func (r *Record) decodeTrace(d *decoder) {
	r.Reason, r.Drill = d.string(), d.string()
	r.Primary, r.PrimaryCost, r.PrimaryLatency = d.string(), d.int(), d.int()
	candidates := d.uint()
	if candidates > maxCandidates {
		d.fail()
	}
	if candidates == 0 || d.short {
		return
	}
	r.Candidates = make([]Candidate, candidates)
	for i := range r.Candidates {
		inner := d.block()
		r.Candidates[i].decode(&inner)
		d.short = d.short || inner.short
	}
}

// maxLabels bounds what a decoder will allocate for a damaged count.
const maxLabels = 1024

func (r *Record) decodeLabels(d *decoder) {
	labels := d.uint()
	if labels > maxLabels {
		d.fail()
	}
	if labels == 0 || d.short {
		return
	}
	r.Labels = make(map[string]string, labels)
	for range labels {
		name := d.string()
		r.Labels[name] = d.string()
	}
}

func (a *Attempt) decode(d *decoder) {
	a.Provider, a.Deployment, a.Model = d.string(), d.string(), d.string()
	a.ProviderKey, a.Outcome = d.string(), d.string()
	a.Status, a.Message = int(d.int()), d.string()
	a.Offset, a.Headers, a.FirstToken, a.Duration = d.int(), d.int(), d.int(), d.int()
	a.Tokens = d.tokens()
	a.PriceVersion, a.Cost, a.SpanID = d.string(), d.int(), d.string()
	if d.text == "" {
		return // of the release before
	}
	flags := d.byte()
	a.Retry, a.Hedge = flags&flagRetry != 0, flags&flagHedge != 0
	a.Wait, a.Resumes, a.Drill, a.Circuit = d.int(), d.string(), d.string(), d.string()
	d.tokenKinds(&a.Tokens)
}

func (c *Candidate) decode(d *decoder) {
	c.Deployment, c.Model, c.Reason, c.Origin = d.string(), d.string(), d.string(), d.string()
	if grade := math.Float64frombits(bits.ReverseBytes64(d.uint())); grade > 0 && grade <= 1 {
		c.Grade = grade // whatever else damage makes of it has no form in JSON, or no sense
	}
}

func (c *Content) decode(d *decoder) {
	c.Truncated = d.byte()&flagTruncated != 0
	c.Request, c.Answer = d.bytes(), d.bytes()
}

// decoder reads fields one after the other. Once the text was too short every further field is zero.
type decoder struct {
	text  string
	short bool
}

func (d *decoder) fail() { d.text, d.short = "", true }

func (d *decoder) byte() byte {
	if d.text == "" {
		d.fail()
		return 0
	}
	b := d.text[0]
	d.text = d.text[1:]
	return b
}

func (d *decoder) uint() uint64 {
	if d.text != "" && d.text[0] < 0x80 { // most are short
		v := uint64(d.text[0])
		d.text = d.text[1:]
		return v
	}
	var v uint64
	for i := 0; i < len(d.text) && i < binary.MaxVarintLen64; i++ {
		b := d.text[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			d.text = d.text[i+1:]
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) int() int64 {
	u := d.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.text)) {
		d.fail()
		return ""
	}
	s := d.text[:n]
	d.text = d.text[n:]
	return s
}

func (d *decoder) bytes() []byte {
	if s := d.string(); s != "" {
		return []byte(s)
	}
	return nil
}

func (d *decoder) tokens() catalog.Tokens {
	estimated := d.byte()&flagEstimated != 0
	return catalog.Tokens{
		Prompt: d.int(), Cached: d.int(), Completion: d.int(), Reasoning: d.int(), Estimated: estimated,
	}
}

// tokenKinds reads what appendTokenKinds wrote, if there is anything.
func (d *decoder) tokenKinds(t *catalog.Tokens) {
	if d.text != "" {
		t.CacheWrite, t.CacheWrite1h, t.AudioInput, t.AudioOutput = d.int(), d.int(), d.int(), d.int()
	}
}

// block takes a block out, of which a rest may stay unread.
func (d *decoder) block() decoder {
	if len(d.text) >= 4 {
		n := uint32(d.text[0]) | uint32(d.text[1])<<8 | uint32(d.text[2])<<16 | uint32(d.text[3])<<24
		if rest := d.text[4:]; uint64(n) <= uint64(len(rest)) {
			d.text = rest[n:]
			return decoder{text: rest[:n]}
		}
	}
	d.fail()
	return decoder{short: true}
}
