package openai

// splice copies an object's text from left to right into one buffer and changes it on the way.
type splice struct {
	src []byte
	dst []byte
	// from is the position up to which src has been copied, replaced or left out.
	from int
}

func (w *splice) keep(to int) {
	w.dst = append(w.dst, w.src[w.from:to]...)
	w.from = to
}

// rest copies what is left and returns the buffer.
func (w *splice) rest() []byte {
	w.keep(len(w.src))
	return w.dst
}

func (w *splice) replace(m mark, value string) {
	w.keep(m.value)
	w.dst = append(w.dst, value...)
	w.from = m.end
}

func (w *splice) replaceString(m mark, value string) {
	w.keep(m.value)
	w.dst = AppendString(w.dst, value)
	w.from = m.end
}

// remove leaves a member out, with the comma behind it; the last member of an object takes the comma
// before it along, which has been copied already.
func (w *splice) remove(m mark) {
	w.keep(m.key)
	after := skipSpace(w.src, m.end)
	if w.src[after] == ',' {
		w.from = skipSpace(w.src, after+1)
		return
	}
	w.dst = trimSpace(w.dst)
	if last := len(w.dst) - 1; w.dst[last] == ',' {
		w.dst = w.dst[:last]
	}
	w.from = m.end
}

// insertMissing puts what every answer must have, and this one has not, at the beginning. An empty
// id is none.
func (w *splice) insertMissing(a *Answer, id, model string) {
	if a.has&hasID != 0 {
		id = ""
	}
	if id == "" && a.has&hasModel != 0 {
		return
	}
	w.keep(1)
	if id != "" {
		w.dst = append(AppendString(append(w.dst, `"id":`...), id), ',')
	}
	if a.has&hasModel == 0 {
		w.dst = append(AppendString(append(w.dst, `"model":`...), model), ',')
	}
}
