package openai

// Reply is a unary answer: a chat.completion, a text_completion or a list of embeddings.
type Reply struct {
	Answer
}

// ParseReply reads a unary answer with status 200. The error is a *MalformedError. An error object
// inside the answer is no error here: see Answer.Err. The Reply keeps body.
func ParseReply(body []byte) (Reply, error) {
	var r Reply
	if err := r.parse(body); err != nil {
		return Reply{}, err
	}
	if r.has&(hasChoices|hasData) == 0 && r.Err == nil {
		return Reply{}, &MalformedError{Problem: "it has neither choices nor data"}
	}
	return r, nil
}

// AppendTo appends the reply as the client gets it: with the gateway's id (a list of embeddings has
// none), the model that served it, and null instead of an empty content beside tool calls.
func (r *Reply) AppendTo(dst []byte, id, model string) []byte {
	w := splice{src: r.Data, dst: dst}
	if r.has&hasData != 0 {
		w.insertMissing(&r.Answer, "", model)
	} else {
		w.insertMissing(&r.Answer, id, model)
	}
	for _, m := range r.marks {
		switch m.place {
		case atID:
			w.replaceString(m, id)
		case atModel:
			w.replaceString(m, model)
		case atEmptyContent:
			if r.Choices[m.choice].ToolCalls {
				w.replace(m, "null")
			}
		case atUsage, atRole, atEmptyFinish:
		}
	}
	return w.rest()
}
