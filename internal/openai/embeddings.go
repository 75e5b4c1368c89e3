package openai

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
)

// EmbeddingsAs returns a list of embeddings with every vector in the given format, "float" or
// "base64" (little-endian float32), for an engine that ignored encoding_format. Everything else
// stays byte for byte; body itself is returned when nothing had to change, and for any other
// format. The error is a *MalformedError.
func EmbeddingsAs(body []byte, format string) ([]byte, error) {
	var wrong byte // how a vector begins that has the other format
	switch format {
	case "float":
		wrong = '"'
	case "base64":
		wrong = '['
	default:
		return body, nil
	}
	e := embeddingsReader{scanner: scanner{src: body}, wrong: wrong}
	e.list()
	if e.problem != "" {
		return nil, &MalformedError{Problem: e.problem, Offset: e.at}
	}
	if e.done == 0 {
		return body, nil
	}
	return append(e.out, body[e.done:]...), nil
}

// embeddingsReader copies a list of embeddings while it converts the vectors.
type embeddingsReader struct {
	scanner
	wrong byte
	out   []byte
	// done is the position up to which the text has been copied or converted.
	done int
	// vector is reused from one vector to the next.
	vector []byte
}

// list goes through the top level of the text.
func (e *embeddingsReader) list() {
	i, more := e.enter(e.begin(), '}')
	for more {
		key := i
		i = e.key(i)
		if string(e.name(key)) == "data" && e.first(i) == '[' {
			i = e.elements(i)
		} else {
			i = e.value(i, 1)
		}
		i, more = e.next(i, '}')
	}
	e.finish(i)
}

func (e *embeddingsReader) elements(i int) int {
	i, more := e.enter(i, ']')
	for more {
		if e.first(i) == '{' {
			i = e.element(i)
		} else {
			i = e.value(i, 2)
		}
		i, more = e.next(i, ']')
	}
	return i
}

func (e *embeddingsReader) element(i int) int {
	i, more := e.enter(i, '}')
	for more {
		key := i
		i = e.key(i)
		isVector := string(e.name(key)) == "embedding" && e.first(i) == e.wrong
		end := e.value(i, 3)
		if isVector && e.problem == "" {
			e.convert(i, end)
		}
		i, more = e.next(end, '}')
	}
	return i
}

// convert writes the vector src[i:end] in the other format.
func (e *embeddingsReader) convert(i, end int) {
	if e.out == nil {
		e.out = make([]byte, 0, len(e.src)+len(e.src)/4)
	}
	e.out = append(e.out, e.src[e.done:i]...)
	e.done = end
	if e.wrong == '[' {
		e.toBase64(i)
	} else {
		e.toNumbers(i, end)
	}
}

// toBase64 encodes the array of numbers at i.
func (e *embeddingsReader) toBase64(i int) {
	e.vector = e.vector[:0]
	i, more := e.enter(i, ']')
	for more {
		if c := e.src[i]; c != '-' && !isDigit(c) {
			e.fail(i, "an embedding must be a list of numbers")
			return
		}
		after := e.number(i)
		v, err := strconv.ParseFloat(string(e.src[i:after]), 32)
		if err != nil {
			e.fail(i, "a number of an embedding does not fit in 32 bits")
			return
		}
		e.vector = binary.LittleEndian.AppendUint32(e.vector, math.Float32bits(float32(v)))
		i, more = e.next(after, ']')
	}
	e.out = append(e.out, '"')
	e.out = base64.StdEncoding.AppendEncode(e.out, e.vector)
	e.out = append(e.out, '"')
}

// toNumbers decodes the string src[i:end].
func (e *embeddingsReader) toNumbers(i, end int) {
	vector, err := base64.StdEncoding.DecodeString(unquote(e.src[i:end]))
	if err != nil || len(vector)%4 != 0 {
		e.fail(i, "an embedding is not base64 of 32-bit numbers")
		return
	}
	e.out = append(e.out, '[')
	for n := 0; n < len(vector); n += 4 {
		v := float64(math.Float32frombits(binary.LittleEndian.Uint32(vector[n:])))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			e.fail(i, "an embedding has a number that JSON can not say")
			return
		}
		if n > 0 {
			e.out = append(e.out, ',')
		}
		e.out = strconv.AppendFloat(e.out, v, 'g', -1, 32)
	}
	e.out = append(e.out, ']')
}
